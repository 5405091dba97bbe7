"""What the characters of a model's name say: words with versions, sizes, and nothing of any one model."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

LONGEST_NAME = 4096  # characters; a path may be long, no model's name is longer
_LONGEST_WORD = 40


class SizeKind(StrEnum):
    """What a size in a name counts."""

    TOTAL = "total"  # 7B
    ACTIVE = "active"  # A3B: those that a token passes in a mixture of experts
    EFFECTIVE = "effective"  # E2B: without the per-layer embeddings
    PER_EXPERT = "per_expert"  # 8x7B


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedSize:
    """A number of parameters that a name states. ``experts`` is the 8 of 8x7B, None elsewhere."""

    kind: SizeKind
    parameters: int
    experts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word of a name and the version behind it, empty without one: llama and 3.2."""

    text: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameParts:
    """A name taken apart. ``words`` stand in their order; ``tags`` are versions written v0.3, without the v.

    ``marks`` tell revisions of one model apart and nothing of its size: lengths of contexts (128k), dates and builds
    (2507).
    """

    words: tuple[Word, ...]
    sizes: frozenset[StatedSize]
    tags: frozenset[str]
    marks: frozenset[str]


def fold(text: str) -> str:
    """Return a text with small letters, compatible characters made one and invisible ones left out."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKC", text).casefold()[:LONGEST_NAME]
    return "".join(character for character in plain if unicodedata.category(character) != "Cf")


def take_apart(folded: str) -> NameParts:
    """Return the words, versions and sizes of a folded name, in time linear in its length. Never raises.

    A number behind a word is its version, unless it is a date or a build. Beside a size in billions, 1M is the length
    of a context and 3T are tokens of training.
    """
    pieces = list(_with_parted_units(list(_pieces(folded))))
    return NameParts(
        words=tuple(_words(pieces)),
        sizes=frozenset(_without_lengths([_size(value) for kind, value in pieces if kind == "size"])),
        tags=frozenset(_trimmed(value) for kind, value in pieces if kind == "tag"),
        marks=frozenset(value for kind, value in pieces if kind == "length" or (kind == "number" and _is_build(value))),
    )


def _words(pieces: list[tuple[str, str]]) -> list[Word]:
    words: list[Word] = []
    version = ""  # of the last word, as far as a number behind it may still belong to it
    is_open = False
    for kind, value in pieces:
        if kind == "word":
            words.append(Word(text=value))
            version, is_open = "", True
        elif kind == "number" and is_open and not _is_build(value):
            if version and len(value) > 1:
                is_open = False
                continue
            version = f"{version}.{value}" if version else value
            words[-1] = Word(text=words[-1].text, version=_trimmed(version))
            is_open = len(version) == 1 and version.isdigit()  # 3-5 is 3.5, but 3-24 is not 3.24
        else:
            is_open = False
    return words


_UNIT_PARAMETERS = {"k": 1e3, "m": 1e6, "mn": 1e6, "b": 1e9, "bn": 1e9, "t": 1e12}
_UNIT_PARAMETERS |= {"million": 1e6, "billion": 1e9, "trillion": 1e12}
_PARTED_UNITS = frozenset(_UNIT_PARAMETERS) - {"k", "t"}
_UNIT = "million|billion|trillion|bn|mn|[kmbt]"
_AMOUNT = r"[0-9]{1,4}(?:\.[0-9]{1,3})?"
_SIZE = re.compile(rf"(?P<prefix>[ea]?)(?P<amount>{_AMOUNT})(?P<unit>{_UNIT})")
_SPLIT_SIZE = re.compile(r"([0-9]{1,3})([bm])([0-9])")  # 1b7 is 1.7b
_PER_EXPERT = re.compile(rf"(?P<experts>[0-9]{{1,3}})x(?P<amount>{_AMOUNT})(?P<unit>[bm])")
_TAG = re.compile(r"v([0-9]+(?:\.[0-9]+)*)")
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*[a-z]?")
_CHUNK = re.compile(r"[^\W_]+(?:\.[^\W_]+)*")
_EXPERT_COUNT = re.compile(r"[0-9]{1,3}e")
_LAYER_COUNT = re.compile(r"[0-9]{1,4}[lhd]")  # TinyBERT 4L 312D: layers and widths are no versions
_KINDS = (
    ("word", _LAYER_COUNT),
    ("size", _SIZE),
    ("size", _PER_EXPERT),
    ("experts", _EXPERT_COUNT),
    ("number", _VERSION),
)
_PARTS = re.compile(r"([^\W\d_]*)([0-9]*(?:\.[0-9]+)*)(.*)", re.DOTALL)  # matches any text
# Lengths of contexts as they are written in names, in thousands of tokens.
_CONTEXTS_K = frozenset({1, 2, 3, 4, 6, 8, 10, 16, 20, 32, 48, 64, 80, 96, 100, 128, 131, 160, 192, 196, 200, 256, 262})
_LONG_CONTEXTS_K = frozenset({400, 500, 512, 524, 1000, 1024, 1048, 2048, 4096})


def _pieces(folded: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) from left to right: word, number, size or tag."""
    points = re.sub(r"(?<![0-9])\.|\.(?![0-9])", " ", folded.replace("+", " plus "))
    if "-" in points or ":" in points:  # internlm2_5-7b: with another separator about, this one is a point
        points = re.sub(r"(?<=[0-9])_(?=[0-9])", ".", points)
    for chunk in _CHUNK.findall(points):
        if len(chunk) > _LONGEST_WORD:
            yield "word", chunk[:_LONGEST_WORD]
        else:
            yield from _pieces_of(chunk)


