"""What a snapshot holds of one device: the rows of its card, its facts, and what is missing. For a few devices."""

# ruff: noqa: S608 (no text of anybody else is part of a query)

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from weighin_analysis.card import Basis, Estimate, Verdict
from weighin_analysis.conditions import Conditions
from weighin_analysis.errors import RowError
from weighin_analysis.fleet.grading.expressions import text_list
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.fleet.snapshot.rows import Row, build, failure_of, hardware_of, reading_rows
from weighin_analysis.report.findings import DeviceLine
from weighin_analysis.report.queries import RANK, Graded, dicts
from weighin_analysis.snapshot import CaseFailure, Hardware, ProbeGap

_T = TypeVar("_T")

# A view of verdicts does not tell the threads. Of two rows that differ in them alone the faster has the better verdict.
_ROWS = f"""
    WITH asked AS (SELECT run_number FROM devices WHERE list_contains({{runs}}, run_id)),
    e AS (
        SELECT *, row_number() OVER (PARTITION BY run_id, size_class, architecture, scheme, execution_provider
            ORDER BY decode_tokens_per_second DESC NULLS LAST, latency_seconds) AS place
        FROM estimates SEMI JOIN asked USING (run_number)),
    v AS (
        SELECT *, row_number() OVER (PARTITION BY run_id, size_class, architecture, scheme, execution_provider
            ORDER BY {RANK} NULLS LAST) AS place
        FROM {{verdicts}} SEMI JOIN asked USING (run_number))
    SELECT e.*, v.verdict, v.reasons, {RANK} AS rank, e.basis NOT IN ('measured', 'layer_probe')
        AND e.prefill_tokens_per_second IS NOT NULL AS computed, row_number() OVER (
            PARTITION BY e.run_id, e.size_class, e.architecture_kind
            ORDER BY NOT e.counts, rank NULLS LAST, computed, e.decode_tokens_per_second DESC NULLS LAST) = 1 AS is_best
    FROM e LEFT JOIN v USING (run_id, size_class, architecture, scheme, execution_provider, place)
    ORDER BY e.run_id, e.scheme, e.execution_provider, e.architecture
"""
_FOREIGN = """
    SELECT run_id, median(foreign_cpu_share) FROM series
    WHERE list_contains({runs}, run_id) AND NOT isnan(foreign_cpu_share) GROUP BY ALL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardLine:
    """One estimate with its verdict, None where it cannot be judged.

    ``computed`` where nothing of the model was run; ``is_best`` where no other row of its class is better.
    """

    size_class: str
    architecture: str
    architecture_kind: str
    scheme: str
    execution_provider: str
    runtime: str | None
    threads: int | None
    decode_tokens_per_second: Estimate | None
    prefill_tokens_per_second: Estimate | None
    time_to_first_token_seconds: Estimate | None
    latency_seconds: Estimate | None
    memory_bytes: int | None
    memory_available_bytes: int | None
    download_bytes: int | None
    basis: Basis
    counts: bool
    computed: bool
    is_best: bool
    verdict: Verdict | None
    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def was_run(self) -> bool:
        """Whether the model, or some of its layers, ran on the device."""
        return self.basis in {Basis.MEASURED, Basis.LAYER_PROBE}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The run that stands for a device. Of an external device most is None, and of a row that is not readable all."""

    observe_time: datetime | None = None
    receive_time: datetime | None = None
    elapsed_seconds: float | None = None
    source: str
    agent_version: str | None = None
    suite: str | None = None
    suite_version: int | None = None
    memory_available_bytes: int | None = None
    read_bandwidth_bytes_per_second: float | None = None
    single_thread_read_bandwidth_bytes_per_second: float | None = None
    storage_free_bytes: int | None = None
    before: Conditions | None = None
    after: Conditions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDetail:
    """All of one device that can be read.

    ``foreign_cpu_share`` is the median share of the processor that others used during the run; ``unreadable`` tells
    which rows hold what cannot be, and what.
    """

    line: DeviceLine
    hardware: Hardware | None
    run: RunFacts
    rows: tuple[CardLine, ...]
    failures: tuple[CaseFailure, ...]
    gaps: tuple[ProbeGap, ...]
    foreign_cpu_share: float | None
    unreadable: tuple[str, ...]


