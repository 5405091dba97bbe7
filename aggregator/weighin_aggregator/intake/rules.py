"""Rules of one field each, as the validators use them. An absent optional number reads as 0 and keeps its rule."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from functools import lru_cache
from typing import Protocol

from weighin_aggregator.limits import Limits

# What names and versions are written with. It keeps programs out, not paths or addresses: those have patterns below.
_FREE_TEXT = re.compile(r"[A-Za-z0-9 ()@.+/_-]+")
_PRINTABLE_ASCII = re.compile(r"[ -~]*")

# What tells one machine, or its user, from all others, wherever it hides. A name that looks like any other word, such
# as that of a host, cannot be told by its shape: the agent must not send it.
_PRIVATE = (
    (
        re.compile(
            r"\b[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}\b"
            r"|\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b"
        ),
        "must not hold a MAC address or a UUID",
    ),
    # Not "w/ Radeon" or "GNU/Linux": a path begins a word, and goes on.
    (re.compile(r"(?:^|[^\w.)])/[\w.~-]|\b[A-Za-z]:[\\/]|\\\w"), "must not hold a path"),
    # Not "i7-9750H CPU @ 2.60GHz", in any spacing.
    (re.compile(r"\w@(?![\d.]+ ?[GM]Hz)\w"), "must not hold an account or an e-mail address"),
)
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
# Versions may have four parts too ("31.0.101.4502"), so this is no rule for them.
_IPV4 = re.compile(rf"(?<![\d.]){_OCTET}(?:\.{_OCTET}){{3}}(?!\.?\d)")
# One long word of capitals and digits, or a long hexadecimal number.
_SERIAL = re.compile(r"\b(?=[0-9A-Z]*[0-9])[0-9A-Z]{14,}\b|\b[0-9A-Fa-f]{12,}\b")
# The same in a sentence, where a number of digits alone counts something.
_SERIAL_IN_LINE = re.compile(r"\b(?=[A-Z]*[0-9])(?=[0-9]*[A-Z])[0-9A-Z]{14,}\b|\b(?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{12,}\b")


# The same names come again with every run of a fleet, and a search costs more than all other rules of a text. Only
# texts that are short enough are remembered, so this bounds the memory too.
_REMEMBERED_TEXTS = 4_096


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


def at_most(path: str, value: int, bound: int) -> Iterator[str]:
    """Demand a value that is not above the bound."""
    if value > bound:
        yield f"{path}: must be at most {bound}"


def free_text(path: str, text: str, limits: Limits) -> Iterator[str]:
    """Demand a name: what ``version`` demands, and no IPv4 address."""
    yield from _text(path, text, limits.free_text_characters, _broken_by_name)


def is_free_text(text: str, limits: Limits) -> bool:
    """Tell whether ``free_text`` would find nothing."""
    return 0 < len(text) <= limits.free_text_characters and _broken_by_name(text) is None


def version(path: str, text: str, limits: Limits) -> Iterator[str]:
    """Demand a version: not empty, short, from the allow-list, and nothing that tells one machine from all others."""
    yield from _text(path, text, limits.free_text_characters, _broken_by_version)


def one_line(path: str, text: str, limits: Limits) -> Iterator[str]:
    """Demand a line for a person, possibly empty: printable ASCII, short, and nothing that tells one machine apart."""
    if len(text) > limits.detail_bytes:
        yield f"{path}: must have at most {limits.detail_bytes} bytes"
    elif rule := _broken_by_line(text):
        yield f"{path}: {rule}"


def _text(path: str, text: str, most_characters: int, broken_by: Callable[[str], str | None]) -> Iterator[str]:
    if not text:
        yield f"{path}: must not be empty"
    elif len(text) > most_characters:
        yield f"{path}: must have at most {most_characters} characters"
    elif rule := broken_by(text):
        yield f"{path}: {rule}"


@lru_cache(_REMEMBERED_TEXTS)
def _broken_by_version(text: str) -> str | None:
    if not _FREE_TEXT.fullmatch(text):
        return "may only hold letters, digits, spaces and ( ) @ . + / _ -"
    return _private(text, _SERIAL)


@lru_cache(_REMEMBERED_TEXTS)
def _broken_by_name(text: str) -> str | None:
    return _broken_by_version(text) or ("must not hold an IP address" if _IPV4.search(text) else None)


@lru_cache(_REMEMBERED_TEXTS)
def _broken_by_line(text: str) -> str | None:
    if not _PRINTABLE_ASCII.fullmatch(text):
        return "may only hold printable ASCII"
    if _IPV4.search(text):
        return "must not hold an IP address"
    return _private(text, _SERIAL_IN_LINE)


def _private(text: str, serial: re.Pattern[str]) -> str | None:
    """Say what a text must not hold and does, None if there is nothing."""
    for pattern, rule in _PRIVATE:
        if pattern.search(text):
            return rule
    return "must not hold a serial number" if serial.search(text) else None
