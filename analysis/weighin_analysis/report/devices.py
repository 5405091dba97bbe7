"""One device as the page shows it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Basis, Estimate
from weighin_analysis.catalog import class_rank, size_class_of
from weighin_analysis.conditions import disturbances
from weighin_analysis.limits import Limits
from weighin_analysis.report.cards import CardLine, DeviceDetail
from weighin_analysis.report.conditions import conditions_view
from weighin_analysis.report.decision import SOURCE_WORDS, device_headline
from weighin_analysis.report.numbers import (
    cache_size,
    counted,
    estimate_text,
    gb,
    gb_per_second,
    gib,
    rounded,
    significant,
)
from weighin_analysis.report.view import CardRowView, DeviceView, Fact, Problem, Reading
from weighin_analysis.report.words import TONES, verdict_words, words
from weighin_analysis.snapshot import Accelerator, Cache, CaseFailure, ExecutionProvider, Hardware, ProbeGap

_V = TypeVar("_V")

_BASIS = {
    Basis.MEASURED: "the whole model was run",
    Basis.LAYER_PROBE: "layer probe: some layers of the true shape were run",
    Basis.INTERPOLATED: "interpolated from other models, not run",
    Basis.FORMULA: "computed from smaller models, not run",
    Basis.NEIGHBOURS: "taken from similar models or devices, not run",
}
_SOFTWARE = "software adapter"
_LIMITED_BY = {
    "memory": "More would first run out of memory.",
    "bandwidth": "More would first run out of memory bandwidth.",
    "compute": "More would first run out of arithmetic speed.",
}
_NATIVE = "native"


def device_view(detail: DeviceDetail, limits: Limits) -> DeviceView:
    """Return everything the page says about one device."""
    line, run, hardware = detail.line, detail.run, detail.hardware
    conditions = [state for state in (run.before, run.after) if state]
    doubts = disturbances(conditions, detail.foreign_cpu_share)
    return DeviceView(
        anchor=f"device-{line.device_id}",
        short_id=line.device_id[:8],
        title=line.name or "Processor not named",
        tier=line.tiers[0] or line.no_tier,
        state=_state(detail),
        headline=device_headline(detail),
        limited_by=_LIMITED_BY.get(line.limited_by or "", ""),
        facts=_facts(hardware, detail) if hardware else _few_facts(detail),
        accelerators=tuple(_accelerator_text(one) for one in hardware.accelerators) if hardware else (),
        providers=tuple(
            Fact(name=one.name, text=_provider_text(one), muted=not one.measured)
            for one in hardware.execution_providers
        )
        if hardware
        else (),
        rows=_row_views(detail, limits),
        rows_note=_rows_note(detail),
        failures=tuple(
            Problem(
                what=f"{failure.case.architecture.name}, {failure.case.scheme} on {failure.case.execution_provider}, "
                f"{counted(failure.case.threads, 'thread')}",
                reason=words(failure.reason),
                detail=failure.detail,
            )
            for failure in detail.failures
        ),
        gaps=tuple(Problem(what=gap.fact, reason=words(gap.reason), detail=gap.detail) for gap in detail.gaps),
        conditions=conditions_view(run) if line.source == _NATIVE else (),
        warnings=(*doubts, *(f"not readable: {one}" for one in detail.unreadable)),
        run_facts=_run_facts(detail),
    )


def _few_facts(detail: DeviceDetail) -> tuple[Fact, ...]:
    """Return the facts of a device of which somebody else told a few."""
    line = detail.line
    facts = _Facts(detail.gaps)
    facts.add("Accelerator", line.accelerator_model, "accelerator")
    facts.add("Memory", line.memory_total_bytes, "memory.total_bytes", show=gib)
    facts.add("Form factor", words(line.form_factor or ""), "form_factor")
    return tuple(facts.found)


def _facts(hardware: Hardware, detail: DeviceDetail) -> tuple[Fact, ...]:
    """Return the facts of a device; one that is absent says why, as the probe gap tells it."""
    run = detail.run
    facts = _Facts(detail.gaps)
    facts.add("Processor", hardware.cpu_model, "cpu.model")
    facts.add("Cores", _cores_text(hardware), "cpu.physical_core_count", "cpu.logical_core_count")
    facts.add("Highest clock", hardware.max_frequency_hertz, "cpu.max_frequency_hertz", show=_gigahertz)
    facts.add("Caches", ", ".join(_cache_text(cache) for cache in hardware.caches), "cpu.caches")
    facts.add("Instruction sets", ", ".join(hardware.instruction_sets), "cpu.instruction_sets")
    facts.add("Memory", hardware.memory_total_bytes, "memory.total_bytes", show=gib)
    facts.add("Free when the run began", run.memory_available_bytes, "memory.available_bytes", show=gib)
    facts.add(
        "Read bandwidth, measured",
        run.read_bandwidth_bytes_per_second,
        "memory.read_bandwidth_bytes_per_second",
        show=gb_per_second,
    )
    facts.add(
        "The same, one thread",
        run.single_thread_read_bandwidth_bytes_per_second,
        "memory.single_thread_read_bandwidth_bytes_per_second",
        show=gb_per_second,
    )
    facts.add("Free storage", run.storage_free_bytes, "storage.free_bytes", show=gb)
    facts.add("System", _system_text(hardware), "operating_system")
    facts.add("Form factor", words(hardware.form_factor or ""), "form_factor")
    facts.add("Virtualisation", _virtualization_text(hardware), "virtualization")
    return tuple(facts.found)


class _Facts:
    """Facts in the making; it knows the gaps, so that an absent fact can say why."""

    def __init__(self, gaps: Sequence[ProbeGap]) -> None:
        self.found: list[Fact] = []
        self._gaps = gaps

    def add(self, name: str, value: _V | None, *paths: str, show: Callable[[_V], str] = str) -> None:
        """Append a fact; ``paths`` are the probe's names for it, ``None`` and the empty text are absent."""
        if value is not None and value != "":
            self.found.append(Fact(name=name, text=show(value)))
            return
        gap = next((gap for gap in self._gaps if gap.fact.startswith(paths)), None)
        reason = f"not readable: {gap.detail or words(gap.reason)}" if gap else "not stated"
        self.found.append(Fact(name=name, text=reason, muted=True))


