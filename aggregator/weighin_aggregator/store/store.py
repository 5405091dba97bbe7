"""The store: one DuckDB file, owned by one process and written by one thread."""

import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from weighin_aggregator.durable import copy_file, sync
from weighin_aggregator.errors import (
    DamagedLogError,
    NoRoomError,
    StoreError,
    StoreMissingError,
    StoreUnavailableError,
    StoreVersionError,
)
from weighin_aggregator.store.copying import Copy
from weighin_aggregator.store.deletion import RUN_TABLES
from weighin_aggregator.store.directory import LOCK, owned
from weighin_aggregator.store.engine import (
    attach,
    connect,
    has_read_log,
    log_of,
    memory_limit,
    spill_of,
    transaction,
    translated,
    trim_cache,
)
from weighin_aggregator.store.export import export_new
from weighin_aggregator.store.journal import Journal, journal_of
from weighin_aggregator.store.schema import MIGRATIONS, VERSION_TABLE
from weighin_aggregator.store.torn_log import cut_off_torn_end, has_unread_transactions

FILE_NAME = "weighin.duckdb"
# In a data directory while a restore puts things in their places.
RESTORING = "restoring"

# A small write-ahead log keeps each checkpoint short, and with it the longest wait for an answer: 8 MB take about half
# as long as 16, and 4 no less.
_LOG_BYTES = 8_000_000

_Answer = TypeVar("_Answer")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store already holds under a run_id."""

    device_id: str
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How much the store holds. Times are UTC, and None where nothing of the kind has happened.

    ``devices`` have runs; ``enrolled_devices`` may send, ``revoked_devices`` may not, and of ``forgotten_devices`` is
    nothing left. ``file_bytes`` is the size of the file and its log.
    """

    runs: int
    devices: int
    measurements: int
    failures: int
    oldest_receive_time: datetime | None
    last_receive_time: datetime | None
    enrolled_devices: int
    revoked_devices: int
    forgotten_devices: int
    file_bytes: int
    last_backup_time: datetime | None


_COUNTS = """
SELECT count(*) AS runs, count(DISTINCT device_id) AS devices, (SELECT count(*) FROM measurement) AS measurements,
    (SELECT count(*) FROM case_failure) AS failures, min(receive_time) AS oldest_receive_time,
    max(receive_time) AS last_receive_time,
    (SELECT count(*) FROM device WHERE device_id NOT IN (SELECT device_id FROM device_event WHERE kind = 'revoked'))
        AS enrolled_devices,
    (SELECT count(DISTINCT device_id) FROM device_event WHERE kind = 'revoked') AS revoked_devices,
    (SELECT count(*) FROM forgotten_device) AS forgotten_devices,
    (SELECT max(create_time) FROM backup) AS last_backup_time
FROM run
"""


