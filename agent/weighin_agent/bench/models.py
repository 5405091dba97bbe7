"""The graphs of the cases: a decoder's layers, its head, the whole decoder, and an encoder.

Operators are those that ONNX Runtime's own model builder emits, so that the kernels are those of a real model
(https://github.com/microsoft/onnxruntime-genai, src/python/py/models/builders, read in August 2026). Left out are
biases, and Gemma's factor on the embedding: one multiplication per token.

`Scheme.FP16` graphs are for GPUs: half-precision weights, activations and KV cache, as the builder makes them there;
the result alone is cast to single precision. The CPU runs them, slowly, and so can be compared with.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weighin_agent.bench.graph import CONTRIB, GraphBuilder, Value, activation_dtype
from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.scheme import Scheme

# Rows of the input embedding: looking one up costs nothing, so a small table stands for the whole vocabulary.
EMBEDDING_ROWS = 256
_RMS_EPSILON = 1e-6
_LAYER_NORM_EPSILON = 1e-12
_ROTARY_BASE = 10_000
_ONNX_FLOAT = 1  # TensorProto.FLOAT
# Standard deviation of whole numbers from -127 to 127.
_BYTE_SD = 74


def cache_dtype(scheme: Scheme) -> type[np.float32] | type[np.float16]:
    """Return the element type of keys and values in the graphs of a scheme."""
    return activation_dtype(scheme)


def save_layers(
    path: Path, shape: Architecture, scheme: Scheme, *, layers: int, max_context: int, block: npt.NDArray[np.generic]
) -> str:
    """Write the first ``layers`` layers, without the head, and return the graph's SHA-256."""
    part = replace(shape, layers=layers)
    if shape.kind is ArchitectureKind.ENCODER:
        return _save_encoder(path, part, scheme, block)
    return _save_decoder(path, part, scheme, max_context=max_context, head=False, block=block)


def save_head(path: Path, shape: Architecture, scheme: Scheme, *, columns: int, block: npt.NDArray[np.generic]) -> str:
    """Write ``columns`` columns of the output head alone and return the graph's SHA-256."""
    part = replace(shape, layers=0, vocab=columns)
    return _save_decoder(path, part, scheme, max_context=0, head=True, block=block)


def save_full_model(
    path: Path, shape: Architecture, scheme: Scheme, *, max_context: int, block: npt.NDArray[np.generic]
) -> str:
    """Write the whole model, all layers and the whole head, and return the graph's SHA-256."""
    if shape.kind is ArchitectureKind.ENCODER:
        return _save_encoder(path, shape, scheme, block)
    return _save_decoder(path, shape, scheme, max_context=max_context, head=True, block=block)


def _embed(graph: GraphBuilder, hidden: int) -> str:
    # Whole numbers: a logarithm inside a normal distribution may differ in its last bit from one device to the next.
    values = np.frombuffer(np.random.RandomState(0).bytes(EMBEDDING_ROWS * hidden), np.int8).clip(-127)
    graph.constant("embedding", values.reshape(EMBEDDING_ROWS, hidden).astype(np.float32) / np.float32(_BYTE_SD))
    return graph.node("Gather", ["embedding", "ids"], "embedded")


def _save_decoder(
    path: Path, shape: Architecture, scheme: Scheme, *, max_context: int, head: bool, block: npt.NDArray[np.generic]
) -> str:
    graph = GraphBuilder(scheme)
    graph.constant("last", np.array([-1], np.int64))
    hidden = _embed(graph, shape.hidden)
    if shape.layers:
        hidden = _decoder_layers(graph, shape, hidden, max_context)
    # Only the last token's logits are needed, in prefill as in decode.
    hidden = graph.node("Gather", [hidden, "last"], "last_hidden", axis=1)
    result = graph.linear(hidden, "head", shape.hidden, shape.vocab) if head else hidden
    _result(graph, result)
    inputs = [Value("ids", np.int64, [1, "tokens"])]
    outputs = [Value("result", np.float32, None)]
    if shape.layers:
        inputs += [Value("last_position", np.int32, [1]), Value("total_length", np.int32, [1])]
    element = cache_dtype(scheme)
    for i in range(shape.layers):
        for cache in (f"key{i}", f"value{i}"):
            inputs.append(Value(f"past_{cache}", element, [1, shape.kv_heads, "past", shape.head_dim]))
            outputs.append(Value(cache, element, [1, shape.kv_heads, "total", shape.head_dim]))
    return graph.save(path, inputs, outputs, block)


