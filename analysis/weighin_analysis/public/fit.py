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
    )


def best_law(pairs: Tried, singles: Tried, kept_pairs: NDArray[np.bool_], kept_singles: NDArray[np.bool_]) -> SizeLaw:
    """Return the law that predicts best from the kept pairs of runs, with intervals that hold for single ones as well.

    Pairs choose it: only from two runs does it matter how much nearer ones tell. The scale is the mean of those at
    which the intervals from two runs and from one hold.
    """
    law = min(range(len(pairs.laws)), key=lambda i: _loss(pairs, i, kept_pairs))
    scale = (_scale(pairs, law, kept_pairs) + _scale(singles, law, kept_singles)) / 2
    chosen = pairs.laws[law]
    return SizeLaw(
        size_exponent=chosen.size_exponent,
        run_sd=round(scale, _DIGITS),
        walk_sd=round(scale * chosen.walk_sd, _DIGITS),
    )


def fit(pairs: Sequence[Question], singles: Sequence[Question]) -> SizeLaw:
    """Return the law that follows from all questions, with no device left out: what is shipped."""
    return best_law(tried(pairs), tried(singles), np.ones(len(pairs), bool), np.ones(len(singles), bool))


def _loss(one: Tried, i: int, keep: NDArray[np.bool_]) -> float:
    """Return the mean negative log likelihood of Student's t, at the scale at which its interval holds."""
    chosen = keep[one.order[i]]
    scale = _scale(one, i, keep)
    tails = (_DEGREES_OF_FREEDOM + 1) / 2 * np.log1p((one.deviations[i] / scale) ** 2 / _DEGREES_OF_FREEDOM)
    weights = one.weights[one.order[i]]
    return math.log(scale) + float(np.average((one.log_sds[i] + tails)[chosen], weights=weights[chosen]))


def _scale(one: Tried, i: int, keep: NDArray[np.bool_]) -> float:
    """Return by how much the sd of a law must be multiplied for its interval to hold."""
    chosen = keep[one.order[i]]
    share = current_limits().interval_probability
    reached = sorted_quantile(one.deviations[i][chosen], one.weights[one.order[i]][chosen], share)
    return max(_LEAST_SD, reached / interval_factor())


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
