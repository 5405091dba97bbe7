"""What llama.cpp reserves beside the KV cache: weights as loaded, and the compute buffers of its back ends.

Counted, not fitted: every term is a tensor of the graph for one micro-batch, in fp32. Which tensors are alive together
was read from the buffer sizes that it logs (docs/memory.md); the figures there tell how well it holds.
"""

from dataclasses import dataclass
from enum import StrEnum

from weighin_analysis.architecture import ArchitectureKind, FeedForward
from weighin_analysis.errors import SizeError
from weighin_analysis.models.entry import ModelEntry, ModelKind
from weighin_analysis.models.shape import Shape
from weighin_analysis.sizes.artefact import DownloadSize

MICRO_BATCH_TOKENS = 512  # llama.cpp's default, and that of the apps built on it
_BYTES = 4  # fp32


class Backend(StrEnum):
    """Where llama.cpp computes. Metal, CUDA and Vulkan reserve alike."""

    CPU = "cpu"
    OPENCL = "opencl"
    HEXAGON = "hexagon"
    GPU = "gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Widths:
    """Elements that one token has in the tensors that live together; 0 where a model's shape does not tell."""

    vocab: int
    hidden: int
    ffn: int
    queries: int
    keys: int
    heads: int
    fused: bool
    windows: bool


def weights_bytes(entry: ModelEntry, artefact: DownloadSize) -> int:
    """Bytes of the weights as loaded: those of the file, and a table that input and output share once more.

    The input looks rows up on the processor, the output multiplies where the layers do, so each has a copy.
    """
    stored = artefact.bytes - artefact.tokenizer_bytes
    return stored if artefact.parts.get("head") or not _shares_table(entry) else stored + _table_bytes(entry, artefact)


def loading_bytes(entry: ModelEntry, artefact: DownloadSize, backend: Backend) -> int:
    """Bytes that loading takes beside the weights for a moment.

    OpenCL's back end lays out scales and weights apart, from a copy of the tensor on the device. The largest is the
    output's table.
    """
    return _table_bytes(entry, artefact) if backend is Backend.OPENCL else 0


def _shares_table(entry: ModelEntry) -> bool:
    if entry.shape is None:
        return entry.kind is ModelKind.DECODER
    arch = entry.shape.architecture
    return arch.kind is ArchitectureKind.DECODER and arch.tied_embeddings


def _table_bytes(entry: ModelEntry, artefact: DownloadSize) -> int:
    """Bytes of the output's table, or of the one that it shares.

    Where it is not told apart, it has the bits per weight of the whole file, but no less than 6.56: quantizers keep an
    output in Q6_K or better.
    """
    known = artefact.parts.get("head") or artefact.parts.get("token_embedding")
    if known:
        return known
    if entry.shape is not None:
        arch = entry.shape.architecture
        width = entry.shape.embedding_width if arch.tied_embeddings else None
        table_weights = arch.vocab * (width or arch.hidden)
    elif entry.vocab is not None and entry.hidden is not None:
        table_weights = entry.vocab * entry.hidden
    else:
        raise SizeError(f"{entry.name}: its vocabulary is not in the catalogue")
    q6_k = 210 / 256
    file_wide = artefact.bytes / entry.parameters if entry.parameters else q6_k
    return round(table_weights * max(q6_k, file_wide))


def compute_bytes(entry: ModelEntry, backend: Backend, scheme: str, context_tokens: int) -> int:
    """Bytes of the compute buffers of all back ends, reserved once when the model is loaded.

    The logits of a whole micro-batch outweigh the rest. SizeError where the vocabulary is not in the catalogue.
    """
    widths = _widths(entry)
    tokens = min(MICRO_BATCH_TOKENS, context_tokens)
    elements = {Backend.OPENCL: _opencl, Backend.HEXAGON: _hexagon}.get(backend, _one_buffer)
    count = elements(widths, scheme, context_tokens)
    if backend is Backend.GPU:
        count += context_tokens  # the mask of attention, in the processor's buffer
    return _BYTES * tokens * count


def _widths(entry: ModelEntry) -> _Widths:
    if entry.shape is not None:
        return _widths_of(entry.shape)
    if entry.vocab is None or entry.hidden is None:
        raise SizeError(f"{entry.name}: the vocabulary that its logits span is not in the catalogue")
    keys = 0 if entry.kv_cache is None else entry.kv_cache.kv_heads * entry.kv_cache.head_dim
    return _Widths(
        vocab=entry.vocab, hidden=entry.hidden, ffn=0, queries=0, keys=keys, heads=0, fused=False, windows=False
    )


def _widths_of(shape: Shape) -> _Widths:
    arch = shape.active_architecture
    return _Widths(
        vocab=arch.vocab if arch.kind is ArchitectureKind.DECODER else 0,
        hidden=arch.hidden,
        ffn=arch.ffn,
        queries=arch.heads * arch.head_dim,
        keys=arch.kv_heads * arch.head_dim,
        heads=arch.heads,
        fused=shape.fused_attention and arch.feed_forward is FeedForward.SWIGLU,
        windows=arch.global_layer_interval is not None,
    )


def _one_buffer(widths: _Widths, _scheme: str, _context_tokens: int) -> int:
    """Count, for attention in tiles, the logits and the hidden state before and after the last norm.

    Phi's gate and up are one matrix; the product of its halves still has a place when the logits get theirs.
    """
    last = widths.vocab + 2 * widths.hidden + (widths.ffn if widths.fused else 0)
    return max(last, 2 * (widths.hidden + widths.ffn))


def _hexagon(widths: _Widths, scheme: str, _context_tokens: int) -> int:
    """Count the head on the processor and the layers in one session of the DSP; further sessions add a buffer each.

    The DSP multiplies Q4_0 and Q8_0 alone; with other types the feed-forward block runs on the processor.
    """
    head = widths.vocab + widths.hidden
    on_dsp = scheme in {"Q4_0", "Q8_0"}
    return head + (3 * (widths.ffn + widths.hidden) if on_dsp else 5 * widths.hidden)


def _opencl(widths: _Widths, scheme: str, context_tokens: int) -> int:
    """Count the scores of attention in full, as kernels without tiles need them, or the logits; and the host's buffer.

    The host's holds masks, hidden state, queries, keys and values, and the feed-forward block of types that have no
    kernel: those of two and three bits.
    """
    device = max(widths.vocab + 2 * widths.hidden, widths.heads * context_tokens + 5 * widths.hidden)
    host = (2 if widths.windows else 1) * context_tokens + widths.hidden + widths.queries + 2 * widths.keys
    without_kernel = scheme.startswith(("Q2", "Q3", "IQ"))
    return device + host + (2 * widths.ffn if without_kernel else 0)
