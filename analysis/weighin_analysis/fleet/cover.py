"""What a fleet says: coverage by size class, what to ship, baseline devices, speeds and gates, from an open snapshot.

SQL picks the rows and numpy counts: a class at a time, so that a fleet of a million devices takes little memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Verdict
from weighin_analysis.catalog import size_classes
from weighin_analysis.fleet.coverage import (
    INTERVAL_PROBABILITY,
    BoolArray,
    FloatArray,
    effective_device_count,
    share_of,
    weighted_quantiles,
)
from weighin_analysis.fleet.fleet import Fleet
from weighin_analysis.fleet.population import Population
from weighin_analysis.fleet.regrade import require_workload
from weighin_analysis.fleet.scope import Scope, choose, chosen_sources
from weighin_analysis.fleet.ship import ClassStanding, class_standing, ship_table
from weighin_analysis.fleet.standing import ClassRows, Standing, fastest, grade_rows, read_rows, standing
from weighin_analysis.fleet.values import (
    BaselineDevice,
    ClassSpeed,
    Coverage,
    CoverageRow,
    GateRow,
    Level,
    Sample,
    ShipRow,
)
from weighin_analysis.limits import Limits
from weighin_analysis.scheme import Scheme

PERCENTILES = (25, 50, 75)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """What follows from one version of the limits."""

    rows: tuple[CoverageRow, ...]
    ship: tuple[ShipRow, ...]
    baselines: tuple[BaselineDevice, ...]
    speeds: tuple[ClassSpeed, ...]
    unjudged_count: int


def coverage_of(
    fleet: Fleet, limits: Sequence[Limits], *, source: str | None = None, population: Population | None = None
) -> Coverage:
    """Return what the devices of a source say under each of the limits, weighted to a population where one is given.

    Without a source these are the native devices, else those of the only source there is. QuestionError where a source
    must be chosen, LimitsError where limits ask for other estimates than the snapshot holds.
    """
    assert limits
    connection = fleet.connection
    scope = choose(connection, chosen_sources(connection, source), population)
    counted = [_count(fleet, one, scope) for one in limits]
    return Coverage(
        sample=_sample(connection, scope, counted[0].unjudged_count),
        limits_versions=tuple(one.version for one in limits),
        formula_version=fleet.formula_version,
        rows=tuple(row for one in counted for row in one.rows),
        ship=tuple(row for one in counted for row in one.ship),
        baselines=tuple(row for one in counted for row in one.baselines),
        speeds=counted[0].speeds,
        gates=_gates(connection),
        notes=_notes(connection, scope),
    )


def _count(fleet: Fleet, limits: Limits, scope: Scope) -> _Counted:
    if limits.version != fleet.limits_version:
        require_workload(fleet.connection, limits)
    downloads = _downloads(fleet.connection)
    names, schemes = _classes(downloads), _schemes(downloads)
    grade_rows(fleet.connection, limits, names, schemes)
    weights = scope.cells.weights()
    rows: list[CoverageRow] = []
    speeds: list[ClassSpeed] = []
    classes: list[ClassStanding] = []
    judged = np.zeros(scope.device_count, dtype=np.bool_)
    for number, size_class in enumerate(names):
        found = read_rows(fleet.connection, number)
        by_scheme = _by_scheme(found, schemes, scope.device_count)
        rows += _coverage_rows(limits, size_class, by_scheme, scope)
        speeds += _speeds(size_class, found, weights)
        classes.append(class_standing(size_class, found, by_scheme[None], schemes, downloads, weights))
        judged |= by_scheme[None][Level.COMFORTABLE].judged
    return _Counted(
        rows=tuple(rows),
        ship=ship_table(limits.version, classes, judged, scope.cells),
        baselines=_baselines(fleet.connection, limits.version, classes, judged, weights),
        speeds=tuple(speeds),
        unjudged_count=int((~judged).sum()),
    )


def _by_scheme(rows: ClassRows, schemes: Sequence[str], device_count: int) -> dict[str | None, dict[Level, Standing]]:
    """Return how devices stand by scheme, and by the best one of each device as that of None."""
    found: dict[str | None, dict[Level, Standing]] = {None: {level: Standing.nobody(device_count) for level in Level}}
    for number, scheme in enumerate(schemes):
        chosen = rows.scheme == number
        if chosen.any():
            found[scheme] = {level: standing(rows, level, device_count, chosen) for level in Level}
            found[None] = {level: found[None][level] | found[scheme][level] for level in Level}
    return found


def _coverage_rows(
    limits: Limits, size_class: str, by_scheme: Mapping[str | None, Mapping[Level, Standing]], scope: Scope
) -> list[CoverageRow]:
    """Return the shares of one class, in any scheme first."""
    return [
        CoverageRow(
            limits_version=limits.version,
            size_class=size_class,
            scheme=scheme,
            level=level,
            judged_count=int(one.judged.sum()),
            reached_count=int(one.point.sum()),
            unjudged_count=int((~one.judged).sum()),
            share=share_of(one.reached().among(one.judged), scope.cells.among(one.judged)),
        )
        for scheme, levels in by_scheme.items()
        for level, one in levels.items()
    ]


def _speeds(size_class: str, rows: ClassRows, weights: FloatArray) -> list[ClassSpeed]:
    """Return how fast the devices run a class, without the rows that do not fit."""
    best = fastest(rows, rows.verdict != list(Verdict).index(Verdict.DOES_NOT_FIT), len(weights))
    weight = weights[rows.place[best]]
    decode, prefill, first = (_quartiles(values[best], weight) for values in (rows.decode, rows.prefill, rows.first))
    if decode is None:
        return []
    return [
        ClassSpeed(
            size_class=size_class,
            device_count=len(best),
            decode_tokens_per_second=decode,
            prefill_tokens_per_second=prefill,
            time_to_first_token_seconds=(first[2], first[1], first[0]) if first else None,
        )
    ]


def _quartiles(values: FloatArray, weights: FloatArray) -> tuple[float, float, float] | None:
    """Return the quartiles of what is known, smallest first."""
    found = weighted_quantiles(values, weights, (0.25, 0.5, 0.75))
    return (found[0], found[1], found[2]) if found else None


def _baselines(
    connection: duckdb.DuckDBPyConnection,
    limits_version: str,
    classes: Sequence[ClassStanding],
    judged: BoolArray,
    weights: FloatArray,
) -> tuple[BaselineDevice, ...]:
    """Return the devices at the percentiles, from the weakest: by tier, then by its decode rate there.

    A device without a tier is placed by its rate on the smallest class that it has one for.
    """
    tier = np.full(len(judged), -1)
    shown = np.full(len(judged), -1)
    rate = np.full(len(judged), np.nan)
    for number, one in enumerate(classes):
        reaches = one.comfortable.point
        first = ~reaches & (shown < 0) & np.isfinite(one.decode)
        tier[reaches] = number
        shown[reaches | first] = number
        rate[reaches] = one.comfortable_decode[reaches]
        rate[first] = one.decode[first]
    devices = np.flatnonzero(judged & (weights > 0))
    if not len(devices):
        return ()
    order = devices[np.lexsort((np.nan_to_num(rate[devices], nan=-1.0), tier[devices]))]
    ranks = np.arange(len(order), dtype=np.float64)
    places = weighted_quantiles(ranks, weights[order], [percentile / 100 for percentile in PERCENTILES])
    found = []
    for percentile, rank in zip(PERCENTILES, places or (), strict=True):
        place = int(order[int(rank)])
        facts = connection.execute(
            "SELECT device_id, name, source, form_factor, memory_total_bytes FROM devices "
            "JOIN coverage_devices USING (run_id) WHERE place = $1",
            [place],
        ).fetchone()
        assert facts is not None
        found.append(
            BaselineDevice(
                limits_version=limits_version,
                percentile=percentile,
                **dict(zip(("device_id", "name", "source", "form_factor", "memory_total_bytes"), facts, strict=True)),
                tier=classes[tier[place]].size_class if tier[place] >= 0 else None,
                size_class=classes[shown[place]].size_class if shown[place] >= 0 else None,
                decode_tokens_per_second=float(rate[place]) if np.isfinite(rate[place]) else None,
            )
        )
    return tuple(found)


def _sample(connection: duckdb.DuckDBPyConnection, scope: Scope, unjudged_count: int) -> Sample:
    (disturbed,) = connection.execute(
        "SELECT count(*) FILTER (disturbed) FROM devices SEMI JOIN coverage_devices USING (run_id)"
    ).fetchone() or (0,)
    return Sample(
        device_count=scope.device_count,
        sources=scope.sources,
        left_out=scope.left_out,
        weighted=scope.weighted,
        effective_device_count=effective_device_count(scope.cells),
        covered_population_share=1 - sum(cell.share for cell in scope.empty_cells),
        unplaced_device_count=scope.unplaced_count,
        unjudged_device_count=unjudged_count,
        disturbed_device_count=disturbed,
        interval_probability=INTERVAL_PROBABILITY,
    )


def _gates(connection: duckdb.DuckDBPyConnection) -> tuple[GateRow, ...]:
    """Return how many devices pass each gate; of Android's classes those that some device reaches."""
    devices = connection.sql("FROM devices SEMI JOIN coverage_devices USING (run_id)")
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


def _notes(connection: duckdb.DuckDBPyConnection, scope: Scope) -> tuple[str, ...]:
    """Return what a reader must know of these devices."""
    notes = [
        f"no device stands for {cell.name}, {100 * cell.share:.3g} % of the population" for cell in scope.empty_cells
    ]
    if scope.unplaced_count:
        notes.append(f"{scope.unplaced_count:,} devices belong to no cell of the population and are not counted")
    suites = connection.execute(
        "SELECT suite, suite_version, count(*) FROM runs SEMI JOIN coverage_devices USING (run_id) "
        "GROUP BY ALL ORDER BY ALL"
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
