"""What one run says about the times of models: those that it ran, and by its cost models those that it did not."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from weighin_analysis.anchor import corrected, find_anchors
from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.card import Anchor, Basis
from weighin_analysis.cost_model import CostModel, fit
from weighin_analysis.errors import EstimateError
from weighin_analysis.estimate import RoundTimes, is_alone, known_times, times_at
from weighin_analysis.limits import Limits
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase
from weighin_analysis.memory.runtimes import Pool, free_bytes
from weighin_analysis.scheme import Scheme

# How far off the cost model is about how one model's time grows from a prompt that was run to a longer one.
GROWTH_SD = 0.05
# How far off the work of a prompt is about how the times of two models compare: on one device, in one scheme, the time
# per parameter of a prompt varies 2.3 times from model to model in public rates. That as 90 % of a normal spread gives
# 0.25 for one model, 0.36 for the ratio of two.
WORK_RATIO_SD = 0.36

# An execution provider, a scheme and a number of threads: what one cost model speaks of.
Group = tuple[str, Scheme, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a judgement needs to know of the device; None is not known.

    ``memory_available_bytes`` is what is free in main memory, ``accelerator_memory_bytes`` the same of an accelerator
    that has memory of its own: when the run began for its card, now for a question that is asked now. ``core_count`` is
    how many threads the device would use when quiet. ``software_providers`` are execution providers whose device is a
    program on the processor: they never count.
    """

    memory_available_bytes: int | None
    read_bandwidth_bytes_per_second: float | None = None
    core_count: int | None = None
    accelerator_memory_bytes: int | None = None
    software_providers: frozenset[str] = frozenset()

    def memory_for(self, execution_provider: str) -> int | None:
        """Return the free memory of the pool that an execution provider uses."""
        return self.memory_in(Pool.MAIN if execution_provider == "cpu" else Pool.ACCELERATOR)

    def memory_in(self, pool: Pool) -> int | None:
        """Return the free memory of a pool."""
        return free_bytes(pool, main_bytes=self.memory_available_bytes, accelerator_bytes=self.accelerator_memory_bytes)


def accelerator_memory_bytes(accelerators: Iterable[tuple[bool | None, int | None, int | None]]) -> int | None:
    """Return the memory that models may use on the largest accelerator with memory of its own; None if there is none.

    ``accelerators`` are (shares main memory, free bytes, total bytes), as far as known. Where a driver tells only the
    total, all of it is taken as free. One of which nobody knows whether it shares counts only if its free memory is
    known: a part of main memory that the firmware sets aside is no card.
    """
    own = []
    for shares, free, total in accelerators:
        size = total if free is None and shares is False else free
        if size is not None and not shares:
            own.append(size)
    return max(own, default=None)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a row is about: a shape in a scheme on an execution provider with a number of threads."""

    shape: Architecture
    execution_provider: str
    scheme: Scheme
    threads: int

    @classmethod
    def of(cls, case: Case) -> "Subject":
        """Return what a case is about."""
        return cls(case.architecture, case.execution_provider, case.scheme, case.threads)

    @property
    def group(self) -> Group:
        """What one cost model speaks of."""
        return self.execution_provider, self.scheme, self.threads


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTimes:
    """Times of one model at the reference workload; ``decode`` is None for an encoder, whose prefill is its latency.

    ``one_thread`` tells that they are those of a single thread, although the device has more.
    """

    prefill: RoundTimes
    decode: RoundTimes | None
    one_thread: bool
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a run says about times of models, run or not."""

    facts: DeviceFacts
    limits: Limits
    cases: Mapping[Case, Sequence[Measurement]]
    anchors: tuple[Anchor, ...]
    models: Mapping[Group, CostModel]

    @property
    def groups(self) -> tuple[Group, ...]:
        """What was measured, in the order in which it was."""
        return tuple(dict.fromkeys(Subject.of(case).group for case in self.cases))