def _decoder_layers(graph: GraphBuilder, shape: Architecture, hidden: str, max_context: int) -> str:
    graph.constant("ones", np.ones(shape.hidden, np.float32))
    _rotary_tables(graph, shape.head_dim, max_context)
    residual: str | None = None
    for i in range(shape.layers):
        normed, residual = _rms_norm(graph, hidden, residual, f"layer{i}.attention_norm")
        attended = _attention(graph, shape, i, normed)
        if shape.sandwich_norm:
            attended = _norm(graph, attended, "ones", f"layer{i}.after_attention_norm")
        normed, residual = _rms_norm(graph, attended, residual, f"layer{i}.ffn_norm")
        hidden = _feed_forward(graph, shape, i, normed)
        if shape.sandwich_norm:
            hidden = _norm(graph, hidden, "ones", f"layer{i}.after_ffn_norm")
    return _rms_norm(graph, hidden, residual, "final_norm")[0]


def _attention(graph: GraphBuilder, shape: Architecture, i: int, normed: str) -> str:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    inputs = [graph.linear(normed, f"layer{i}.qkv", shape.hidden, queries + 2 * keys), "", ""]
    if shape.query_key_norm:
        graph.constant("qkv_widths", np.array([queries, keys, keys], np.int64))
        inputs = [f"layer{i}.{name}" for name in ("query", "key", "value")]
        graph.node("Split", [f"layer{i}.qkv.out", "qkv_widths"], inputs, axis=-1)
        inputs[0] = _head_norm(graph, inputs[0], "query_width", queries, shape.head_dim)
        inputs[1] = _head_norm(graph, inputs[1], "key_width", keys, shape.head_dim)
    attended = graph.node(
        "GroupQueryAttention",
        [*inputs, f"past_key{i}", f"past_value{i}", "last_position", "total_length", "cos", "sin"],
        [f"layer{i}.attended", f"key{i}", f"value{i}"],
        CONTRIB,
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        do_rotary=1,
        local_window_size=shape.window_of_layer(i) or -1,
    )
    return graph.linear(attended, f"layer{i}.output", queries, shape.hidden)


def _feed_forward(graph: GraphBuilder, shape: Architecture, i: int, normed: str) -> str:
    if shape.feed_forward is FeedForward.GELU:
        middle = _gelu(graph, graph.linear(normed, f"layer{i}.up", shape.hidden, shape.ffn), i)
    else:
        gate = graph.linear(normed, f"layer{i}.gate", shape.hidden, shape.ffn)
        active = _silu(graph, gate, i) if shape.feed_forward is FeedForward.SWIGLU else _gelu(graph, gate, i)
        up = graph.linear(normed, f"layer{i}.up", shape.hidden, shape.ffn)
        middle = graph.node("Mul", [active, up], f"layer{i}.gated")
    return graph.linear(middle, f"layer{i}.down", shape.ffn, shape.hidden)


def _silu(graph: GraphBuilder, source: str, i: int) -> str:
    sigmoid = graph.node("Sigmoid", [source], f"layer{i}.sigmoid")
    return graph.node("Mul", [source, sigmoid], f"layer{i}.silu")


def _gelu(graph: GraphBuilder, source: str, i: int) -> str:
    return graph.node("Gelu", [source], f"layer{i}.gelu", approximate="tanh")