def _cores_text(hardware: Hardware) -> str:
    cores, threads = hardware.physical_core_count, hardware.logical_core_count
    parts = [counted(cores, "physical core") if cores else "", counted(threads, "hardware thread") if threads else ""]
    return ", ".join(part for part in parts if part)


def _cache_text(cache: Cache) -> str:
    times = f"{cache.instance_count} × " if cache.instance_count > 1 else ""
    return f"L{cache.level} {cache.kind or ''} {times}{cache_size(cache.size_bytes)}".replace("  ", " ")


def _gigahertz(hertz: int) -> str:
    return f"{rounded(hertz / 1e9, 2)} GHz"


def _system_text(hardware: Hardware) -> str:
    name = " ".join(part for part in (hardware.os_name or hardware.os_family, hardware.os_version) if part)
    extra = ", ".join(part for part in (hardware.cpu_architecture, hardware.os_kernel) if part)
    return f"{name} ({extra})" if name and extra else name or extra


def _virtualization_text(hardware: Hardware) -> str:
    kind = "none seen" if hardware.virtualization_kind == "none" else words(hardware.virtualization_kind or "")
    product = f" ({hardware.virtualization_product})" if hardware.virtualization_product else ""
    return kind + product


def _accelerator_text(accelerator: Accelerator) -> str:
    kind = (accelerator.kind or "accelerator").upper() if accelerator.kind in {"gpu", "npu"} else "Accelerator"
    memory = accelerator.memory_total_bytes
    details = [
        f"{gib(memory)} of its own" if memory is not None else "shares main memory or did not say",
        f"driver {accelerator.driver_version}" if accelerator.driver_version else "",
        f"compute capability {accelerator.compute_capability}" if accelerator.compute_capability else "",
    ]
    name = accelerator.model or accelerator.vendor or "not named"
    return f"{kind}: {name} ({', '.join(part for part in details if part)})"


def _provider_text(provider: ExecutionProvider) -> str:
    if not provider.measured:
        return provider.reason or "not measured"
    where = f" on {provider.adapter}" if provider.adapter else ""
    return f"measured{where}" + (f" ({_SOFTWARE}: never counts in a tier)" if provider.is_software else "")


def _state(detail: DeviceDetail) -> str:
    if detail.line.source != _NATIVE:
        return SOURCE_WORDS.get(detail.line.source, detail.line.source)
    if not detail.rows:
        return "nothing measured"
    return "disturbed run" if detail.line.disturbed else "clean run"


def _is_shown(row: CardLine) -> bool:
    """Tell a row that was run or tried, or a computed one where it is its class's best: all would hide what was run."""
    return not row.computed or row.is_best


def _rows_note(detail: DeviceDetail) -> str:
    left_out = sum(not _is_shown(row) for row in detail.rows)
    if not left_out:
        return ""
    what = "1 computed row is" if left_out == 1 else f"{left_out} computed rows are"
    return f"{what} left out, of classes in which another row is better or was run."


