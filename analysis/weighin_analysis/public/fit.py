"""Fitting the law of sizes on other people's measurements.

Every combination of a small fixed grid is tried; the best one by the likelihood of Student's t with four degrees of
freedom is taken, because a few rows are wild: a model that spilled out of memory, a kernel that fell back. Its scale is
then set so that the interval that is promised holds the share of rows that is promised.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from weighin_analysis.limits import current_limits
from weighin_analysis.measurement import Phase
from weighin_analysis.public.cells import Question
from weighin_analysis.public.predictors import SizeLaw, ln_times

_Floats = NDArray[np.float64]

# A prefill multiplies without end: what no operation brings is nothing beside it, so its time is as its operations.
_EXPONENTS = {Phase.DECODE: tuple(round(0.02 * step, 2) for step in range(16)), Phase.PREFILL: (0.0,)}
_WALKS = (0.0, 1.0, 1.4, 2.0, 2.8, 4.0, 5.7, 8.0)  # walk_sd over run_sd
_DEGREES_OF_FREEDOM = 4
_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Questions as arrays, and what was measured; all work and time are logarithms."""

    work: _Floats
    near: _Floats
    far: _Floats
    seconds: _Floats


def asked(questions: Sequence[Question]) -> Asked:
    """Return questions as arrays."""

    def runs(pairs: Sequence[tuple[float, float]]) -> _Floats:
        logs: _Floats = np.log(np.array(pairs, float).reshape(-1, 2))
        return logs

    nothing = (math.nan, math.nan)
    return Asked(
        work=np.log([one.cell.work for one in questions]),
        near=runs([(one.near.work, one.near.seconds) for one in questions]),
        far=runs([(one.far.work, one.far.seconds) if one.far else nothing for one in questions]),
        seconds=np.log([one.cell.seconds for one in questions]),
    )


@cache
def grid(phase: Phase) -> tuple[SizeLaw, ...]:
    """Return every law that a fit chooses from, with a scale of 1."""
    choices = product(_EXPONENTS[phase], _WALKS)
    return tuple(SizeLaw(size_exponent=exponent, run_sd=1.0, walk_sd=walk) for exponent, walk in choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """All laws of the grid on some questions, a line per law: |ln error| over its sd, and the logarithm of that sd.

    Each line is sorted by the former; ``order`` tells which question stands where. By ``weights`` every cell counts
    the same, by ``device_weights`` every device, however often it was measured.
    """

    laws: tuple[SizeLaw, ...]
    deviations: _Floats
    log_sds: _Floats
    order: NDArray[np.intp]
    weights: _Floats
    device_weights: _Floats


def tried(questions: Sequence[Question]) -> Tried:
    """Return what each law of the grid says of the questions; done once, however many devices are left out after."""
    one, laws = asked(questions), grid(questions[0].cell.phase)
    said = [ln_times(law, one.work, one.near, one.far) for law in laws]
    variances = np.array([variance for _, variance in said])
    deviations = np.abs(np.array([mean for mean, _ in said]) - one.seconds) / np.sqrt(variances)
    order = np.argsort(deviations, axis=1, kind="stable")
    lines = np.arange(len(laws))[:, None]
    return Tried(
        laws=laws,
        deviations=deviations[lines, order],
        log_sds=np.log(variances)[lines, order] / 2,
        order=order,
        weights=np.array([question.weight for question in questions]),
        device_weights=_device_weights(questions),
    )


def _device_weights(questions: Sequence[Question]) -> _Floats:
    totals: defaultdict[str, float] = defaultdict(float)
    for one in questions:
        totals[one.cell.row.device] += one.weight
    return np.array([one.weight / totals[one.cell.row.device] for one in questions])


def best_law(tries: Sequence[Tried], kept: Sequence[NDArray[np.bool_]]) -> SizeLaw:
    """Return the best law on the kept questions of all kinds: from two runs, and from one."""
    pairs = list(zip(tries, kept, strict=True))
    laws = tries[0].laws
    best = int(np.argmin([sum(_loss(one, i, keep) for one, keep in pairs) for i in range(len(laws))]))
    scale = float(np.mean([_scale(one, best, keep, one.weights) for one, keep in pairs]))
    return SizeLaw(
        size_exponent=laws[best].size_exponent,
        run_sd=round(scale, _DIGITS),
        walk_sd=round(scale * laws[best].walk_sd, _DIGITS),
    )


def fit(questions: Sequence[Sequence[Question]]) -> SizeLaw:
    """Return the best law on questions of several kinds, with no device left out: what is shipped."""
    tries = [tried(kind) for kind in questions]
    return best_law(tries, [np.ones(len(kind), bool) for kind in questions])


def _loss(one: Tried, i: int, keep: NDArray[np.bool_]) -> float:
    """Return the mean negative log likelihood of Student's t, at the scale at which its interval holds."""
    chosen = keep[one.order[i]]
    scale = _scale(one, i, keep, one.device_weights)
    tails = (_DEGREES_OF_FREEDOM + 1) / 2 * np.log1p((one.deviations[i] / scale) ** 2 / _DEGREES_OF_FREEDOM)
    weights = one.device_weights[one.order[i]]
    return math.log(scale) + float(np.average((one.log_sds[i] + tails)[chosen], weights=weights[chosen]))


def _scale(one: Tried, i: int, keep: NDArray[np.bool_], weights: _Floats) -> float:
    chosen = keep[one.order[i]]
    share = current_limits().interval_probability
    return sorted_quantile(one.deviations[i][chosen], weights[one.order[i]][chosen], share) / interval_factor()


def interval_factor() -> float:
    """Return how many standard deviations the interval reaches to either side: 1.28 for 80 %."""
    return NormalDist().inv_cdf((1 + current_limits().interval_probability) / 2)


def weighted_quantile(values: _Floats, weights: _Floats, share: float) -> float:
    """Return the value below which a share of the weight lies, linear between the middles of the weights."""
    order = np.argsort(values, kind="stable")
    return sorted_quantile(values[order], weights[order], share)


def sorted_quantile(values: _Floats, weights: _Floats, share: float) -> float:
    """Return the quantile of values that are sorted already; see ``weighted_quantile``."""
    sums = np.cumsum(weights)
    return float(np.interp(share * sums[-1], sums - weights / 2, values))
