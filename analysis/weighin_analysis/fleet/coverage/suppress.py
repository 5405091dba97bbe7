"""What may be shown to others: nothing about fewer than five devices."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from weighin_analysis.fleet.coverage.values import Coverage, Sample, ShipRow

LEAST_DEVICES = 5


def suppressed(coverage: Coverage) -> Coverage:
    """Return what a coverage says of no device or of at least five; a note tells how many rows are left out.

    A share is also left out where fewer than five devices are on its other side. Baseline devices are single devices,
    and other notes count devices in words. Of fewer than five devices altogether nothing may be shown at all.
    """
    total = coverage.sample.device_count
    rows = tuple(
        replace(row, unjudged_count=_public(row.unjudged_count, total))
        for row in coverage.rows
        if not _some_few(row.judged_count, row.reached_count, row.judged_count - row.reached_count)
    )
    ship = tuple(row for version in coverage.limits_versions for row in _ship_rows(coverage.ship, version))
    speeds = tuple(row for row in coverage.speeds if not _some_few(row.device_count))
    gates = tuple(row for row in coverage.gates if not _some_few(row.passed_count, row.failed_count, row.unknown_count))
    before = coverage.rows, coverage.ship, coverage.speeds, coverage.gates, coverage.baselines
    count = sum(map(len, before)) - sum(map(len, (rows, ship, speeds, gates)))
    rows_are = "row is" if count == 1 else "rows are"
    note = f"{count} {rows_are} left out, being about fewer than {LEAST_DEVICES} devices"
    return replace(
        coverage,
        sample=_sample(coverage.sample),
        rows=rows,
        ship=ship,
        baselines=(),
        speeds=speeds,
        gates=gates,
        notes=(note,) if count else (),
    )


def _ship_rows(ship: Sequence[ShipRow], limits_version: str) -> list[ShipRow]:
    """Return the choices under some limits whose shares are all about enough devices, on both sides."""
    rows = [row for row in ship if row.limits_version == limits_version]
    total = sum(row.tier_count for row in rows)
    found, reach = [], 0
    for row in rows:  # from the largest tier, and shipping nothing reaches nobody
        reach = reach + row.tier_count if row.size_class else 0
        if not _some_few(row.tier_count, reach, total - reach, row.usable_count, total - row.usable_count):
            found.append(row)
    # Alone, the row of shipping nothing would read as if nothing could be shipped.
    return found if len(found) > 1 or len(rows) == 1 else []


def _sample(sample: Sample) -> Sample:
    total = sample.device_count
    return replace(
        sample,
        sources={} if _some_few(*sample.sources.values()) else sample.sources,
        left_out=_without_few(sample.left_out),
        unplaced_device_count=_public(sample.unplaced_device_count),
        unjudged_device_count=_public(sample.unjudged_device_count, total),
        disturbed_device_count=_public(sample.disturbed_device_count, total),
    )


def _without_few(counts: Mapping[str, int]) -> Mapping[str, int]:
    return {name: count for name, count in counts.items() if not _some_few(count)}


def _public(count: int | None, total: int | None = None) -> int | None:
    """Return a count if it, and what it leaves of a total, may be shown."""
    if count is None or _some_few(count) or (total is not None and _some_few(total - count)):
        return None
    return count


def _some_few(*counts: int) -> bool:
    return any(0 < count < LEAST_DEVICES for count in counts)
