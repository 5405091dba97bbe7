"""Size classes, and the architectures that one device or another may be asked about."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.data_files import read_data
from weighin_analysis.errors import CatalogError
from weighin_analysis.models.catalogue import catalogue, entry
from weighin_analysis.models.shape import Shape

_COUNTS = ("layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab")
_FLAGS = ("query_key_norm", "sandwich_norm")
_OPTIONAL_COUNTS = ("sliding_window", "global_layer_interval")
_MOST_COUNT = 2**31 - 1  # what the contract carries


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeClass:
    """A band of models by parameter count, lower border inclusive; ``upper`` is None for the last.

    ``reference`` names the architecture that suites measure for the class, ``representative`` the one that stands for a
    class too large to be measured and is always computed; None where there is none.
    """

    name: str
    lower: int
    upper: int | None
    reference: str | None
    representative: str | None


@cache
def architectures() -> dict[str, Architecture]:
    """Return, by name, the architecture of every catalogued model whose weights it tells by itself.

    A mixture of experts holds more than a token passes, and layers or tables that share weights hold less than they
    compute: those models are only in the catalogue, with their whole shape.
    """
    shapes = ((one.name, one.shape) for one in catalogue().values())
    return {name: shape.architecture for name, shape in shapes if shape is not None and _is_plain(shape)}


def _is_plain(shape: Shape) -> bool:
    return shape.experts is None and shape.distinct_layers is None and shape.embedding_width is None


def architecture(name: str) -> Architecture:
    """Return the architecture of a catalogued model; CatalogError where there is none, with the nearest names."""
    model = entry(name)
    if model.name not in architectures():
        raise CatalogError(f"{model.name} has no architecture that tells all of its weights; take another model")
    return architectures()[model.name]


def parse_architecture(text: str) -> Architecture:
    """Return the architecture that a JSON text describes, with the column names of the model tables.

    ``{"model", "layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "tied_embeddings"}``, a decoder
    unless ``"arch": "encoder"``. Optional are ``feed_forward`` (swiglu, geglu or gelu; swiglu unless told, gelu for an
    encoder), ``query_key_norm`` and ``sandwich_norm`` (true or false), ``sliding_window`` (tokens, or null) and
    ``global_layer_interval`` (layers, or null); further keys are ignored. CatalogError says which field is missing or
    wrong.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CatalogError(f"the architecture is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise CatalogError("the architecture is not a JSON object")
    kind = data.get("arch", "decoder")
    if kind not in list(ArchitectureKind):  # a list: the kind may be anything, hashable or not
        raise CatalogError(f"arch: {kind!r} is neither decoder nor encoder")
    for key in _COUNTS:
        if not _is_count(data.get(key)):
            raise CatalogError(f"{key}: must be a whole number from 1 to {_MOST_COUNT}")
    plain = FeedForward.GELU if kind == ArchitectureKind.ENCODER else FeedForward.SWIGLU
    feed_forward = data.get("feed_forward", plain)
    if feed_forward not in list(FeedForward):
        raise CatalogError(f"feed_forward: {feed_forward!r} is none of {', '.join(FeedForward)}")
    for key in _FLAGS:
        if not isinstance(data.get(key, False), bool):
            raise CatalogError(f"{key}: must be true or false")
    for key in _OPTIONAL_COUNTS:
        value = data.get(key)
        if value is not None and not _is_count(value):
            raise CatalogError(f"{key}: must be a whole number from 1 to {_MOST_COUNT}, or null")
    if not isinstance(data.get("model"), str) or not isinstance(data.get("tied_embeddings"), bool):
        raise CatalogError("model must be a text and tied_embeddings true or false")
    optional: dict[str, Any] = {key: data.get(key) for key in _OPTIONAL_COUNTS}
    return Architecture(
        name=data["model"],
        kind=ArchitectureKind(kind),
        tied_embeddings=data["tied_embeddings"],
        feed_forward=FeedForward(feed_forward),
        **{key: data[key] for key in _COUNTS},
        **{key: data.get(key, False) for key in _FLAGS},
        **optional,
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_COUNT


@cache
def size_classes() -> tuple[SizeClass, ...]:
    """Return all size classes, smallest first."""
    rows = read_data("size_classes.toml")["size_class"]
    return tuple(
        SizeClass(
            name=row["name"],
            lower=row["from"],
            upper=row.get("to"),
            reference=row.get("reference"),
            representative=row.get("representative"),
        )
        for row in rows
    )


def class_rank(size_class: str) -> int:
    """Return the place of a size class, the smallest first."""
    return [one.name for one in size_classes()].index(size_class)


def size_class_of(parameter_count: int) -> SizeClass:
    """Return the class whose band holds ``parameter_count`` (at least 0)."""
    return next(c for c in size_classes() if c.upper is None or parameter_count < c.upper)
