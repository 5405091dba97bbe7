"""The SQL of the report: sums over a fleet of any size, made by DuckDB from the views.

The devices are those that coverage counts, each by its newest run: the table ``coverage_devices``.
"""

# ruff: noqa: S608 (no text of anybody else is part of a query)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from weighin_analysis.card import Verdict
from weighin_analysis.catalog import class_rank
from weighin_analysis.fleet.coverage.shares import Cells, weighted_quantiles
from weighin_analysis.fleet.grading.grade import VERDICTS
from weighin_analysis.fleet.grading.regrade import graded as graded_estimates
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.limits import Limits
from weighin_analysis.report.findings import DeviceLine, FreeMemory, MemoryNeed, SpeedMark, Tally

# A page with more full device sections, or more rows in its table, helps nobody and loads slowly.
MAX_SECTIONS = 50
MAX_ROWS = 500
# More marks than this hide each other.
MAX_MARKS = 300
# Shares of the devices whose free memory is known, the largest share first.
STOCK_SHARES = (0.9, 0.5, 0.1)

# From best to worst, as the enumeration lists them.
RANK = "CASE verdict " + " ".join(f"WHEN '{one}' THEN {rank}" for rank, one in enumerate(Verdict)) + " END"
_NEEDS = """
    SELECT size_class, min(memory_bytes), max(memory_bytes),
        count(*) FILTER (basis IN ('measured', 'layer_probe')), count(*)
    FROM report_estimates WHERE counts AND architecture_kind = 'decoder' AND memory_bytes > 0 GROUP BY ALL
"""
# Of the memories of a device, the main one and that of a GPU, the one with most free counts.
_STOCK = """
    SELECT place, most FROM coverage_devices JOIN (
        SELECT run_number, max(memory_available_bytes) AS most FROM report_estimates
        WHERE counts AND memory_available_bytes > 0 GROUP BY run_number) USING (run_number)
"""
# The hash of a run's number draws devices evenly, and the same ones every time.
_MARKS = f"""
    WITH drawn AS (SELECT run_number FROM coverage_devices ORDER BY hash(run_number), run_number LIMIT {MAX_MARKS}),
    found AS ({{graded}})
    SELECT decode_tokens_per_second, prefill_tokens_per_second, grade,
        basis NOT IN ('measured', 'layer_probe') AS computed
    FROM found
    WHERE size_class = $1 AND counts AND architecture_kind = 'decoder' AND grade IS NOT NULL
        AND isfinite(decode_tokens_per_second) AND isfinite(prefill_tokens_per_second)
        AND least(decode_tokens_per_second, prefill_tokens_per_second) > 0
    QUALIFY 1 = row_number() OVER (
        PARTITION BY run_number ORDER BY grade, computed, decode_tokens_per_second DESC NULLS LAST)
    ORDER BY run_number
"""
_NEWEST = f"ORDER BY last_receive_time DESC NULLS LAST, device_id LIMIT {MAX_ROWS}"
_SPEEDS = """
    SELECT shown.device_id, max(e.decode_tokens_per_second) FROM report_shown shown JOIN estimates e
    ON e.run_number = shown.run_number AND e.size_class = shown.tier_0 AND e.scheme = shown.scheme
        AND e.execution_provider = shown.execution_provider AND e.counts AND e.architecture_kind = 'decoder'
        AND isfinite(e.decode_tokens_per_second)
    GROUP BY ALL
"""
_TALLIES = """
    WITH counted AS (FROM runs SEMI JOIN coverage_devices USING (run_number) WHERE source <> 'external')
    SELECT 'Suite', concat_ws(' ', suite, suite_version), count(*) FROM counted GROUP BY ALL
    UNION ALL
    SELECT 'Agent', coalesce(agent_version, 'not stated'), count(*) FROM counted GROUP BY ALL
    UNION ALL
    SELECT 'ONNX Runtime', coalesce(onnxruntime_version, 'not stated'), count(*)
    FROM counted JOIN hardware USING (hardware_id) GROUP BY ALL
    ORDER BY 1, 3 DESC, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """Limits, and the names of the relations that hold the fleet's verdicts and tiers under them."""

    limits: Limits
    verdicts: str
    tiers: str


def select_estimates(fleet: Fleet) -> None:
    """Make the view ``report_estimates`` of the devices in question; a join that would drop no run takes seconds."""
    ((every_run,),) = _rows(fleet, "SELECT (SELECT count(*) FROM coverage_devices) = (SELECT count(*) FROM runs)")
    join = "" if every_run else "SEMI JOIN coverage_devices USING (run_number)"
    _rows(fleet, f"CREATE OR REPLACE TEMP VIEW report_estimates AS FROM estimates {join}")


