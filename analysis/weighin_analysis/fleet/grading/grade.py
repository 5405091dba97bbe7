"""Estimates held against limits, many at a time: the verdict, and how probable it is that the truth reaches a level.

An estimate is a value with an interval that is symmetric in ln(value) (docs/method.md): its error is taken as normal
there. With the margin m of a bound (``verdict.py``) and the standard deviation s of ln(value), the bound lies
z = ln(m) / s standard deviations off and is reached with probability Phi(z).

A decoder needs its decode rate and its first token. Their errors are taken as independent: the probabilities p and q
multiply. Whatever they share, the truth lies from max(0, p + q - 1) to min(p, q). What they do share, a run on a slow
day or a device that throttles, moves both the same way, for which p q is the cautious side.

Memory is a step: its formula has no interval. What does not fit is certain not to reach a level.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Verdict
from weighin_analysis.limits import Limits
from weighin_analysis.verdict import memory_margin, speed_bounds

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

NO_VERDICT = -1
VERDICTS = tuple(Verdict)

# What is told without any spread is taken to have next to none.
LEAST_LOG_SD = 1e-12
# Of the approximation of Phi: p, and b1 to b5.
PHI_SCALE = 0.2316419
PHI_COEFFICIENTS = (0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429)


# Of several rows of a device the largest of each counts.
REACH_COLUMNS = ("comfortable_margin_sds", "comfortable_probability", "usable_margin_sds", "usable_probability")


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateColumns:
    """Estimates as columns of one length; NaN is absent.

    ``..._log_sd`` is the standard deviation of ln(value), see ``log_sd``. A decoder has a decode rate and a time to
    first token, an encoder a latency. ``stopped`` are models that the memory gate kept from being run at all.
    """

    is_decoder: BoolArray
    decode_tokens_per_second: FloatArray
    decode_tokens_per_second_log_sd: FloatArray
    time_to_first_token_seconds: FloatArray
    time_to_first_token_seconds_log_sd: FloatArray
    latency_seconds: FloatArray
    latency_seconds_log_sd: FloatArray
    memory_bytes: FloatArray
    memory_available_bytes: FloatArray
    stopped: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Grades:
    """What the limits say of every estimate.

    ``verdict`` is an index into ``VERDICTS``, or ``NO_VERDICT`` where an estimate is absent or impossible; there all
    else is NaN. ``..._margin_sds`` is by how many standard deviations an estimate reaches a level, that of its tightest
    bound: negative where it does not, -infinity where the model does not fit. Usable is usable or better.
    """

    verdict: NDArray[np.int8]
    comfortable_margin_sds: FloatArray
    comfortable_probability: FloatArray
    usable_margin_sds: FloatArray
    usable_probability: FloatArray


def log_sd(low: FloatArray, high: FloatArray, interval_probability: float) -> FloatArray:
    """Return the standard deviation of ln(value) that an interval states; NaN for what is no interval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sd = np.log(high / low) / (2 * NormalDist().inv_cdf(0.5 + interval_probability / 2))
    return np.where((low > 0) & (sd >= 0), sd, np.nan)


def normal_cdf(x: FloatArray) -> FloatArray:
    """Return Phi(x), the standard normal distribution, to within 7.5e-8; NaN stays NaN.

    Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.2.17.
    """
    # In place: to map the pages of new arrays into memory would take most of the time.
    t = np.abs(x)
    t *= PHI_SCALE
    t += 1
    np.reciprocal(t, out=t)
    found = np.zeros_like(t)
    for coefficient in reversed(PHI_COEFFICIENTS):
        found += coefficient
        found *= t
    np.multiply(x, x, out=t)
    t /= -2
    np.exp(t, out=t)
    t /= math.sqrt(2 * math.pi)
    found *= t
    np.subtract(0.5, found, out=found)
    np.copysign(found, x, out=found)
    found += 0.5
    return found


def grade(columns: EstimateColumns, limits: Limits) -> Grades:
    """Return the verdict on every estimate, as ``verdict.verdict_of`` has it, and its probabilities."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        memory = memory_margin(columns.memory_bytes, columns.memory_available_bytes, limits)
        comfortable, comfortable_probability = _reached(columns, Verdict.COMFORTABLE, limits)
        usable, usable_probability = _reached(columns, Verdict.USABLE, limits)
    does_not_fit = columns.stopped | (memory < 1)  # memory that is not known is no reason against
    verdict = np.select(
        [does_not_fit, np.isnan(usable), comfortable >= 0, usable >= 0],
        [_code(Verdict.DOES_NOT_FIT), np.int8(NO_VERDICT), _code(Verdict.COMFORTABLE), _code(Verdict.USABLE)],
        _code(Verdict.TOO_SLOW),
    )
    comfortable[does_not_fit] = usable[does_not_fit] = -np.inf
    comfortable_probability[does_not_fit] = usable_probability[does_not_fit] = 0.0
    return Grades(
        verdict=verdict,
        comfortable_margin_sds=comfortable,
        comfortable_probability=comfortable_probability,
        usable_margin_sds=usable,
        usable_probability=usable_probability,
    )


def _code(verdict: Verdict) -> np.int8:
    return np.int8(VERDICTS.index(verdict))


def _reached(columns: EstimateColumns, verdict: Verdict, limits: Limits) -> tuple[FloatArray, FloatArray]:
    """Return by how many standard deviations, and with what probability, every model has the speed of a level.

    NaN where one of its speeds or its spread is not known.
    """
    margin_sds = np.full(len(columns.is_decoder), np.inf)
    probability = np.ones(len(columns.is_decoder))
    for kind in ArchitectureKind:
        of_kind = columns.is_decoder if kind is ArchitectureKind.DECODER else ~columns.is_decoder
        rows = slice(None) if of_kind.all() else of_kind
        for bound in speed_bounds(kind, verdict, limits) if of_kind.any() else ():
            margin = bound.margin(getattr(columns, bound.quantity)[rows])
            z = _in_sds(margin, getattr(columns, f"{bound.quantity}_log_sd")[rows])
            margin_sds[rows] = np.minimum(margin_sds[rows], z)  # NaN stays NaN
            probability[rows] *= normal_cdf(z)
    return margin_sds, probability


def _in_sds(margin: FloatArray, log_sd: FloatArray) -> FloatArray:
    """Return how many standard deviations a margin is from 1; NaN where it or its spread is not known."""
    known = (margin > 0) & np.isfinite(margin) & (log_sd >= 0) & np.isfinite(log_sd)
    sds = np.log(margin)
    sds /= np.maximum(log_sd, LEAST_LOG_SD)
    sds[~known] = np.nan
    return sds