def _pieces_of(chunk: str) -> Iterator[tuple[str, str]]:
    """Yield what a run of letters and digits is: one thing, or a word and one thing, or less than that."""
    parts = _PARTS.fullmatch(chunk)
    assert parts is not None  # it matches any text
    letters, number, rest = parts.groups()
    if piece := _piece(chunk):
        yield piece
    elif letters and (piece := _piece(number + rest)):
        yield from (("word", letters), piece)
    elif letters:
        yield "word", chunk  # gpt4all is not GPT-4
    else:
        yield from ((kind, part) for kind, part in (("number", number), ("word", rest)) if part)


def _piece(text: str) -> tuple[str, str] | None:
    """Return the kind of a whole text that is a size, a length, a tag, a number of experts or a number."""
    if split := _SPLIT_SIZE.fullmatch(text):
        return "size", f"{split[1]}.{split[3]}{split[2]}"
    if tag := _TAG.fullmatch(text):
        return "tag", tag[1]
    kind = next((kind for kind, pattern in _KINDS if pattern.fullmatch(text)), None)
    return None if kind is None else ("length" if _is_context(text) else kind, text)


def _with_parted_units(pieces: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Join a number and a unit that stand apart: 0.5 B, 7 billion. A size beside 16E counts what a token passes."""
    has_expert_count = any(kind == "experts" for kind, _ in pieces)
    index = 0
    while index < len(pieces):
        kind, value = pieces[index]
        following = pieces[index + 1][1] if index + 1 < len(pieces) else ""
        if kind == "number" and following in _PARTED_UNITS and _SIZE.fullmatch(value + following):
            yield "size", value + following
            index += 1
        elif kind == "size" and has_expert_count and value[0].isdigit() and "x" not in value:
            yield "size", f"a{value}"
        else:
            yield kind, value
        index += 1


def _is_context(text: str) -> bool:
    return text[:-1].isdigit() and text[-1] == "k" and int(text[:-1]) in _CONTEXTS_K | _LONG_CONTEXTS_K


def _is_build(number: str) -> bool:
    """Whether a number is a date or a build and no version: four digits or more, or a leading zero."""
    return number.isdigit() and (len(number) > 3 or (len(number) > 1 and number[0] == "0"))


def _size(text: str) -> StatedSize:
    if match := _PER_EXPERT.fullmatch(text):
        kind, experts = SizeKind.PER_EXPERT, int(match["experts"])
    else:
        match, experts = _SIZE.fullmatch(text), None
        assert match is not None  # pieces of this kind are made by this pattern
        kind = {"": SizeKind.TOTAL, "a": SizeKind.ACTIVE, "e": SizeKind.EFFECTIVE}[match["prefix"]]
    parameters = round(float(match["amount"]) * _UNIT_PARAMETERS[match["unit"]])
    return StatedSize(kind=kind, parameters=parameters, experts=experts)


def _without_lengths(sizes: list[StatedSize]) -> Iterator[StatedSize]:
    in_billions = any(10**8 <= size.parameters < 10**12 for size in sizes)
    for size in sizes:
        is_length = size.kind is SizeKind.TOTAL and in_billions and size.parameters <= 10**7
        is_training = size.kind is SizeKind.TOTAL and in_billions and size.parameters >= 10**12
        if size.parameters and not is_length and not is_training:
            yield size


def _trimmed(version: str) -> str:
    return version.removesuffix(".0") if version.count(".") else version
