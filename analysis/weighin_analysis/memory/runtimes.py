"""Memory that a model takes while it runs, by runtime; from which memory it is taken, and how much of that is free.

docs/memory.md tells for every runtime what was measured, what is counted, and how far off it is. The few constants
that are no counts lie in data/memory_runtimes.toml with what they were fitted on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.data_files import read_data
from weighin_analysis.errors import SizeError
from weighin_analysis.footprint import RUNTIME_BYTES, activation_bytes, bytes_read_per_token
from weighin_analysis.memory.kv_cache import KvType, kv_cache_bytes
from weighin_analysis.memory.llama_cpp import MICRO_BATCH_TOKENS, Backend, compute_bytes, weights_bytes
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.models.shape import Shape
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis


class Runtime(StrEnum):
    """What runs a model, and on what."""

    ONNXRUNTIME = "onnxruntime"  # on the processor
    ONNXRUNTIME_GPU = "onnxruntime_gpu"
    LLAMA_CPP = "llama_cpp"  # on the processor
    LLAMA_CPP_GPU = "llama_cpp_gpu"  # Metal, CUDA, Vulkan
    LLAMA_CPP_OPENCL = "llama_cpp_opencl"
    LLAMA_CPP_HEXAGON = "llama_cpp_hexagon"
    LITERT = "litert"  # MediaPipe, LiteRT-LM
    OPENVINO = "openvino"
    RKLLM = "rkllm"
    WEBLLM = "webllm"

    @property
    def pool(self) -> "Pool":
        """The memory that the layers' weights are taken from."""
        on_processor = self in {Runtime.ONNXRUNTIME, Runtime.LLAMA_CPP, Runtime.LITERT}
        return Pool.MAIN if on_processor else Pool.ACCELERATOR

    @property
    def file_format(self) -> Format:
        """The one format whose files it runs."""
        return _FORMATS[self]


class Pool(StrEnum):
    """A memory: main memory, or that of an accelerator, which is main memory where it has none of its own."""

    MAIN = "main"
    ACCELERATOR = "accelerator"


class MemoryBasis(StrEnum):
    """How memory is known: every part counted, or a part of it by what other models were measured to take."""

    COUNTED = "counted"
    FITTED = "fitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Bytes in use, by part; ``low`` to ``high`` is where the total may lie.

    ``weights`` are those that the runtime holds, ``activations`` all of its buffers. ``runtime`` is the program itself,
    None where nobody measured it apart; the total is without it then.
    """

    weights: int
    kv_cache: int
    activations: int
    runtime: int | None
    low: int
    high: int
    kv_type: KvType
    basis: MemoryBasis
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Bytes of all parts that are known."""
        return self.weights + self.kv_cache + self.activations + (self.runtime or 0)


def memory_use(
    entry: ModelEntry, artefact: DownloadSize, runtime: Runtime, *, context_tokens: int, prompt_tokens: int
) -> MemoryUse:
    """Return what a model takes in a runtime that loaded ``artefact``, with room for ``context_tokens``.

    A prompt of ``prompt_tokens`` is taken at once, except by llama.cpp and WebLLM, which cut it into pieces of their
    own. SizeError where a part does not follow from what the catalogue tells: no KV cache, no vocabulary.
    """
    parts = _PARTS[runtime](entry, artefact, _Request(runtime, context_tokens, prompt_tokens))
    micro_batch = None if llama_cpp_backend(runtime) is None else MICRO_BATCH_TOKENS
    use = MemoryUse(
        weights=parts.weights,
        kv_cache=kv_cache_bytes(entry, context_tokens, parts.kv_type, micro_batch_tokens=micro_batch),
        activations=parts.activations,
        runtime=parts.runtime,
        low=0,
        high=0,
        kv_type=parts.kv_type,
        basis=MemoryBasis.FITTED if parts.fitted or artefact.basis is SizeBasis.FITTED else MemoryBasis.COUNTED,
        notes=parts.notes,
    )
    error = _constants(runtime)["error"]
    less, more = (artefact.bytes - artefact.low, artefact.high - artefact.bytes) if parts.follows_file else (0, 0)
    return replace(
        use,
        low=round((use.total - less) / (1 + error)),
        high=round((use.total + more) * (1 + error)),
    )


def llama_cpp_backend(runtime: Runtime) -> Backend | None:
    """Return where llama.cpp computes in a runtime, None in one that is not llama.cpp."""
    return _BACKENDS.get(runtime)


