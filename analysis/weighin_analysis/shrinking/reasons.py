"""Why a shrinking technique changes a cost or does not, in sentences for a person, each set with its source."""

from dataclasses import dataclass

from weighin_analysis.models.entry import ModelEntry, ModelKind
from weighin_analysis.numbers import gb
from weighin_analysis.shrinking.sparse import break_even_density, compressed_row_bits, least_bits, two_of_four_bits
from weighin_analysis.shrinking.what_if import (
    Dimension,
    Distill,
    EmbeddingWidth,
    Lora,
    Prune,
    PruneCount,
    PruneWidth,
    Quantize,
    ShareLayers,
    TieEmbeddings,
    WhatIf,
)
from weighin_analysis.shrinking.work import stored_layer_weights
from weighin_analysis.sizes.artefact import DownloadSize, Format
from weighin_analysis.sizes.download import scheme_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """Sentences on each cost; ``kernel_exists``: whether the format's runtimes turn the technique into less work."""

    download: str
    memory: str
    speed: str
    kernel_exists: bool
    kernel: str
    source: str


def reasons(what_if: WhatIf, entry: ModelEntry, size: DownloadSize) -> Reasons:
    """Return why a what-if changes what it changes of a model that is stored as ``size`` tells."""
    match what_if:
        case Quantize():
            return _quantize(what_if, entry, size)
        case Prune():
            return _prune(what_if, entry, size)
        case PruneCount() | PruneWidth():
            return _smaller_shape(what_if, entry, size.format)
        case Distill():
            return _distill(size.format)
        case Lora():
            return _lora(what_if, size.format)
        case _:
            return _reuse(what_if, entry, size.format)


def _reuse(what_if: ShareLayers | TieEmbeddings | EmbeddingWidth, entry: ModelEntry, file_format: Format) -> Reasons:
    match what_if:
        case ShareLayers():
            return _share(entry, file_format)
        case TieEmbeddings():
            return _tie(file_format)
        case EmbeddingWidth():
            return _narrow_embedding(entry, file_format)


_RUNTIMES = {
    Format.GGUF: "llama.cpp",
    Format.ONNX: "ONNX Runtime",
    Format.LITERT: "LiteRT",
    Format.MLC: "MLC LLM",
}
# A graph lies in these files; for the others every architecture is written into the runtime.
_HOLDS_ITS_GRAPH = {Format.ONNX, Format.LITERT}

_LOADS_ADAPTERS = {
    Format.GGUF: "llama.cpp loads adapters beside a model.",
    Format.ONNX: "ONNX Runtime loads adapters beside a model whose graph was exported for them.",
    Format.LITERT: "MediaPipe loads adapters of the attention matrices, on the GPU, beside a Gemma or Phi-2 that its "
    "own converter made; not beside what LiteRT Torch converts.",
}
_ADAPTER_SOURCES = {
    Format.GGUF: "https://github.com/ggml-org/llama.cpp/blob/66e8fb3b6df45a12c0434df2dcc92f5ac30ab837/tools/completion/README.md",
    Format.ONNX: "https://onnxruntime.ai/docs/api/c/struct_ort_1_1_lora_adapter.html",
    Format.LITERT: "https://ai.google.dev/edge/mediapipe/solutions/genai/llm_inference",
}


def _runtime(file_format: Format) -> str:
    return _RUNTIMES.get(file_format, "a runtime")


