"""A copy of the store in a file of its own, filled while the store goes on committing.

It holds what the store holds and no bytes of deleted rows, which a DuckDB file keeps: that is what a backup is, and
what compaction puts in the place of the store.
"""

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from weighin_aggregator.durable import sync
from weighin_aggregator.errors import CopyOvertakenError, StoreUnavailableError
from weighin_aggregator.store.deletion import RUN_TABLES
from weighin_aggregator.store.engine import attach, connect, log_of, transaction, translated
from weighin_aggregator.store.schema import MIGRATIONS, VERSION_TABLE

# Most of the bytes, and the tables that only grow while nothing is deleted.
_LARGE_TABLES = ("run", "hardware", *RUN_TABLES)
# That bytes of deleted rows are in the file is not true of its copy.
_LEFT_OUT = "unerased"
# So many runs are copied while the committer waits, in some tenths of a second.
_FEW_RUNS = 200


class Copy:
    """A copy on its way: ``fill``, ``catch_up``, ``finish``, each from any thread; ``close`` in every case.

    All raise StoreUnavailableError.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        """Take a cursor of the store's own instance, and the ``path`` of the copy: what is there is replaced."""
        self.path = path
        self._connection = connection
        self._deletions = 0
        self._busy = threading.Lock()
        self.is_open = True

    def fill(self) -> None:
        """Copy the runs that the store holds, until few come meanwhile: nearly all of the work."""
        with self._working():
            for left in (self.path, log_of(self.path)):
                left.unlink(missing_ok=True)
            attach(self._connection, self.path, "copy")
            # Data definition first: a copy by COPY FROM DATABASE would lose the compression of `run.raw`.
            self._connection.execute(VERSION_TABLE)
            for statements in MIGRATIONS:
                self._connection.execute(statements)
            with transaction(self._connection):
                self._deletions = self._deletions_now()
                self._copy_whole(_LARGE_TABLES)
            before, new = math.inf, self._add_new()
            while _FEW_RUNS < new < before:
                before, new = new, self._add_new()

    def catch_up(self) -> Mapping[str, int]:
        """Add what came since, and the small tables; return the rows per table. The copy is then as the store is now.

        Once only. Raises CopyOvertakenError where something was deleted since: then the copy holds what it must not.
        """
        with self._working(), transaction(self._connection):
            self._insert_new()
            self._copy_whole(table for table in self._tables() if table not in _LARGE_TABLES)
            return self._checked_counts()

    def finish(self) -> None:
        """Leave one whole file on disk, without a log, and let go of it."""
        with self._working():
            self._connection.execute("CHECKPOINT copy")
            self._let_go()
            if log_of(self.path).exists():
                raise StoreUnavailableError(f"{self.path} could not be written whole")
            sync(self.path)
            sync(self.path.parent)

    def close(self) -> None:
        """End whatever is under way and give the connection back. The file stays as it is."""
        if self.is_open:
            self._connection.interrupt()
        with self._busy:
            if self.is_open:
                with suppress(duckdb.Error):  # as where the disk is full: then the whole instance goes
                    self._let_go()
            self.is_open = False

    def discard(self) -> None:
        """Close, and remove the file."""
        self.close()
        for left in (self.path, log_of(self.path)):
            left.unlink(missing_ok=True)

    def _let_go(self) -> None:
        self._connection.execute("USE memory")
        self._connection.execute("DETACH DATABASE IF EXISTS copy")
        self._connection.close()
        self.is_open = False

    @contextmanager
    def _working(self) -> Iterator[None]:
        with self._busy:
            if not self.is_open:
                raise StoreUnavailableError(f"the copy {self.path} was given up")
            try:
                with translated():
                    yield
            except OSError as error:
                raise StoreUnavailableError(f"cannot write {self.path}: {error.strerror}") from error

    def _add_new(self) -> int:
        with transaction(self._connection):
            return self._insert_new()

    def _insert_new(self) -> int:
        """Copy the runs that the copy lacks, in the order of their arrival; return how many there were."""
        self._require_nothing_deleted()
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE since AS SELECT run_id FROM store.run ANTI JOIN copy.run USING (run_id)"
        )
        self._connection.execute(
            "INSERT INTO copy.hardware BY NAME SELECT * FROM store.hardware ANTI JOIN copy.hardware USING (hardware_id)"
        )
        for table in ("run", *RUN_TABLES):
            self._connection.execute(
                f"INSERT INTO copy.{table} BY NAME "  # noqa: S608 - our own table names
                f"SELECT * FROM store.{table} AS one SEMI JOIN since USING (run_id) ORDER BY one.rowid"
            )
        return int(self._connection.execute("SELECT count(*) FROM since").fetchall()[0][0])

    def _require_nothing_deleted(self) -> None:
        # Counted, not looked for: another device may have sent a run with the id of a deleted one since.
        if self._deletions_now() != self._deletions:
            raise CopyOvertakenError("runs were deleted while they were copied; begin again")

    def _deletions_now(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM store.unerased").fetchall()[0][0])

    def _copy_whole(self, tables: Iterable[str]) -> None:
        for table in tables:
            self._connection.execute(f"INSERT INTO copy.{table} BY NAME SELECT * FROM store.{table}")  # noqa: S608 - our own names

    def _tables(self) -> list[str]:
        """Return the tables that a copy holds."""
        return [name for name in _table_names(self._connection, "store") if name != _LEFT_OUT]

    def _checked_counts(self) -> Mapping[str, int]:
        counts = {}
        for table in self._tables():
            row = self._connection.execute(
                f"SELECT (SELECT count(*) FROM store.{table}), (SELECT count(*) FROM copy.{table})"  # noqa: S608 - our own names
            ).fetchone()
            if row is None or row[0] != row[1]:
                raise StoreUnavailableError(f"the copy {self.path} lacks rows of {table}")
            counts[table] = int(row[1])
        return counts


def count_rows(path: Path) -> Mapping[str, int]:
    """Open the file of a copy by itself and count its rows per table. Raises StoreError."""
    with connect(path) as connection:
        attach(connection, path, "copy")
        with translated():
            names = [name for name in _table_names(connection, "copy") if name != _LEFT_OUT]
            return {name: connection.table(name).count("*").fetchall()[0][0] for name in names}


def _table_names(connection: duckdb.DuckDBPyConnection, database: str) -> list[str]:
    found = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [database])
    return sorted(name for (name,) in found.fetchall())
