"""The tables about the fleet: from coverage and findings to cells."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from weighin_analysis.card import Verdict
from weighin_analysis.catalog import class_rank, size_classes
from weighin_analysis.fleet.values import (
    BaselineDevice,
    ClassSpeed,
    Coverage,
    CoverageRow,
    GateRow,
    Level,
    Share,
    ShipRow,
)
from weighin_analysis.limits import Limits
from weighin_analysis.numbers import number
from weighin_analysis.report.decision import SOURCE_WORDS, main_choice
from weighin_analysis.report.findings import DeviceLine, Findings, MemoryNeed, Standing
from weighin_analysis.report.numbers import counted, gb, gib, percent, share_text
from weighin_analysis.report.view import Cell, Table
from weighin_analysis.report.words import ABSENT, TONES, verdict_words, words

_NO_TIER = "no class"
# More columns than this do not fit a page.
MAX_SCHEMES = 5
_GATES = {
    "chrome_built_in_ai": "Chrome's built-in model",
    "copilot_plus_pc": "Copilot+ PC",
}


def ship_tables(findings: Findings) -> tuple[Table, ...]:
    """Return what each choice reaches, a table per version of the limits."""
    versions = findings.coverage.limits_versions
    return tuple(_ship_table(findings.coverage, version, place) for place, version in enumerate(versions))


def _ship_table(coverage: Coverage, version: str, place: int) -> Table:
    rows = [row for row in coverage.ship if row.limits_version == version]
    return Table(
        anchor=f"ship-{place}",
        kind="ship",
        caption=f"What each choice reaches, under limits {version}",
        columns=(
            "Ship",
            "Runs comfortably on",
            "At least usable on",
            "Left to a server",
            "Devices of just this tier",
            "Mostly in",
            "Decode, median",
            "First token, median",
        ),
        rows=tuple(_ship_cells(row, named=row == main_choice(coverage)) for row in rows),
    )


def _ship_cells(row: ShipRow, *, named: bool) -> tuple[Cell, ...]:
    decode, first = row.median_decode_tokens_per_second, row.median_time_to_first_token_seconds
    nothing = row.size_class is None
    return (
        Cell(text="Nothing: all to a server" if nothing else row.size_class or "", note="named above" if named else ""),
        _absent() if nothing else _share_cell(row.reach),
        _absent() if nothing else _share_cell(row.usable_reach),
        _share_cell(row.server),
        Cell(text=str(row.tier_count)),
        Cell(text=row.scheme, note=gb(row.download_bytes) if row.download_bytes is not None else "")
        if row.scheme
        else _absent(),
        Cell(text=f"{number(decode)} tokens/s") if decode is not None else _absent(),
        Cell(text=f"{number(first)} s") if first is not None else _absent(),
    )


def coverage_tables(findings: Findings) -> tuple[Table, ...]:
    """Return the shares behind the curves, a table per version of the limits."""
    versions = findings.coverage.limits_versions
    return tuple(_coverage_table(findings.coverage, version, place) for place, version in enumerate(versions))


def _coverage_table(coverage: Coverage, version: str, place: int) -> Table:
    found = {
        (row.size_class, row.level): row for row in coverage.rows if row.limits_version == version and not row.scheme
    }
    classes = sorted({size_class for size_class, _ in found}, key=class_rank)
    return Table(
        anchor=f"coverage-{place}",
        kind="coverage",
        caption=f"Share of devices by size class, in any scheme, under limits {version}",
        columns=("Size class", "Comfortable", "At least usable", "Devices judged", "Not judged"),
        rows=tuple(
            _coverage_cells(name, found.get((name, Level.COMFORTABLE)), found.get((name, Level.USABLE)))
            for name in classes
        ),
    )


def _coverage_cells(name: str, comfortable: CoverageRow | None, usable: CoverageRow | None) -> tuple[Cell, ...]:
    counted_row = comfortable or usable
    return (
        Cell(text=name, note=stands_for(name)),
        _share_cell(comfortable.share if comfortable else None),
        _share_cell(usable.share if usable else None),
        Cell(text=str(counted_row.judged_count) if counted_row else "0"),
        Cell(text=str(counted_row.unjudged_count) if counted_row else "0"),
    )


def scheme_tables(findings: Findings) -> tuple[Table, ...]:
    """Return the comfortable shares by scheme, a table per version of the limits."""
    versions = findings.coverage.limits_versions
    tables = [_scheme_table(findings.coverage, version, place) for place, version in enumerate(versions)]
    return tuple(table for table in tables if table.rows)


def _scheme_table(coverage: Coverage, version: str, place: int) -> Table:
    found = {
        (row.size_class, row.scheme): row
        for row in coverage.rows
        if row.limits_version == version and row.scheme and row.level is Level.COMFORTABLE
    }
    classes = sorted({size_class for size_class, _ in found}, key=class_rank)
    counts: Counter[str] = Counter()
    for (_, scheme), row in found.items():
        counts[scheme or ""] += row.judged_count
    schemes = [scheme for scheme, _ in counts.most_common(MAX_SCHEMES)]
    left_out = len(counts) - len(schemes)
    return Table(
        anchor=f"schemes-{place}",
        kind="schemes",
        caption=f"Share of devices that run a class comfortably, by scheme, under limits {version}",
        columns=("Size class", *schemes),
        rows=tuple(
            (Cell(text=name), *(_scheme_cell(found.get((name, scheme))) for scheme in schemes)) for name in classes
        ),
        note="A scheme is judged on the devices that have an estimate in it; such shares do not add up."
        + (f" {counted(left_out, 'scheme')} of fewer devices stand in coverage.csv." if left_out else ""),
    )


def _scheme_cell(row: CoverageRow | None) -> Cell:
    if row is None or row.share is None:
        return _absent("not judged")
    value, interval = share_text(row.share)
    return Cell(text=value, note=f"{interval}, {counted(row.judged_count, 'device')}")


def tier_table(findings: Findings) -> Table:
    """Return the heatmap: how the devices of each tier do on each class, by the verdict that most of them have."""
    standings = findings.standings
    classes = sorted({one.size_class for one in standings}, key=class_rank)
    ship = [row for row in findings.coverage.ship if row.limits_version == findings.limits[0].version]
    sizes = {row.size_class: row.tier_count for row in ship}
    tiers = sorted({one.tier for one in standings}, key=lambda tier: class_rank(tier) if tier else -1, reverse=True)
    return Table(
        anchor="tier-by-class",
        kind="heat",
        caption="The verdict that most devices of a tier have on a class, each by its best scheme, and their share",
        columns=("Tier", *classes),
        rows=tuple(
            (
                Cell(text=tier or _NO_TIER, note=counted(sizes.get(tier, 0), "device")),
                *(
                    _heat_cell([one for one in standings if (one.tier, one.size_class) == (tier, name)])
                    for name in classes
                ),
            )
            for tier in tiers
        ),
    )


def _heat_cell(standings: Sequence[Standing]) -> Cell:
    total = sum(one.device_count for one in standings)
    if not total:
        return _absent()
    most = max(standings, key=lambda one: one.device_count)
    share = most.device_count / total
    return Cell(
        text=verdict_words(most.verdict),
        note=percent(share),
        tone=TONES[most.verdict],
        shade=round(10 * share),
        badge=True,
    )


def memory_table(findings: Findings) -> Table:
    """Return what each class takes in memory, and how many devices it does not fit."""
    judged: dict[str, int] = {}
    unfit: dict[str, int] = {}
    for one in findings.standings:
        judged[one.size_class] = judged.get(one.size_class, 0) + one.device_count
        if one.verdict is Verdict.DOES_NOT_FIT:
            unfit[one.size_class] = unfit.get(one.size_class, 0) + one.device_count
    return Table(
        anchor="memory-table",
        kind="memory",
        caption="Memory by size class, from the scheme that takes least to the one that takes most",
        columns=("Size class", "Takes", "Does not fit", "Devices judged", "Estimates from a run of the class"),
        rows=tuple(_memory_cells(need, judged, unfit) for need in findings.needs),
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
        *(Cell(text=" · ".join(number(one) for one in three)) if three else _absent() for three in quartiles),
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
        Cell(text=words(one.form_factor)) if one.form_factor else _absent("not stated"),
        Cell(text=gib(one.memory_total_bytes)) if one.memory_total_bytes is not None else _absent("not stated"),
        Cell(text=one.tier or _NO_TIER),
        Cell(text=f"{number(decode)} tokens/s", note=f"on {one.size_class}") if decode is not None else _absent(),
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
        Cell(text=f"{number(decode)} tokens/s", sort_key=decode) if decode else _absent(),
        Cell(text=gib(memory), sort_key=memory) if memory is not None else _absent("not stated"),
        Cell(text=words(line.form_factor)) if line.form_factor else _absent("not stated"),
        Cell(text=line.accelerator_model) if line.accelerator_model else _absent("none told"),
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


def stands_for(size_class: str) -> str:
    """Return the model whose shape a class is judged by."""
    found = next((one for one in size_classes() if one.name == size_class), None)
    return (found and (found.reference or found.representative)) or ""


def _share_cell(share: Share | None) -> Cell:
    if share is None:
        return _absent("not judged")
    value, interval = share_text(share)
    return Cell(text=value, note=interval, sort_key=share.value)


def _absent(text: str = ABSENT) -> Cell:
    return Cell(text=text)
