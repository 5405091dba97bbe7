"""What a fleet says: coverage by size class, what to ship, baseline devices, speeds and gates, from an open snapshot.

SQL picks the rows, numpy grades and counts them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import numpy as np

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.catalog import size_classes
from weighin_analysis.fleet.coverage.baseline import baseline_devices, class_speed
from weighin_analysis.fleet.coverage.heat import verdict_counts
from weighin_analysis.fleet.coverage.population import Population
from weighin_analysis.fleet.coverage.scope import Scope, choose, chosen_sources
from weighin_analysis.fleet.coverage.shares import (
    INTERVAL_PROBABILITY,
    NEGLIGIBLE_SHARE,
    BoolArray,
    Cells,
    effective_device_count,
    share_of,
)
from weighin_analysis.fleet.coverage.ship import ClassStanding, choice_of, ship_table
from weighin_analysis.fleet.coverage.standing import Standing, standings
from weighin_analysis.fleet.coverage.values import (
    BaselineDevice,
    ClassSpeed,
    Coverage,
    CoverageRow,
    GateRow,
    Level,
    Sample,
    ShipRow,
    VerdictCount,
)
from weighin_analysis.fleet.grading.regrade import require_workload
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.limits import Limits
from weighin_analysis.scheme import Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Coverage, and what the same count of devices says beside it: tier by class under the first limits.

    ``cells`` are what the devices stand for.
    """

    coverage: Coverage
    cells: Cells
    verdict_counts: tuple[VerdictCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _UnderLimits:
    """What follows from one version of the limits."""

    rows: tuple[CoverageRow, ...]
    ship: tuple[ShipRow, ...]
    baselines: tuple[BaselineDevice, ...]
    speeds: tuple[ClassSpeed, ...]
    judged: BoolArray
    notes: tuple[str, ...]
    verdict_counts: tuple[VerdictCount, ...]


def coverage_of(
    fleet: Fleet, limits: Sequence[Limits], *, source: str | None = None, population: Population | None = None
) -> Coverage:
    """Return what the devices of a source say under each of the limits, weighted to a population where one is given.

    Without a source these are the native devices, else those of the only source there is. QuestionError where a source
    must be chosen, LimitsError where limits ask for other estimates than the snapshot holds.
    """
    return count(fleet, limits, source=source, population=population).coverage


def count(fleet: Fleet, limits: Sequence[Limits], *, source: str | None, population: Population | None) -> Counted:
    """Return ``coverage_of`` with tier by class; the table ``coverage_devices`` of these devices stays."""
    assert limits
    connection = fleet.connection
    scope = choose(connection, chosen_sources(connection, source), population)
    counted = [_under(fleet, one, scope) for one in limits]
    coverage = Coverage(
        sample=_sample(connection, scope, counted[0].judged),
        limits_versions=tuple(one.version for one in limits),
        formula_version=_formula_versions(connection),
        rows=tuple(row for one in counted for row in one.rows),
        ship=tuple(row for one in counted for row in one.ship),
        baselines=tuple(row for one in counted for row in one.baselines),
        speeds=counted[0].speeds,
        gates=_gates(connection),
        notes=(*counted[0].notes, *_notes(connection)),
    )
    return Counted(coverage=coverage, cells=scope.cells, verdict_counts=counted[0].verdict_counts)


def _under(fleet: Fleet, limits: Limits, scope: Scope) -> _UnderLimits:
    if limits.version != fleet.limits_version:
        require_workload(fleet.connection, limits)
    downloads = _downloads(fleet.connection)
    names, schemes = _classes(downloads), _schemes(downloads)
    found = standings(fleet.connection, limits, names, schemes, scope.device_count)
    judged = np.zeros(scope.device_count, dtype=np.bool_)
    for one in found.values():
        judged |= one.judged

    def of_class(size_class: str) -> _OfClass:
        candidates = [
            (scheme, downloads[size_class, scheme], found.pop((size_class, scheme)))
            for scheme in schemes
            if (size_class, scheme) in found
        ]
        return _of_class(limits.version, size_class, candidates, scope.cells, scope.cells.without(judged))

    # Only on devices that are in question.
    present = [name for name in names if any((name, scheme) in found for scheme in schemes)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        by_class = list(threads.map(of_class, present))
    classes = [one.standing for one in by_class]
    return _UnderLimits(
        rows=tuple(row for one in by_class for row in one.rows),
        ship=ship_table(limits.version, classes, judged, scope.cells),
        baselines=baseline_devices(fleet.connection, limits.version, classes, judged, scope.cells),
        speeds=tuple(one.speed for one in by_class if one.speed),
        judged=judged,
        notes=tuple(_population_notes(scope, judged, classes)),
        verdict_counts=verdict_counts(limits.version, classes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfClass:
    """What follows from how the devices stand towards one class."""

    standing: ClassStanding
    rows: tuple[CoverageRow, ...]
    speed: ClassSpeed | None


def _of_class(
    limits_version: str,
    size_class: str,
    candidates: Sequence[tuple[str, int | None, Standing]],
    cells: Cells,
    uncovered: BoolArray,
) -> _OfClass:
    """Return what the best scheme of every device says, and each by itself; see ``choice_of`` for ``candidates``.

    ``uncovered`` are the cells without a device that is judged on any class.
    """
    best = Standing.nobody(len(cells.cell))
    for _, _, one in candidates:
        best.take(one)
    by_scheme = [(None, best), *((scheme, one) for scheme, _, one in candidates)]
    weights = cells.weights(best.judged)
    return _OfClass(
        standing=ClassStanding(size_class=size_class, best=best, choice=choice_of(candidates, best, weights)),
        rows=tuple(_coverage_rows(limits_version, size_class, by_scheme, cells, uncovered)),
        speed=None if _lacks(cells, best.judged, uncovered) else class_speed(size_class, best, weights),
    )


def _coverage_rows(
    limits_version: str,
    size_class: str,
    by_scheme: Sequence[tuple[str | None, Standing]],
    cells: Cells,
    uncovered: BoolArray,
) -> Iterator[CoverageRow]:
    """Yield the shares of one class by scheme."""
    for scheme, one in by_scheme:
        judged = one.judged
        among = cells.among(judged)
        is_told = not _lacks(cells, judged, uncovered)
        for level in Level:
            yield CoverageRow(
                limits_version=limits_version,
                size_class=size_class,
                scheme=scheme,
                level=level,
                covered_population_share=float(cells.shares[~cells.without(judged)].sum()),
                judged_count=int(judged.sum()),
                reached_count=int(one.reaching(level).sum()),
                unjudged_count=int((~judged).sum()),
                share=share_of(one.reached(level).among(judged), among) if is_told else None,
            )


def _lacks(cells: Cells, judged: BoolArray, uncovered: BoolArray) -> bool:
    """Tell whether a part of the population that other devices stand for has none of these.

    What desktops do with a class on which no phone could be judged is not what both do.
    """
    return cells.lack(judged, uncovered) > NEGLIGIBLE_SHARE


def _sample(connection: duckdb.DuckDBPyConnection, scope: Scope, judged: BoolArray) -> Sample:
    (disturbed,) = connection.execute(
        "SELECT count(*) FILTER (disturbed) FROM devices SEMI JOIN coverage_devices USING (run_number)"
    ).fetchone() or (0,)
    return Sample(
        device_count=scope.device_count,
        sources=scope.sources,
        left_out=scope.left_out,
        weighted=bool(scope.population),
        effective_device_count=effective_device_count(scope.cells, judged),
        covered_population_share=1 - sum(cell.share for cell in scope.cells_without(judged)),
        unplaced_device_count=scope.unplaced_count,
        unjudged_device_count=int((~judged).sum()),
        disturbed_device_count=disturbed,
        interval_probability=INTERVAL_PROBABILITY,
    )


def _formula_versions(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the versions of the formulas behind the devices that count, as external devices have their own."""
    rows = connection.execute(
        "SELECT DISTINCT formula_version FROM tiers SEMI JOIN coverage_devices USING (run_number) ORDER BY 1"
    ).fetchall()
    return ", ".join(version for (version,) in rows if version)


def _gates(connection: duckdb.DuckDBPyConnection) -> tuple[GateRow, ...]:
    """Return how many devices pass each gate; of Android's classes those that some device reaches."""
    devices = connection.sql("FROM devices SEMI JOIN coverage_devices USING (run_number)")
    classes = devices.filter("android_performance_class > 0").unique("android_performance_class").fetchall()
    android = "CASE WHEN os_family = 'android' THEN android_performance_class >= {} WHEN os_family <> '' THEN false END"
    gates = {name: name for name in ("chrome_built_in_ai", "copilot_plus_pc")}
    gates |= {f"android_performance_class_{least}": android.format(least) for (least,) in sorted(classes)}
    rows = []
    for gate, passes in gates.items():
        counts = devices.aggregate(f"count(*) FILTER ({passes}), count(*) FILTER (NOT ({passes})), count(*)").fetchone()
        assert counts is not None
        passed, failed, all_devices = counts
        unknown = all_devices - passed - failed
        rows.append(GateRow(gate=gate, passed_count=passed, failed_count=failed, unknown_count=unknown))
    return tuple(rows)


def _population_notes(scope: Scope, judged: BoolArray, classes: Sequence[ClassStanding]) -> Iterator[str]:
    """Yield which parts of the population the judged devices do not stand for, on all classes or on some."""
    yield from scope.lacks(judged)
    uncovered = scope.cells_without(judged)
    lacking: dict[str, list[str]] = {}
    for one in classes:
        parts = [cell.part for cell in scope.cells_without(one.best.judged) if cell not in uncovered]
        if parts and _lacks(scope.cells, one.best.judged, scope.cells.without(judged)):
            lacking.setdefault(", nor for ".join(parts), []).append(one.size_class)
    for names, found in lacking.items():
        yield f"no share or speed is told of {', '.join(found)}: no device that is judged on it stands for {names}"


def _notes(connection: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    """Return what a reader must know of these devices."""
    notes = []
    doubted = connection.execute(
        "SELECT count(DISTINCT run_number) FROM plausibility SEMI JOIN coverage_devices USING (run_number) "
        "WHERE NOT counts"
    ).fetchone()
    if doubted and doubted[0]:
        notes.append(f"devices with measurements that cannot be true, which are left out: {doubted[0]:,}")
    suites = connection.execute(
        "SELECT suite, suite_version, count(*) FROM runs SEMI JOIN coverage_devices USING (run_number) "
        "WHERE suite IS NOT NULL GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    if len(suites) > 1:
        counts = ", ".join(f"{suite} {version} ({count:,})" for suite, version, count in suites)
        notes.append(f"the devices ran several suites: {counts}")
    return tuple(notes)


def _downloads(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], int | None]:
    """Return {(class, scheme): bytes that a user downloads of its reference model} for all decoders that count."""
    rows = connection.execute(
        "SELECT size_class, scheme, max(download_bytes) FROM estimates WHERE architecture_kind = $1 AND counts "
        "GROUP BY ALL",
        [str(ArchitectureKind.DECODER)],
    ).fetchall()
    return {(size_class, scheme): count for size_class, scheme, count in rows}


def _classes(downloads: Mapping[tuple[str, str], int | None]) -> list[str]:
    """Return the classes of the fleet, smallest first."""
    found = {size_class for size_class, _ in downloads}
    return [one.name for one in size_classes() if one.name in found]


def _schemes(downloads: Mapping[tuple[str, str], int | None]) -> list[str]:
    """Return the schemes of the fleet: ours from the fewest bits, then what others use, by name."""
    found = {scheme for _, scheme in downloads}
    ours = [str(one) for one in reversed(Scheme) if one in found]
    return [*ours, *sorted(found - set(ours))]