class Store:
    """An open store. Its methods are called from one thread at a time; all raise errors of StoreError only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal = Journal(path)
        self._connection = connect(path)
        self._memory_limit = memory_limit(self._connection)
        self.is_open = False
        self._copy: Copy | None = None
        self._owning = ExitStack()

    @classmethod
    def open(cls, data: Path, *, create: bool = False) -> Self:
        """Open the store of a data directory, to own that until it is closed, and bring it to the newest version.

        ``create`` makes directory and file where they are missing; without it that raises StoreMissingError.
        A store with runs is copied beside itself before that. Raises StoreBusyError when another process owns it and
        StoreVersionError when it is newer than this code.
        """
        path = data / FILE_NAME
        if not create:
            _require_directory(data)  # before anything is made in a folder that may be anybody's
        with ExitStack() as owning:
            owning.enter_context(owned(data))
            if (data / RESTORING).exists():
                raise StoreError(f"a restore into {data} was interrupted; run it again")
            if not create:
                _require_file(path)
            _require_no_lost_file(path)
            shutil.rmtree(spill_of(path), ignore_errors=True)  # what a death left
            store = cls(path)
            try:
                store.attach()
                store._migrate()
            except BaseException:  # whatever ends it, a connection left open would keep the file locked
                store.close()
                raise
            store._owning = owning.pop_all()
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file and its directory back. What was committed is safe with or without this."""
        self._end_copy()
        self._close_file()
        self._owning.close()

    def checkpoint(self) -> None:
        """Move everything from the write-ahead log into the file.

        Whatever ends it, what was committed is there; but after an error nothing can be done before ``recover``.
        """
        if not self.is_open:
            raise StoreUnavailableError(f"{self._path} is not open")
        self.is_open = False
        try:
            with translated():
                self._journal.begin(*self._overwritten_blocks())
                self._connection.execute("CHECKPOINT store")
                if self._copy is None or not self._copy.is_open:  # one at work has a use for it
                    trim_cache(self._connection, self._memory_limit)
            self._journal.end()
        except OSError as error:
            raise StoreUnavailableError(f"cannot keep a journal beside {self._path}: {error.strerror}") from error
        self.is_open = True

    def checkpoint_if_due(self) -> None:
        """Keep the write-ahead log short; between two transactions, when nobody waits for an answer."""
        if self.is_open and _size_bytes(log_of(self._path)) > _LOG_BYTES:
            self.checkpoint()

    def _overwritten_blocks(self) -> tuple[list[int], int]:
        """Return the blocks that the next checkpoint writes where they are, and the size of a block."""
        blocks = self._connection.execute("SELECT block_id FROM pragma_metadata_info('store') WHERE free_blocks > 0")
        block_ids = [block_id for (block_id,) in blocks.fetchall()]
        sizes = self._connection.execute("SELECT block_size FROM pragma_database_size() WHERE database_name = 'store'")
        return block_ids, sizes.fetchall()[0][0]

    def free_disk_bytes(self) -> int:
        """Free space where the store grows."""
        return _free_disk_bytes(self._path.parent)

    def file_bytes(self) -> int:
        """Size of the file and its log."""
        return sum(_size_bytes(path) for path in (self._path, log_of(self._path)))

    def insert(self, tables: Mapping[str, pa.Table]) -> dict[str, Known]:
        """Store the runs that are new, in one transaction, and return what was already there under the other ids.

        When this returns, everything new is on disk. ``tables["run"]`` names no run_id twice.
        """
        with self._transaction():
            known = self._known(tables["run"])
            new = {name: _without(tables[name], known) for name in ("run", *RUN_TABLES)} if known else tables
            self._insert("run", new["run"])
            self._insert_hardware(tables["hardware"], new["run"])
            for name in RUN_TABLES:
                self._insert(name, new[name])
            return known

    def _known(self, runs: pa.Table) -> dict[str, Known]:
        # To ask first and insert then takes half as long as to insert what does not conflict and to be told which.
        rows = self._connection.execute(
            "SELECT run_id::VARCHAR, device_id::VARCHAR, run_sha256 FROM run "
            "WHERE run_id IN (SELECT unnest(?::UUID[]))",
            [runs["run_id"].to_pylist()],
        ).fetchall()
        return {run_id: Known(device_id=device_id, sha256=bytes(sha256)) for run_id, device_id, sha256 in rows}

    def _insert_hardware(self, rows: pa.Table, runs: pa.Table) -> None:
        """Only hardware of a stored run: a run that was refused leaves nothing."""
        wanted = set(runs["hardware_id"].to_pylist())
        stored = self._connection.execute(
            "SELECT hardware_id::VARCHAR FROM hardware WHERE hardware_id IN (SELECT unnest(?::UUID[]))", [list(wanted)]
        ).fetchall()
        missing = wanted.difference(hardware_id for (hardware_id,) in stored)
        rows = rows.filter(pc.is_in(rows["hardware_id"], pa.array(list(missing), pa.string())))
        if rows.num_rows:
            self._connection.execute("INSERT INTO hardware BY NAME SELECT DISTINCT ON (hardware_id) * FROM rows")

    def _insert(self, name: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM rows")  # noqa: S608 - our own table names

    def recover(self) -> None:
        """Bring the database back after a failed write.

        A checkpoint that runs out of disk invalidates the database: every statement fails, reads too, even the one
        that would detach the file. A new DuckDB instance reads the file and its log again; what was committed is there.
        """
        self._end_copy()
        self._close_file()
        with translated():
            self._connection = connect(self._path)
        self.attach()

    def _close_file(self) -> None:
        self.is_open = False
        with suppress(duckdb.Error):  # What it could not write is in the log, or was never acknowledged.
            self._connection.close()
        self._journal.close()

    def stats(self) -> Stats:
        """Count what the store holds."""
        if not self.is_open:
            raise StoreUnavailableError(f"{self._path} is not open")
        with translated():
            counted = self._connection.execute(_COUNTS)
            names = [column[0] for column in counted.description]
            (row,) = counted.fetchall()
        return Stats(**dict(zip(names, row, strict=True)), file_bytes=self.file_bytes())

    def export(self, folder: Path) -> datetime:
        """Add to the folder of a snapshot what it does not hold yet, all of one moment, and return that moment (UTC).

        What the folder holds before must be parts of an earlier snapshot; parts that this store could not have written
        are removed.
        """
        with self._transaction():
            moment = utc_now()
            export_new(self._connection, folder)
            return moment

    def begin_copy(self, path: Path) -> Copy:
        """Begin a copy beside the commits, one at a time. It ends with the store and with ``recover``.

        Raises NoRoomError where the copy would not fit on the disk.
        """
        if not self.is_open:
            raise StoreUnavailableError(f"{self._path} is not open")
        self._end_copy()
        if _free_disk_bytes(path.parent) < self.file_bytes():
            raise NoRoomError(f"{path.parent} has no room for another {self.file_bytes()} bytes")
        self._copy = Copy(self._connection.cursor(), path)
        return self._copy

    def adopt(self, copy: Copy) -> None:
        """Put a filled copy in the place of the file: afterwards no byte of a deleted row is left in it.

        Raises CopyOvertakenError where something was deleted since the copy was filled. After any error, and after a
        crash at any moment, the file is the old one or the new one, and both hold everything that was committed.
        """
        copy.catch_up()
        copy.finish()
        self.checkpoint()
        self._close_file()
        try:
            if log_of(self._path).exists():
                raise StoreUnavailableError(f"{self._path} keeps a log after its checkpoint")
            copy.path.replace(self._path)
            sync(self._path.parent)
        except OSError as error:
            raise StoreUnavailableError(f"cannot replace {self._path}: {error.strerror}") from error
        finally:
            self.recover()

    def _end_copy(self) -> None:
        if self._copy is not None:
            self._copy.close()
            self._copy = None

    def transact(self, call: Callable[[duckdb.DuckDBPyConnection], _Answer]) -> _Answer:
        """Return what ``call`` returns once the transaction that it ran in is on disk; after an error nothing is."""
        with self._transaction():
            return call(self._connection)

    def _transaction(self) -> AbstractContextManager[None]:
        if not self.is_open:
            raise StoreUnavailableError(f"{self._path} is not open")
        return transaction(self._connection)

    def attach(self) -> None:
        """Open the file as it is, for who owns its directory. Raises StoreError."""
        try:
            if self._journal.roll_back():
                _log.warning("checkpoint_rolled_back", file=self._path.name)
            self._attach_file()
            self._journal.open()
            self._journal.end()
        except OSError as error:
            raise StoreUnavailableError(f"cannot open {self._path}: {error.strerror}") from error
        self.is_open = True

    def _attach_file(self) -> None:
        try:
            attach(self._connection, self._path, "store")
        except DamagedLogError as error:
            kept = self._keep_log()
            if not cut_off_torn_end(log_of(self._path), error.position):
                raise
            _log.warning("log_cut_off", file=log_of(self._path).name, position=error.position, kept=kept)
            attach(self._connection, self._path, "store")
        log = log_of(self._path)
        # DuckDB takes what it cannot read for the torn end, and is about to overwrite it.
        if log.exists() and has_unread_transactions(log.read_bytes(), has_read_log(self._connection, "store")):
            _log.error("log_not_read", file=log.name, kept=self._keep_log())

    def _keep_log(self) -> str:
        """Copy the log, once, for an operator to look at; return the name of the copy."""
        log = log_of(self._path)
        kept = self._path.with_name(f"{FILE_NAME}.before-{hashlib.sha256(log.read_bytes()).hexdigest()[:16]}.wal")
        if not kept.exists():
            copy_file(log, kept)
        return kept.name

    def _migrate(self) -> None:
        """Apply all that is missing or nothing of it, then leave nothing of it in the write-ahead log."""
        with translated():
            self._connection.execute(VERSION_TABLE)
            row = self._connection.execute("SELECT coalesce(max(version), 0) FROM migration").fetchone()
        version = int(row[0]) if row else 0
        if version > len(MIGRATIONS):
            raise StoreVersionError(
                f"{self._path} has schema version {version}, this aggregator knows {len(MIGRATIONS)}; "
                "use the aggregator that made it, or a newer one"
            )
        if version == len(MIGRATIONS):
            return
        if version:
            self._keep_copy(version)
        with self._transaction():
            for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
                self._connection.execute(statements)
                self._connection.execute("INSERT INTO migration VALUES (?, ?)", [number, utc_now()])
        self.checkpoint()

    def _keep_copy(self, version: int) -> None:
        """Copy the file of a store that holds runs beside it, for the aggregator of before."""
        with translated():
            holds_runs = self._connection.execute("SELECT 1 FROM run LIMIT 1").fetchone()
        if holds_runs is None:
            return
        kept = self._path.with_name(f"{FILE_NAME}.before-{len(MIGRATIONS)}")
        self.checkpoint()
        # Not while it is open: to close a second descriptor of a file gives up the lock that DuckDB holds on it.
        self._close_file()
        try:
            copy_file(self._path, kept)
        except OSError as error:
            raise StoreError(
                f"cannot copy {self._path} before its migration: {error.strerror}; it is as it was, make room"
            ) from error
        self.recover()
        _log.info("store_copied_before_migration", file=kept.name, version=version)


def utc_now() -> datetime:
    """Read the server's clock: UTC without a zone, as the store keeps times."""
    return datetime.now(UTC).replace(tzinfo=None)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreUnavailableError(f"cannot read the size of {path}: {error.strerror}") from error


def _free_disk_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise StoreUnavailableError(f"cannot read the free space of {folder}: {error}") from error


def _without(rows: pa.Table, run_ids: Collection[str]) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["run_id"], pa.array(list(run_ids), pa.string()))))


def _require_directory(data: Path) -> None:
    try:
        if not (data / LOCK).is_file():
            _require_file(data / FILE_NAME)
    except OSError as error:
        raise StoreError(f"cannot look into {data}: {error.strerror}") from error


def _require_no_lost_file(path: Path) -> None:
    """Begin no empty store where one was, as on a disk that was not mounted: what is left of it would be lost."""
    left = [one for one in (path.with_name("authority") / "ca.key", log_of(path), journal_of(path)) if one.exists()]
    if left and not path.exists():
        raise StoreError(
            f"{path} is gone, and {left[0]} of it is there; bring it back, as with `weighin-aggregator restore`, or "
            "begin anew in another folder"
        )


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise StoreMissingError(
            f"no store in {path.parent}; make one with: weighin-aggregator init --data {path.parent}"
        )
