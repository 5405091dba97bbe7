"""What a model weighs for LiteRT-LM and MediaPipe: .litertlm, .task and .bin files."""

from collections.abc import Iterator

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.errors import SizeError
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.models.shape import Shape
from weighin_analysis.models.tensors import Role, Tensor, tensors
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis
from weighin_analysis.sizes.neighbours import size_by_neighbours
from weighin_analysis.sizes.parts import split

SCHEMES = ("fp32", "fp16", "int8", "int4", "int4_block32", "int4_block128")
# Other names of the same storage, as files and model cards write them.
ALIASES = {
    "q8": "int8",
    "q4": "int4",
    "int4 gpu": "int4",
    "int4 QAT": "int4",
    "int4 per-channel": "int4",
    "q4_block32": "int4_block32",
    "q4_block128": "int4_block128",
}

_FLOAT_BYTES = {"fp32": 4, "fp16": 2}
_BLOCK_WEIGHTS = {"int4_block32": 32, "int4_block128": 128}
_CHANNEL_SCALE_BYTES = 4
_BLOCK_SCALE_BYTES = 2
_ATTENTION = frozenset((Role.QUERY, Role.KEY, Role.VALUE, Role.ATTENTION_OUTPUT))
_VECTORS = frozenset((Role.NORM, Role.BIAS))

# The file holds a SentencePiece model: 16.6 bytes an entry (Gemma: 4,241,003 for 256,000), 17.9 (Gemma 3: 4,689,074 for
# 262,144).
_TOKENIZER_BYTES_PER_ENTRY = 17
# Files converted with six prefill lengths keep a causal mask of 1280 x 1280 fp32 for each, and one for decode; files
# that are given the mask as an input keep none. Both are common; the value lies between.
_MASK_BYTES = 7 * 1280 * 1280 * 4


def download_size(entry: ModelEntry, scheme: str) -> DownloadSize:
    """Return what the file of a model weighs, the tokenizer inside included.

    Counted tensor by tensor where the catalogue tells the model's shape; ``low`` to ``high`` spans files without and
    with stored masks. Without a shape fitted, by models of similar size. SizeError where there is no such scheme, or
    nobody tells the parameters.
    """
    if scheme not in SCHEMES:
        raise SizeError(f"LiteRT has no scheme {scheme!r}; it has {', '.join(SCHEMES)}")
    if entry.shape is None:
        return size_by_neighbours(entry, scheme, download_size)
    shape = entry.shape
    tokenizer = shape.architecture.vocab * _TOKENIZER_BYTES_PER_ENTRY
    masks = _MASK_BYTES if shape.architecture.kind is ArchitectureKind.DECODER and scheme != "int4" else 0
    parts = split((tensor, _tensor_bytes(tensor, scheme)) for tensor in tensors(shape))
    parts["other"] += tokenizer + masks // 2
    size = sum(parts.values())
    return DownloadSize(
        format=Format.LITERT,
        scheme=scheme,
        bytes=size,
        low=size - masks // 2,
        high=size + masks // 2,
        basis=SizeBasis.COUNTED,
        parts=parts,
        tokenizer_bytes=tokenizer,
        runtime_bytes=None,
        notes=tuple(_notes(shape, scheme)),
    )


def _tensor_bytes(tensor: Tensor, scheme: str) -> int:
    if scheme in _FLOAT_BYTES:
        return tensor.weight_count * _FLOAT_BYTES[scheme]
    if tensor.role in _VECTORS:
        return tensor.weight_count * _FLOAT_BYTES["fp32"]
    if scheme in _BLOCK_WEIGHTS and tensor.role is not Role.TOKEN_EMBEDDING:
        weights = _BLOCK_WEIGHTS[scheme]
        blocks = tensor.copies * tensor.rows * -(-tensor.columns // weights)
        return blocks * (weights // 2 + _BLOCK_SCALE_BYTES)
    # Attention is the part that 4 bits harm most. The look-up of a table knows no blocks: it keeps 8 bits.
    four_bits = scheme == "int4" and tensor.role not in _ATTENTION
    weights_bytes = -(-tensor.weight_count // 2) if four_bits else tensor.weight_count
    return weights_bytes + tensor.copies * tensor.rows * _CHANNEL_SCALE_BYTES


def _notes(shape: Shape, scheme: str) -> Iterator[str]:
    if scheme == "int4":
        yield "Feed-forward blocks and the vocabulary's table take 4 bits, attention 8."
    elif scheme in _BLOCK_WEIGHTS:
        yield "The vocabulary's table takes 8 bits."
    if shape.architecture.kind is ArchitectureKind.DECODER and scheme != "int4":
        yield "Some files store the causal masks of several prompt lengths, 46 MB (the upper end), others none."
