"""What the characters of a model's name say: words with versions, sizes, and nothing of any one model."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise, product

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
    (2507). ``glued`` are other readings of a size that stands right behind letters: of llama27b, llama 2 and 7b.
    ``is_twofold``: one size stands twice in a row, as for an encoder and a decoder.
    """

    words: tuple[Word, ...]
    sizes: frozenset[StatedSize]
    tags: frozenset[str]
    marks: frozenset[str]
    glued: tuple[tuple[Word, StatedSize], ...] = ()
    is_twofold: bool = False


def fold(text: str) -> str:
    """Return a text with small letters, compatible characters made one and invisible ones left out."""
    if text.isascii():
        return text.lower()
    text = re.sub("(.?)([¼-¾⅐-⅞])", _decimal, text, flags=re.DOTALL).replace("×", "x")
    plain = unicodedata.normalize("NFKC", text).casefold()[:LONGEST_NAME]
    return "".join(character for character in plain if unicodedata.category(character) != "Cf")


def _decimal(fraction: re.Match[str]) -> str:
    """Return ½ as 0.500 and 1½ as 1.500; else its compatible characters 1⁄2 and 11⁄2 are read as sizes."""
    before, value = fraction[1], f"{unicodedata.numeric(fraction[2]):.3f}"
    return before + (value[1:] if before.isdigit() else value)


_MOST_READ_TWICE = 3  # underscores of a name, each as a point and as a gap
_BETWEEN_DIGITS = re.compile(r"(?<=[0-9])_(?=[0-9])")
# The last point of v1_1 is one; one in T0_3B is none: a version is not a part of the size that follows it.
_TAG_POINT = re.compile(r"(?<![^\W_])(v[0-9]+)_([0-9]+)(?![^\W_]|\.[0-9])")
_GLUED_SIZE = re.compile(r"(?<![^\W_])[^\W\d_]+[0-9]+\.[0-9]+(?:\.[0-9]+)*[bm](?![^\W_])")
_WORD_TAG = re.compile(r"(?<![^\W_])([^\W\d_]{2,})[-_ ]v(?=[0-9])")


def readings(folded: str) -> Iterator[str]:
    """Yield a folded name with its underscores between digits as gaps and as points: qwen3_0_6b is qwen3 0.6b."""
    text = _TAG_POINT.sub(r"\1.\2", folded)
    places = [match.start() for match in _BETWEEN_DIGITS.finditer(text)][:_MOST_READ_TWICE]
    for marks in product("_.", repeat=len(places)):
        letters = list(text)
        for place, mark in zip(places, marks, strict=True):
            letters[place] = mark
        reading = "".join(letters)
        if "." not in marks or len(_GLUED_SIZE.findall(reading)) == len(_GLUED_SIZE.findall(text)):
            yield reading


def with_versions_for_tags(folded: str) -> str:
    """Return a folded name with what is written as a tag behind a word as its version: llama-v3.1 is llama 3.1."""
    return _WORD_TAG.sub(r"\1 ", folded)


def take_apart(folded: str) -> NameParts:
    """Return the words, versions and sizes of a folded name, in time linear in its length. Never raises.

    A number behind a word is its version, unless it is a date or a build. Beside a size in billions, 1M is the length
    of a context and 3T are tokens of training.
    """
    pieces = list(_with_parted_units(list(_pieces(_respelled(folded)))))
    return NameParts(
        words=tuple(_words(pieces)),
        sizes=frozenset(_without_lengths([_size(value) for kind, value in pieces if kind in _SIZES])),
        tags=frozenset(_trimmed(value) for kind, value in pieces if kind == "tag"),
        marks=frozenset(value for kind, value in pieces if kind == "length" or (kind == "number" and _is_build(value))),
        glued=tuple(
            (Word(text=word, version=version), size)
            for (_, word), (kind, value) in pairwise(pieces)
            if kind == "glued"
            for version, size in _glued(value)
        ),
        is_twofold=any(one == other and one[0] == "size" for one, other in pairwise(pieces)),
    )


def _glued(text: str) -> Iterator[tuple[str, StatedSize]]:
    """Yield the ways to part the digits of a size into a version and a size: of 257b, 2 and 57b, 2.5 and 7b."""
    whole = re.match("[0-9]*", text)
    for end in range(1, len(whole[0]) if whole else 0):
        if _SIZE.fullmatch(text[end:]):
            yield ".".join(text[:end]), _size(text[end:])


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
_UNIT_PARAMETERS |= {"million": 1e6, "billion": 1e9, "trillion": 1e12, "亿": 1e8, "億": 1e8}
_PARTED_UNITS = frozenset(_UNIT_PARAMETERS) - {"k", "t"}
_UNIT = "million|billion|trillion|bn|mn|[kmbt亿億]"
_SIZES = frozenset({"size", "glued"})
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


# Spellings of numbers, each by the one that the rest of this file reads.
_SPELLINGS = [
    (re.compile(spelled), plain)
    for spelled, plain in (
        (r"(?<![0-9])([1-9][0-9]{0,2}),([0-9]{3})(?![0-9])", r"\1\2"),  # 1,100 million
        (r"(?<=[0-9]),(?=[0-9])", "."),  # 0,6b
        (r"(?<![^\W_])([0-9]{1,3})[-_ ]?[x*][-_ ]?(?=[0-9.]{1,8}[bm](?![^\W_]))", r"\1x"),  # 8 x 7b
        (r"(?<![0-9])[0-9](?:\.[0-9])?e-[0-9]{1,2}(?![^\W_])", " "),  # lr2e-5
        (r"(?<=[^0-9.][0-9])p(?=[0-9](?![^\W_]))", "."),  # qwen2p5
        (r"(?<=[0-9][bm])(?=v[0-9])", " "),  # 7bv0.3
        (r"(?<=[0-9]b)(?=[0-9]{1,2}t(?![^\W_]))", " "),  # 2b4t
        (r"(?<=[亿億])", " "),
        (r"\+", " plus "),
        (r"(?<![0-9])\.|\.(?![0-9])", " "),
    )
]


def _respelled(folded: str) -> str:
    for spelled, plain in _SPELLINGS:
        folded = spelled.sub(plain, folded)
    return folded


def _pieces(respelled: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) from left to right: word, number, size, glued (a size right behind a word) or tag."""
    for chunk in _CHUNK.findall(respelled):
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
        kind, value = piece
        yield from (("word", letters), ("glued" if kind == "size" and value[0].isdigit() else kind, value))
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
    index = 0
    while index < len(pieces):
        kind, value = pieces[index]
        following = pieces[index + 1][1] if index + 1 < len(pieces) else ""
        neighbours = (pieces[at][0] for at in (index - 1, index + 1) if 0 <= at < len(pieces))
        is_active = following in {"active", "activated"} or "experts" in neighbours
        if kind == "number" and following in _PARTED_UNITS and _SIZE.fullmatch(value + following):
            yield "size", value + following
            index += 1
        elif kind in _SIZES and is_active and value[0].isdigit() and "x" not in value:
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
