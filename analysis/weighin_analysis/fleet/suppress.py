"""What may be shown to others: nothing about fewer than five devices."""

from dataclasses import replace

from weighin_analysis.fleet.values import Coverage

LEAST_DEVICES = 5


def suppressed(coverage: Coverage) -> Coverage:
    """Return what a coverage says of no device or of at least five; a note tells how many rows are left out.

    A share is also left out where fewer than five devices are on its other side. Baseline devices are single devices.
    """
    rows = tuple(
        row for row in coverage.rows if not (_few(row.reached_count) or _few(row.judged_count - row.reached_count))
    )
    ship = tuple(row for row in coverage.ship if not _few(row.tier_count))
    speeds = tuple(row for row in coverage.speeds if not _few(row.device_count))
    gates = tuple(
        row for row in coverage.gates if not any(map(_few, (row.passed_count, row.failed_count, row.unknown_count)))
    )
    before = coverage.rows, coverage.ship, coverage.speeds, coverage.gates, coverage.baselines
    count = sum(map(len, before)) - sum(map(len, (rows, ship, speeds, gates)))
    note = f"{count} rows about fewer than {LEAST_DEVICES} devices are left out"
    return replace(
        coverage,
        rows=rows,
        ship=ship,
        baselines=(),
        speeds=speeds,
        gates=gates,
        notes=(*coverage.notes, note) if count else coverage.notes,
    )


def _few(count: int) -> bool:
    return 0 < count < LEAST_DEVICES
