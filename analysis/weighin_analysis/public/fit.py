"""Fitting the law of sizes on other people's measurements.

Every combination of a small fixed grid is tried; the best one by the likelihood of Student's t with four degrees of
freedom is taken, because a few rows are wild: a model that spilled out of memory, a kernel that fell back. Its scale is
then set so that the interval holds the share of rows that it promises.
"""

import math
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
_WALKS = (1.0, 1.4, 2.0, 2.8, 4.0, 5.7, 8.0, 11.0)  # walk_sd over run_sd
_LINES = (3.0, math.inf)  # line_beyond
_DEGREES_OF_FREEDOM = 4
_LEAST_SD = 0.001  # of a run: rows that follow a law exactly were made, not measured
_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Questions as arrays, and what was measured; all work and time are logarithms."""

    work: _Floats
    near: _Floats
    far: _Floats
    seconds: _Floats
    weights: _Floats


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
        weights=np.array([one.weight for one in questions]),
    )


@cache
def grid(phase: Phase) -> tuple[SizeLaw, ...]:
    """Return every law that a fit chooses from, with a scale of 1."""
    return tuple(
        SizeLaw(size_exponent=exponent, run_sd=1.0, walk_sd=walk, line_beyond=line)
        for exponent, walk, line in product(_EXPONENTS[phase], _WALKS, _LINES)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """All laws of the grid on some questions, a line per law: |ln error| over its sd, and the logarithm of that sd.

    Each line is sorted by the former; ``order`` tells which question stands where.
    """

    laws: tuple[SizeLaw, ...]
    deviations: _Floats
    log_sds: _Floats
    order: NDArray[np.intp]
    weights: _Floats


def tried(questions: Sequence[Question]) -> Tried:
    """Return what each law of the grid says of the questions; done once, however many devices are left out after."""
    one, laws = asked(questions), grid(questions[0].cell.phase)
    said = [_deviations(law, one) for law in laws]
    deviations, variances = np.array([deviation for deviation, _ in said]), np.array([variance for _, variance in said])
    order = np.argsort(deviations, axis=1, kind="stable")
    lines = np.arange(len(laws))[:, None]
    return Tried(
        laws=laws,
        deviations=deviations[lines, order],
        log_sds=np.log(variances)[lines, order] / 2,
        order=order,
        weights=one.weights,
    )


def _deviations(law: SizeLaw, one: Asked) -> tuple[_Floats, _Floats]:
    """Return |ln error| over its sd, and the variance."""
    mean, variance = ln_times(law, one.work, one.near, one.far)
    return np.abs(mean - one.seconds) / np.sqrt(variance), variance


def best_law(pairs: Tried, singles: Asked, kept_pairs: NDArray[np.bool_], kept_singles: NDArray[np.bool_]) -> SizeLaw:
    """Return the law that predicts best from the kept pairs of runs, with intervals that hold for single ones as well.

    Pairs choose it: only from two runs does it matter how much nearer ones tell. The scale is the mean of those at
    which the intervals from two runs and from one hold.
    """
    best = min(range(len(pairs.laws)), key=lambda i: _loss(pairs, i, kept_pairs))
    chosen = pairs.laws[best]
    reached = _deviations(chosen, singles)[0][kept_singles]
    of_singles = _scale(weighted_quantile(reached, singles.weights[kept_singles], _interval_probability()))
    scale = (_scale_of_pairs(pairs, best, kept_pairs) + of_singles) / 2
    return SizeLaw(
        size_exponent=chosen.size_exponent,
        run_sd=round(scale, _DIGITS),
        walk_sd=round(scale * chosen.walk_sd, _DIGITS),
        line_beyond=chosen.line_beyond,
    )


def fit(pairs: Sequence[Question], singles: Sequence[Question]) -> SizeLaw:
    """Return the law that follows from all questions, with no device left out: what is shipped."""
    return best_law(tried(pairs), asked(singles), np.ones(len(pairs), bool), np.ones(len(singles), bool))


def _loss(one: Tried, i: int, keep: NDArray[np.bool_]) -> float:
    """Return the mean negative log likelihood of Student's t, at the scale at which its interval holds."""
    chosen = keep[one.order[i]]
    scale = _scale_of_pairs(one, i, keep)
    tails = (_DEGREES_OF_FREEDOM + 1) / 2 * np.log1p((one.deviations[i] / scale) ** 2 / _DEGREES_OF_FREEDOM)
    weights = one.weights[one.order[i]]
    return math.log(scale) + float(np.average((one.log_sds[i] + tails)[chosen], weights=weights[chosen]))


def _scale_of_pairs(one: Tried, i: int, keep: NDArray[np.bool_]) -> float:
    chosen = keep[one.order[i]]
    weights = one.weights[one.order[i]][chosen]
    return _scale(_sorted_quantile(one.deviations[i][chosen], weights, _interval_probability()))


def _scale(reached: float) -> float:
    """Return by how much the sd of a law must be multiplied for its interval to reach as many sds as it must."""
    return max(_LEAST_SD, reached / interval_factor())


def _interval_probability() -> float:
    return current_limits().interval_probability


def interval_factor() -> float:
    """Return how many standard deviations the interval reaches to either side: 1.28 for 80 %."""
    return NormalDist().inv_cdf((1 + _interval_probability()) / 2)


def weighted_quantile(values: _Floats, weights: _Floats, share: float) -> float:
    """Return the value below which a share of the weight lies, linear between the middles of the weights."""
    order = np.argsort(values, kind="stable")
    return _sorted_quantile(values[order], weights[order], share)


def _sorted_quantile(values: _Floats, weights: _Floats, share: float) -> float:
    """Return the quantile of values that are sorted already; see ``weighted_quantile``."""
    sums = np.cumsum(weights)
    return float(np.interp(share * sums[-1], sums - weights / 2, values))