def _norm(graph: GraphBuilder, source: str, weight: str, name: str) -> str:
    op = "SimplifiedLayerNormalization"
    return graph.node(op, [source, weight], f"{name}.out", epsilon=_RMS_EPSILON, axis=-1)


def _head_norm(graph: GraphBuilder, source: str, width_name: str, width: int, head_dim: int) -> str:
    """Normalise every head of queries or keys on its own."""
    graph.constant("head_ones", np.ones(head_dim, np.float32))
    heads = graph.node("Reshape", [source, graph.constant("head_width", _shape(head_dim))], f"{source}.heads")
    normed = _norm(graph, heads, "head_ones", f"{source}.norm")
    return graph.node("Reshape", [normed, graph.constant(width_name, _shape(width))], f"{source}.normed")


def _shape(width: int) -> npt.NDArray[np.int64]:
    return np.array([0, -1, width], np.int64)


def _rms_norm(graph: GraphBuilder, hidden: str, residual: str | None, name: str) -> tuple[str, str]:
    """Return (normed, residual stream); the sum with the residual is fused into the norm, as real exports do."""
    if residual is None:
        return _norm(graph, hidden, "ones", name), hidden
    outputs = [f"{name}.out", "", "", f"{name}.residual"]
    graph.node("SkipSimplifiedLayerNormalization", [hidden, residual, "ones"], outputs, CONTRIB, epsilon=_RMS_EPSILON)
    return outputs[0], outputs[3]


def _rotary_tables(graph: GraphBuilder, head_dim: int, max_context: int) -> None:
    # numpy's own power, cosine and sine change in the last bit from version to version.
    half = head_dim // 2
    angles = [position / _ROTARY_BASE ** (i / half) for position in range(max_context) for i in range(half)]
    for name, function in (("cos", math.cos), ("sin", math.sin)):
        values = np.fromiter(map(function, angles), np.float64, max_context * half)
        graph.constant(name, values.reshape(max_context, half))


def _save_encoder(path: Path, shape: Architecture, scheme: Scheme, block: npt.NDArray[np.generic]) -> str:
    graph = GraphBuilder(scheme)
    graph.constant("ones", np.ones(shape.hidden, np.float32))
    graph.constant("zeros", np.zeros(shape.hidden, np.float32))
    graph.constant("ffn_zeros", np.zeros(shape.ffn, np.float32))
    hidden = _embed(graph, shape.hidden)
    for i in range(shape.layers):
        width = shape.heads * shape.head_dim
        qkv = [graph.linear(hidden, f"layer{i}.{name}", shape.hidden, width) for name in ("query", "key", "value")]
        attended = graph.node("MultiHeadAttention", qkv, f"layer{i}.attended", CONTRIB, num_heads=shape.heads)
        attended = graph.linear(attended, f"layer{i}.output", width, shape.hidden)
        middle = _layer_norm(graph, attended, hidden, f"layer{i}.attention_norm")
        up = graph.linear(middle, f"layer{i}.up", shape.hidden, shape.ffn)
        active = graph.node("BiasGelu", [up, "ffn_zeros"], f"layer{i}.gelu", CONTRIB)
        down = graph.linear(active, f"layer{i}.down", shape.ffn, shape.hidden)
        hidden = _layer_norm(graph, down, middle, f"layer{i}.ffn_norm")
    _result(graph, hidden)
    return graph.save(path, [Value("ids", np.int64, [1, "tokens"])], [Value("result", np.float32, None)], block)


def _result(graph: GraphBuilder, source: str) -> None:
    """Name the result; it is in single precision whatever the scheme."""
    if graph.activation is np.float32:
        graph.node("Identity", [source], "result")
    else:
        graph.node("Cast", [source], "result", to=_ONNX_FLOAT)


def _layer_norm(graph: GraphBuilder, hidden: str, residual: str, name: str) -> str:
    inputs = [hidden, residual, "ones", "zeros"]
    return graph.node("SkipLayerNormalization", inputs, f"{name}.out", CONTRIB, epsilon=_LAYER_NORM_EPSILON)
