"""Rules of one field each, as the validators use them. An absent optional number reads as 0 and keeps its rule."""

import math
import re
from collections.abc import Iterable, Iterator, Sized
from typing import Protocol

from weighin_aggregator.limits import Limits

# Names of processors and accelerators, and versions. Nothing here can be a path, an address or a program.
_FREE_TEXT = re.compile(r"[A-Za-z0-9 ()@.+/_-]+")
_PRINTABLE_ASCII = re.compile(r"[ -~]*")
# A MAC or a UUID would tell one machine from all others, wherever it hides.
_IDENTIFIER = re.compile(
    r"\b[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}\b"
    r"|\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b"
)


class _Enum(Protocol):
    """What generated enums offer: all their numbers."""

    def values(self) -> Iterable[int]: ...


def stated_values(enum: _Enum) -> frozenset[int]:
    """All numbers of an enum but 0, which is "unspecified"."""
    return frozenset(enum.values()) - {0}


def stated(path: str, value: int, allowed: frozenset[int]) -> Iterator[str]:
    """Demand a value that this server knows, and not "unspecified" where that says nothing."""
    if value not in allowed:
        yield f"{path}: must be a known value"


def at_least(path: str, value: int, bound: int) -> Iterator[str]:
    """Demand a value that is not below the bound."""
    if value < bound:
        yield f"{path}: must be at least {bound}"


def positive(path: str, value: float) -> Iterator[str]:
    """Demand a value that is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        yield f"{path}: must be finite and above 0"


def share(path: str, value: float) -> Iterator[str]:
    """Demand a value from 0 to 1; NaN is none."""
    if not 0 <= value <= 1:
        yield f"{path}: must be from 0 to 1"


def at_most_entries(path: str, entries: Sized, bound: int) -> Iterator[str]:
    """Demand no more entries than the bound."""
    if len(entries) > bound:
        yield f"{path}: must have at most {bound} entries"


def free_text(path: str, text: str, limits: Limits) -> Iterator[str]:
    """Demand a name or a version: not empty, short, from the allow-list, and no identifier of a machine."""
    if not text:
        yield f"{path}: must not be empty"
    elif len(text) > limits.free_text_characters:
        yield f"{path}: must have at most {limits.free_text_characters} characters"
    elif not _FREE_TEXT.fullmatch(text):
        yield f"{path}: may only hold letters, digits, spaces and ( ) @ . + / _ -"
    elif _IDENTIFIER.search(text):
        yield f"{path}: must not hold a MAC address or a UUID"


def one_line(path: str, text: str, limits: Limits) -> Iterator[str]:
    """Demand a line for a person, possibly empty: printable ASCII, short, and no identifier of a machine."""
    if len(text) > limits.detail_bytes:
        yield f"{path}: must have at most {limits.detail_bytes} bytes"
    elif not _PRINTABLE_ASCII.fullmatch(text):
        yield f"{path}: may only hold printable ASCII"
    elif _IDENTIFIER.search(text):
        yield f"{path}: must not hold a MAC address or a UUID"
