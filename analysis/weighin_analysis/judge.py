"""From the measurements of one run to its card: estimates, verdicts, the tier, and what limits the device."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from weighin_analysis.anchor import corrected, find_anchors
from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.card import Anchor, Basis, Card, CardRow, Estimate, Verdict, best_decoders
from weighin_analysis.catalog import architecture, class_rank, size_class_of, size_classes
from weighin_analysis.conditions import Conditions, disturbances
from weighin_analysis.cost_model import CostModel, fit
from weighin_analysis.errors import EstimateError
from weighin_analysis.estimate import (
    FORMULA_VERSION,
    RoundTimes,
    foreign_cpu_share,
    is_alone,
    known_times,
    rate_estimate,
    time_estimate,
    times_at,
)
from weighin_analysis.footprint import bytes_read_per_token, download_bytes, memory_bytes
from weighin_analysis.limits import Limits, current_limits
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase
from weighin_analysis.scheme import Scheme
from weighin_analysis.threads import on_threads

# Decode that moves weights at more than this share of the measured read bandwidth is bound by memory, not arithmetic.
BANDWIDTH_BOUND_SHARE = 0.6
# How far off the cost model is about how one model's time grows from a prompt that was run to a longer one.
GROWTH_SD = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a judgement needs to know of the device; None is not known.

    ``memory_available_bytes`` is what was free in main memory when the run began, ``accelerator_memory_bytes`` the same
    of an accelerator that has memory of its own. ``core_count`` is how many threads the device would use when quiet.
    ``software_providers`` are execution providers whose device is a program on the processor: they never count.
    """

    memory_available_bytes: int | None
    read_bandwidth_bytes_per_second: float | None = None
    core_count: int | None = None
    accelerator_memory_bytes: int | None = None
    software_providers: frozenset[str] = frozenset()

    def memory_for(self, execution_provider: str) -> int | None:
        """Return the free memory of the pool that an execution provider uses."""
        own = self.accelerator_memory_bytes if execution_provider != "cpu" else None
        return self.memory_available_bytes if own is None else own


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