def memory_needs(fleet: Fleet) -> tuple[MemoryNeed, ...]:
    """Return what each class takes in memory, the smallest class first; of the view ``report_estimates``."""
    found = [
        MemoryNeed(
            size_class=size_class,
            least_bytes=least,
            most_bytes=most,
            run_share=run / count,
            estimate_count=count,
        )
        for size_class, least, most, run, count in _rows(fleet, _NEEDS)
    ]
    return tuple(sorted(found, key=lambda one: class_rank(one.size_class)))


def free_memory(fleet: Fleet, cells: Cells) -> tuple[FreeMemory, ...]:
    """Return how much memory was free on most, half and few of the devices of ``report_estimates``, if any told.

    ``cells`` are what the devices stand for.
    """
    found = fleet.connection.execute(_STOCK).fetchnumpy()
    most = np.full(len(cells.cell), np.nan)
    most[found["place"].astype(np.int64)] = found["most"]
    known = np.isfinite(most)
    amounts = weighted_quantiles(most, cells.weights(known), [1 - share for share in STOCK_SHARES])
    return tuple(
        FreeMemory(share=share, memory_bytes=int(amount), known_count=int(known.sum()))
        for share, amount in zip(STOCK_SHARES, amounts or (), strict=False)
    )


def speed_marks(fleet: Fleet, graded: Graded, size_class: str) -> tuple[SpeedMark, ...]:
    """Return the speeds of a class on the devices, of many on a part of them drawn evenly."""
    drawn = graded_estimates(graded.limits, "estimates SEMI JOIN drawn USING (run_number)")
    rows = _rows(fleet, _MARKS.format(graded=drawn), [size_class])
    return tuple(
        SpeedMark(
            decode_tokens_per_second=decode,
            prefill_tokens_per_second=prefill,
            verdict=VERDICTS[grade - 1],
            computed=computed,
        )
        for decode, prefill, grade, computed in rows
    )


def device_lines(fleet: Fleet, graded: Sequence[Graded]) -> tuple[DeviceLine, ...]:
    """Return the devices with the newest runs, ``MAX_ROWS`` of them at most."""
    _rows(fleet, f"CREATE OR REPLACE TEMP TABLE report_shown AS {devices_query(graded)} {_NEWEST}")
    speeds = dict(_rows(fleet, _SPEEDS))
    rows = dicts(fleet, "FROM report_shown ORDER BY last_receive_time DESC NULLS LAST, device_id")
    return tuple(_device_line(row, speeds, len(graded)) for row in rows)


def devices_query(graded: Sequence[Graded]) -> str:
    """Return the query of all devices with their tiers: ``tier_0`` under the first limits, ``tier_1`` under others."""
    others = range(1, len(graded))
    columns = "".join(f", t{place}.tier AS tier_{place}" for place in others)
    joins = "".join(f" LEFT JOIN {graded[place].tiers} t{place} USING (run_number)" for place in others)
    return (
        "SELECT d.*, t0.tier AS tier_0, t0.tier_probability, t0.usable_tier, t0.limited_by, t0.scheme, "
        f"t0.execution_provider{columns} FROM devices d SEMI JOIN coverage_devices USING (run_number) "
        f"LEFT JOIN {graded[0].tiers} t0 USING (run_number){joins}"
    )


def _device_line(row: dict[str, Any], speeds: dict[str, float], versions: int) -> DeviceLine:
    copied = {name: row[name] for name in DeviceLine.__dataclass_fields__ if name in row}
    return DeviceLine(
        **copied,
        tiers=tuple(row[f"tier_{place}"] for place in range(versions)),
        decode_tokens_per_second=speeds.get(row["device_id"]),
    )


def run_count(fleet: Fleet) -> int:
    """Return how many runs the devices have sent, older ones included."""
    ((count,),) = _rows(
        fleet, "SELECT coalesce(sum(run_count), 0) FROM devices SEMI JOIN coverage_devices USING (run_number)"
    )
    return int(count)


def tallies(fleet: Fleet) -> tuple[Tally, ...]:
    """Return which versions of suite, agent and runtime the counted runs have."""
    return tuple(Tally(what=what, value=value, count=count) for what, value, count in _rows(fleet, _TALLIES))


def dicts(fleet: Fleet, query: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
    """Return the rows of a query by the names of its columns."""
    with fleet.asking():
        cursor = fleet.connection.execute(query, list(parameters))
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _rows(fleet: Fleet, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    with fleet.asking():
        return fleet.connection.execute(query, list(parameters)).fetchall()
