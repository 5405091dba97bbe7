"""A run in which every field is set, each to something of its own: what gets lost on the way is seen."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from itertools import count
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from weighin_agent.run import Run


def filled(kind: Any, name: str, number: Iterator[int]) -> Any:
    """A value of a type in which every field is set, each to something of its own."""
    if get_origin(kind) is UnionType:
        return filled(next(k for k in get_args(kind) if k is not NoneType), name, number)
    if get_origin(kind) is tuple:
        return tuple(filled(get_args(kind)[0], name, number) for _ in range(2))
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{field.name: filled(hints[field.name], field.name, number) for field in fields(kind)})  # type: ignore[operator]
    if issubclass(kind, Enum):
        members = list(kind)
        return members[next(number) % len(members)]
    if kind is bool:
        return True
    if kind is datetime:
        return datetime(2026, 11, 21, 12, 30, 15, 250_000, tzinfo=UTC)
    if kind is bytes:
        return next(number).to_bytes(32, "big")
    if kind is str:
        return f"{next(number):064x}" if name.endswith("sha256") else f"{name} {next(number)}"
    assert kind in (int, float)
    return kind(next(number))


FILLED: Run = filled(Run, "run", count(1))
