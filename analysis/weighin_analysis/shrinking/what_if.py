"""What-ifs: the techniques that shrink a model, and how a person writes them down.

One what-if is one text, ``technique`` or ``technique=value``; several apply in the order in which they are given.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from weighin_analysis.errors import WhatIfError
from weighin_analysis.models.tensors import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """Store and multiply the weights in another scheme of the same format."""

    scheme: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Set a share of the weights of the layers to zero, the matrices keeping their shape.

    ``two_of_four``: in every four neighbours two are zero, the one pattern that some GPUs skip.
    """

    sparsity: float
    two_of_four: bool = False


class Dimension(StrEnum):
    """What structured pruning takes away from."""

    LAYERS = "layers"
    HEADS = "heads"
    FFN = "ffn"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneCount:
    """Remove whole layers, or this many query heads of every layer, their keys and values with them."""

    dimension: Dimension
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneWidth:
    """Remove a share of the channels: of the feed-forward block, or of the hidden state throughout."""

    dimension: Dimension
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Distill:
    """Use a student of the catalogue in place of its teacher."""

    student: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Adapt matrices by two thin ones of a rank, kept apart from the model or merged into it."""

    rank: int
    targets: tuple[Role, ...]
    bytes_per_weight: int
    merged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLayers:
    """Let all layers use the weights of so many."""

    distinct: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TieEmbeddings:
    """Let the output head use the table of the input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingWidth:
    """Give the vocabulary's table a smaller width, and project it to the hidden state."""

    width: int


WhatIf = Quantize | Prune | PruneCount | PruneWidth | Distill | Lora | ShareLayers | TieEmbeddings | EmbeddingWidth


def parse_what_if(text: str) -> WhatIf:
    """Return the what-if that a text tells, such as ``quantize=q4``, ``prune=0.5`` or ``lora=16:q,v:merged``.

    Raises WhatIfError, one line that says what can be written, for everything else.
    """
    shown = _shown(text)
    name, _, value = text.strip().partition("=")
    technique = name.strip().lower()
    if technique not in _TECHNIQUES:
        forms = ", ".join(known + form for known, (form, _) in _TECHNIQUES.items())
        raise WhatIfError(f"what-if {shown} is not known; write one of {forms}")
    form, read = _TECHNIQUES[technique]
    try:
        return read(value.strip())
    except ValueError as error:
        raise WhatIfError(f"what-if {shown}: {error}; write {technique}{form}") from error


def _shown(text: str) -> str:
    return ascii(text[:_LONGEST_SHOWN])


def _count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", value) or not 0 < int(value) <= _LARGEST_COUNT:
        raise ValueError(f"{_shown(value)} is no whole number from 1 to {_LARGEST_COUNT}")
    return int(value)


def _share(value: str) -> float:
    if not re.fullmatch(r"0?\.[0-9]{1,9}", value) or float(value) == 0:
        raise ValueError(f"{_shown(value)} is no share between 0 and 1")
    return float(value)


def _name(value: str) -> str:
    if not value or len(value) > _LONGEST_TEXT:
        raise ValueError("the name is missing or too long")
    return value


def _prune(value: str) -> Prune:
    two_of_four = value == "2:4"
    return Prune(sparsity=0.5 if two_of_four else _share(value), two_of_four=two_of_four)


def _lora(value: str) -> Lora:
    rank, *options = value.lower().split(":")
    known = {"fp16", "fp32", "merged"}
    targets = [option for option in options if option not in known]
    types = [_ADAPTER_BYTES[option] for option in options if option in _ADAPTER_BYTES]
    if len(targets) > 1 or len(types) > 1 or options.count("merged") > 1:
        raise ValueError("an option is given twice, or is not known")
    return Lora(
        rank=_count(rank),
        targets=_targets(targets[0]) if targets else _DEFAULT_TARGETS,
        bytes_per_weight=types[0] if types else _ADAPTER_BYTES["fp16"],
        merged="merged" in options,
    )


def _targets(text: str) -> tuple[Role, ...]:
    names = tuple(_LORA_TARGETS) if text == "all" else tuple(text.split(","))
    if len(set(names)) != len(names) or not set(names) <= set(_LORA_TARGETS):
        raise ValueError(f"{_shown(text)} are no targets; these are all, or some of {','.join(_LORA_TARGETS)}")
    return tuple(_LORA_TARGETS[name] for name in names)


def _tie(value: str) -> TieEmbeddings:
    if value:
        raise ValueError("it takes no value")
    return TieEmbeddings()


# More than any number of any model; what is longer is a mistake, and would fill the screen.
_LARGEST_COUNT = 1_000_000
_LONGEST_TEXT = 200
_LONGEST_SHOWN = 60  # of what cannot be read; escaped, a character may take ten
_ADAPTER_BYTES = {"fp16": 2, "fp32": 4}
_LORA_TARGETS = {
    "q": Role.QUERY,
    "k": Role.KEY,
    "v": Role.VALUE,
    "o": Role.ATTENTION_OUTPUT,
    "gate": Role.GATE,
    "up": Role.UP,
    "down": Role.DOWN,
}
# What the paper adapts: https://arxiv.org/abs/2106.09685, section 5.
_DEFAULT_TARGETS = (Role.QUERY, Role.VALUE)

_TECHNIQUES: dict[str, tuple[str, Callable[[str], WhatIf]]] = {
    "quantize": ("=SCHEME", lambda value: Quantize(scheme=_name(value))),
    "prune": ("=SHARE or prune=2:4", _prune),
    "prune-layers": ("=COUNT", lambda value: PruneCount(dimension=Dimension.LAYERS, removed=_count(value))),
    "prune-heads": ("=COUNT", lambda value: PruneCount(dimension=Dimension.HEADS, removed=_count(value))),
    "prune-ffn": ("=SHARE", lambda value: PruneWidth(dimension=Dimension.FFN, share=_share(value))),
    "prune-hidden": ("=SHARE", lambda value: PruneWidth(dimension=Dimension.HIDDEN, share=_share(value))),
    "distill": ("=STUDENT", lambda value: Distill(student=_name(value))),
    "lora": ("=RANK[:TARGETS][:fp16|fp32][:merged]", _lora),
    "share-layers": ("=COUNT", lambda value: ShareLayers(distinct=_count(value))),
    "tie-embeddings": ("", _tie),
    "embedding-width": ("=WIDTH", lambda value: EmbeddingWidth(width=_count(value))),
}
