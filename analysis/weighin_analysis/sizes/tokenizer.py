"""What a tokenizer weighs as the ``tokenizer.json`` beside the weights."""

from weighin_analysis.models.entry import ModelEntry, ModelKind

# Bytes of the file per entry of the vocabulary. Published files: Qwen2.5 7,031,645 for 151,665 entries, Qwen3
# 11,422,654 for 151,669, Llama 3.2 9,085,657 for 128,256, Llama 2 1.84 MB for 32,000, Gemma 2 17.5 MB for 256,000:
# 46 to 75. An encoder's vocabulary of words and their endings has no merges: BERT 466,062 for 30,522.
_BYTES_PER_ENTRY = {ModelKind.DECODER: 60, ModelKind.ENCODER: 15, ModelKind.ENCODER_DECODER: 60}


def tokenizer_bytes(entry: ModelEntry) -> int:
    """Return the bytes of a model's tokenizer, within a third; 0 where its vocabulary is not in the catalogue."""
    vocab = entry.shape.architecture.vocab if entry.shape else entry.vocab
    return 0 if vocab is None else vocab * _BYTES_PER_ENTRY[entry.kind]
