"""The tables about what to ship: choices, shares by class and scheme, and what each tier does."""

from collections import Counter
from collections.abc import Sequence

from weighin_analysis.catalog import class_rank, size_classes
from weighin_analysis.fleet.coverage.values import (
    Coverage,
    CoverageRow,
    Level,
    Share,
    ShipRow,
    VerdictCount,
)
from weighin_analysis.numbers import number
from weighin_analysis.report.decision import main_choice
from weighin_analysis.report.findings import Findings
from weighin_analysis.report.numbers import counted, gb, percent, share_text
from weighin_analysis.report.view import Cell, Table, absent
from weighin_analysis.report.words import NO_TIER, NOT_WEIGHTED, TONES, verdict_words

# More columns than this do not fit a page.
MAX_SCHEMES = 5


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
        absent() if nothing else _share_cell(row.reach),
        absent() if nothing else _share_cell(row.usable_reach),
        _share_cell(row.server),
        Cell(text=str(row.tier_count)),
        Cell(text=row.scheme, note=gb(row.download_bytes) if row.download_bytes is not None else "")
        if row.scheme
        else absent(),
        Cell(text=f"{number(decode)} tokens/s") if decode is not None else absent(),
        Cell(text=f"{number(first)} s") if first is not None else absent(),
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
        _level_cell(comfortable),
        _level_cell(usable),
        Cell(text=str(counted_row.judged_count) if counted_row else "0"),
        Cell(text=str(counted_row.unjudged_count) if counted_row else "0"),
    )


def _level_cell(row: CoverageRow | None) -> Cell:
    """Return a share, or whether nobody was judged, or not somebody of every part of the population."""
    if row and row.share:
        return _share_cell(row.share)
    return absent("no share" if row and row.judged_count else "not judged")


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
        return _level_cell(row)
    value, interval = share_text(row.share)
    return Cell(text=value, note=f"{interval}, {counted(row.judged_count, 'device')}")


def tier_table(findings: Findings) -> Table:
    """Return the heatmap: how the devices of each tier do on each class, by the verdict that most of them have."""
    counts = findings.verdict_counts
    classes = sorted({one.size_class for one in counts}, key=class_rank)
    ship = [row for row in findings.coverage.ship if row.limits_version == findings.limits[0].version]
    sizes = {row.size_class: row.tier_count for row in ship}
    tiers = sorted({one.tier for one in counts}, key=lambda tier: class_rank(tier) if tier else -1, reverse=True)
    return Table(
        anchor="tier-by-class",
        kind="heat",
        caption="The verdict that most devices of a tier have on a class, each by its best scheme, and their share",
        note=NOT_WEIGHTED if findings.coverage.sample.weighted else "",
        columns=("Tier", *classes),
        rows=tuple(
            (
                Cell(text=tier or NO_TIER, note=counted(sizes.get(tier, 0), "device")),
                *(
                    _heat_cell([one for one in counts if (one.tier, one.size_class) == (tier, name)])
                    for name in classes
                ),
            )
            for tier in tiers
        ),
    )


def _heat_cell(counts: Sequence[VerdictCount]) -> Cell:
    total = sum(one.device_count for one in counts)
    if not total:
        return absent()
    most = max(counts, key=lambda one: one.device_count)
    share = most.device_count / total
    return Cell(
        text=verdict_words(most.verdict),
        note=percent(share),
        tone=TONES[most.verdict],
        shade=round(10 * share),
        badge=True,
    )


def stands_for(size_class: str) -> str:
    """Return the model whose shape a class is judged by."""
    found = next((one for one in size_classes() if one.name == size_class), None)
    return (found and (found.reference or found.representative)) or ""


def _share_cell(share: Share) -> Cell:
    value, interval = share_text(share)
    return Cell(text=value, note=interval, sort_key=share.value)
