"""What the modules of the store share of DuckDB: how its files are opened, and its errors as ours."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from weighin_aggregator.errors import (
    DamagedLogError,
    StoreBusyError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)

# One thread inserts faster than two; nothing may be downloaded; and no COMMIT begins a checkpoint by itself: the store
# begins them, behind its journal.
_SETTINGS: Mapping[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "checkpoint_threshold": "1TB",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
# What may stay cached behind a checkpoint.
_CACHED = "256MB"
# A checkpoint rewrites every row group that it touches, and a row of `run` is as large as its run: small groups bound
# that work. The file does not remember the size, so it is given at every opening. The storage version lets the oldest
# supported DuckDB read the file.
_ATTACH_OPTIONS = "(ROW_GROUP_SIZE 4096, STORAGE_VERSION 'v1.5.0')"
_DAMAGE = re.compile("corrupt|checksum|not a valid DuckDB|replaying WAL|read enough bytes", re.IGNORECASE)
_DAMAGED_ENTRY = re.compile(r"Corrupt WAL file: entry at byte position (\d+)")


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Start an instance of DuckDB for a file, which is not attached yet."""
    # Where DuckDB itself would write it, in the working directory, a service may not write.
    connection = duckdb.connect(config={**_SETTINGS, "temp_directory": str(spill_of(path))})
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    return connection


def spill_of(path: Path) -> Path:
    """Return the folder of what does not fit into memory while a statement runs; DuckDB makes and removes it."""
    return path.with_name(f".{path.name}.spill")


def memory_limit(connection: duckdb.DuckDBPyConnection) -> str:
    """Return how much memory an instance may take: by default four fifths of the machine."""
    return str(connection.execute("SELECT current_setting('memory_limit')").fetchall()[0][0])


def trim_cache(connection: duckdb.DuckDBPyConnection, limit: str) -> None:
    """Let go of all but the newest of the blocks that DuckDB has cached; ``limit`` is that of ``memory_limit``.

    What is written is cached too, and hardly ever read again: without this a server takes 3 KB more for every run. A
    lower limit for good would also be one for the export of many runs.
    """
    with suppress(duckdb.OutOfMemoryException):  # more than that is in use
        connection.execute(f"SET memory_limit = '{_CACHED}'")
    connection.execute(f"SET memory_limit = '{limit}'")


def attach(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Open a file, or make it, and use it. Raises StoreBusyError, DamagedLogError, StoreError."""
    try:
        connection.execute(f"ATTACH {quoted(path)} AS {name} {_ATTACH_OPTIONS}")
        connection.execute(f"USE {name}")
    except duckdb.IOException as error:
        raise _not_opened(path, error) from error
    except duckdb.Error as error:
        raise _unusable(path, error) from error


def has_read_log(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Tell whether anything of the log of a file was read when it was opened."""
    sizes = connection.execute("SELECT wal_size FROM pragma_database_size() WHERE database_name = ?", [name])
    return bool(sizes.fetchall()[0][0] != "0 bytes")


def log_of(path: Path) -> Path:
    """Return where DuckDB keeps the write-ahead log of a file."""
    return path.with_name(f"{path.name}.wal")


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block does, or nothing of it. Raises StoreRefusedError, StoreUnavailableError."""
    with translated():
        connection.execute("BEGIN")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:  # whatever ends it, the next transaction must find none open
            with suppress(duckdb.Error):  # A failed COMMIT has ended the transaction already.
                connection.execute("ROLLBACK")
            raise


@contextmanager
def translated() -> Iterator[None]:
    """DuckDB's errors as ours: rows that can never be stored apart from a store that cannot write now."""
    try:
        yield
    except (duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError) as error:
        raise StoreRefusedError(_first_line(error)) from error
    except duckdb.Error as error:
        raise StoreUnavailableError(_first_line(error)) from error


def quoted(path: Path | str) -> str:
    """Write a path as a SQL text."""
    return "'" + str(path).replace("'", "''") + "'"


def _not_opened(path: Path, error: duckdb.Error) -> StoreError:
    # By another program, or an aggregator of before there was a lock of our own: DuckDB says which.
    if "Could not set lock" in str(error):
        return StoreBusyError(f"{path} is open elsewhere; stop that first: {_first_line(error)}", None)
    if entry := _DAMAGED_ENTRY.search(str(error)):
        behind = "before runs that may have been acknowledged; restore a backup"
        return DamagedLogError(f"{log_of(path)} is damaged at byte {entry[1]}, {behind}", int(entry[1]))
    return _unusable(path, error)


def _unusable(path: Path, error: duckdb.Error) -> StoreError:
    advice = (
        "; nothing was changed: restore a backup (`weighin-aggregator restore`)" if _DAMAGE.search(str(error)) else ""
    )
    return StoreError(f"cannot open {path}: {_first_line(error)}{advice}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
