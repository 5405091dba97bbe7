"""From raw samples to times and rates with an interval: the formula of docs/method.md.

time in round r = L/m * (p20(layer samples of r) - c) + V/Vs * (p20(head samples of r) - c) + c; the estimate is the
median over r. c is what every call costs, whatever it computes; in a prefill it is not taken off the head.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from weighin_analysis.card import Estimate
from weighin_analysis.errors import EstimateError
from weighin_analysis.measurement import ClockKind, Measurement, Phase, Series, SeriesPart

FORMULA_VERSION = "layer-probe-2"

# Spread of the method itself, as standard deviations of ln(time): whole models and layer probes (docs/method.md, 6).
WHOLE_MODEL_SD = 0.03
LAYER_PROBE_SD = 0.04
# Added where a time is extrapolated beyond the lengths that were run: attention grows faster than linearly.
EXTRAPOLATION_SD = 0.10
# Two runs of one device minutes apart differ by this much on virtual machines and laptops.
BETWEEN_RUNS_SD = 0.10
# Other programs on the same cores only ever slow a measurement down, by how much depends on luck: with two threads a
# share of 0.4 to 0.5 cost a factor of 2 to 4 (docs/method.md, section 6). Below this share nothing was seen.
DISTURBED_SHARE = 0.05
DISTURBED_SD_PER_SHARE = 2.0
# A round in which others used more than this says little about the device; it is left out while enough others remain.
DISCARDED_SHARE = 0.2
LEAST_QUIET_ROUNDS = 3
# Scatter of one round about the level of its run, as it is expected before any was seen, and how many rounds that
# expectation counts for: two or three rounds that happen to agree are no proof of a quiet machine.
PRIOR_ROUND_SD = 0.035
PRIOR_ROUND_COUNT = 2
# The cost of a call is never more than this share of the time of the layer probe: beyond it, it is noise.
MOST_CALL_SHARE = 0.3
# Every load of one and the same model has an offset of its own (docs/method.md, section 6).
LOAD_SD = 0.03
# Asymptotic standard error of a median over that of a mean, for normal noise: sqrt(pi / 2).
MEDIAN_PENALTY = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTimes:
    """Time of the full model in each round, in seconds; ``method_sd`` is the spread of how it was obtained.

    ``extrapolated`` tells that the length asked for lies beyond those that were run; ``foreign_cpu_share`` is the
    median share of the processor that other programs used, None if not readable.
    """

    seconds: tuple[float, ...]
    method_sd: float
    extrapolated: bool = False
    foreign_cpu_share: float | None = None

    @property
    def median_seconds(self) -> float:
        """The estimate of the time."""
        return float(np.median(self.seconds))

    @property
    def disturbed(self) -> bool:
        """Whether other programs took so much of the processor that the time is likely too long."""
        return (self.foreign_cpu_share or 0.0) > DISTURBED_SHARE

    @property
    def rounds_sd(self) -> float:
        """The standard deviation of the median of ln(time) over rounds."""
        logs = np.log(self.seconds)
        squares = float(np.sum((logs - logs.mean()) ** 2)) + PRIOR_ROUND_COUNT * PRIOR_ROUND_SD**2
        variance = squares / (len(logs) - 1 + PRIOR_ROUND_COUNT)
        return MEDIAN_PENALTY * math.sqrt(variance / len(logs))

    def log_sd(self) -> float:
        """Return the standard deviation of ln(time): method, scatter of rounds, drift between runs, other load."""
        extra = EXTRAPOLATION_SD if self.extrapolated else 0.0
        load = DISTURBED_SD_PER_SHARE * (self.foreign_cpu_share or 0.0) if self.disturbed else 0.0
        return math.hypot(self.method_sd, self.rounds_sd, BETWEEN_RUNS_SD, extra, load)


def usable_samples(series: Series) -> list[float]:
    """Return the samples that can be times: finite and positive."""
    return [s for s in series.sample_seconds if math.isfinite(s) and s > 0]


def round_statistic(series: Iterable[Series], part: SeriesPart) -> dict[int, float]:
    """Return {round: 20th percentile of its samples of ``part``}, seconds.

    Other load only ever adds time, in bursts; the 20th percentile stays below the bursts without being as biased by
    the number of samples as the minimum.
    """
    samples: defaultdict[int, list[float]] = defaultdict(list)
    for one in series:
        if one.part is part:
            samples[one.round] += usable_samples(one)
    return {number: percentile_20(values) for number, values in samples.items() if values}


def percentile_20(values: Sequence[float]) -> float:
    """Return the 20th percentile, linear between neighbours, as ``numpy.percentile`` does for much more time.

    A report on a large fleet takes it hundreds of times per device.
    """
    ordered = sorted(values)
    position = 0.2 * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def disturbed_round(series: Series) -> bool:
    """Return whether others used so much of the processor that a round is better left out and run again.

    The CPU time of a thread does not see them.
    """
    return series.clock is ClockKind.WALL and (series.foreign_cpu_share or 0.0) > DISCARDED_SHARE


def quiet_series(series: Sequence[Series]) -> Sequence[Series]:
    """Return the series of the rounds that others left alone, or all of them where too few such rounds remain."""
    quiet = {one.round for one in series if not disturbed_round(one)}
    return [one for one in series if one.round in quiet] if len(quiet) >= LEAST_QUIET_ROUNDS else series


def method_sd(measurement: Measurement) -> float:
    """Return the spread of the method for the layer probe of this measurement."""
    return WHOLE_MODEL_SD if measurement.case.is_whole_model else LAYER_PROBE_SD


def foreign_cpu_share(series: Iterable[Series]) -> float | None:
    """Return the median over series of the share that other programs used, None if none could be read."""
    shares = [one.foreign_cpu_share for one in series if one.foreign_cpu_share is not None]
    return float(np.median(shares)) if shares else None


def call_seconds(measurement: Measurement) -> float | None:
    """Return what a call costs, whatever its layers; None where nothing tells it.

    Where a graph with next to nothing in it was timed, it is that time. Else it follows from two layer probes: t(m) =
    c + m s and t(m1) = c + m1 s give c = (m t(m1) - m1 t(m)) / (m - m1); in a prefill it is mostly activations that
    have left the caches. The median over rounds, held between 0 and `MOST_CALL_SHARE` of t(m).
    """
    case, series = measurement.case, quiet_series(measurement.series)
    m, m1 = case.probe_layers, case.short_probe_layers
    long, short = round_statistic(series, SeriesPart.LAYERS), round_statistic(series, SeriesPart.SHORT_LAYERS)
    costs = list(round_statistic(series, SeriesPart.CALL).values())
    if not costs and 0 < m1 < m:
        costs = [(m * short[r] - m1 * long[r]) / (m - m1) for r in long.keys() & short.keys()]
    if not costs or not long:
        return None
    return min(max(0.0, float(np.median(costs))), MOST_CALL_SHARE * float(np.median(list(long.values()))))


def full_model_times(measurement: Measurement) -> RoundTimes:
    """Return the time of the full model in each round, computed from the layer probe.

    The prediction is computed from LAYERS and HEAD series alone, also where the full model ran beside them.
    EstimateError when no round holds a usable layer sample and, for a model with a head, a usable head sample.
    """
    case, series = measurement.case, quiet_series(measurement.series)
    layers, count = round_statistic(series, SeriesPart.LAYERS), case.probe_layers
    if not layers and case.short_probe_layers:  # a long prompt, which runs on the short probe alone
        layers, count = round_statistic(series, SeriesPart.SHORT_LAYERS), case.short_probe_layers
    call = call_seconds(measurement) or 0.0
    times = {r: case.architecture.layers / count * (seconds - call) + call for r, seconds in layers.items()}
    if case.head_columns:
        head = round_statistic(series, SeriesPart.HEAD)
        share = case.architecture.vocab / case.head_columns
        # The slice is a call of its own; in a prefill it weighs too little for that to matter.
        call = call if measurement.phase is Phase.DECODE else 0.0
        times = {r: times[r] + share * (head[r] - call) for r in times.keys() & head.keys()}
    times = {r: seconds for r, seconds in times.items() if seconds > 0}  # less than the cost of a call is no time
    if not times:
        raise EstimateError("no round holds usable samples")
    return RoundTimes(
        seconds=tuple(times[r] for r in sorted(times)),
        method_sd=method_sd(measurement),
        foreign_cpu_share=foreign_cpu_share(series),
    )


def anchor_times(measurement: Measurement) -> RoundTimes:
    """Return the measured time of the full model in each round; EstimateError when it was not run."""
    series = quiet_series(measurement.series)
    times = round_statistic(series, SeriesPart.FULL_MODEL)
    if not times:
        raise EstimateError("no full model was run")
    return RoundTimes(
        seconds=tuple(times[r] for r in sorted(times)),
        method_sd=LOAD_SD,
        foreign_cpu_share=foreign_cpu_share(series),
    )


def known_times(measurement: Measurement) -> RoundTimes:
    """Return the time of the full model: computed from its layer probe, or as it was where it ran alone."""
    return anchor_times(measurement) if is_alone([measurement]) else full_model_times(measurement)


def is_alone(measurements: Iterable[Measurement]) -> bool:
    """Return whether these measurements of one case are of a full model alone, without a layer probe."""
    parts = {series.part for measurement in measurements for series in measurement.series}
    return SeriesPart.FULL_MODEL in parts and not parts & {SeriesPart.LAYERS, SeriesPart.SHORT_LAYERS}


def times_at(points: Sequence[tuple[int, RoundTimes]], length: int) -> RoundTimes:
    """Return the times at ``length`` from measured (length, times): as measured, or on the line between neighbours.

    Decode time is linear in the context depth and prefill time nearly linear in the prompt length. Beyond the
    measured lengths the line through the two nearest is continued and the result says so.
    """
    measured = dict(points)
    if length in measured:
        return measured[length]
    if len(measured) < 2:
        raise EstimateError(f"nothing measured at length {length}, and fewer than two other lengths")
    lengths = sorted(measured)
    upper = next((i for i, at in enumerate(lengths) if at > length), len(lengths) - 1)
    x0, x1 = lengths[max(0, upper - 1)], lengths[max(1, upper)]
    t0, t1 = measured[x0], measured[x1]
    weight = (length - x0) / (x1 - x0)
    seconds = tuple(a + (b - a) * weight for a, b in zip(t0.seconds, t1.seconds, strict=False))
    if min(seconds) <= 0:
        raise EstimateError(f"the line through the measured lengths gives no positive time at {length}")
    outside = not lengths[0] <= length <= lengths[-1]
    return RoundTimes(
        seconds=seconds,
        method_sd=max(t0.method_sd, t1.method_sd),
        extrapolated=outside,
        foreign_cpu_share=max((t.foreign_cpu_share for t in (t0, t1) if t.foreign_cpu_share is not None), default=None),
    )


def time_estimate(times: RoundTimes, interval_probability: float) -> Estimate:
    """Return the time in seconds with its interval, symmetric on the log scale."""
    spread = NormalDist().inv_cdf(0.5 + interval_probability / 2) * times.log_sd()
    middle = times.median_seconds
    return Estimate(value=middle, low=middle * math.exp(-spread), high=middle * math.exp(spread))


def rate_estimate(times: RoundTimes, token_count: int, interval_probability: float) -> Estimate:
    """Return tokens per second for ``token_count`` tokens in the given time, with the interval of the time."""
    time = time_estimate(times, interval_probability)
    return Estimate(value=token_count / time.value, low=token_count / time.high, high=token_count / time.low)
