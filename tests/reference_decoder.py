"""Published decoders in plain numpy, in double precision, on the weights of a saved graph.

Written after the models' own descriptions, not after our graphs: Llama (https://arxiv.org/abs/2302.13971), Qwen3
(https://arxiv.org/abs/2505.09388), Gemma 3 (https://arxiv.org/abs/2503.19786). All gains of the norms are one.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weighin_analysis.architecture import Architecture, FeedForward

Floats = npt.NDArray[np.float64]


def stored_matrix(path: Path, name: str, rows: int, columns: int) -> Floats:
    """A matrix of the fp32 or fp16 graph at ``path``, by the place that its manifest tells."""
    tensors = json.loads(path.with_suffix(".json").read_text())["tensors"]
    place = next(tensor for tensor in tensors if tensor["name"] == name)
    with path.with_suffix(".data").open("rb") as file:
        file.seek(place["offset"])
        data = file.read(place["byte_count"])
    dtype = np.float32 if len(data) == 4 * rows * columns else np.float16
    return np.frombuffer(data, dtype).reshape(rows, columns).astype(np.float64)


def last_hidden_state(path: Path, shape: Architecture, ids: npt.NDArray[Any]) -> Floats:
    """What the decoder says about the last of ``ids``: its normalised hidden state."""
    x = stored_matrix(path, "embedding", 256, shape.hidden)[ids]
    for i in range(shape.layers):
        attended = _attention(path, shape, i, _rms(x))
        x = x + (_rms(attended) if shape.sandwich_norm else attended)
        fed = _feed_forward(path, shape, i, _rms(x))
        x = x + (_rms(fed) if shape.sandwich_norm else fed)
    return np.asarray(_rms(x)[-1])


def _rms(x: Floats) -> Floats:
    return np.asarray(x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6))


def _attention(path: Path, shape: Architecture, i: int, x: Floats) -> Floats:
    tokens, queries, keys = len(x), shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    qkv = x @ stored_matrix(path, f"layer{i}.qkv", shape.hidden, queries + 2 * keys)
    q = qkv[:, :queries].reshape(tokens, shape.heads, shape.head_dim)
    k = qkv[:, queries : queries + keys].reshape(tokens, shape.kv_heads, shape.head_dim)
    v = qkv[:, queries + keys :].reshape(tokens, shape.kv_heads, shape.head_dim)
    if shape.query_key_norm:
        q, k = _rms(q), _rms(k)
    q, k = _rotate(q), _rotate(k)
    distance = np.arange(tokens)[:, None] - np.arange(tokens)[None]
    seen = (distance >= 0) & (distance < (shape.window_of_layer(i) or tokens))
    attended = np.empty_like(q)
    for head in range(shape.heads):
        shared = head // (shape.heads // shape.kv_heads)
        scores = np.where(seen, q[:, head] @ k[:, shared].T / np.sqrt(shape.head_dim), -np.inf)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        attended[:, head] = weights / weights.sum(axis=1, keepdims=True) @ v[:, shared]
    output = stored_matrix(path, f"layer{i}.output", queries, shape.hidden)
    return np.asarray(attended.reshape(tokens, queries) @ output)


def _rotate(x: Floats) -> Floats:
    """Rotary position embedding (https://arxiv.org/abs/2104.09864), the two halves of a head as pairs."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None, None] * 10_000.0 ** (-np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _feed_forward(path: Path, shape: Architecture, i: int, x: Floats) -> Floats:
    up = x @ stored_matrix(path, f"layer{i}.up", shape.hidden, shape.ffn)
    if shape.feed_forward is FeedForward.GELU:
        middle = _gelu(up)
    else:
        gate = x @ stored_matrix(path, f"layer{i}.gate", shape.hidden, shape.ffn)
        middle = up * (_gelu(gate) if shape.feed_forward is FeedForward.GEGLU else gate / (1 + np.exp(-gate)))
    return np.asarray(middle @ stored_matrix(path, f"layer{i}.down", shape.ffn, shape.hidden))


def _gelu(x: Floats) -> Floats:
    """The approximation by a tangens hyperbolicus (https://arxiv.org/abs/1606.08415)."""
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
