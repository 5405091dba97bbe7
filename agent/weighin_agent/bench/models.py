"""The graphs of the cases: a decoder's layers, its head, the whole decoder, and an encoder.

Operators are those that ONNX Runtime's own model builder emits, so that the kernels are those of a real model.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from weighin_agent.bench.graph import CONTRIB, GraphBuilder, value_info
from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.scheme import Scheme

# Rows of the input embedding: looking one up costs nothing, so a small table stands for the whole vocabulary.
EMBEDDING_ROWS = 256
_RMS_EPSILON = 1e-6
_LAYER_NORM_EPSILON = 1e-12
_ROTARY_BASE = 10_000


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
    values = np.random.RandomState(0).standard_normal((EMBEDDING_ROWS, hidden)).astype(np.float32)
    graph.constant("embedding", values)
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
    graph.node("Identity", [result], "result")
    inputs = [value_info("ids", np.int64, [1, "tokens"])]
    outputs = [value_info("result", np.float32, None)]
    if shape.layers:
        inputs += [value_info("last_position", np.int32, [1]), value_info("total_length", np.int32, [1])]
    for i in range(shape.layers):
        for cache in (f"key{i}", f"value{i}"):
            inputs.append(value_info(f"past_{cache}", np.float32, [1, shape.kv_heads, "past", shape.head_dim]))
            outputs.append(value_info(cache, np.float32, [1, shape.kv_heads, "total", shape.head_dim]))
    return graph.save(path, inputs, outputs, block)


def _decoder_layers(graph: GraphBuilder, shape: Architecture, hidden: str, max_context: int) -> str:
    graph.constant("ones", np.ones(shape.hidden, np.float32))
    _rotary_tables(graph, shape.head_dim, max_context)
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    residual: str | None = None
    for i in range(shape.layers):
        normed, residual = _rms_norm(graph, hidden, residual, f"layer{i}.attention_norm")
        qkv = graph.linear(normed, f"layer{i}.qkv", shape.hidden, queries + 2 * keys)
        attended = graph.node(
            "GroupQueryAttention",
            [qkv, "", "", f"past_key{i}", f"past_value{i}", "last_position", "total_length", "cos", "sin"],
            [f"layer{i}.attended", f"key{i}", f"value{i}"],
            CONTRIB,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
        )
        attended = graph.linear(attended, f"layer{i}.output", queries, shape.hidden)
        normed, residual = _rms_norm(graph, attended, residual, f"layer{i}.ffn_norm")
        gate = graph.linear(normed, f"layer{i}.gate", shape.hidden, shape.ffn)
        up = graph.linear(normed, f"layer{i}.up", shape.hidden, shape.ffn)
        sigmoid = graph.node("Sigmoid", [gate], f"layer{i}.sigmoid")
        silu = graph.node("Mul", [gate, sigmoid], f"layer{i}.silu")
        gated = graph.node("Mul", [silu, up], f"layer{i}.gated")
        hidden = graph.linear(gated, f"layer{i}.down", shape.ffn, shape.hidden)
    return _rms_norm(graph, hidden, residual, "final_norm")[0]


def _rms_norm(graph: GraphBuilder, hidden: str, residual: str | None, name: str) -> tuple[str, str]:
    """Return (normed, residual stream); the sum with the residual is fused into the norm, as real exports do."""
    if residual is None:
        op = "SimplifiedLayerNormalization"
        return graph.node(op, [hidden, "ones"], f"{name}.out", epsilon=_RMS_EPSILON, axis=-1), hidden
    outputs = [f"{name}.out", "", "", f"{name}.residual"]
    graph.node("SkipSimplifiedLayerNormalization", [hidden, residual, "ones"], outputs, CONTRIB, epsilon=_RMS_EPSILON)
    return outputs[0], outputs[3]


def _rotary_tables(graph: GraphBuilder, head_dim: int, max_context: int) -> None:
    half = head_dim // 2
    angles = np.arange(max_context)[:, None] / (_ROTARY_BASE ** (np.arange(half) / half))[None]
    graph.constant("cos", np.cos(angles).astype(np.float32))
    graph.constant("sin", np.sin(angles).astype(np.float32))


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
    graph.node("Identity", [hidden], "result")
    inputs: list[onnx.ValueInfoProto] = [value_info("ids", np.int64, [1, "tokens"])]
    return graph.save(path, inputs, [value_info("result", np.float32, None)], block)


def _layer_norm(graph: GraphBuilder, hidden: str, residual: str, name: str) -> str:
    inputs = [hidden, residual, "ones", "zeros"]
    return graph.node("SkipLayerNormalization", inputs, f"{name}.out", CONTRIB, epsilon=_LAYER_NORM_EPSILON)