def _row_views(detail: DeviceDetail, limits: Limits) -> tuple[CardRowView, ...]:
    """Return the rows of the card that are shown and the cases that failed, smallest class first.

    What the memory gate stopped is a row already: that it does not fit is an answer.
    """
    rows = [
        *(_row_view(row, limits) for row in detail.rows if _is_shown(row)),
        *(_failed_row_view(failure, limits) for failure in detail.failures if failure.reason != "memory_gate"),
    ]
    return tuple(sorted(rows, key=lambda row: class_rank(row.size_class)))


def _failed_row_view(failure: CaseFailure, limits: Limits) -> CardRowView:
    case, shape = failure.case, failure.case.architecture
    first = _first_name(limits, decoder=shape.kind is ArchitectureKind.DECODER)
    return CardRowView(
        size_class=size_class_of(shape.parameter_count).name,
        architecture=shape.name,
        how=f"{_how(shape.kind, case.scheme, case.execution_provider, case.threads)}; it gave no measurement",
        readings=tuple(Reading(name=name, absent="–") for name in ("Decode", "Prefill", first, "Memory", "Download")),
        verdict="failed",
        tone="not-measured",
        computed=False,
        reasons=(words(failure.reason),),
    )


def _how(kind: str, scheme: str, execution_provider: str, threads: int | None) -> str:
    return f"{kind}, {scheme} on {execution_provider}" + (f", {counted(threads, 'thread')}" if threads else "")


def _first_name(limits: Limits, *, decoder: bool) -> str:
    return "Time to first token" if decoder else f"Latency, {limits.encoder_tokens} tokens"


def _row_view(row: CardLine, limits: Limits) -> CardRowView:
    decoder = row.architecture_kind == ArchitectureKind.DECODER
    timed = row.prefill_tokens_per_second is not None or row.decode_tokens_per_second is not None
    name = _first_name(limits, decoder=decoder)
    first = (
        _reading(name, row.time_to_first_token_seconds, "s")
        if decoder
        else _reading(name, row.latency_seconds, "ms", scale=1000)
    )
    software = "" if row.counts else f", {_SOFTWARE}"
    how = _how(row.architecture_kind, row.scheme, row.execution_provider, row.threads)
    return CardRowView(
        size_class=row.size_class,
        architecture=row.architecture,
        how=f"{how}{software}; {_BASIS[row.basis] if timed or row.was_run else 'not run'}",
        readings=(
            _reading(
                "Decode",
                row.decode_tokens_per_second,
                "tokens/s",
                absent="not estimated" if decoder else "does not generate",
            ),
            _reading("Prefill", row.prefill_tokens_per_second, "tokens/s"),
            first,
            _bytes_reading("Memory", row.memory_bytes, gib),
            _bytes_reading("Download", row.download_bytes, gb),
        ),
        verdict=verdict_words(row.verdict) if row.verdict else "not judged",
        tone=TONES[row.verdict] if row.verdict else "not-measured",
        computed=row.computed,
        reasons=tuple(dict.fromkeys((*row.reasons, *row.notes))),  # those of a verdict hold the notes of its estimate
    )


def _reading(
    name: str, estimate: Estimate | None, unit: str, *, scale: float = 1.0, absent: str = "not estimated"
) -> Reading:
    if estimate is None:
        return Reading(name=name, absent=absent)
    value, interval = estimate_text(estimate, scale)
    return Reading(name=name, value=value, unit=unit, interval=interval)


def _bytes_reading(name: str, count: int | None, show: Callable[[float], str]) -> Reading:
    if count is None:
        return Reading(name=name, absent="not known")
    value, unit = show(count).split(" ")
    return Reading(name=name, value=value, unit=unit)


def _run_facts(detail: DeviceDetail) -> tuple[Fact, ...]:
    run, line, hardware = detail.run, detail.line, detail.hardware
    when = run.observe_time or run.receive_time
    took = f", took {significant(run.elapsed_seconds)} s" if run.elapsed_seconds is not None else ""
    others = line.run_count - 1
    facts = [
        Fact(name="Device", text=line.device_id),
        Fact(name="Run", text=line.run_id + (f" (the newest; {others} older not shown)" if others else "")),
        Fact(name="When", text=f"{when:%Y-%m-%d %H:%M} UTC{took}") if when else _not_stated("When"),
        Fact(name="Suite", text=f"{run.suite} {run.suite_version or ''}".strip())
        if run.suite
        else _not_stated("Suite"),
        Fact(name="Source", text=run.source),
    ]
    if hardware:
        facts += [
            Fact(name="Agent", text=run.agent_version or "not stated"),
            Fact(name="ONNX Runtime", text=hardware.onnxruntime_version or "not stated"),
            Fact(name="Python", text=hardware.python_version or "not stated"),
        ]
    return tuple(facts)


def _not_stated(name: str) -> Fact:
    return Fact(name=name, text="not stated", muted=True)