def free_bytes(pool: Pool, *, main_bytes: int | None, accelerator_bytes: int | None) -> int | None:
    """Return the free memory of a pool on a device, None where it is not known.

    ``main_bytes`` are free in main memory, ``accelerator_bytes`` in an accelerator with memory of its own; None where
    none has.
    """
    return main_bytes if pool is Pool.MAIN or accelerator_bytes is None else accelerator_bytes


@dataclass(frozen=True, slots=True)
class _Request:
    runtime: Runtime
    context_tokens: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    weights: int
    activations: int
    kv_type: KvType
    runtime: int | None = None
    fitted: bool = False
    follows_file: bool = True  # larger in memory where the file is larger
    notes: tuple[str, ...] = ()


@cache
def _constants(runtime: Runtime) -> dict[str, float]:
    constants: dict[str, float] = read_data("memory_runtimes.toml")[runtime]
    return constants


_BACKENDS = {
    Runtime.LLAMA_CPP: Backend.CPU,
    Runtime.LLAMA_CPP_GPU: Backend.GPU,
    Runtime.LLAMA_CPP_OPENCL: Backend.OPENCL,
    Runtime.LLAMA_CPP_HEXAGON: Backend.HEXAGON,
}

_FORMATS = {
    Runtime.ONNXRUNTIME: Format.ONNX,
    Runtime.ONNXRUNTIME_GPU: Format.ONNX,
    Runtime.LITERT: Format.LITERT,
    Runtime.OPENVINO: Format.OPENVINO,
    Runtime.RKLLM: Format.RKLLM,
    Runtime.WEBLLM: Format.MLC,
} | dict.fromkeys(_BACKENDS, Format.GGUF)

# The kernels that run an export of Transformers.js, as far as what they pack is concerned.
_KERNELS = {scheme.value: scheme for scheme in Scheme} | {
    "int8": Scheme.INT8_DYNAMIC,
    "uint8": Scheme.INT8_DYNAMIC,
    "q8": Scheme.INT8_DYNAMIC,
    "quantized": Scheme.INT8_DYNAMIC,
    "q4": Scheme.INT4_BLOCK32,
    "q4f16": Scheme.INT4_BLOCK32,
    "bnb4": Scheme.INT4_BLOCK32,
}


def _onnxruntime(entry: ModelEntry, artefact: DownloadSize, request: _Request) -> _Parts:
    """On the processor: the formula of the card, which was checked against processes (docs/method.md, section 5)."""
    scheme = _KERNELS.get(artefact.scheme)
    if entry.shape is None or scheme is None:
        return _Parts(
            weights=artefact.bytes,
            activations=4 * _elements(entry, request.prompt_tokens),
            kv_type=KvType.FP32,
            runtime=RUNTIME_BYTES,
            fitted=True,
            notes=("Its weights are counted as stored: how the runtime packs them was not measured.",),
        )
    return _Parts(
        weights=bytes_read_per_token(_with_all_experts(entry.shape), scheme)
        - round(_narrow_head_saves(entry.shape) * scheme.resident_bytes_per_weight),
        activations=activation_bytes(entry.shape.active_architecture, request.prompt_tokens),
        kv_type=KvType.FP32,
        runtime=RUNTIME_BYTES,
        follows_file=False,
        notes=("The input embedding stays in the file, which the runtime maps; loaded from memory, it counts, too.",),
    )


def _onnxruntime_gpu(entry: ModelEntry, artefact: DownloadSize, request: _Request) -> _Parts:
    return _Parts(
        weights=artefact.bytes,
        activations=4 * _elements(entry, request.prompt_tokens),
        kv_type=KvType.FP16,
        notes=("Counted from what is stored; nobody measured it on a GPU for weighin.",),
    )


def _llama_cpp(entry: ModelEntry, artefact: DownloadSize, request: _Request) -> _Parts:
    notes = ["Only llama.cpp's own buffers, as it logs them: its program and the app around it come on top."]
    if request.runtime is Runtime.LLAMA_CPP_HEXAGON:
        notes.append("For one session of the DSP; some phones open up to six, each with buffers of its own.")
    backend = _BACKENDS[request.runtime]
    return _Parts(
        weights=weights_bytes(entry, artefact),
        activations=compute_bytes(entry, backend, artefact.scheme, request.context_tokens),
        kv_type=KvType.FP16,
        notes=tuple(notes),
    )


