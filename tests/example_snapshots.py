"""Snapshot folders for tests, made by the aggregator's own code from example runs."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from example_runs import envelope, run_id

from weighin.v1 import run_pb2, services_pb2
from weighin_aggregator.intake.examine import Accepted, examine
from weighin_aggregator.intake.reading import reread
from weighin_aggregator.intake.records import to_batch
from weighin_aggregator.limits import Limits
from weighin_aggregator.store.store import Store
from weighin_analysis.fleet.judging.judge_runs import judge_folder
from weighin_analysis.fleet.snapshot.folder import publishing
from weighin_analysis.fleet.snapshot.rows import hardware_of, run_with
from weighin_analysis.snapshot import Hardware, RunRecord

RECEIVE_TIME = datetime(2026, 2, 28, 10, 0)


def device_id(number: int) -> str:
    """A valid device_id that begins with its number."""
    return f"{number:08x}-6a51-4d0c-9d7e-2f4f5a7c9b10"


def make_snapshot(folder: Path, runs: Iterable[tuple[str, run_pb2.Run]], *, examined: bool = True) -> Path:
    """Store (device_id, run) pairs in this order, one minute apart, and return the folder of their snapshot.

    Without ``examined`` runs are stored that no aggregator would take: a reader must not rely on its rules.
    """
    with Store.open(folder / "data", create=True) as store:
        for number, (device, run) in enumerate(runs, start=1):
            sent = envelope(run, run_id(number), sequence=number)
            accepted = examine(sent, Limits()) if examined else _accepted(sent, run)
            assert isinstance(accepted, Accepted), accepted
            store.insert(to_batch([accepted], device, RECEIVE_TIME + timedelta(minutes=number)).tables)
        with publishing(folder / "snapshot") as draft:
            judge_folder(draft, store.export(draft))
    return folder / "snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run of a snapshot as values."""

    device_id: str
    run: RunRecord
    hardware: Hardware


def stored_runs(folder: Path) -> list[StoredRun]:
    """Every run of a snapshot, from its rows, by receive time."""
    hardware = {row["hardware_id"]: hardware_of(row) for row in raw_rows(folder, "hardware", "hardware_id")}
    own = {
        table: raw_rows(folder, table, order)
        for table, order in (("measurements", "ord"), ("series", "measurement_ord, ord"), ("case_failures", "ord"))
    }
    return [
        StoredRun(
            device_id=row["device_id"],
            run=run_with(row, *([one for one in rows if one["run_id"] == row["run_id"]] for rows in own.values())),
            hardware=hardware[row["hardware_id"]],
        )
        for row in raw_rows(folder, "runs", "receive_time")
    ]


def raw_rows(folder: Path, table: str, order: str) -> list[dict[str, Any]]:
    """The rows of a table as plain DuckDB reads them."""
    with duckdb.connect() as connection:
        result = connection.execute(f"FROM '{folder}/{table}/*.parquet' ORDER BY {order}")
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of a snapshot."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def replace_table(folder: Path, table: str, select: str) -> None:
    """Write the one part of a table anew from a query on itself, and put its hash into the manifest."""
    path = part_path(folder, table)
    new = folder / "new.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW it AS FROM read_parquet('{path}')")
        connection.execute(f"COPY ({select}) TO '{new}' (FORMAT parquet)")
    replace_part(folder, table, new.read_bytes())
    new.unlink()


def replace_part(folder: Path, table: str, data: bytes) -> None:
    """Write other bytes into the one part of a table, and their hash into the manifest."""
    path = part_path(folder, table)
    path.unlink()  # other snapshots may share it
    path.write_bytes(data)
    facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(folder, lambda manifest: manifest["tables"][table]["files"][0].update(facts))


def part_path(folder: Path, table: str) -> Path:
    """The file of a table that has one part."""
    (path,) = (folder / table).iterdir()
    return path


def _accepted(sent: services_pb2.RunEnvelope, run: run_pb2.Run) -> Accepted:
    return Accepted(run_id=sent.run_id, sequence=sent.sequence, sha256=sent.run_sha256, raw=sent.run, run=reread(run))
