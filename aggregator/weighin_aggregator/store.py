"""The store: one DuckDB file, owned by one process and written by one thread.

With ``export`` the only user of duckdb.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from weighin_aggregator.errors import (
    StoreBusyError,
    StoreError,
    StoreMissingError,
    StoreRefusedError,
    StoreUnavailableError,
    StoreVersionError,
)
from weighin_aggregator.export import export_new, quoted
from weighin_aggregator.schema import MIGRATIONS, VERSION_TABLE

FILE_NAME = "weighin.duckdb"

# One thread inserts faster than two; nothing may be downloaded; a small write-ahead log keeps each checkpoint short.
_SETTINGS: Mapping[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "checkpoint_threshold": "16MB",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
# A checkpoint rewrites every row group that it touches, and a row of `run` is as large as its run: small groups bound
# that work. The file does not remember the size, so it is given at every opening. The storage version lets the oldest
# supported DuckDB read the file.
_ATTACH_OPTIONS = "(ROW_GROUP_SIZE 4096, STORAGE_VERSION 'v1.5.0')"
_LOCK_HOLDER = re.compile(r"Could not set lock on file.*?(?:\(PID (\d+)\)|PID (\d+)|$)", re.DOTALL)
# Tables whose rows belong to one run; `hardware` is shared between runs.
_RUN_TABLES = ("measurement", "series", "case_failure", "probe_gap")

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store already holds under a run_id."""

    device_id: str
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How much the store holds. ``last_receive_time`` is UTC, None when there is no run."""

    runs: int
    devices: int
    measurements: int
    failures: int
    last_receive_time: datetime | None


class Store:
    """An open store. Its methods are called from one thread at a time; all raise errors of StoreError only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = duckdb.connect(config=dict(_SETTINGS))
        self._is_attached = False

    @classmethod
    def open(cls, data: Path, *, create: bool = False) -> Self:
        """Open the store of a data directory and bring it to the newest version.

        ``create`` makes directory and file where they are missing; without it that raises StoreMissingError.
        Raises StoreBusyError when another process owns the file and StoreVersionError when it is newer than this code.
        """
        path = data / FILE_NAME
        if create:
            _make_directory(data)
        elif not path.is_file():
            raise StoreMissingError(f"no store in {data}; make one with: weighin-aggregator init --data {data}")
        store = cls(path)
        try:
            store._attach()
            store._migrate()
        except BaseException:  # whatever ends it, a connection left open would keep the file locked
            store._connection.close()
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back. What was committed is safe with or without this."""
        self._connection.close()

    def checkpoint(self) -> None:
        """Move everything from the write-ahead log into the file."""
        with _translated():
            self._connection.execute("CHECKPOINT store")

    def free_disk_bytes(self) -> int:
        """Free space where the store grows."""
        try:
            return shutil.disk_usage(self._path.parent).free
        except OSError as error:
            raise StoreUnavailableError(f"cannot read the free space of {self._path.parent}: {error}") from error

    def insert(self, tables: Mapping[str, pa.Table]) -> dict[str, Known]:
        """Store the runs that are new, in one transaction, and return what was already there under the other ids.

        When this returns, everything new is on disk. ``tables["run"]`` names no run_id twice.
        """
        with self._transaction():
            new = self._insert_runs(tables["run"])
            self._insert_hardware(tables["hardware"], set(new.values()))
            all_new = len(new) == tables["run"].num_rows
            for name in _RUN_TABLES:
                self._insert(name, tables[name] if all_new else _of_runs(tables[name], new))
            return {} if all_new else self._known(sorted(set(tables["run"]["run_id"].to_pylist()) - set(new)))

    def _insert_runs(self, rows: pa.Table) -> dict[str, str]:  # noqa: ARG002 - DuckDB reads `rows` by its name
        """Return the hardware_id of every run that was new, by run_id."""
        new = self._connection.execute(
            "INSERT INTO run BY NAME SELECT * FROM rows ON CONFLICT DO NOTHING "
            "RETURNING run_id::VARCHAR, hardware_id::VARCHAR"
        )
        return dict(new.fetchall())

    def _insert_hardware(self, rows: pa.Table, wanted: set[str]) -> None:
        """Only hardware of a stored run: a run that was refused leaves nothing."""
        rows = rows.filter(pc.is_in(rows["hardware_id"], pa.array(sorted(wanted), pa.string())))
        self._connection.execute(
            "INSERT INTO hardware BY NAME SELECT DISTINCT ON (hardware_id) * FROM rows ON CONFLICT DO NOTHING"
        )

    def _insert(self, name: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM rows")  # noqa: S608 - our own table names

    def _known(self, run_ids: list[Any]) -> dict[str, Known]:
        rows = self._connection.execute(
            "SELECT run_id::VARCHAR, device_id::VARCHAR, run_sha256 FROM run "
            "WHERE run_id IN (SELECT unnest(?::UUID[]))",
            [run_ids],
        ).fetchall()
        return {run_id: Known(device_id=device_id, sha256=bytes(sha256)) for run_id, device_id, sha256 in rows}

    def recover(self) -> None:
        """Bring the database back after a failed write.

        A checkpoint that runs out of disk invalidates the database: every statement fails, reads too, even the one
        that would detach the file. A new DuckDB instance reads the file and its log again; what was committed is there.
        """
        self._is_attached = False
        with suppress(duckdb.Error):  # What it could not write is in the log, or was never acknowledged.
            self._connection.close()
        with _translated():
            self._connection = duckdb.connect(config=dict(_SETTINGS))
        self._attach()

    def stats(self) -> Stats:
        """Count what the store holds."""
        if not self._is_attached:
            raise StoreUnavailableError(f"{self._path} is not open")
        with _translated():
            row = self._connection.execute(
                "SELECT count(*), count(DISTINCT device_id), (SELECT count(*) FROM measurement), "
                "(SELECT count(*) FROM case_failure), max(receive_time) FROM run"
            ).fetchone()
        assert row is not None, "an aggregate answers with one row"
        return Stats(runs=row[0], devices=row[1], measurements=row[2], failures=row[3], last_receive_time=row[4])

    def export(self, folder: Path) -> datetime:
        """Add to the folder of a snapshot what it does not hold yet, all of one moment, and return that moment (UTC).

        What the folder holds before must be parts of an earlier snapshot; parts that this store could not have written
        are removed.
        """
        with self._transaction():
            moment = utc_now()
            export_new(self._connection, folder)
            return moment

    def transact(self, call: Callable[[duckdb.DuckDBPyConnection], _Answer]) -> _Answer:
        """Return what ``call`` returns once the transaction that it ran in is on disk; after an error nothing is."""
        with self._transaction():
            return call(self._connection)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._is_attached:
            raise StoreUnavailableError(f"{self._path} is not open")
        with _translated():
            self._connection.execute("BEGIN")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:  # whatever ends it, the next transaction must find none open
                with suppress(duckdb.Error):  # A failed COMMIT has ended the transaction already.
                    self._connection.execute("ROLLBACK")
                raise

    def _attach(self) -> None:
        try:
            self._connection.execute(f"ATTACH {quoted(self._path)} AS store {_ATTACH_OPTIONS}")
            self._connection.execute("USE store")
            self._is_attached = True
        except duckdb.IOException as error:
            raise _not_opened(self._path, error) from error
        except duckdb.Error as error:
            raise StoreError(f"cannot open {self._path}: {_first_line(error)}") from error

    def _migrate(self) -> None:
        """Apply what is missing, each step with its record, then leave nothing of it in the write-ahead log."""
        with _translated():
            self._connection.execute(VERSION_TABLE)
            row = self._connection.execute("SELECT coalesce(max(version), 0) FROM migration").fetchone()
        version = int(row[0]) if row else 0
        if version > len(MIGRATIONS):
            raise StoreVersionError(
                f"{self._path} has schema version {version}, this aggregator knows {len(MIGRATIONS)}; "
                "use the aggregator that made it, or a newer one"
            )
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            with self._transaction():
                self._connection.execute(statements)
                self._connection.execute("INSERT INTO migration VALUES (?, ?)", [number, utc_now()])
        if version < len(MIGRATIONS):
            self.checkpoint()


def utc_now() -> datetime:
    """Read the server's clock: UTC without a zone, as the store keeps times."""
    return datetime.now(UTC).replace(tzinfo=None)


def _of_runs(rows: pa.Table, run_ids: Mapping[str, str]) -> pa.Table:
    return rows.filter(pc.is_in(rows["run_id"], pa.array(list(run_ids), pa.string())))


def _make_directory(data: Path) -> None:
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the data directory {data}: {error.strerror}") from error


def _not_opened(path: Path, error: duckdb.Error) -> StoreError:
    held = _LOCK_HOLDER.search(str(error))
    if held is None:
        return StoreError(f"cannot open {path}: {_first_line(error)}")
    pid = next((int(group) for group in held.groups() if group), None)
    holder = "another process" if pid is None else f"process {pid}"
    return StoreBusyError(f"{path} is in use by {holder}; stop it first, or use another --data directory", pid)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


@contextmanager
def _translated() -> Iterator[None]:
    """DuckDB's errors as ours: rows that can never be stored apart from a store that cannot write now."""
    try:
        yield
    except (duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError) as error:
        raise StoreRefusedError(_first_line(error)) from error
    except duckdb.Error as error:
        raise StoreUnavailableError(_first_line(error)) from error