def _litert(entry: ModelEntry, artefact: DownloadSize, request: _Request) -> _Parts:
    return _Parts(
        weights=artefact.bytes,
        activations=4 * _elements(entry, request.prompt_tokens),
        kv_type=KvType.FP32,
        runtime=round(_constants(request.runtime)["runtime_bytes"]),
        fitted=True,
        notes=(
            "With the mapped file, as the system counts it; the memory of a GPU comes on top.",
            "Measured with two models only, and different on each device: this memory is not good enough to decide by.",
        ),
    )


def _openvino(entry: ModelEntry, artefact: DownloadSize, request: _Request) -> _Parts:
    constants = _constants(request.runtime)
    vocab, _ = _table(entry)
    return _Parts(
        weights=artefact.bytes,
        activations=round(constants["bytes_per_vocabulary_row"] * vocab),
        kv_type=KvType.FP16,
        runtime=round(constants["runtime_bytes"]),
        fitted=True,
        notes=("The most that the process ever held, while it compiled the model, too.",),
    )


def _rkllm(_: ModelEntry, artefact: DownloadSize, request: _Request) -> _Parts:
    return _Parts(
        weights=artefact.bytes - artefact.parts.get("token_embedding", 0),
        activations=0,
        kv_type=KvType.FP16,
        runtime=round(_constants(request.runtime)["runtime_bytes"]),
        fitted=True,
        notes=("The input embedding stays in the file; buffers are part of the runtime's figure.",),
    )


def _webllm(entry: ModelEntry, artefact: DownloadSize, _request: _Request) -> _Parts:
    """Count what a chunk of 2048 tokens keeps: the outputs of gate and up, and three times the hidden state.

    Qwen's builds keep the logits of 1024 tokens as well, in fp32: all 16 of 16 published, and no other model's.
    """
    wide = "f32" in artefact.scheme
    weights = artefact.bytes
    if wide:  # stored in 16 bits, computed in 32: all weights, or one scale beside 16 bytes of a group
        weights = round(weights * (2 if artefact.scheme.startswith("q0") else 20 / 18))
    element = 4 if wide else 2
    activations = element * _CHUNK_TOKENS * _block_width(entry)
    if entry.name.startswith("Qwen"):
        activations += 4 * _KEPT_LOGITS_TOKENS * _table(entry)[0]
    return _Parts(weights=weights, activations=activations, kv_type=KvType.FP32 if wide else KvType.FP16)


_CHUNK_TOKENS = 2048
_KEPT_LOGITS_TOKENS = 1024

_PARTS: Mapping[Runtime, Callable[[ModelEntry, DownloadSize, _Request], _Parts]] = {
    Runtime.ONNXRUNTIME: _onnxruntime,
    Runtime.ONNXRUNTIME_GPU: _onnxruntime_gpu,
    Runtime.LITERT: _litert,
    Runtime.OPENVINO: _openvino,
    Runtime.RKLLM: _rkllm,
    Runtime.WEBLLM: _webllm,
} | dict.fromkeys(_BACKENDS, _llama_cpp)


def _with_all_experts(shape: Shape) -> Architecture:
    """Return the dense architecture with as many weights as all experts have together."""
    experts = shape.experts
    if experts is None:
        return shape.architecture
    return replace(shape.architecture, ffn=experts.count * shape.architecture.ffn + experts.shared_ffn)


def _narrow_head_saves(shape: Shape) -> int:
    """Return the weights that a head does without which shares a narrow table, less those of both projections."""
    arch = shape.architecture
    if shape.embedding_width is None or arch.kind is ArchitectureKind.ENCODER or not arch.tied_embeddings:
        return 0
    return arch.vocab * (arch.hidden - shape.embedding_width) - 2 * arch.hidden * shape.embedding_width


def _elements(entry: ModelEntry, prompt_tokens: int) -> int:
    """Elements alive for a prompt; without a shape the hidden states before and after a block, and the logits."""
    if entry.shape is not None:
        return activation_bytes(entry.shape.active_architecture, prompt_tokens) // 4
    vocab, hidden = _table(entry)
    return 2 * prompt_tokens * hidden + vocab


def _block_width(entry: ModelEntry) -> int:
    if entry.shape is None:
        raise SizeError(f"{entry.name}: its layers are not in the catalogue")
    active = entry.shape.active_architecture
    return 2 * active.ffn + 3 * active.hidden


def _table(entry: ModelEntry) -> tuple[int, int]:
    """Return rows and width of the vocabulary's table."""
    if entry.shape is not None:
        return entry.shape.architecture.vocab, entry.shape.embedding_width or entry.shape.architecture.hidden
    if entry.vocab is None or entry.hidden is None:
        raise SizeError(f"{entry.name}: its vocabulary is not in the catalogue")
    return entry.vocab, entry.hidden
