"""From the measurements of one run to its card: estimates, verdicts, the tier, and what limits the device."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.card import Basis, Card, CardRow, Verdict, best_decoders
from weighin_analysis.catalog import architecture, class_rank, size_class_of, size_classes
from weighin_analysis.conditions import Conditions, disturbances
from weighin_analysis.errors import EstimateError
from weighin_analysis.estimate import FORMULA_VERSION, foreign_cpu_share, is_alone, rate_estimate, time_estimate
from weighin_analysis.evidence import (
    DeviceFacts,
    Evidence,
    ModelTimes,
    Subject,
    computed_times,
    evidence_of,
    measured_times,
)
from weighin_analysis.footprint import bytes_read_per_token, download_bytes, memory_bytes
from weighin_analysis.limits import Limits, current_limits
from weighin_analysis.measurement import Case, Measurement, Phase
from weighin_analysis.models.catalogue import catalogue
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes.download import default_artefact, download_size
from weighin_analysis.threads import on_threads
from weighin_analysis.verdict import STOPPED, memory_margin, speed_bounds, verdict_of

# Decode that moves weights at more than this share of the measured read bandwidth is bound by memory, not arithmetic.
BANDWIDTH_BOUND_SHARE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a model takes on any device, in bytes; ``bytes_read_per_token`` are the weights that a token reads."""

    size_class: str
    memory_bytes: int
    download_bytes: int
    bytes_read_per_token: int


def run_disturbances(measurements: Sequence[Measurement], conditions: Sequence[Conditions]) -> tuple[str, ...]:
    """Return what casts doubt on a run, from its measurements and the conditions before and after; nothing if clean."""
    return disturbances(conditions, foreign_cpu_share(s for m in measurements for s in m.series))


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
    evidence = evidence_of(measurements, facts, limits)
    cases = evidence.cases
    measured: dict[Subject, CardRow] = {}
    unjudged = []
    for case in sorted(cases, key=lambda case: is_alone(cases[case])):  # a full model after its layer probe
        try:
            measured[Subject.of(case)] = _reference_row(Subject.of(case), measured_times(case, evidence), evidence)
        except EstimateError as error:
            unjudged.append(f"{case.architecture.name} {case.scheme}: {error}")
    # A full model may not fit where its layer probe did: then its row is that of the layer probe.
    gated = dict.fromkeys(one for one in map(Subject.of, gated_cases) if one not in measured)
    rows = [*(_unmeasured_row(one, _reference_needs(one, limits), facts) for one in gated), *measured.values()]
    tried = [*gated_cases, *failed_cases, *cases]
    rows += _computed_rows(evidence, {Subject.of(case) for case in tried})
    rows.sort(key=lambda row: (class_rank(row.size_class), row.architecture_kind == ArchitectureKind.DECODER))
    tier = tier_of(rows)
    return Card(
        limits_version=limits.version,
        formula_version=FORMULA_VERSION,
        headline=_headline(rows, tier, tried),
        tier=tier,
        limited_by=limited_by(rows, facts, limits),
        rows=tuple(rows),
        unjudged=tuple(unjudged),
        disturbances=run_disturbances(measurements, conditions),
        anchors=evidence.anchors,
    )


def _computed_rows(evidence: Evidence, tried: Collection[Subject]) -> list[CardRow]:
    """Return rows for the shapes of size classes that were not run, from the cost models of this run."""
    names = [size_class.reference or size_class.representative for size_class in size_classes()]
    shapes = [architecture(name) for name in names if name]
    subjects = [Subject(shape, *group) for group in evidence.models for shape in shapes]
    return [_reference_row(one, computed_times(one, evidence), evidence) for one in subjects if one not in tried]


def _reference_row(subject: Subject, times: ModelTimes, evidence: Evidence) -> CardRow:
    return timed_row(subject, times, _reference_needs(subject, evidence.limits), evidence)


def _reference_needs(subject: Subject, limits: Limits) -> Needs:
    """Return what a reference shape takes at the reference workload."""
    shape, scheme = subject.shape, subject.scheme
    prompt = limits.prompt_tokens if shape.kind is ArchitectureKind.DECODER else limits.encoder_tokens
    return Needs(
        size_class=size_class_of(shape.parameter_count).name,
        memory_bytes=memory_bytes(shape, scheme, context_tokens=limits.memory_context_tokens, prompt_tokens=prompt),
        download_bytes=_download_bytes(shape, scheme),
        bytes_read_per_token=bytes_read_per_token(shape, scheme),
    )