def device_details(fleet: Fleet, graded: Graded, lines: Sequence[DeviceLine]) -> tuple[DeviceDetail, ...]:
    """Return everything about these devices, in this order."""
    runs = text_list(line.run_id for line in lines)
    rows = _by_run(dicts(fleet, _ROWS.format(runs=runs, verdicts=graded.verdicts)))
    facts = _by_run(dicts(fleet, f"FROM runs WHERE list_contains({runs}, run_id)"))
    failures, gaps = (
        _by_run(dicts(fleet, f"FROM {table} WHERE list_contains({runs}, run_id) ORDER BY run_id, ord"))
        for table in ("case_failures", "probe_gaps")
    )
    kinds = text_list(line.hardware_id for line in lines if line.hardware_id)
    query = f"FROM hardware WHERE list_contains({kinds}, hardware_id)"
    hardware = {row["hardware_id"]: [row] for row in dicts(fleet, query)}
    foreign = {row["run_id"]: row["median(foreign_cpu_share)"] for row in dicts(fleet, _FOREIGN.format(runs=runs))}
    found = []
    for line in lines:
        reader = _Reader()
        found.append(
            DeviceDetail(
                line=line,
                hardware=reader.first("hardware", hardware_of, hardware.get(line.hardware_id or "", [])),
                run=reader.first("run", _run_facts, facts[line.run_id]) or RunFacts(source=line.source),
                rows=reader.all("estimate", _card_line, rows[line.run_id]),
                failures=reader.all("failed case", failure_of, failures[line.run_id]),
                gaps=reader.all("gap", _gap, gaps[line.run_id]),
                foreign_cpu_share=foreign.get(line.run_id),
                unreadable=tuple(reader.unreadable),
            )
        )
    return tuple(found)


class _Reader:
    """Makes values of rows; it keeps why it could not, so that one bad row does not take the rest with it."""

    def __init__(self) -> None:
        self.unreadable: list[str] = []

    def all(self, what: str, read: Callable[[Row], _T], rows: Sequence[Row]) -> tuple[_T, ...]:
        """Return the values of the rows that can be read."""
        found = []
        for row in rows:
            try:
                found.append(read(row))
            except RowError as error:
                self.unreadable.append(f"{what}: {error}")
        return tuple(found)

    def first(self, what: str, read: Callable[[Row], _T], rows: Sequence[Row]) -> _T | None:
        """Return the value of the first row; None where there is none, or it cannot be read."""
        return next(iter(self.all(what, read, rows[:1])), None)


def _by_run(rows: Iterable[dict[str, Any]]) -> Mapping[str, list[dict[str, Any]]]:
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["run_id"]].append(row)
    return found


@reading_rows()
def _run_facts(row: Row) -> RunFacts:
    conditions = {name: build(Conditions, row[name]) if row[name] else None for name in ("before", "after")}
    return build(RunFacts, row, **conditions)


@reading_rows()
def _gap(row: Row) -> ProbeGap:
    return build(ProbeGap, row)


@reading_rows()
def _card_line(row: Row) -> CardLine:
    estimates = {
        name: _estimate(row, name)
        for name in (
            "decode_tokens_per_second",
            "prefill_tokens_per_second",
            "time_to_first_token_seconds",
            "latency_seconds",
        )
    }
    return build(
        CardLine,
        row,
        **estimates,
        basis=Basis(row["basis"]),
        verdict=Verdict(row["verdict"]) if row["verdict"] else None,
        reasons=tuple(row["reasons"] or ()),
        notes=tuple(row["notes"] or ()),
    )


def _estimate(row: Row, name: str) -> Estimate | None:
    """Return a value with its interval; None where one of the three is no number that can be."""
    numbers = [row[name + end] for end in ("", "_low", "_high")]
    if not all(isinstance(one, float) and math.isfinite(one) and one > 0 for one in numbers):
        return None
    value, low, high = numbers
    return Estimate(value=value, low=low, high=high)
