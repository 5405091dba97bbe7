"""Proof of the method on this device: full models that are really run, beside what was predicted of them.

A plan is a list of steps, each in processes of its own and ordered so that all loads of all models are spread over the
same time. What the steps measured becomes loads, cells and a judgement in ``weighin_analysis.accuracy``.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from weighin_agent.bench.runner import OnProgress, run_case
from weighin_agent.bench.suite_run import Watcher, run_suite
from weighin_agent.device import Device
from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailure, CaseFailureReason
from weighin_agent.weigh_in import make_job
from weighin_analysis.accuracy import Load, own_layers_load, unseen_load
from weighin_analysis.architecture import Architecture
from weighin_analysis.cost_model import fit
from weighin_analysis.limits import current_limits
from weighin_analysis.measurement import Measurement
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import Processor, Suite, SuiteCase, suite_case

# A full model is written and loaded twice, and one of its rounds may take long: minutes on a slow device.
STEP_TIMEOUT_SECONDS = 900.0
# Quiet rounds of each load. Medians over loads decide, and more rounds of one load tell little more about it.
ROUND_COUNT = 4


class StepKind(StrEnum):
    """What one step runs.

    ``own_layers``: a full model, twice, in turn with its own layer probe. ``alone``: a full model, twice, without it.
    ``alone_once``: a full model once. ``suite_layers``: the layer probes of the suite.
    """

    OWN_LAYERS = "own_layers"
    ALONE = "alone"
    ALONE_ONCE = "alone_once"
    SUITE_LAYERS = "suite_layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a plan; only the layer probes of the suite are several cases. ``load`` counts from 0."""

    kind: StepKind
    load: int
    cases: tuple[SuiteCase, ...]

    @property
    def scheme(self) -> Scheme:
        """The scheme of all its cases."""
        return self.cases[0].scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a step measured."""

    step: Step
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where steps run: the suite's weights, lengths and probe sizes, the device, and a folder for models."""

    suite: Suite
    device: Device
    execution_provider: str
    folder: Path


OnStep = Callable[[int, Step, float], None]


def own_layers_plan(cases: Sequence[SuiteCase], repeats: int) -> list[Step]:
    """Return the steps that load every case ``repeats`` times beside its own layer probe, all cases in turn."""
    return [Step(kind=StepKind.OWN_LAYERS, load=load, cases=(case,)) for load in range(repeats) for case in cases]


def unseen_plan(suite: Suite, cases: Sequence[SuiteCase], repeats: int) -> list[Step]:
    """Return the steps that load every case ``repeats`` times, with the suite's layers before and after each load."""
    schemes = list(dict.fromkeys(case.scheme for case in cases))
    layers = {scheme: suite_layers(suite, scheme) for scheme in schemes}
    steps = []
    for load in range(repeats + 1):
        steps += [Step(kind=StepKind.SUITE_LAYERS, load=load, cases=layers[scheme]) for scheme in schemes]
        if load < repeats:
            steps += [Step(kind=StepKind.ALONE, load=load, cases=(case,)) for case in cases]
    return steps


def suite_layers(suite: Suite, scheme: Scheme) -> tuple[SuiteCase, ...]:
    """Return the layer probes of the suite's decoders in a scheme; of all of them where it never uses the scheme."""
    decoders = [case for case in suite.cases_on(Processor.CPU) if case.head_columns and not case.anchor]
    found = [case for case in decoders if case.scheme is scheme]
    shapes = dict.fromkeys(case.architecture for case in decoders)
    return tuple(found or [suite_case(shape, scheme, suite.probe) for shape in shapes])


def run_step(bench: Bench, step: Step, on_progress: OnProgress) -> Result:
    """Run one step; CaseError if its full model gives no measurement.

    A layer probe of the suite that fails is left out: the others may be enough.
    """
    if step.kind is StepKind.SUITE_LAYERS:
        return Result(step=step, measurements=_run_suite_layers(bench, step.cases, on_progress))
    case = replace(step.cases[0], anchor=step.kind is not StepKind.OWN_LAYERS)
    loads = 1 if step.kind is StepKind.ALONE_ONCE else 2
    return Result(step=step, measurements=_run_full_model(bench, case, loads, on_progress))