@cache
def _download_bytes(shape: Architecture, scheme: Scheme) -> int:
    """Return what a user downloads of a catalogued model, as `size` tells; of any other shape its weights alone."""
    known = catalogue().get(shape.name)
    if known is None or known.shape is None or known.shape.architecture != shape:
        return download_bytes(shape, scheme)
    return download_size(known, *default_artefact(scheme)).bytes


def timed_row(subject: Subject, times: ModelTimes, needs: Needs, evidence: Evidence) -> CardRow:
    """Return the row of a model whose times are known, under the limits of the evidence."""
    facts, limits, probability = evidence.facts, evidence.limits, evidence.limits.interval_probability
    prefill, decode = times.prefill, times.decode
    notes: list[str] = []
    threads = subject.threads
    cores = max(threads, facts.core_count or 1)
    if times.one_thread and (cores > threads or prefill.disturbed):
        threads = cores
        prefill = on_threads(prefill, Phase.PREFILL, threads)
        decode = decode and on_threads(decode, Phase.DECODE, threads)
        how = f"computed for {threads} threads from the CPU time of one" if threads > 1 else "timed by CPU time"
        notes.append(f"the device was busy: {how}")
    prompt = limits.prompt_tokens if decode else limits.encoder_tokens
    first = time_estimate(prefill, probability)
    rate = rate_estimate(decode, 1, probability) if decode else None
    speeds = {"latency_seconds": first.value}
    if rate:
        speeds = {"decode_tokens_per_second": rate.value, "time_to_first_token_seconds": first.value}
    available = facts.memory_for(subject.execution_provider)
    verdict, why = verdict_of(subject.shape.kind, speeds, needs.memory_bytes, available, limits)
    if prefill.extrapolated:
        notes.append(f"time for {prompt} tokens extrapolated from shorter prompts")
    known = _unmeasured_row(subject, needs, facts)
    if not known.counts:
        notes.append("a software adapter: never counts in a tier")
    return replace(
        known,
        threads=threads,
        decode_tokens_per_second=rate,
        prefill_tokens_per_second=rate_estimate(prefill, prompt, probability),
        time_to_first_token_seconds=first if decode else None,
        latency_seconds=None if decode else first,
        verdict=verdict,
        reasons=(*why, *notes),
        notes=tuple(notes),
        basis=times.basis,
    )


def _unmeasured_row(subject: Subject, needs: Needs, facts: DeviceFacts) -> CardRow:
    """Return what is known of a model without running it, as the row of one that the memory gate stopped."""
    return CardRow(
        size_class=needs.size_class,
        architecture=subject.shape.name,
        architecture_kind=subject.shape.kind,
        scheme=subject.scheme,
        execution_provider=subject.execution_provider,
        threads=subject.threads,
        decode_tokens_per_second=None,
        prefill_tokens_per_second=None,
        time_to_first_token_seconds=None,
        latency_seconds=None,
        memory_bytes=needs.memory_bytes,
        download_bytes=needs.download_bytes,
        bytes_read_per_token=needs.bytes_read_per_token,
        verdict=Verdict.DOES_NOT_FIT,
        reasons=(STOPPED,),
        notes=(STOPPED,),
        basis=Basis.FORMULA,
        counts=subject.execution_provider not in facts.software_providers,
    )


def tier_of(rows: Sequence[CardRow]) -> str | None:
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


def limited_by(rows: Sequence[CardRow], facts: DeviceFacts, limits: Limits) -> str | None:
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
    rate, time = speed_bounds(ArchitectureKind.DECODER, Verdict.COMFORTABLE, limits)
    margins = {"decode": rate.margin(decode.value), "compute": time.margin(first.value)}
    available = facts.memory_for(row.execution_provider)
    if available is not None:
        margins["memory"] = memory_margin(row.memory_bytes, available, limits)
    tightest = min(margins, key=lambda name: margins[name])
    if tightest != "decode":
        return tightest
    bandwidth = facts.read_bandwidth_bytes_per_second
    moved = row.bytes_read_per_token * decode.value
    return "bandwidth" if bandwidth and moved > BANDWIDTH_BOUND_SHARE * bandwidth else "compute"
