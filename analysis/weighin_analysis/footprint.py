"""What a model weighs: bytes to download and bytes in memory while it runs.

The memory is what one process holds that loads a model from its file and that the system cannot take back: pages
backed by a file, such as the mapped weights and the code of the libraries, are not counted. Each part and each number
was checked against measured processes by ``tools/bench_memory.py`` (docs/method.md, section 5).
"""

from weighin_analysis.architecture import Architecture
from weighin_analysis.scheme import Scheme

# ONNX Runtime keeps keys and values in fp32 on the CPU.
KV_BYTES_PER_ELEMENT = 4
# Python, numpy and the runtime once imported take 21 MB; the graph, the packing of its weights and the threads' stacks
# 2 MB (6 layers) to 9 MB (30 layers).
RUNTIME_BYTES = 30_000_000


def download_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """Bytes of all weights in the scheme, a tied table once; tokenizer and runtime come on top.

    Formats that keep the embedding in a wider type than the scheme weigh more.
    """
    return round(architecture.parameter_count * scheme.stored_bytes_per_weight)


def bytes_read_per_token(architecture: Architecture, scheme: Scheme) -> int:
    """Bytes of packed weights that one decoded token reads: all layers and the head, not the input embedding."""
    packed = architecture.layers * architecture.layer_weight_count + architecture.head_weight_count
    return round(packed * scheme.resident_bytes_per_weight)


def activation_bytes(architecture: Architecture, prompt_tokens: int) -> int:
    """Bytes that the runtime's arena holds after a prompt: fp32 tensors of one layer, and the logits.

    At the widest point the outputs of the feed-forward projections are alive. The arena cannot use the pieces that
    attention left for tensors of another size, and keeps them: about one tensor more of that size, and four as wide
    as the hidden state and as the heads together. Attention itself runs in tiles and holds no scores, so the whole
    grows with the prompt and not with its square.
    """
    projections = (architecture.feed_forward.projections + 1) * architecture.ffn
    width = projections + 4 * architecture.hidden + 4 * architecture.heads * architecture.head_dim
    logits = architecture.vocab if architecture.head_weight_count else 0
    return 4 * (prompt_tokens * width + logits)


def memory_bytes(architecture: Architecture, scheme: Scheme, *, context_tokens: int, prompt_tokens: int) -> int:
    """Bytes in use while the model runs: weights, KV cache of ``context_tokens``, activations and the runtime.

    The weights are those that a token reads. The input embedding stays in its file, of which the runtime maps the rows
    that it looks up. Loading takes no more than running: a matrix is packed from the mapped file.
    """
    return (
        bytes_read_per_token(architecture, scheme)
        + architecture.kv_cache_bytes(context_tokens, KV_BYTES_PER_ELEMENT)
        + activation_bytes(architecture, prompt_tokens)
        + RUNTIME_BYTES
    )
