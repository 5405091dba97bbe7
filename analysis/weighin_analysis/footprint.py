"""What a model weighs: bytes to download and bytes in memory while it runs."""

from weighin_analysis.architecture import Architecture
from weighin_analysis.scheme import Scheme

# ONNX Runtime keeps keys and values in fp32 on the CPU.
KV_BYTES_PER_ELEMENT = 4
# The runtime itself, its thread pool and allocator slack; measured as the part of a child's peak memory that does not
# grow with the model (docs/method.md, section 5).
RUNTIME_BYTES = 100_000_000


def download_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """Bytes of all weights in the scheme, a tied table once; tokenizer and runtime come on top.

    Formats that keep the embedding in a wider type than the scheme weigh more.
    """
    return round(architecture.parameter_count * scheme.stored_bytes_per_weight)


def bytes_read_per_token(architecture: Architecture, scheme: Scheme) -> int:
    """Bytes of packed weights that one decoded token reads: all layers and the head, not the input embedding."""
    packed = architecture.layers * architecture.layer_weight_count + architecture.head_weight_count
    return round(packed * scheme.resident_bytes_per_weight)


def weights_memory_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """Bytes of the weights as the runtime holds them.

    Matrices are held packed. The input embedding is read row by row from a table of its own, so a tied table is held
    twice.
    """
    table = round(architecture.embedding_weight_count * scheme.stored_bytes_per_weight)
    return bytes_read_per_token(architecture, scheme) + table


def activation_bytes(architecture: Architecture, prompt_tokens: int) -> int:
    """Bytes of the fp32 tensors that are alive at the widest point of a prefill, and of the logits."""
    width = 4 * architecture.hidden + 3 * architecture.ffn + 2 * architecture.heads * architecture.head_dim
    logits = architecture.vocab if architecture.head_weight_count else 0
    return 4 * (prompt_tokens * width + logits)


def memory_bytes(architecture: Architecture, scheme: Scheme, *, context_tokens: int, prompt_tokens: int) -> int:
    """Bytes in use while the model runs: weights, KV cache of ``context_tokens``, activations and the runtime."""
    return (
        weights_memory_bytes(architecture, scheme)
        + architecture.kv_cache_bytes(context_tokens, KV_BYTES_PER_ELEMENT)
        + activation_bytes(architecture, prompt_tokens)
        + RUNTIME_BYTES
    )
