"""How far predictions lie from full models that were really run: cells, their errors, and the rule that they must meet.

Every load of one and the same model has an offset of its own, of about 6 %, which no number of rounds averages away
(docs/method.md). So a cell compares medians over loads, and the model is compared with itself in the same way: what a
second load of it in the same process differs by is the scatter, and no prediction can be better than that.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from weighin_analysis.anchor import corrected, find_anchors
from weighin_analysis.architecture import Architecture
from weighin_analysis.card import Estimate
from weighin_analysis.estimate import (
    RoundTimes,
    anchor_times,
    full_model_times,
    is_alone,
    known_times,
    quiet_series,
    round_statistic,
    time_estimate,
)
from weighin_analysis.measurement import Case, Measurement, Phase, SeriesPart

# The rule is about short prompts; the time of a longer one is shown.
MOST_JUDGED_PROMPT_TOKENS = 128
# Where the machine is further from itself than a bound allows, the prediction may be this much further.
SCATTER_FACTOR = 1.5


class FittedCosts(Protocol):
    """What predicts a shape that was not run; ``cost_model.CostModel``, and in tests a law."""

    def decode_times(self, shape: Architecture, context_depth: int) -> RoundTimes:
        """Return the time of one decode step."""
        ...

    def prefill_times(self, shape: Architecture, token_count: int) -> RoundTimes:
        """Return the time of one prompt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a cell is about: an architecture in a scheme, one phase at one length."""

    architecture: str
    scheme: str
    phase: Phase
    token_count: int
    context_depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load of a full model: its time, what was predicted, and the time of a second load of it in the same process.

    Seconds of one step; ``twin_seconds`` is None where there was no second load.
    """

    point: Point
    predicted: Estimate
    actual_seconds: float
    twin_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One point over all loads: medians in seconds of one step, and the signed error as a fraction.

    ``error`` is predicted / actual - 1: negative means that the prediction is too fast. ``low`` and ``high`` bound the
    predicted time. ``scatter`` is |ln(second load / first load)|, None where there was no second load.
    """

    architecture: str
    scheme: str
    phase: Phase
    token_count: int
    context_depth: int
    loads: int
    actual_seconds: float
    predicted_seconds: float
    error: float
    low: float
    high: float
    scatter: float | None

    @property
    def judged(self) -> bool:
        """Whether the rule is about this cell."""
        return self.phase is Phase.DECODE or self.token_count <= MOST_JUDGED_PROMPT_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The largest absolute error that is allowed, as a fraction: of the median, and of nine tenths (None: no bound)."""

    median: float
    p90: float | None


