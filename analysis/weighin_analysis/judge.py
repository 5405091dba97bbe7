"""From the measurements of one run to its card: estimates, verdicts, the tier, and what limits the device."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Basis, Card, CardRow, Estimate, Verdict
from weighin_analysis.catalog import class_rank, size_class_of
from weighin_analysis.errors import EstimateError
from weighin_analysis.estimate import (
    DISTURBED_SHARE,
    FORMULA_VERSION,
    RoundTimes,
    full_model_times,
    rate_estimate,
    time_estimate,
    times_at,
)
from weighin_analysis.footprint import bytes_read_per_token, download_bytes, memory_bytes
from weighin_analysis.limits import Limits, current_limits
from weighin_analysis.measurement import Case, Measurement, Phase

# Decode that moves weights at more than this share of the measured read bandwidth is bound by memory, not arithmetic.
BANDWIDTH_BOUND_SHARE = 0.6


def judge(
    measurements: Sequence[Measurement],
    *,
    memory_available_bytes: int | None,
    read_bandwidth_bytes_per_second: float | None,
    gated_cases: Sequence[Case] = (),
    failed_cases: Sequence[Case] = (),
) -> Card:
    """Return the card of one run under the current limits.

    ``memory_available_bytes`` is what was free when the run began, in the pool that the execution provider uses; None
    judges speed alone and says so. ``gated_cases`` were not started because they would not fit; ``failed_cases`` gave
    no measurement, for whatever reason, and keep the headline from hinting that the device would run them. A case that
    no time can be computed from is named in ``unjudged``; it takes nothing from the others.
    """
    limits = current_limits()
    cases: defaultdict[Case, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        cases[measurement.case].append(measurement)
    rows = [_unmeasured_row(case, limits) for case in gated_cases]
    unjudged = []
    tried = [*gated_cases, *failed_cases, *cases]
    for case, found in cases.items():
        try:
            rows.append(_row(case, found, memory_available_bytes, limits))
        except EstimateError as error:
            unjudged.append(f"{case.architecture.name} {case.scheme}: {error}")
    rows.sort(key=lambda row: (class_rank(row.size_class), row.architecture_kind == ArchitectureKind.DECODER))
    tier = _tier(rows)
    return Card(
        limits_version=limits.version,
        formula_version=FORMULA_VERSION,
        headline=_headline(rows, tier, tried),
        tier=tier,
        limited_by=_limited_by(rows, cases, memory_available_bytes, read_bandwidth_bytes_per_second, limits),
        rows=tuple(rows),
        unjudged=tuple(unjudged),
    )


def _points(measurements: Sequence[Measurement], phase: Phase) -> list[tuple[int, RoundTimes]]:
    """Return (length, times) of one phase: the context depth in decode, the prompt length in prefill."""
    found = [m for m in measurements if m.phase is phase]
    return [(m.context_depth if phase is Phase.DECODE else m.token_count, full_model_times(m)) for m in found]


def _memory(case: Case, limits: Limits) -> int:
    architecture = case.architecture
    decoder = architecture.kind is ArchitectureKind.DECODER
    prompt = limits.prompt_tokens if decoder else limits.encoder_tokens
    return memory_bytes(architecture, case.scheme, context_tokens=limits.memory_context_tokens, prompt_tokens=prompt)


def _row(case: Case, measurements: Sequence[Measurement], available: int | None, limits: Limits) -> CardRow:
    shape, probability = case.architecture, limits.interval_probability
    decoder = shape.kind is ArchitectureKind.DECODER
    prompt = limits.prompt_tokens if decoder else limits.encoder_tokens
    prefill = times_at(_points(measurements, Phase.PREFILL), prompt)
    first = time_estimate(prefill, probability)
    decode = None
    share = prefill.foreign_cpu_share or 0.0
    if decoder:
        decode_times = times_at(_points(measurements, Phase.DECODE), limits.decode_context_depth)
        decode = rate_estimate(decode_times, 1, probability)
        share = max(share, decode_times.foreign_cpu_share or 0.0)
    known = _unmeasured_row(case, limits)
    verdict, reasons = _verdict(known.memory_bytes, available, decode, first, limits)
    if prefill.extrapolated:
        reasons = (*reasons, f"time for {prompt} tokens extrapolated from shorter prompts")
    if share > DISTURBED_SHARE:
        reasons = (*reasons, f"other programs used {share:.0%} of the processor meanwhile: likely faster when idle")
    return replace(
        known,
        decode_tokens_per_second=decode,
        prefill_tokens_per_second=rate_estimate(prefill, prompt, probability),
        time_to_first_token_seconds=first if decoder else None,
        latency_seconds=None if decoder else first,
        verdict=verdict,
        reasons=reasons,
        basis=Basis.MEASURED if case.is_whole_model else Basis.LAYER_PROBE,
    )


def _unmeasured_row(case: Case, limits: Limits) -> CardRow:
    """Return what is known of a case without running it, as the row of one that the memory gate stopped."""
    shape = case.architecture
    return CardRow(
        size_class=size_class_of(shape.parameter_count).name,
        architecture=shape.name,
        architecture_kind=shape.kind,
        scheme=case.scheme,
        execution_provider=case.execution_provider,
        threads=case.threads,
        decode_tokens_per_second=None,
        prefill_tokens_per_second=None,
        time_to_first_token_seconds=None,
        latency_seconds=None,
        memory_bytes=_memory(case, limits),
        download_bytes=download_bytes(shape, case.scheme),
        verdict=Verdict.DOES_NOT_FIT,
        reasons=("too little free memory to run even its layer probe",),
        basis=Basis.FORMULA,
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
    comfortable = [r.size_class for r in _decoders(rows) if r.verdict is Verdict.COMFORTABLE]
    return max(comfortable, key=class_rank, default=None)


def _decoders(rows: Sequence[CardRow]) -> list[CardRow]:
    return [row for row in rows if row.architecture_kind == ArchitectureKind.DECODER]


def _headline(rows: Sequence[CardRow], tier: str | None, tried: Sequence[Case]) -> str:
    decoders = _decoders(rows)
    best = {
        v: max((r for r in decoders if r.verdict is v), key=lambda r: class_rank(r.size_class), default=None)
        for v in Verdict
    }
    comfortable, usable = best[Verdict.COMFORTABLE], best[Verdict.USABLE]
    if comfortable:
        shapes = [case.architecture for case in tried if case.architecture.kind is ArchitectureKind.DECODER]
        top = size_class_of(max(shape.parameter_count for shape in shapes)).name
        at_least = "at least " if tier == top else ""
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


def _limited_by(
    rows: Sequence[CardRow],
    cases: Collection[Case],
    available: int | None,
    bandwidth: float | None,
    limits: Limits,
) -> str | None:
    """Return what the device runs out of first: the smallest margin of its largest decoder towards "comfortable"."""
    largest = max(_decoders(rows), key=lambda r: class_rank(r.size_class), default=None)
    if largest is None:
        return None
    decode, first = largest.decode_tokens_per_second, largest.time_to_first_token_seconds
    if decode is None or first is None:
        return "memory"
    margins = {
        "decode": decode.value / limits.decoder_comfortable.decode_tokens_per_second,
        "compute": limits.decoder_comfortable.time_to_first_token_seconds / first.value,
    }
    if available is not None:
        margins["memory"] = limits.memory_share * available / largest.memory_bytes
    tightest = min(margins, key=lambda name: margins[name])
    if tightest != "decode":
        return tightest
    case = next(c for c in cases if (c.architecture.name, c.scheme) == (largest.architecture, largest.scheme))
    moved = bytes_read_per_token(case.architecture, case.scheme) * decode.value
    return "bandwidth" if bandwidth and moved > BANDWIDTH_BOUND_SHARE * bandwidth else "compute"