def _quantize(what_if: Quantize, entry: ModelEntry, size: DownloadSize) -> Reasons:
    file_format = size.format
    same = scheme_of(file_format, what_if.scheme) == size.scheme
    if same:
        speed = "As before."
    elif entry.kind is ModelKind.ENCODER:
        speed = (
            "An encoder multiplies all tokens of its input at once, which arithmetic bounds: it need not get faster."
        )
    else:
        speed = (
            "Decode reads all these weights for every token, so where memory bounds it the rate grows as the bytes "
            "shrink. Prefill multiplies as often as before, and unpacks as well: it need not get faster."
        )
    kept = "activations keep" if entry.kind is ModelKind.ENCODER else "KV cache and activations keep"
    exists = file_format is not Format.SAFETENSORS
    return Reasons(
        download="It is in this scheme already."
        if same
        else "Matrices take the bits of the scheme and its scales. "
        "What the format leaves wider, often the embedding, does not shrink with them.",
        memory="As before." if same else f"Weights shrink as the runtime packs them; {kept} their types.",
        speed=speed,
        kernel_exists=exists,
        kernel=f"{_runtime(file_format)} has kernels for the schemes of {file_format}; how fast they are, a run tells."
        if exists
        else "No runtime that weighin judges multiplies from safetensors.",
        source="https://github.com/ggml-org/llama.cpp/blob/311c2c9f0ebd6e08f5b20e8827c654cebb7a41d6/tools/quantize/README.md",
    )


def _prune(what_if: Prune, entry: ModelEntry, size: DownloadSize) -> Reasons:
    assert entry.shape is not None
    stored = stored_layer_weights(entry.shape)
    bits, density = size.parts["layers"] * 8 / stored, 1 - what_if.sparsity

    def stored_as(packed_bits: float) -> str:
        return gb(size.bytes - round(stored * (bits - packed_bits) / 8))

    if what_if.two_of_four:
        saving = f"Packed as two of four with their positions it would be {stored_as(two_of_four_bits(bits))}."
        kernel = "NVIDIA's GPUs from Ampere on multiply this pattern, through cuSPARSELt or TensorRT"
    else:
        saving = (
            f"By zeros alone a compressed transfer comes down to {stored_as(least_bits(bits, density))}. Compressed "
            f"sparse rows would be {stored_as(compressed_row_bits(bits, density))}: with 16-bit columns these save "
            f"bytes when fewer than {break_even_density(bits):.0%} of the weights are left, here {density:.0%}."
        )
        kernel = "Unstructured zeros need a sparse format and a kernel for it"
    return Reasons(
        download=f"Zeros are stored like all weights. {saving}",
        memory="Zeros are held like all weights: a runtime makes them dense when it loads them, if they were not.",
        speed="Zeros are read and multiplied like all weights.",
        kernel_exists=False,
        kernel=f"{kernel}; {_runtime(size.format)} has none for the layers of a language model.",
        source="https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/graph/graph.cc (made dense), "
        "https://docs.pytorch.org/docs/stable/sparse.html (two of four)",
    )


def _smaller_shape(what_if: PruneCount | PruneWidth, entry: ModelEntry, file_format: Format) -> Reasons:
    encoder = entry.kind is ModelKind.ENCODER  # keeps no KV cache, and takes all tokens of its input at once
    cache = {
        Dimension.LAYERS: " The KV cache of the removed layers goes with them.",
        Dimension.HEADS: " The KV cache of the removed heads of keys and values goes with them.",
        Dimension.FFN: " The KV cache stays as it is: it depends on layers and heads only.",
        Dimension.HIDDEN: " The KV cache stays as it is: it depends on layers and heads only.",
    }
    wider = ""
    if file_format is Format.GGUF and what_if.dimension is not Dimension.LAYERS:
        wider = " Rows that blocks of 256 do not divide take a wider type than the scheme's."
    return Reasons(
        download=f"What is left is a smaller dense model, and every removed weight is gone from the file.{wider}",
        memory=f"Weights shrink by count.{'' if encoder else cache[what_if.dimension]}",
        speed="Fewer weights are multiplied: faster by count, less what a call costs in any case."
        if encoder
        else "Decode reads and multiplies, and prefill multiplies, fewer weights: both get faster by count, "
        "less what a call costs in any case.",
        kernel_exists=True,
        kernel="The same kernels run it: only widths and counts differ.",
        source="https://arxiv.org/abs/2408.11796 (Minitron), https://arxiv.org/abs/1905.10650 (heads)",
    )


