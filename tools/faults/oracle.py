"""The truth outside of every fault: what devices were promised, held against the rows of the store."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from weighin.v1 import run_pb2


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What one device was promised.

    ``kept`` has the SHA-256 of every run that the spool took, by run_id; ``acknowledged`` are the run_ids that the
    aggregator confirmed. ``delivery_count`` counts deliveries, ``broken_count`` those that the fault cut off.
    ``sent_again`` are runs that were offered more than once, ``timed_out`` those whose call was given up at its
    deadline, which the server may have taken or not; ``duplicate_count`` counts answers DUPLICATE.
    ``set_aside`` says why runs were quarantined.
    """

    kept: dict[str, bytes] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    sent_again: set[str] = field(default_factory=set)
    timed_out: set[str] = field(default_factory=set)
    duplicate_count: int = 0
    delivery_count: int = 0
    broken_count: int = 0
    set_aside: list[str] = field(default_factory=list)

    def keep(self, run_id: str, run: bytes) -> None:
        """Note a run that the spool has promised to keep."""
        self.kept[run_id] = hashlib.sha256(run).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Promises against rows: ``lost`` were acknowledged and are not stored, ``duplicated`` rows repeat an id.

    ``altered`` are stored with other bytes than were kept, ``torn`` without all their rows, ``unknown`` without anybody
    having been told that they were kept. ``waiting`` were kept and are neither acknowledged nor stored.
    """

    kept_runs: int
    acknowledged_runs: int
    stored_rows: int
    lost_runs: int
    duplicated_rows: int
    altered_runs: int
    torn_runs: int
    unknown_runs: int
    waiting_runs: int

    def missed(self, unknown_runs: int = 0) -> tuple[str, ...]:
        """Say what must not be and is; up to ``unknown_runs`` may be kept without a word, one for each kill."""
        wrong = {
            "acknowledged runs are lost": self.lost_runs,
            "rows are duplicated": self.duplicated_rows,
            "runs are stored altered": self.altered_runs,
            "runs are stored in part": self.torn_runs,
            "stored runs were never kept": max(0, self.unknown_runs - unknown_runs),
            "runs never arrived": self.waiting_runs,
        }
        nothing = () if self.stored_rows else ("nothing was stored, so nothing was tried",)
        return nothing + tuple(f"{count} {what}" for what, count in wrong.items() if count)


def audit(data: Path, ledgers: Iterable[Ledger]) -> Books:
    """Hold the promises against the store of a data directory, whose server has ended."""
    ledgers = tuple(ledgers)
    rows = _rows(data)
    stored = {run_id: sha256 for run_id, sha256, _ in rows}
    kept = {run_id: sha256 for ledger in ledgers for run_id, sha256 in ledger.kept.items()}
    acknowledged = set[str]().union(*(ledger.acknowledged for ledger in ledgers))
    return Books(
        kept_runs=len(kept),
        acknowledged_runs=len(acknowledged),
        stored_rows=len(rows),
        lost_runs=len(acknowledged - stored.keys()),
        duplicated_rows=len(rows) - len(stored),
        altered_runs=sum(stored[run_id] != kept[run_id] for run_id in kept.keys() & stored.keys()),
        torn_runs=sum(not whole for _, _, whole in rows),
        unknown_runs=len(stored.keys() - kept.keys()),
        waiting_runs=len(kept.keys() - acknowledged - stored.keys()),
    )


def stored_run_ids(data: Path) -> set[str]:
    """Return the run_ids in the store of a data directory, whose server has ended."""
    return {run_id for run_id, _, _ in _rows(data)}


def _rows(data: Path) -> Sequence[tuple[str, bytes, bool]]:
    """Return run_id, SHA-256 of the stored bytes, and whether the run has as many rows as its bytes hold, per row."""
    with duckdb.connect(str(data / "weighin.duckdb"), read_only=True) as store:
        rows = store.execute(
            "WITH measured AS (SELECT run_id, count(*) AS rows FROM measurement GROUP BY ALL), "
            "timed AS (SELECT run_id, count(*) AS rows FROM series GROUP BY ALL) "
            "SELECT run.run_id::VARCHAR, raw, coalesce(measured.rows, 0), coalesce(timed.rows, 0) "
            "FROM run LEFT JOIN measured USING (run_id) LEFT JOIN timed USING (run_id)"
        ).fetchall()
    counts: dict[bytes, tuple[bytes, tuple[int, int]]] = {}
    found = []
    for run_id, raw, *rows_of_run in rows:
        if raw not in counts:
            counts[raw] = (hashlib.sha256(raw).digest(), _row_counts(raw))
        sha256, expected = counts[raw]
        found.append((run_id, sha256, tuple(rows_of_run) == expected))
    return found


def _row_counts(raw: bytes) -> tuple[int, int]:
    run = run_pb2.Run.FromString(raw)
    return len(run.measurements), sum(len(measurement.series) for measurement in run.measurements)
