"""What keys and values of past tokens take in memory."""

from enum import StrEnum

from weighin_analysis.architecture import Architecture
from weighin_analysis.errors import SizeError
from weighin_analysis.models.entry import KvCache, ModelEntry, ModelKind

# llama.cpp rounds the cells of a cache up to a multiple of this (its ``src/llama-kv-cache-iswa.cpp``).
_CELLS_STEP = 256


class KvType(StrEnum):
    """How a runtime keeps keys and values."""

    FP16 = "fp16"
    FP32 = "fp32"

    @property
    def bytes_per_element(self) -> int:
        """Bytes of one element."""
        return 2 if self is KvType.FP16 else 4


def kv_cache_bytes(
    entry: ModelEntry, context_tokens: int, kv_type: KvType, *, micro_batch_tokens: int | None = None
) -> int:
    """Bytes of keys and values of all layers for ``context_tokens`` tokens; 0 for an encoder.

    2 x layers x KV heads x head width x tokens x bytes. ``micro_batch_tokens`` is None for a runtime that keeps the
    whole context in every layer; llama.cpp, which takes a prompt in micro-batches, keeps no more than the window and
    one micro-batch in windowed layers, where others see all tokens. SizeError where it is not published how many layers
    keep how much.
    """
    if entry.kind is ModelKind.ENCODER:
        return 0
    if entry.shape is None:
        if entry.kv_cache is None:
            raise SizeError(f"{entry.name}: which of its layers keep keys and values is not in the catalogue")
        return 2 * entry.kv_cache.layers * _row(entry.kv_cache) * context_tokens * kv_type.bytes_per_element
    architecture = entry.shape.architecture
    if micro_batch_tokens is None:
        return architecture.kv_cache_bytes(context_tokens, kv_type.bytes_per_element)
    cells = _cells(architecture, context_tokens, micro_batch_tokens)
    return 2 * cells * architecture.kv_heads * architecture.head_dim * kv_type.bytes_per_element


def _row(cache: KvCache) -> int:
    return cache.kv_heads * cache.head_dim


def _cells(architecture: Architecture, context_tokens: int, micro_batch_tokens: int) -> int:
    """Cells of all layers together, as llama.cpp reserves them for one sequence.

    It knows windows only of models whose layers differ: those of Mistral 0.1 and Phi-3 it keeps whole.
    """
    whole = _rounded_up(context_tokens)
    if architecture.global_layer_interval is None:
        return architecture.layers * whole
    windows = map(architecture.window_of_layer, range(architecture.layers))
    return sum(whole if window is None else _rounded_up(min(whole, window + micro_batch_tokens)) for window in windows)


def _rounded_up(cells: int) -> int:
    return -(-cells // _CELLS_STEP) * _CELLS_STEP
