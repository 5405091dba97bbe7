"""From one or two runs of a device to the time of another model on the same device, runtime, backend and scheme.

Time per byte of weights falls with the size of a model, because a step has costs that no byte brings: as bytes^-a, with
the same a everywhere. Around that law a device's runs deviate: each by itself (``run_sd``), and all the more from each
other the further their sizes lie apart (``walk_sd``: the deviation wanders like a random walk over ln bytes). The best
prediction from two runs then weighs them by that: it trusts the nearer one, averages two that are equally near, and
follows the slope between them only as far as their distance makes it more than noise. It is kriging: G. Matheron,
Principles of geostatistics, Economic Geology 58 (1963), with a linear variogram.

Two runs that lie far apart (``line_beyond``) tell more than that: what a step costs without a byte, and what a byte
takes. There the line through both is followed, unless its cost or its slope is below 0, which no device's are.

A prefill obeys the same law in the parameters that a token passes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from weighin_analysis.data_files import read_data
from weighin_analysis.errors import EstimateError
from weighin_analysis.measurement import Phase

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLaw:
    """How time per unit of work depends on the work of a step, and how far single runs stray from that.

    ``size_exponent`` is a of seconds per byte ~ bytes^-a. ``run_sd`` is the standard deviation of ln(time) of one run,
    ``walk_sd`` that of the difference that an e-fold of the work makes. Both are set so that 80 % intervals hold.
    ``line_beyond`` is the ratio of two runs' work from which on the line through them is followed; infinite is never.
    """

    size_exponent: float
    run_sd: float
    walk_sd: float
    line_beyond: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A run of another model on the same device: bytes read per token, and seconds per token."""

    bytes_read: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillAnchor:
    """A prefill of another model on the same device: parameters that a token passes, and seconds per prompt token."""

    parameters: float
    seconds: float


class Prediction(NamedTuple):
    """Seconds per token, and the standard deviation of their logarithm: 80 % lie within seconds x exp(+-1.28 sd)."""

    seconds: float
    log_sd: float


@cache
def shipped_law(phase: Phase) -> SizeLaw:
    """Return the law of a phase as it was fitted on public measurements (data/size_law.toml tells on which)."""
    return SizeLaw(**read_data("size_law.toml")[phase])


def predict(anchors: Sequence[Anchor], bytes_read: float, law: SizeLaw | None = None) -> Prediction:
    """Return the time of a decode step that reads ``bytes_read``, from the nearest two of a device's runs, or from one.

    ``bytes_read`` counts weights and KV cache, as the anchors' do. EstimateError without an anchor.
    """
    runs = [(anchor.bytes_read, anchor.seconds) for anchor in anchors]
    return _predict(runs, bytes_read, law or shipped_law(Phase.DECODE))


def predict_prefill(anchors: Sequence[PrefillAnchor], parameters: float, law: SizeLaw | None = None) -> Prediction:
    """Return the time per prompt token of a model of ``parameters`` (2 operations each), for prompts like the anchors'.

    Its interval is wide: operations per second vary 2.3x between models on one device. EstimateError without an anchor.
    """
    runs = [(anchor.parameters, anchor.seconds) for anchor in anchors]
    return _predict(runs, parameters, law or shipped_law(Phase.PREFILL))


def _predict(runs: Sequence[tuple[float, float]], work: float, law: SizeLaw) -> Prediction:
    if not runs:
        raise EstimateError("nothing can be predicted without a run of another model on the device")
    near, *others = sorted(runs, key=lambda run: abs(math.log(run[0] / work)))
    far = others[0] if others else (math.nan, math.nan)
    logs = np.log(np.array([[work, *near, *far]]))
    seconds, variance = ln_times(law, logs[:, 0], logs[:, 1:3], logs[:, 3:5])
    return Prediction(seconds=math.exp(seconds[0]), log_sd=math.sqrt(variance[0]))


def ln_times(law: SizeLaw, work: _Floats, near: _Floats, far: _Floats) -> tuple[_Floats, _Floats]:
    """Return mean and variance of ln(seconds) of many steps at once; ``far`` is NaN where there is no second run.

    ``work`` holds ln(work) of each step; each line of ``near`` and ``far`` holds ln(work) and ln(seconds) of a run. The
    variance is that of a new measurement, its own noise included.
    """
    to_near, to_far, between = near[:, 0] - work, far[:, 0] - work, far[:, 0] - near[:, 0]
    run, walk = law.run_sd**2, law.walk_sd**2

    def spread(distance: _Floats) -> Any:
        return 2 * run + walk * np.abs(distance)

    # What the two runs, carried to the size of the step along the law, say of it: each ln(seconds).
    by_near = near[:, 1] - (1 - law.size_exponent) * to_near
    by_far = far[:, 1] - (1 - law.size_exponent) * to_far
    covariance = (spread(to_near) + spread(between) - spread(to_far)) / 2
    weight = covariance / spread(between)
    alone = np.isnan(between)
    weighed = by_near + np.where(alone, 0.0, weight * (by_far - by_near))
    line = _ln_line(law, work, near, far)
    return np.where(np.isnan(line), weighed, line), spread(to_near) - np.where(alone, 0.0, weight * covariance)


def _ln_line(law: SizeLaw, work: _Floats, near: _Floats, far: _Floats) -> _Floats:
    """Return ln(seconds) on the line through two runs; NaN where there is none to follow."""
    apart = np.abs(far[:, 0] - near[:, 0]) >= math.log(law.line_beyond)
    longer, larger = np.expm1(far[:, 1] - near[:, 1]), np.expm1(far[:, 0] - near[:, 0])
    # Of the nearer run's time, the share that its bytes took: the rest is the cost that no byte brings.
    share = np.divide(longer, larger, out=np.full_like(work, math.nan), where=apart)
    physical = np.where((share >= 0) & (share <= 1), share, math.nan)
    line: _Floats = near[:, 1] + np.log1p(physical * np.expm1(work - near[:, 0]))
    return line