def evidence_of(measurements: Sequence[Measurement], facts: DeviceFacts, limits: Limits) -> Evidence:
    """Return what the measurements of one run say, by case."""
    cases: defaultdict[Case, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        cases[measurement.case].append(measurement)
    return Evidence(facts=facts, limits=limits, anchors=find_anchors(cases), models=_cost_models(cases), cases=cases)


def _cost_models(cases: Mapping[Case, Sequence[Measurement]]) -> dict[Group, CostModel]:
    """Return a cost model for every execution provider, scheme and number of threads that has enough layer probes."""
    groups: defaultdict[Group, list[Measurement]] = defaultdict(list)
    for case, found in cases.items():
        if case.architecture.kind is ArchitectureKind.DECODER and not is_alone(found):
            groups[Subject.of(case).group] += found
    models = {}
    for group, found in groups.items():
        try:
            model = fit(found)
            model.decode_times(found[0].case.architecture, 0)
        except EstimateError:  # too few, or no decode: then nothing is computed that was not run
            continue
        models[group] = model
    return models


def model_times(subject: Subject, evidence: Evidence) -> ModelTimes:
    """Return the times of any model: as it was run where it was, whatever it was called, else computed.

    EstimateError where the run can say nothing of it.
    """
    run = [case for case in evidence.cases if _same(Subject.of(case), subject)]
    for case in sorted(run, key=lambda case: not is_alone(evidence.cases[case])):  # a full model before its layers
        try:
            return measured_times(case, evidence)
        except EstimateError:
            continue
    if subject.shape.kind is ArchitectureKind.ENCODER:
        return _computed_encoder_times(subject, evidence)
    return computed_times(subject, evidence)


def _same(one: Subject, other: Subject) -> bool:
    unnamed = replace(one.shape, name=other.shape.name)
    return (unnamed, one.group) == (other.shape, other.group)


def measured_times(case: Case, evidence: Evidence) -> ModelTimes:
    """Return the times of the model of a case that was run, whole or in part; EstimateError where none follows."""
    limits, subject, measurements = evidence.limits, Subject.of(case), evidence.cases[case]
    decoder = case.architecture.kind is ArchitectureKind.DECODER
    prompt = limits.prompt_tokens if decoder else limits.encoder_tokens
    prefill = _prompt_times(subject, _points(measurements, Phase.PREFILL), prompt, evidence)
    decode = None
    if decoder:
        decode = times_at(_points(measurements, Phase.DECODE), limits.decode_context_depth)
    if not is_alone(measurements):
        prefill = corrected(prefill, case, Phase.PREFILL, evidence.anchors)
        decode = decode and corrected(decode, case, Phase.DECODE, evidence.anchors)
    whole = case.is_whole_model or is_alone(measurements)
    return ModelTimes(
        prefill=prefill,
        decode=decode,
        one_thread=any(s.clock is ClockKind.THREAD_CPU for m in measurements for s in m.series),
        basis=Basis.MEASURED if whole else Basis.LAYER_PROBE,
    )


def _points(measurements: Sequence[Measurement], phase: Phase) -> list[tuple[int, RoundTimes]]:
    """Return (length, times) of one phase: the context depth in decode, the prompt length in prefill."""
    found = [m for m in measurements if m.phase is phase]
    return [(m.context_depth if phase is Phase.DECODE else m.token_count, known_times(m)) for m in found]


def _prompt_times(
    subject: Subject, points: Sequence[tuple[int, RoundTimes]], prompt: int, evidence: Evidence
) -> RoundTimes:
    """Return the times of a prompt; beyond those that were run, the longest of them grows as the cost model says.

    Attention grows with the square of the length: a line through two short prompts would miss it.
    """
    longest, times = max(points, key=lambda point: point[0], default=(0, None))
    model = evidence.models.get(subject.group)
    if times is None or longest >= prompt or model is None:
        return times_at(points, prompt)
    target, known = model.prefill_times(subject.shape, prompt), model.prefill_times(subject.shape, longest)
    factor = target.median_seconds / known.median_seconds
    return replace(
        times,
        seconds=tuple(factor * s for s in times.seconds),
        method_sd=math.hypot(times.method_sd, GROWTH_SD),
        extrapolated=target.extrapolated,
    )


def computed_times(subject: Subject, evidence: Evidence) -> ModelTimes:
    """Return the times of a decoder from the cost model of its group; EstimateError where there is none."""
    model = _cost_model(subject, evidence)
    run = _cases_of(subject.group, evidence)
    prefill = model.prefill_times(subject.shape, evidence.limits.prompt_tokens)
    decode = model.decode_times(subject.shape, evidence.limits.decode_context_depth)
    return ModelTimes(
        prefill=corrected(prefill, run[0], Phase.PREFILL, evidence.anchors),
        decode=corrected(decode, run[0], Phase.DECODE, evidence.anchors),
        one_thread=_by_cpu_time(run, evidence),
        basis=_computed_basis(subject, run),
    )


def _computed_encoder_times(subject: Subject, evidence: Evidence) -> ModelTimes:
    """Return the latency of an encoder from that of one that was run.

    How the two compare says the cost model, or where there is none the multiply-adds of both, with a wide interval.
    """
    model = evidence.models.get(subject.group)
    run = [c for c in _cases_of(subject.group, evidence) if c.architecture.kind is ArchitectureKind.ENCODER]
    if not run:
        raise EstimateError(f"no encoder was run in {subject.scheme} on {subject.execution_provider}")
    known = measured_times(run[0], evidence).prefill
    tokens = evidence.limits.encoder_tokens
    if model is None:
        factor = _multiply_adds(subject.shape, tokens) / _multiply_adds(run[0].architecture, tokens)
        sd, extrapolated, basis = WORK_RATIO_SD, known.extrapolated, Basis.NEIGHBOURS
    else:
        target, beside = model.prefill_times(subject.shape, tokens), model.prefill_times(run[0].architecture, tokens)
        factor = target.median_seconds / beside.median_seconds
        sd, extrapolated, basis = target.method_sd, target.extrapolated, _computed_basis(subject, run)
    prefill = replace(
        known,
        seconds=tuple(factor * s for s in known.seconds),
        method_sd=math.hypot(known.method_sd, sd),
        extrapolated=extrapolated,
    )
    return ModelTimes(prefill=prefill, decode=None, one_thread=_by_cpu_time(run, evidence), basis=basis)


def _multiply_adds(shape: Architecture, tokens: int) -> int:
    """Return the multiply-adds of an encoder's input: its matrices, and queries times keys, scores times values."""
    attention = 2 * tokens * tokens * shape.heads * shape.head_dim
    return shape.layers * (tokens * shape.layer_weight_count + attention)


def _cost_model(subject: Subject, evidence: Evidence) -> CostModel:
    model = evidence.models.get(subject.group)
    if model is None:
        raise EstimateError(
            f"too few models were run in {subject.scheme} on {subject.execution_provider} to tell of others; "
            "run `weighin-agent run` again while the device is idle"
        )
    return model


def _cases_of(group: Group, evidence: Evidence) -> list[Case]:
    return [case for case in evidence.cases if Subject.of(case).group == group]


def _by_cpu_time(cases: Iterable[Case], evidence: Evidence) -> bool:
    return any(s.clock is ClockKind.THREAD_CPU for case in cases for m in evidence.cases[case] for s in m.series)


def _computed_basis(subject: Subject, run: Iterable[Case]) -> Basis:
    """Return whether a model lies between those that were run, or beyond the smallest or the largest of them."""
    counts = [case.architecture.parameter_count for case in run]
    within = min(counts) <= subject.shape.parameter_count <= max(counts)
    return Basis.INTERPOLATED if within else Basis.FORMULA
