"""Every tensor of a model, counted from its shape: what file formats store and quantize one by one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.models.shape import Experts, Shape


class Role(StrEnum):
    """What a tensor does; formats choose its type by that."""

    TOKEN_EMBEDDING = "token_embedding"  # noqa: S105  not a password
    POSITION_EMBEDDING = "position_embedding"
    TOKEN_TYPE_EMBEDDING = "token_type_embedding"  # noqa: S105  not a password
    EMBEDDING_PROJECTION = "embedding_projection"
    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    ATTENTION_OUTPUT = "attention_output"
    ROUTER = "router"
    GATE = "gate"
    UP = "up"
    DOWN = "down"
    NORM = "norm"
    BIAS = "bias"
    POOLER = "pooler"
    HEAD = "head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """``copies`` matrices of ``rows`` outputs by ``columns`` inputs; a vector has one row. ``layer`` counts from 0."""

    role: Role
    rows: int
    columns: int
    layer: int | None = None
    copies: int = 1

    @property
    def weight_count(self) -> int:
        """Weights of all copies together."""
        return self.copies * self.rows * self.columns


@lru_cache(maxsize=64)  # every format and scheme counts the same tensors
def tensors(shape: Shape) -> tuple[Tensor, ...]:
    """Return every stored tensor of a model once: tied tables once, shared layers once, no head where it is tied."""
    return tuple(_tensors(shape))


def _tensors(shape: Shape) -> Iterator[Tensor]:
    arch = shape.architecture
    width = shape.embedding_width or arch.hidden
    yield Tensor(role=Role.TOKEN_EMBEDDING, rows=arch.vocab, columns=width)
    if shape.position_rows:
        yield Tensor(role=Role.POSITION_EMBEDDING, rows=shape.position_rows, columns=width)
    if shape.token_type_rows:
        yield Tensor(role=Role.TOKEN_TYPE_EMBEDDING, rows=shape.token_type_rows, columns=width)
    if shape.embedding_norm:
        yield _norm(shape, width, None)
    if width != arch.hidden:
        yield Tensor(role=Role.EMBEDDING_PROJECTION, rows=arch.hidden, columns=width)
        yield Tensor(role=Role.BIAS, rows=1, columns=arch.hidden)
    for layer in range(shape.distinct_layers or arch.layers):
        yield from _layer(shape, layer)
    if shape.final_norm:
        yield _norm(shape, arch.hidden, None)
    if shape.pooler:
        yield Tensor(role=Role.POOLER, rows=arch.hidden, columns=arch.hidden)
        yield Tensor(role=Role.BIAS, rows=1, columns=arch.hidden)
    if arch.kind is ArchitectureKind.DECODER:
        if not arch.tied_embeddings:
            yield Tensor(role=Role.HEAD, rows=arch.vocab, columns=arch.hidden)
        if shape.head_bias:
            yield Tensor(role=Role.BIAS, rows=1, columns=arch.vocab)


def parameter_count(shape: Shape) -> int:
    """Return the parameters of a model, each stored tensor once."""
    return sum(tensor.weight_count for tensor in tensors(shape))


def active_parameter_count(shape: Shape) -> int:
    """Return the parameters that one token passes: those of a model whose layers hold its active experts alone.

    Every table counts in full, also that of the input, of which a token reads one row; some publishers leave it out.
    """
    experts = shape.experts
    if experts is None:
        return parameter_count(shape)
    idle_routes = (experts.count - experts.active) * shape.architecture.hidden
    sparse_layers = shape.architecture.layers - experts.dense_layers
    return parameter_count(replace(shape, experts=replace(experts, count=experts.active))) + sparse_layers * idle_routes


def _layer(shape: Shape, layer: int) -> Iterator[Tensor]:
    arch = shape.architecture
    queries, keys = arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
    projections = (Role.QUERY, queries), (Role.KEY, keys), (Role.VALUE, keys)
    for role, rows in projections:
        yield Tensor(role=role, rows=rows, columns=arch.hidden, layer=layer)
        if shape.qkv_bias:
            yield Tensor(role=Role.BIAS, rows=1, columns=rows, layer=layer)
    yield Tensor(role=Role.ATTENTION_OUTPUT, rows=arch.hidden, columns=queries, layer=layer)
    if shape.attention_output_bias:
        yield Tensor(role=Role.BIAS, rows=1, columns=arch.hidden, layer=layer)
    yield from _feed_forward(shape, layer)
    for _ in range(shape.norms_per_layer):
        yield _norm(shape, arch.hidden, layer)
    if arch.query_key_norm:
        for _ in (Role.QUERY, Role.KEY):
            yield _norm(shape, arch.head_dim, layer)


def _feed_forward(shape: Shape, layer: int) -> Iterator[Tensor]:
    arch, experts = shape.architecture, shape.experts
    if experts is None:
        yield from _block(shape, layer, arch.ffn)
    elif layer < experts.dense_layers:
        yield from _block(shape, layer, experts.dense_ffn)
    else:
        yield from _experts(shape, experts, layer)


def _experts(shape: Shape, experts: Experts, layer: int) -> Iterator[Tensor]:
    yield Tensor(role=Role.ROUTER, rows=experts.count, columns=shape.architecture.hidden, layer=layer)
    yield from _block(shape, layer, shape.architecture.ffn, experts.count)
    if experts.shared_ffn:
        yield from _block(shape, layer, experts.shared_ffn)


def _block(shape: Shape, layer: int, ffn: int, copies: int = 1) -> Iterator[Tensor]:
    hidden = shape.architecture.hidden
    inward = (Role.GATE, Role.UP) if shape.architecture.feed_forward.projections == 3 else (Role.UP,)
    matrices = [*((role, ffn, hidden) for role in inward), (Role.DOWN, hidden, ffn)]
    for role, rows, columns in matrices:
        yield Tensor(role=role, rows=rows, columns=columns, layer=layer, copies=copies)
        if shape.feed_forward_bias:
            yield Tensor(role=Role.BIAS, rows=1, columns=rows, layer=layer, copies=copies)


def _norm(shape: Shape, width: int, layer: int | None) -> Tensor:
    return Tensor(role=Role.NORM, rows=shape.norm.vectors, columns=width, layer=layer)
