"""The tables about the devices: memory, speed, baseline devices, gates elsewhere, each device, and the limits."""

from collections.abc import Callable, Mapping, Sequence

from weighin_analysis.card import Verdict
from weighin_analysis.catalog import class_rank
from weighin_analysis.fleet.coverage.values import BaselineDevice, ClassSpeed, GateRow
from weighin_analysis.limits import Limits
from weighin_analysis.numbers import number
from weighin_analysis.report.decision import SOURCE_WORDS
from weighin_analysis.report.findings import DeviceLine, Findings, MemoryNeed
from weighin_analysis.report.numbers import gib, percent
from weighin_analysis.report.view import Cell, Table, absent
from weighin_analysis.report.words import NO_TIER, NOT_WEIGHTED, words

_GATES = {
    "chrome_built_in_ai": "Chrome's built-in model",
    "copilot_plus_pc": "Copilot+ PC",
}


def memory_table(findings: Findings) -> Table:
    """Return what each class takes in memory, and how many devices it does not fit."""
    judged: dict[str, int] = {}
    unfit: dict[str, int] = {}
    for one in findings.verdict_counts:
        judged[one.size_class] = judged.get(one.size_class, 0) + one.device_count
        if one.verdict is Verdict.DOES_NOT_FIT:
            unfit[one.size_class] = unfit.get(one.size_class, 0) + one.device_count
    return Table(
        anchor="memory-table",
        kind="memory",
        caption="Memory by size class, from the scheme that takes least to the one that takes most",
        columns=("Size class", "Takes", "Does not fit", "Devices judged", "Estimates from a run of the class"),
        rows=tuple(_memory_cells(need, judged, unfit) for need in findings.needs),
        note=NOT_WEIGHTED if findings.coverage.sample.weighted else "",
    )


def _memory_cells(need: MemoryNeed, judged: Mapping[str, int], unfit: Mapping[str, int]) -> tuple[Cell, ...]:
    total = judged.get(need.size_class, 0)
    missed = unfit.get(need.size_class, 0)
    least, most = gib(need.least_bytes), gib(need.most_bytes)
    return (
        Cell(text=need.size_class),
        Cell(text=least if least == most else f"{least} to {most}"),
        Cell(text=str(missed), note=percent(missed / total) if total else ""),
        Cell(text=str(total)),
        Cell(text=percent(need.run_share), note=f"of {need.estimate_count}"),
    )


def speed_table(findings: Findings) -> Table:
    """Return how fast the devices run each class: quartiles, the slowest quarter first."""
    return Table(
        anchor="speed-table",
        kind="speeds",
        caption="Speed by size class on the devices that it fits, each with its best scheme: "
        "slowest quarter, median, fastest quarter",
        columns=("Size class", "Devices", "Decode, tokens/s", "Prefill, tokens/s", "First token, s"),
        rows=tuple(_speed_cells(speed) for speed in findings.coverage.speeds),
    )


def _speed_cells(speed: ClassSpeed) -> tuple[Cell, ...]:
    quartiles = (speed.decode_tokens_per_second, speed.prefill_tokens_per_second, speed.time_to_first_token_seconds)
    return (
        Cell(text=speed.size_class),
        Cell(text=str(speed.device_count)),
        *(Cell(text=" · ".join(number(one) for one in three)) if three else absent() for three in quartiles),
    )


def baseline_table(findings: Findings) -> Table:
    """Return the devices at the quartiles of the fleet, from the weakest."""
    several = len(findings.limits) > 1
    return Table(
        anchor="baseline-table",
        kind="baselines",
        caption="The device below which that share of the fleet lies, by tier, then by decode rate",
        columns=("Share below", "Device", "Form", "Memory", "Tier", "Decode"),
        rows=tuple(_baseline_cells(one, several=several) for one in findings.coverage.baselines),
    )


def _baseline_cells(one: BaselineDevice, *, several: bool) -> tuple[Cell, ...]:
    decode = one.decode_tokens_per_second
    return (
        Cell(text=f"{one.percentile} %", note=f"limits {one.limits_version}" if several else ""),
        Cell(text=one.name or "not named", note=SOURCE_WORDS.get(one.source, one.source)),
        Cell(text=words(one.form_factor)) if one.form_factor else absent("not stated"),
        Cell(text=gib(one.memory_total_bytes)) if one.memory_total_bytes is not None else absent("not stated"),
        Cell(text=one.tier or NO_TIER),
        Cell(text=f"{number(decode)} tokens/s", note=f"on {one.size_class}") if decode is not None else absent(),
    )


