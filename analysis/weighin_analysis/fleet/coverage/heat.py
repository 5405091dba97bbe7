"""Tier by class: how many devices of each tier have which verdict on each class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from weighin_analysis.fleet.coverage.ship import ClassStanding
from weighin_analysis.fleet.coverage.values import Level, VerdictCount
from weighin_analysis.fleet.grading.grade import VERDICTS


def verdict_counts(limits_version: str, classes: Sequence[ClassStanding]) -> tuple[VerdictCount, ...]:
    """Return the counts that are not 0: the largest tier first and no tier last, of each the smallest class first.

    ``classes`` are sorted by size; the tier of a device is the largest that it runs comfortably.
    """
    if not classes:
        return ()
    tier = np.full(len(classes[0].best.verdict), -1)
    for number, one in enumerate(classes):
        tier[one.best.reaching(Level.COMFORTABLE)] = number
    counts = [_counts(tier, one, len(classes)) for one in classes]
    return tuple(
        VerdictCount(
            limits_version=limits_version,
            tier=classes[number].size_class if number >= 0 else None,
            size_class=one.size_class,
            verdict=verdict,
            device_count=int(count[number + 1, place]),
        )
        for number in range(len(classes) - 1, -2, -1)
        for one, count in zip(classes, counts, strict=True)
        for place, verdict in enumerate(VERDICTS)
        if count[number + 1, place]
    )


def _counts(tier: NDArray[np.int64], one: ClassStanding, class_count: int) -> NDArray[np.int64]:
    """Return the devices by tier, no tier first, and verdict."""
    judged = one.best.judged
    kinds = (tier[judged] + 1) * len(VERDICTS) + one.best.verdict[judged]
    return np.bincount(kinds, minlength=(class_count + 1) * len(VERDICTS)).reshape(-1, len(VERDICTS))