def _run_suite_layers(bench: Bench, cases: Sequence[SuiteCase], on_progress: OnProgress) -> tuple[Measurement, ...]:
    """Run layer probes as a weigh-in does, within the share of its time limit that so many cases have there."""
    suite = bench.suite
    seconds = suite.time_limit_seconds * len(cases) / len(suite.cases_on(Processor.CPU))
    silent = Watcher(
        on_case=lambda _: None, on_measured=lambda _: None, on_failure=lambda _: None, on_progress=on_progress
    )
    make = partial(
        make_job, suite, device=bench.device, execution_provider=bench.execution_provider, folder=bench.folder
    )
    found, _ = run_suite(cases, make, deadline_seconds=time.monotonic() + seconds, watcher=silent)
    return tuple(found)


def _run_full_model(bench: Bench, case: SuiteCase, loads: int, on_progress: OnProgress) -> tuple[Measurement, ...]:
    """Run a full model, beside its layer probe or as an anchor; only once where more loads of it do not fit."""
    suite = bench.suite
    # A long prompt is tried on the layer probe, if there is one, and here the full model must be quick enough.
    tried_layers = case.architecture.layers if case.anchor else case.short_probe_layers or case.probe_layers
    share = tried_layers / case.architecture.layers
    lengths = replace(suite.lengths, long_prompt_limit_seconds=share * suite.lengths.long_prompt_limit_seconds)
    least = min(ROUND_COUNT, suite.rounds.most_count)
    rounds = replace(suite.rounds, least_count=least, target_sd=1.0)  # the least rounds are enough, if they are quiet
    job = make_job(
        replace(suite, lengths=lengths, rounds=rounds),
        case,
        device=bench.device,
        execution_provider=bench.execution_provider,
        folder=bench.folder,
        full_model_loads=loads,
    )
    outcome = run_case(job, timeout_seconds=STEP_TIMEOUT_SECONDS, on_progress=on_progress)
    if not isinstance(outcome, CaseFailure):
        return outcome
    if outcome.reason is CaseFailureReason.MEMORY_GATE and loads > 1:
        return _run_full_model(bench, case, 1, on_progress)
    name = f"{case.architecture.name} {case.scheme}"
    raise CaseError(f"{name}: {outcome.reason}: {outcome.detail}", reason=outcome.reason)


def own_layers_loads(results: Sequence[Result]) -> list[Load]:
    """Return every full model that ran beside its own layer probe, with the prediction from it."""
    probability = current_limits().interval_probability
    return [
        own_layers_load(measurement, probability)
        for result in results
        if result.step.kind is StepKind.OWN_LAYERS
        for measurement in result.measurements
    ]


def unseen_loads(results: Sequence[Result]) -> list[Load]:
    """Return every full model that ran alone, with the prediction from the suite's layers before and after it.

    Layers of the very same shape are left out. EstimateError where too few others remain.
    """
    probability = current_limits().interval_probability
    loads = []
    for result in results:
        if result.step.kind is StepKind.ALONE:
            costs = fit(_layers_around(result.step, results))
            loads += [unseen_load(costs, measurement, probability) for measurement in result.measurements]
    return loads


def _layers_around(step: Step, results: Sequence[Result]) -> list[Measurement]:
    """Return the suite's layers of the same scheme right before and right after a full model, but for its own shape."""
    unseen = _shape(step.cases[0].architecture)
    return [
        measurement
        for result in results
        if result.step.kind is StepKind.SUITE_LAYERS
        and result.step.scheme is step.scheme
        and result.step.load in (step.load, step.load + 1)
        for measurement in result.measurements
        if _shape(measurement.case.architecture) != unseen
    ]


def _shape(architecture: Architecture) -> Architecture:
    """Return an architecture without its name."""
    return replace(architecture, name="")


def run_plan(bench: Bench, plan: Sequence[Step], on_step: OnStep) -> list[Result]:
    """Run the steps in their order; ``on_step`` gets the number of the present one from 0, and its share that is done.

    CaseError if a full model gives no measurement.
    """
    results = []
    for index, step in enumerate(plan):
        on_step(index, step, 0.0)
        results.append(run_step(bench, step, partial(on_step, index, step)))
    return results