def gate_table(findings: Findings) -> Table:
    """Return how many devices pass the gates of others."""
    return Table(
        anchor="gate-table",
        kind="gates",
        caption="Devices that pass a gate that exists elsewhere",
        columns=("Gate", "Pass", "Do not pass", "Not known"),
        rows=tuple(_gate_cells(row) for row in findings.coverage.gates),
        note="Not known: a fact that the gate asks for is missing. What these gates ask for, docs/gates.md tells.",
    )


def _gate_cells(row: GateRow) -> tuple[Cell, ...]:
    known = row.passed_count + row.failed_count
    return (
        Cell(text=_GATES.get(row.gate, words(row.gate).capitalize())),
        Cell(text=str(row.passed_count), note=f"{percent(row.passed_count / known)} of the known" if known else ""),
        Cell(text=str(row.failed_count)),
        Cell(text=str(row.unknown_count)),
    )


def device_table(findings: Findings, sections: int) -> Table:
    """Return the devices with the newest runs; the first ``sections`` have a section of their own."""
    versions = [limits.version for limits in findings.limits]
    tiers = ("Tier",) if len(versions) == 1 else tuple(f"Tier, limits {version}" for version in versions)
    shown, total = len(findings.devices), findings.coverage.sample.device_count
    note = f"The {shown} devices with the newest runs of {total}; devices.csv has them all." if shown < total else ""
    return Table(
        anchor="device-table",
        kind="devices",
        caption="Devices, those with the newest runs first",
        columns=("Device", *tiers, "At least usable", "Decode in its tier", "Memory", "Form", "Accelerator", "Run"),
        rows=tuple(_device_cells(line, place < sections) for place, line in enumerate(findings.devices)),
        note=note,
    )


def _device_cells(line: DeviceLine, linked: bool) -> tuple[Cell, ...]:
    decode, memory = line.decode_tokens_per_second, line.memory_total_bytes
    doubt = "" if line.disturbed is None else "disturbed" if line.disturbed else "clean"
    return (
        Cell(
            text=line.name or "Not named",
            note=line.device_id[:8],
            link=f"device-{line.device_id}" if linked else "",
        ),
        *(_tier_cell(tier, line) for tier in line.tiers),
        _tier_cell(line.usable_tier, line),
        Cell(text=f"{number(decode)} tokens/s", sort_key=decode) if decode else absent(),
        Cell(text=gib(memory), sort_key=memory) if memory is not None else absent("not stated"),
        Cell(text=words(line.form_factor)) if line.form_factor else absent("not stated"),
        Cell(text=line.accelerator_model) if line.accelerator_model else absent("none told"),
        Cell(text=SOURCE_WORDS.get(line.source, line.source), note=doubt),
    )


def _tier_cell(tier: str | None, line: DeviceLine) -> Cell:
    return Cell(text=tier or line.no_tier, sort_key=class_rank(tier) if tier else -1 if line.judged else -2)


def limits_table(limits: Sequence[Limits]) -> Table:
    """Return what the verdicts were held against, a column per version."""
    names: tuple[tuple[str, Callable[[Limits], str]], ...] = (
        ("Decode, comfortable from", lambda one: f"{one.decoder_comfortable.decode_tokens_per_second:g} tokens/s"),
        ("Decode, usable from", lambda one: f"{one.decoder_usable.decode_tokens_per_second:g} tokens/s"),
        ("First token, comfortable within", lambda one: f"{one.decoder_comfortable.time_to_first_token_seconds:g} s"),
        ("First token, usable within", lambda one: f"{one.decoder_usable.time_to_first_token_seconds:g} s"),
        ("Encoder, comfortable within", lambda one: f"{1000 * one.encoder_comfortable.latency_seconds:g} ms"),
        ("Encoder, usable within", lambda one: f"{1000 * one.encoder_usable.latency_seconds:g} ms"),
        ("Share of free memory that may be used", lambda one: percent(one.memory_share)),
    )
    return Table(
        anchor="limits-table",
        kind="limits",
        caption="The limits",
        columns=("Limit", *(one.version for one in limits)),
        rows=tuple((Cell(text=name), *(Cell(text=show(one)) for one in limits)) for name, show in names),
    )