def _distill(file_format: Format) -> Reasons:
    return Reasons(
        download="The student is another model, downloaded in place of the teacher, which does not shrink.",
        memory="That of the student's own shape.",
        speed="That of the student's own shape; its teacher took part in training only.",
        kernel_exists=file_format is not Format.SAFETENSORS,
        kernel="The student is an ordinary dense model.",
        source="https://arxiv.org/abs/1503.02531, https://arxiv.org/abs/1910.01108 (DistilBERT)",
    )


def _lora(what_if: Lora, file_format: Format) -> Reasons:
    if what_if.merged:
        return Reasons(
            download="Merged, the adapter is added into the matrices, which keep their size: the model does not "
            "shrink. Merged into quantized weights, it is rounded with them.",
            memory="As without it.",
            speed="As without it.",
            kernel_exists=True,
            kernel="Nothing is left to run beside the matrices.",
            source=_LORA_PAPER,
        )
    return Reasons(
        download="The model stays as it is and the adapter comes on top. It saves where several tasks share one model: "
        "each next one downloads an adapter only.",
        memory="The adapter is held beside the model.",
        speed="Every adapted matrix is followed by two thin ones: a little more to read and to multiply, never less.",
        kernel_exists=file_format in _LOADS_ADAPTERS,
        kernel=_LOADS_ADAPTERS.get(
            file_format, f"No way is known for {_runtime(file_format)} to load an adapter beside a model: merge it."
        ),
        source=", ".join(filter(None, (_LORA_PAPER, _ADAPTER_SOURCES.get(file_format)))),
    )


def _share(entry: ModelEntry, file_format: Format) -> Reasons:
    cache = "" if entry.kind is ModelKind.ENCODER else " The KV cache does not shrink: every layer has its own."
    return Reasons(
        download="The weights that layers share are stored once.",
        memory="Activations stay as they are, and weights shrink only where the runtime keeps one copy: ONNX "
        f"Runtime on the CPU packs one for every layer that uses them.{cache}",
        speed="Every layer is still computed, and reads its weights again unless a cache holds them all: no faster.",
        kernel_exists=file_format in _HOLDS_ITS_GRAPH,
        kernel=_graph(file_format),
        source="https://arxiv.org/abs/1909.11942 (ALBERT)",
    )


def _tie(file_format: Format) -> Reasons:
    kept_once = file_format is not Format.SAFETENSORS
    return Reasons(
        download="One table serves input and output, unless the conversion writes it twice, as some exports to "
        "ONNX do.",
        memory="One table less where the runtime shares it; llama.cpp can hold it twice, once for each end.",
        speed="The head is read and multiplied for every token as before; of the input only a row is looked up.",
        kernel_exists=kept_once,
        kernel="Ordinary: most small decoders are built so.",
        source="https://arxiv.org/abs/1608.05859",
    )


def _narrow_embedding(entry: ModelEntry, file_format: Format) -> Reasons:
    kept = "layers and activations" if entry.kind is ModelKind.ENCODER else "layers, KV cache and activations"
    speed = (
        "Rows are looked up, not multiplied: no faster, and one small projection more."
        if entry.kind is ModelKind.ENCODER
        else "A head that shares the table gets narrower and faster; one with a table of its own stays as it is."
    )
    return Reasons(
        download="The vocabulary's table shrinks to its new width; a small matrix projects it to the hidden state.",
        memory=f"The table shrinks where the runtime holds it; {kept} stay as they are.",
        speed=speed,
        kernel_exists=file_format in _HOLDS_ITS_GRAPH,
        kernel=_graph(file_format),
        source="https://arxiv.org/abs/1909.11942 (ALBERT)",
    )


def _graph(file_format: Format) -> str:
    if file_format in _HOLDS_ITS_GRAPH:
        return f"A file of {_runtime(file_format)} holds its own graph, which can say so."
    return f"It has to be an architecture that {_runtime(file_format)} knows."


_LORA_PAPER = "https://arxiv.org/abs/2106.09685"
