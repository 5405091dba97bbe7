"""Proof of the method on this device: the full model beside its own layer probe, sample by sample in one process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from weighin_agent.bench.runner import run_case
from weighin_agent.device import Device, ProbeGap
from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailure
from weighin_agent.weigh_in import check_execution_provider, make_job, work_folder
from weighin_analysis.estimate import anchor_times, full_model_times, time_estimate
from weighin_analysis.limits import current_limits
from weighin_analysis.measurement import Measurement, Phase
from weighin_analysis.suite import Suite, SuiteCase

# A full model is written, loaded and run beside its probe: minutes on a slow device.
VERIFY_TIMEOUT_SECONDS = 900.0
# Its rounds are several times longer than those of a probe alone.
BUDGET_FACTOR = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One phase at one length of one repeat: times in seconds of one step, and the signed error as a fraction.

    ``error`` is predicted / actual - 1: negative means that the prediction is too fast. ``low`` and ``high`` bound the
    predicted time.
    """

    repeat: int
    architecture: str
    scheme: str
    phase: str
    token_count: int
    context_depth: int
    actual_seconds: float
    predicted_seconds: float
    error: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseErrors:
    """Absolute errors of all cells of a phase, as fractions; None when there is no cell."""

    cells: int
    median_abs_error: float | None
    p90_abs_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """All cells, the errors by phase, and the share of cells whose actual time lies in the interval."""

    cells: tuple[Cell, ...]
    decode: PhaseErrors
    prefill: PhaseErrors
    interval_coverage: float | None


def verify(
    suite: Suite,
    cases: Sequence[SuiteCase],
    device: Device,
    *,
    execution_provider: str,
    repeats: int,
    gaps: Sequence[ProbeGap],
    state_folder: Path,
    on_progress: Callable[[SuiteCase, int, float], None],
) -> Verification:
    """Measure every case ``repeats`` times, each in a process of its own; CaseError if one cannot be measured."""
    check_execution_provider(device, gaps, execution_provider)
    cells: list[Cell] = []
    with work_folder(state_folder) as folder:
        for case in cases:
            for repeat in range(repeats):
                job = make_job(
                    suite, case, device, execution_provider=execution_provider, folder=folder, full_model=True
                )
                on_progress(case, repeat, 0.0)
                rounds = replace(job.rounds, budget_seconds=BUDGET_FACTOR * job.rounds.budget_seconds)
                outcome = run_case(
                    replace(job, rounds=rounds),
                    timeout_seconds=VERIFY_TIMEOUT_SECONDS,
                    on_progress=partial(on_progress, case, repeat),
                )
                if isinstance(outcome, CaseFailure):
                    name = f"{case.architecture.name} {case.scheme}"
                    raise CaseError(f"{name}: {outcome.reason}: {outcome.detail}", reason=outcome.reason)
                cells += [_cell(measurement, repeat) for measurement in outcome]
    return summarise(cells)


def summarise(cells: Sequence[Cell]) -> Verification:
    """Return the cells with their errors by phase and how often the interval held."""
    held = [cell.low <= cell.actual_seconds <= cell.high for cell in cells]
    return Verification(
        cells=tuple(cells),
        decode=_errors([abs(cell.error) for cell in cells if cell.phase == Phase.DECODE]),
        prefill=_errors([abs(cell.error) for cell in cells if cell.phase == Phase.PREFILL]),
        interval_coverage=sum(held) / len(held) if held else None,
    )


def _errors(errors: Sequence[float]) -> PhaseErrors:
    if not errors:
        return PhaseErrors(cells=0, median_abs_error=None, p90_abs_error=None)
    return PhaseErrors(
        cells=len(errors),
        median_abs_error=float(np.median(errors)),
        p90_abs_error=float(np.percentile(errors, 90)),
    )


def _cell(measurement: Measurement, repeat: int) -> Cell:
    predicted = time_estimate(full_model_times(measurement), current_limits().interval_probability)
    actual = anchor_times(measurement).median_seconds
    return Cell(
        repeat=repeat,
        architecture=measurement.case.architecture.name,
        scheme=measurement.case.scheme,
        phase=measurement.phase,
        token_count=measurement.token_count,
        context_depth=measurement.context_depth,
        actual_seconds=actual,
        predicted_seconds=predicted.value,
        error=predicted.value / actual - 1,
        low=predicted.low,
        high=predicted.high,
    )