def judge(
    measurements: Sequence[Measurement],
    facts: DeviceFacts,
    *,
    conditions: Sequence[Conditions] = (),
    gated_cases: Sequence[Case] = (),
    failed_cases: Sequence[Case] = (),
) -> Card:
    """Return the card of one run under the current limits.

    ``conditions`` are those before and after the run, as far as they are known. ``gated_cases`` were not started
    because they would not fit; ``failed_cases`` gave no measurement, for whatever reason, and keep the headline from
    hinting that the device would run them. A case that no time can be computed from is named in ``unjudged``; it takes
    nothing from the others. Size classes that were not run are computed from those that were, where these suffice.
    """
    limits = current_limits()
    cases: defaultdict[Case, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        cases[measurement.case].append(measurement)
    evidence = _Evidence(
        facts=facts, limits=limits, anchors=find_anchors(cases), models=_cost_models(cases), cases=cases
    )
    measured: dict[_Kind, CardRow] = {}
    unjudged = []
    for case, found in sorted(cases.items(), key=lambda item: is_alone(item[1])):  # a full model after its layer probe
        try:
            measured[_Kind.of(case)] = _measured_row(case, found, evidence)
        except EstimateError as error:
            unjudged.append(f"{case.architecture.name} {case.scheme}: {error}")
    # A full model may not fit where its layer probe did: then its row is that of the layer probe.
    gated = dict.fromkeys(kind for kind in map(_Kind.of, gated_cases) if kind not in measured)
    rows = [*(_unmeasured_row(kind, facts, limits) for kind in gated), *measured.values()]
    tried = [*gated_cases, *failed_cases, *cases]
    rows += _computed_rows(evidence, {_Kind.of(case) for case in tried})
    rows.sort(key=lambda row: (class_rank(row.size_class), row.architecture_kind == ArchitectureKind.DECODER))
    tier = _tier(rows)
    return Card(
        limits_version=limits.version,
        formula_version=FORMULA_VERSION,
        headline=_headline(rows, tier, tried),
        tier=tier,
        limited_by=_limited_by(rows, facts, limits),
        rows=tuple(rows),
        unjudged=tuple(unjudged),
        disturbances=disturbances(conditions, foreign_cpu_share(s for m in measurements for s in m.series)),
        anchors=evidence.anchors,
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a row is about: a shape in a scheme on an execution provider with a number of threads."""

    shape: Architecture
    scheme: Scheme
    execution_provider: str
    threads: int

    @classmethod
    def of(cls, case: Case) -> "_Kind":
        return cls(case.architecture, case.scheme, case.execution_provider, case.threads)

    @property
    def group(self) -> tuple[str, Scheme, int]:
        """What one cost model speaks of."""
        return self.execution_provider, self.scheme, self.threads


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """Everything that a run says about times of models, run or not."""

    facts: DeviceFacts
    limits: Limits
    cases: Mapping[Case, Sequence[Measurement]]
    anchors: tuple[Anchor, ...]
    models: Mapping[tuple[str, Scheme, int], CostModel]


def _cost_models(cases: Mapping[Case, Sequence[Measurement]]) -> dict[tuple[str, Scheme, int], CostModel]:
    """Return a cost model for every execution provider, scheme and number of threads that has enough layer probes."""
    groups: defaultdict[tuple[str, Scheme, int], list[Measurement]] = defaultdict(list)
    for case, found in cases.items():
        if case.architecture.kind is ArchitectureKind.DECODER and not is_alone(found):
            groups[_Kind.of(case).group] += found
    models = {}
    for group, found in groups.items():
        try:
            model = fit(found)
            model.decode_times(found[0].case.architecture, 0)
        except EstimateError:  # too few, or no decode: then nothing is computed that was not run
            continue
        models[group] = model
    return models


def _points(measurements: Sequence[Measurement], phase: Phase) -> list[tuple[int, RoundTimes]]:
    """Return (length, times) of one phase: the context depth in decode, the prompt length in prefill."""
    found = [m for m in measurements if m.phase is phase]
    return [(m.context_depth if phase is Phase.DECODE else m.token_count, known_times(m)) for m in found]


def _measured_row(case: Case, measurements: Sequence[Measurement], evidence: _Evidence) -> CardRow:
    """Return the row of a case that was run, whole or in part."""
    limits, kind = evidence.limits, _Kind.of(case)
    decoder = case.architecture.kind is ArchitectureKind.DECODER
    prompt = limits.prompt_tokens if decoder else limits.encoder_tokens
    prefill = _prompt_times(kind, _points(measurements, Phase.PREFILL), prompt, evidence)
    decode = None
    if decoder:
        decode = times_at(_points(measurements, Phase.DECODE), limits.decode_context_depth)
    if not is_alone(measurements):
        prefill = corrected(prefill, case, Phase.PREFILL, evidence.anchors)
        decode = decode and corrected(decode, case, Phase.DECODE, evidence.anchors)
    whole = case.is_whole_model or is_alone(measurements)
    one_thread = any(s.clock is ClockKind.THREAD_CPU for m in measurements for s in m.series)
    row = _timed_row(kind, prefill, decode, evidence, one_thread=one_thread)
    return replace(row, basis=Basis.MEASURED if whole else Basis.LAYER_PROBE)


def _prompt_times(
    kind: _Kind, points: Sequence[tuple[int, RoundTimes]], prompt: int, evidence: _Evidence
) -> RoundTimes:
    """Return the times of a prompt; beyond those that were run, the longest of them grows as the cost model says.

    Attention grows with the square of the length: a line through two short prompts would miss it.
    """
    longest, times = max(points, key=lambda point: point[0], default=(0, None))
    model = evidence.models.get(kind.group)
    if times is None or longest >= prompt or model is None:
        return times_at(points, prompt)
    target, known = model.prefill_times(kind.shape, prompt), model.prefill_times(kind.shape, longest)
    factor = target.median_seconds / known.median_seconds
    return replace(
        times,
        seconds=tuple(factor * s for s in times.seconds),
        method_sd=math.hypot(times.method_sd, GROWTH_SD),
        extrapolated=target.extrapolated,
    )


def _computed_rows(evidence: _Evidence, tried: Collection[_Kind]) -> list[CardRow]:
    """Return rows for the shapes of size classes that were not run, from the cost models of this run."""
    rows = []
    for group, model in evidence.models.items():
        provider, scheme, threads = group
        run = [case for case in evidence.cases if _Kind.of(case).group == group]
        largest = max(case.architecture.parameter_count for case in run)
        clocks = {s.clock for case in run for m in evidence.cases[case] for s in m.series}
        for size_class in size_classes():
            name = size_class.reference or size_class.representative
            if name is None:
                continue
            kind = _Kind(architecture(name), scheme, provider, threads)
            if kind in tried:
                continue
            prefill = model.prefill_times(kind.shape, evidence.limits.prompt_tokens)
            decode = model.decode_times(kind.shape, evidence.limits.decode_context_depth)
            prefill = corrected(prefill, run[0], Phase.PREFILL, evidence.anchors)
            decode = corrected(decode, run[0], Phase.DECODE, evidence.anchors)
            row = _timed_row(kind, prefill, decode, evidence, one_thread=ClockKind.THREAD_CPU in clocks)
            within = kind.shape.parameter_count <= largest
            rows.append(replace(row, basis=Basis.INTERPOLATED if within else Basis.FORMULA))
    return rows


def _timed_row(
    kind: _Kind, prefill: RoundTimes, decode: RoundTimes | None, evidence: _Evidence, *, one_thread: bool
) -> CardRow:
    """Return the row of a model whose times are known; ``one_thread`` tells that they are those of a single thread."""
    facts, limits, probability = evidence.facts, evidence.limits, evidence.limits.interval_probability
    reasons: list[str] = []
    threads = kind.threads
    cores = max(threads, facts.core_count or 1)
    if one_thread and (cores > threads or prefill.disturbed):
        threads = cores
        prefill = on_threads(prefill, Phase.PREFILL, threads)
        decode = decode and on_threads(decode, Phase.DECODE, threads)
        how = f"computed for {threads} threads from the CPU time of one" if threads > 1 else "timed by CPU time"
        reasons.append(f"the device was busy: {how}")
    prompt = limits.prompt_tokens if decode else limits.encoder_tokens
    first = time_estimate(prefill, probability)
    rate = rate_estimate(decode, 1, probability) if decode else None
    known = _unmeasured_row(kind, facts, limits)
    available = facts.memory_for(kind.execution_provider)
    verdict, why = _verdict(known.memory_bytes, available, rate, first, limits)
    reasons = [*why, *reasons]
    if prefill.extrapolated:
        reasons.append(f"time for {prompt} tokens extrapolated from shorter prompts")
    if not known.counts:
        reasons.append("a software adapter: never counts in a tier")
    return replace(
        known,
        threads=threads,
        decode_tokens_per_second=rate,
        prefill_tokens_per_second=rate_estimate(prefill, prompt, probability),
        time_to_first_token_seconds=first if decode else None,
        latency_seconds=None if decode else first,
        verdict=verdict,
        reasons=tuple(reasons),
    )


def _unmeasured_row(kind: _Kind, facts: DeviceFacts, limits: Limits) -> CardRow:
    """Return what is known of a model without running it, as the row of one that the memory gate stopped."""
    shape = kind.shape
    prompt = limits.prompt_tokens if shape.kind is ArchitectureKind.DECODER else limits.encoder_tokens
    return CardRow(
        size_class=size_class_of(shape.parameter_count).name,
        architecture=shape.name,
        architecture_kind=shape.kind,
        scheme=kind.scheme,
        execution_provider=kind.execution_provider,
        threads=kind.threads,
        decode_tokens_per_second=None,
        prefill_tokens_per_second=None,
        time_to_first_token_seconds=None,
        latency_seconds=None,
        memory_bytes=memory_bytes(
            shape, kind.scheme, context_tokens=limits.memory_context_tokens, prompt_tokens=prompt
        ),
        download_bytes=download_bytes(shape, kind.scheme),
        bytes_read_per_token=bytes_read_per_token(shape, kind.scheme),
        verdict=Verdict.DOES_NOT_FIT,
        reasons=("too little free memory to run even its layer probe",),
        basis=Basis.FORMULA,
        counts=kind.execution_provider not in facts.software_providers,
    )


def _verdict(
    memory: int, available: int | None, decode: Estimate | None, first: Estimate, limits: Limits
) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict and the reasons that keep it from being comfortable; memory comes before speed."""
    reasons: list[str] = []
    if available is None:
        reasons.append("free memory is not known, judged by speed alone")
    elif memory > limits.memory_share * available:
        needs, has = memory / 2**30, limits.memory_share * available / 2**30
        return Verdict.DOES_NOT_FIT, (f"needs {needs:.1f} GiB, {has:.1f} GiB may be used",)
    comfortable = _shortfalls(decode, first, limits, comfortable=True)
    if not comfortable:
        return Verdict.COMFORTABLE, tuple(reasons)
    usable = _shortfalls(decode, first, limits, comfortable=False)
    return (Verdict.TOO_SLOW, (*reasons, *usable)) if usable else (Verdict.USABLE, (*reasons, *comfortable))


def _shortfalls(decode: Estimate | None, first: Estimate, limits: Limits, *, comfortable: bool) -> tuple[str, ...]:
    """Return one sentence per limit that is missed."""
    if decode is None:
        encoder = limits.encoder_comfortable if comfortable else limits.encoder_usable
        slow = first.value > encoder.latency_seconds
        return (f"latency above {1000 * encoder.latency_seconds:g} ms",) if slow else ()
    decoder = limits.decoder_comfortable if comfortable else limits.decoder_usable
    missed: list[str] = []
    if decode.value < decoder.decode_tokens_per_second:
        missed.append(f"decode below {decoder.decode_tokens_per_second:g} tokens/s")
    if first.value > decoder.time_to_first_token_seconds:
        missed.append(f"first token later than {decoder.time_to_first_token_seconds:g} s")
    return tuple(missed)


def _tier(rows: Sequence[CardRow]) -> str | None:
    """Return the largest class with a comfortable decoder. Encoders have a class, but a tier is about generating."""
    comfortable = [row.size_class for row in _decoders(rows) if row.verdict is Verdict.COMFORTABLE]
    return max(comfortable, key=class_rank, default=None)


def _decoders(rows: Sequence[CardRow]) -> list[CardRow]:
    return [row for row in rows if row.architecture_kind == ArchitectureKind.DECODER and row.counts]


def _headline(rows: Sequence[CardRow], tier: str | None, tried: Sequence[Case]) -> str:
    decoders = _decoders(rows)
    best = {
        v: max((r for r in decoders if r.verdict is v), key=lambda r: class_rank(r.size_class), default=None)
        for v in Verdict
    }
    comfortable, usable = best[Verdict.COMFORTABLE], best[Verdict.USABLE]
    if comfortable:
        shapes = [case.architecture for case in tried if case.architecture.kind is ArchitectureKind.DECODER]
        known = {size_class_of(shape.parameter_count).name for shape in shapes} | {row.size_class for row in decoders}
        at_least = "at least " if tier == max(known, key=class_rank) else ""
        return f"This device comfortably runs {at_least}{tier} models at {_bits(comfortable.scheme)}."
    if usable:
        return (
            f"This device runs {usable.size_class} models at {_bits(usable.scheme)} at reading speed, "
            "but no measured class comfortably."
        )
    if decoders:
        return "This device runs none of the measured classes fast enough to be useful."
    return "No generating model was measured on this device."


def _bits(scheme: str) -> str:
    """Return how people call a scheme: int4, int8, fp16, fp32."""
    return scheme.split("_", maxsplit=1)[0]


def _limited_by(rows: Sequence[CardRow], facts: DeviceFacts, limits: Limits) -> str | None:
    """Return what the device runs out of first on the way up the classes.

    It is the smallest margin towards "comfortable" in the smallest class that no decoder reaches it in, else in the
    largest.
    """
    best = sorted(best_decoders(_decoders(rows)).values(), key=lambda row: class_rank(row.size_class))
    if not best:
        return None
    row = next((row for row in best if row.verdict is not Verdict.COMFORTABLE), best[-1])
    decode, first = row.decode_tokens_per_second, row.time_to_first_token_seconds
    if decode is None or first is None:
        return "memory"
    margins = {
        "decode": decode.value / limits.decoder_comfortable.decode_tokens_per_second,
        "compute": limits.decoder_comfortable.time_to_first_token_seconds / first.value,
    }
    available = facts.memory_for(row.execution_provider)
    if available is not None:
        margins["memory"] = limits.memory_share * available / row.memory_bytes
    tightest = min(margins, key=lambda name: margins[name])
    if tightest != "decode":
        return tightest
    bandwidth = facts.read_bandwidth_bytes_per_second
    moved = row.bytes_read_per_token * decode.value
    return "bandwidth" if bandwidth and moved > BANDWIDTH_BOUND_SHARE * bandwidth else "compute"
