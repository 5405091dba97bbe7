"""The share of devices that reach a level, with an interval for the sample's size and for what the estimates miss.

The share is the plain count of I (the estimate reaches the level). Estimates are noisy, and noise carries more devices
over a border from the crowded side than from the other. The mean of p (the probability that the truth reaches it) is
what the count would be with all of the noise once more; the count is off by the part of the noise that devices do not
share. u = I - part (p - I) takes that out again, and the interval stands around its mean: simulation extrapolation,
Cook and Stefanski, J. Am. Stat. Assoc. 89 (1994) 1314, where the noise that is added needs no simulation, because its
mean is p.

The interval is Wilson's (J. Am. Stat. Assoc. 22 (1927) 209) with two more terms: what u scatters more than a plain
count, and how far the count moves when all estimates do by as much as the error may be that devices share, which no
number of them averages out. Weights are those of post-stratification: Kish, Survey Sampling (1965). docs/coverage.md
tells how often the intervals hold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from weighin_analysis.fleet.coverage.values import Share

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

INTERVAL_PROBABILITY = 0.95
# Of the variance of an estimate's ln(error), the part that all devices share: 46 % from one anchor, 51 % from two, on
# other people's measurements (docs/evaluate.md).
COMMON_VARIANCE = 0.5

# Of the population: what nobody was judged on moves a share by so little at most.
NEGLIGIBLE_SHARE = 0.01
_ROUNDING = 1e-9  # more than a sum of weights is off, less than any device stands for
_Z = NormalDist().inv_cdf(0.5 + INTERVAL_PROBABILITY / 2)
# So many standard deviations of a device's error off lie the ends of the interval of the common one.
COMMON_SDS = _Z * math.sqrt(COMMON_VARIANCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Groups of devices with their shares of the population: ``cell`` is each device's, an index into ``shares``."""

    cell: NDArray[np.int64]
    shares: FloatArray

    @classmethod
    def one(cls, device_count: int) -> "Cells":
        """Return a single cell: every device stands for as many others."""
        return cls(cell=np.zeros(device_count, dtype=np.int64), shares=np.ones(1))

    def sums(self, values: FloatArray) -> FloatArray:
        """Return the sum over the devices of every cell."""
        if len(self.shares) == 1:
            return np.array([values.sum()])
        return np.bincount(self.cell, weights=values, minlength=len(self.shares)).astype(np.float64)

    def weights(self, devices: BoolArray) -> FloatArray:
        """Return what each of some devices stands for, as a share of all of them; 0 for the other devices.

        Cells without one of these devices stand aside.
        """
        counts = self.sums(devices.astype(np.float64))
        present = np.where(counts > 0, self.shares, 0.0)
        per_device = present / np.maximum(counts, 1) / (present.sum() or 1.0)
        return np.where(devices, per_device[self.cell], 0.0)

    def without(self, devices: BoolArray) -> BoolArray:
        """Return which cells have a share of the population and none of these devices."""
        return np.asarray((self.sums(devices.astype(np.float64)) == 0) & (self.shares > 0))

    def lack(self, devices: BoolArray, uncovered: BoolArray) -> float:
        """Return the share of the population that none of these devices stands for, beside the cells ``uncovered``."""
        return float(self.shares[self.without(devices) & ~uncovered].sum())

    def among(self, devices: BoolArray) -> "Cells":
        """Return the cells of some of the devices."""
        return Cells(cell=self.cell[devices], shares=self.shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What every device adds to a share: by its estimate, without noise, and if all estimates were worse or better.

    Worse and better is by COMMON_SDS, as far as the error may go that all devices share.
    """

    point: FloatArray
    unbiased: FloatArray
    worse: FloatArray
    better: FloatArray

    def __sub__(self, other: "Reached") -> "Reached":
        """Return what the devices add that reach this, but not also the other."""
        return Reached(
            point=self.point - other.point,
            unbiased=self.unbiased - other.unbiased,
            worse=self.worse - other.worse,
            better=self.better - other.better,
        )

    def among(self, devices: BoolArray) -> "Reached":
        """Return what some of the devices add."""
        if devices.all():
            return self
        return Reached(
            point=self.point[devices],
            unbiased=self.unbiased[devices],
            worse=self.worse[devices],
            better=self.better[devices],
        )


def reached(margin_sds: NDArray[np.floating], probability: NDArray[np.floating]) -> Reached:
    """Return what devices add that reach a level by so many standard deviations, and with such a probability."""
    worse, point, better = ((margin_sds >= sds).astype(np.float64) for sds in (COMMON_SDS, 0.0, -COMMON_SDS))
    return Reached(
        point=point,
        unbiased=point - (1 - COMMON_VARIANCE) * (probability - point),
        worse=worse,
        better=better,
    )


def share_of(devices: Reached, cells: Cells) -> Share | None:
    """Return the share of devices with its interval; None without a device in a cell with a share.

    The value is the plain share, which every command counts alike; the interval stands around the share without noise.
    With W the share of a cell and n its devices, a device varies by c (1 - c) + mean(u^2 - u), where c = mean(u): the
    binomial part and what noise adds. The binomial part of the whole is written as t (1 - t) / m, and the ends are the
    t with (sum W c - t)^2 = z^2 (t (1 - t) / m + noise) + common^2, where common is the way down of the count for the
    low end, and the way up for the high one.
    """
    counts = cells.sums(np.ones(len(cells.cell)))
    if not (cells.shares[counts > 0] > 0).any():
        return None
    point, unbiased, unbiased_squared, worse, better = (
        cells.sums(one) / np.maximum(counts, 1)
        for one in (devices.point, devices.unbiased, devices.unbiased**2, devices.worse, devices.better)
    )
    present = np.where(counts > 0, cells.shares, 0.0)
    weight = present / present.sum()
    variance_factor = weight**2 / np.maximum(counts, 1)
    middle = float(np.clip((weight * unbiased).sum(), 0.0, 1.0))
    m = _binomial_count(middle, np.clip(unbiased, 0.0, 1.0), counts, variance_factor)
    noise = float((variance_factor * (unbiased_squared - unbiased)).sum())
    # The share of exactly one tier may fall when all estimates get better.
    ways = [float((weight * (one - point)).sum()) for one in (worse, better)]
    low, _ = _ends(middle, m, _Z**2 * noise + min(0.0, *ways) ** 2)
    _, high = _ends(middle, m, _Z**2 * noise + max(0.0, *ways) ** 2)
    value = min(float((weight * point).sum()), 1.0)
    return Share(value=value, low=max(0.0, min(low, value)), high=min(max(high, value), 1.0))


def remainder(share: Share) -> Share:
    """Return the share of the devices that are not in ``share``."""
    return Share(value=1 - share.value, low=1 - share.high, high=1 - share.low)


def _ends(middle: float, m: float, other: float) -> tuple[float, float]:
    """Return the least and the largest t with (middle - t)^2 = z^2 t (1 - t) / m + other."""
    a, b = 1 + _Z**2 / m, middle + _Z**2 / (2 * m)
    root = math.sqrt(max(0.0, b**2 - a * (middle**2 - other)))
    return (b - root) / a, (b + root) / a


def _binomial_count(middle: float, cell_values: FloatArray, counts: FloatArray, variance_factor: FloatArray) -> float:
    """Return how many devices of a plain sample would vary as much: Kish's count, more where cells differ.

    A cell of few devices cannot tell its own share: it is drawn to that of all cells as if by one more device.
    """
    own = (counts * cell_values + middle) / (counts + 1)
    variance = float((variance_factor * own * (1 - own)).sum())
    spread = middle * (1 - middle)
    return spread / variance if spread > 0 and variance > 0 else float(1 / variance_factor.sum())


def effective_device_count(cells: Cells, devices: BoolArray) -> float:
    """Return Kish's effective sample size (sum w)^2 / sum w^2 of some devices, 0 without one."""
    weights = cells.weights(devices)
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0


def weighted_quantiles(values: FloatArray, weights: FloatArray, shares: Sequence[float]) -> list[float] | None:
    """Return, for each share, the smallest value that at least this share of the weight does not exceed.

    It is always one of the values. NaN is a value that is not known; None where none is.
    """
    known = np.isfinite(values) & (weights > 0)
    if not known.any():
        return None
    values, weights = values[known], weights[known]
    if (weights == weights[0]).all():
        return [float(value) for value in np.quantile(values, shares, method="inverted_cdf")]
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    # A share that is met exactly, as by half of the devices for half of the people, must not be missed by rounding.
    places = np.searchsorted(reached, np.asarray(shares) * reached[-1] * (1 - _ROUNDING))
    return [float(value) for value in values[order[places]]]


def weighted_median(values: FloatArray, weights: FloatArray) -> float | None:
    """Return the median of what is known, None where nothing is."""
    found = weighted_quantiles(values, weights, (0.5,))
    return found[0] if found else None