Rule = dict[Phase, Bounds]
# What has been set as the aim of the method: shapes whose own layers were timed, and shapes of which nothing was.
OWN_LAYERS_RULE: Rule = {Phase.DECODE: Bounds(median=0.03, p90=0.08), Phase.PREFILL: Bounds(median=0.05, p90=0.12)}
UNSEEN_RULE: Rule = {Phase.DECODE: Bounds(median=0.08, p90=None), Phase.PREFILL: Bounds(median=0.12, p90=None)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseErrors:
    """Absolute errors of the judged cells of a phase as fractions, the scatter beside them, and what is allowed.

    None where there is no cell, no second load, or no bound; ``passed`` is None where nothing was judged.
    """

    cells: int
    median_abs_error: float | None = None
    p90_abs_error: float | None = None
    median_scatter: float | None = None
    p90_scatter: float | None = None
    allowed_median: float | None = None
    allowed_p90: float | None = None
    passed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """All cells, the errors by phase, how often the interval held, and whether the rule is met."""

    cells: tuple[Cell, ...]
    decode: PhaseErrors
    prefill: PhaseErrors
    interval_coverage: float | None
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalCheck:
    """How often intervals held what was measured later, and their median width as high / low."""

    cells: int
    coverage: float
    median_width: float


def point_of(measurement: Measurement) -> Point:
    """Return what a measurement is about."""
    return Point(
        architecture=measurement.case.architecture.name,
        scheme=measurement.case.scheme,
        phase=measurement.phase,
        token_count=measurement.token_count,
        context_depth=measurement.context_depth,
    )


def own_layers_load(measurement: Measurement, probability: float) -> Load:
    """Return a full model beside the prediction from its own layer probe; EstimateError where either is missing."""
    return _load(measurement, time_estimate(full_model_times(measurement), probability))


def unseen_load(costs: FittedCosts, measurement: Measurement, probability: float) -> Load:
    """Return a full model beside the prediction from the layers of other shapes."""
    shape = measurement.case.architecture
    if measurement.phase is Phase.DECODE:
        times = costs.decode_times(shape, measurement.context_depth)
    else:
        times = costs.prefill_times(shape, measurement.token_count)
    return _load(measurement, time_estimate(times, probability))


def later_loads(earlier: Sequence[Measurement], later: Iterable[Measurement], probability: float) -> list[Load]:
    """Return full models beside what an earlier run said of them, for every point that it was able to speak of.

    As its card does, the run says the time of a full model where it ran one, else the time from the layer probe as its
    anchors correct it. Another number of threads is another point.
    """
    cases: defaultdict[Case, list[Measurement]] = defaultdict(list)
    for measurement in earlier:
        cases[measurement.case].append(measurement)
    anchors = find_anchors(cases)
    said: dict[tuple[Point, int], RoundTimes] = {}
    for case, found in sorted(cases.items(), key=lambda item: is_alone(item[1])):  # full models last: they count
        for measurement in found:
            times = known_times(measurement)
            if not is_alone(found):
                times = corrected(times, case, measurement.phase, anchors)
            said[point_of(measurement), case.threads] = times
    return [
        _load(measurement, time_estimate(said[key], probability))
        for measurement in later
        if (key := (point_of(measurement), measurement.case.threads)) in said
    ]


def _load(measurement: Measurement, predicted: Estimate) -> Load:
    twin = round_statistic(quiet_series(measurement.series), SeriesPart.FULL_MODEL_TWIN)
    return Load(
        point=point_of(measurement),
        predicted=predicted,
        actual_seconds=anchor_times(measurement).median_seconds,
        twin_seconds=float(np.median(list(twin.values()))) if twin else None,
    )


def cells_of(loads: Iterable[Load]) -> tuple[Cell, ...]:
    """Return one cell per point, in the order in which the points first appear."""
    by_point: defaultdict[Point, list[Load]] = defaultdict(list)
    for load in loads:
        by_point[load.point].append(load)
    return tuple(_cell(point, found) for point, found in by_point.items())


def _cell(point: Point, loads: Sequence[Load]) -> Cell:
    actual = float(np.median([load.actual_seconds for load in loads]))
    predicted = float(np.median([load.predicted.value for load in loads]))
    twins = [load.twin_seconds for load in loads if load.twin_seconds is not None]
    return Cell(
        architecture=point.architecture,
        scheme=point.scheme,
        phase=point.phase,
        token_count=point.token_count,
        context_depth=point.context_depth,
        loads=len(loads),
        actual_seconds=actual,
        predicted_seconds=predicted,
        error=predicted / actual - 1,
        low=float(np.median([load.predicted.low for load in loads])),
        high=float(np.median([load.predicted.high for load in loads])),
        scatter=abs(math.log(float(np.median(twins)) / actual)) if len(twins) == len(loads) else None,
    )


def verification(cells: Sequence[Cell], rule: Rule) -> Verification:
    """Return the cells with their errors by phase, judged by the rule, and how often the interval held.

    A phase without a judged cell is not held against the method; no judged cell at all is no proof, and not passed.
    """
    judged = {phase: phase_errors([c for c in cells if c.phase is phase and c.judged], rule[phase]) for phase in Phase}
    verdicts = [errors.passed for errors in judged.values() if errors.passed is not None]
    held = [cell.low <= cell.actual_seconds <= cell.high for cell in cells]
    return Verification(
        cells=tuple(cells),
        decode=judged[Phase.DECODE],
        prefill=judged[Phase.PREFILL],
        interval_coverage=sum(held) / len(held) if held else None,
        passed=bool(verdicts) and all(verdicts),
    )


def phase_errors(cells: Sequence[Cell], bounds: Bounds) -> PhaseErrors:
    """Return the errors of cells and their scatter, judged by the bounds."""
    if not cells:
        return PhaseErrors(cells=0)
    errors = [abs(cell.error) for cell in cells]
    median, p90 = float(np.median(errors)), float(np.percentile(errors, 90))
    scatters = [cell.scatter for cell in cells if cell.scatter is not None]
    scatter_median = float(np.median(scatters)) if scatters else None
    scatter_p90 = float(np.percentile(scatters, 90)) if scatters else None
    allowed_median = _allowed(bounds.median, scatter_median)
    allowed_p90 = None if bounds.p90 is None else _allowed(bounds.p90, scatter_p90)
    return PhaseErrors(
        cells=len(cells),
        median_abs_error=median,
        p90_abs_error=p90,
        median_scatter=scatter_median,
        p90_scatter=scatter_p90,
        allowed_median=allowed_median,
        allowed_p90=allowed_p90,
        passed=median <= allowed_median and (allowed_p90 is None or p90 <= allowed_p90),
    )


def _allowed(bound: float, scatter: float | None) -> float:
    return SCATTER_FACTOR * scatter if scatter is not None and scatter > bound else bound


def interval_check(loads: Sequence[Load]) -> IntervalCheck | None:
    """Return how often the intervals held the actual times, None without a load."""
    if not loads:
        return None
    held = [load.predicted.low <= load.actual_seconds <= load.predicted.high for load in loads]
    widths = [load.predicted.high / load.predicted.low for load in loads]
    return IntervalCheck(cells=len(loads), coverage=sum(held) / len(held), median_width=float(np.median(widths)))
