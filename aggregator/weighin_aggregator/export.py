"""What the store adds to a snapshot: a Parquet file per table, with the runs that the snapshot does not hold yet.

A part is the files of one name in the folders of all tables. Runs are insert-only, so a part never changes; which runs
are new is decided by their run_id, never by a time.
"""

import glob
import shutil
from collections.abc import Sequence
from pathlib import Path

import duckdb

from weighin_aggregator.schema import PUBLIC_QUERIES

_HELD = """
CREATE OR REPLACE TEMP TABLE new_run AS SELECT run_id FROM run WHERE run_id::VARCHAR NOT IN ({runs});
CREATE OR REPLACE TEMP TABLE new_hardware AS
    SELECT hardware_id FROM hardware WHERE hardware_id::VARCHAR NOT IN ({hardware});
"""
_NOTHING = "SELECT '' WHERE false"


def export_new(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write what is new as one part; nothing where nothing is new, unless the folder is empty.

    Parts in the folder that hold other runs than this store, or other columns than it writes, are removed first, with
    everything else there.
    """
    if not _continues(connection, folder):
        for path in folder.iterdir():
            shutil.rmtree(path)
        connection.execute(_HELD.format(runs=_NOTHING, hardware=_NOTHING))
    numbers = [int(part.stem) for part in _parts(folder, "runs") if part.stem.isdecimal()]
    if numbers and connection.execute("SELECT 1 FROM new_run LIMIT 1").fetchone() is None:
        return
    for table, query in PUBLIC_QUERIES.items():
        (folder / table).mkdir(exist_ok=True)
        path = folder / table / f"{max(numbers, default=0) + 1:06}.parquet"
        connection.execute(f"COPY ({query}) TO {quoted(path)} (FORMAT parquet, COMPRESSION zstd)")


def _continues(connection: duckdb.DuckDBPyConnection, folder: Path) -> bool:
    """Find what is new beside the parts of a folder; False where they are not of this store, or of another version."""
    parts = {table: _parts(folder, table) for table in PUBLIC_QUERIES}
    if not all(parts.values()):
        return False
    held = {table: _reader(files) for table, files in parts.items()}
    connection.execute(
        _HELD.format(
            runs=f"SELECT run_id FROM {held['runs']}",  # noqa: S608 - names of our own files
            hardware=f"SELECT hardware_id FROM {held['hardware']}",  # noqa: S608 - as above
        )
    )
    if any(_columns(connection, f"FROM {held[name]}") != _columns(connection, PUBLIC_QUERIES[name]) for name in held):
        return False
    strange = connection.execute(
        f"SELECT 1 FROM {held['runs']} AS held LEFT JOIN run ON held.run_id = run.run_id::VARCHAR "  # noqa: S608 - as above
        "WHERE run.run_id IS NULL OR held.run_sha256 IS DISTINCT FROM lower(hex(run.run_sha256)) LIMIT 1"
    )
    return strange.fetchone() is None


def _parts(folder: Path, table: str) -> list[Path]:
    return sorted((folder / table).glob("*.parquet"))


def _reader(files: Sequence[Path]) -> str:
    """Return SQL that reads files; DuckDB takes every name for a pattern."""
    return f"read_parquet([{', '.join(quoted(glob.escape(str(file))) for file in files)}])"


def _columns(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[str, str]]:
    """Return (name, type) of the columns of a query, without running it."""
    return [(name, kind) for name, kind, *_ in connection.execute(f"DESCRIBE {query}").fetchall()]


def quoted(path: Path | str) -> str:
    """Write a path as a SQL text."""
    return "'" + str(path).replace("'", "''") + "'"
