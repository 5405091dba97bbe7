"""The rule from estimates to a verdict. Every limit is a margin: 1 or more reaches it.

The same margins tell what a device runs out of first, and with an interval how probable a verdict is
(``fleet/grading/grade.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Verdict
from weighin_analysis.limits import Limits

UNKNOWN_MEMORY = "free memory is not known, judged by speed alone"
UNKNOWN_SPEED = "no estimate of all the speeds that the limits ask for"
STOPPED = "too little free memory to run even its layer probe"

Number = TypeVar("Number", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What one quantity must reach: ``quantity`` is a field of a card's row, ``limit`` is in its unit.

    A rate must be at least, a time at most the limit. ``shortfall`` says in words that it is not.
    """

    quantity: str
    limit: float
    at_least: bool
    shortfall: str

    def margin(self, value: Number) -> Number:
        """Return how many times over a positive value reaches the limit."""
        return value / self.limit if self.at_least else self.limit / value


def speed_bounds(kind: ArchitectureKind, verdict: Verdict, limits: Limits) -> tuple[Bound, ...]:
    """Return what a model must reach in speed to be COMFORTABLE, or to be USABLE, by all of them."""
    comfortable = verdict is Verdict.COMFORTABLE
    if kind is ArchitectureKind.ENCODER:
        latency = (limits.encoder_comfortable if comfortable else limits.encoder_usable).latency_seconds
        words = f"latency above {1000 * latency:g} ms"
        return (Bound(quantity="latency_seconds", limit=latency, at_least=False, shortfall=words),)
    decoder = limits.decoder_comfortable if comfortable else limits.decoder_usable
    rate, first = decoder.decode_tokens_per_second, decoder.time_to_first_token_seconds
    return (
        Bound(
            quantity="decode_tokens_per_second",
            limit=rate,
            at_least=True,
            shortfall=f"decode below {rate:g} tokens/s",
        ),
        Bound(
            quantity="time_to_first_token_seconds",
            limit=first,
            at_least=False,
            shortfall=f"first token later than {first:g} s",
        ),
    )


def memory_margin(memory_bytes: Number, memory_available_bytes: Number, limits: Limits) -> Number:
    """Return how many times over the memory that may be used holds a model."""
    return limits.memory_share * memory_available_bytes / memory_bytes


def verdict_of(
    kind: ArchitectureKind,
    speeds: Mapping[str, float],
    memory_bytes: int,
    memory_available_bytes: int | None,
    limits: Limits,
) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict and the reasons that keep it from being comfortable; memory comes before speed.

    ``speeds`` has the quantities of the bounds of this kind; available memory that is None is not known.
    """
    unknown: tuple[str, ...] = ()
    if memory_available_bytes is None:
        unknown = (UNKNOWN_MEMORY,)
    elif memory_margin(float(memory_bytes), float(memory_available_bytes), limits) < 1:
        needs, has = memory_bytes / 2**30, limits.memory_share * memory_available_bytes / 2**30
        return Verdict.DOES_NOT_FIT, (f"needs {needs:.1f} GiB, {has:.1f} GiB may be used",)
    short = _shortfalls(speeds, speed_bounds(kind, Verdict.COMFORTABLE, limits))
    if not short:
        return Verdict.COMFORTABLE, unknown
    shorter = _shortfalls(speeds, speed_bounds(kind, Verdict.USABLE, limits))
    return (Verdict.TOO_SLOW, (*unknown, *shorter)) if shorter else (Verdict.USABLE, (*unknown, *short))


def _shortfalls(speeds: Mapping[str, float], bounds: tuple[Bound, ...]) -> tuple[str, ...]:
    return tuple(bound.shortfall for bound in bounds if bound.margin(speeds[bound.quantity]) < 1)
