"""What the store adds to a snapshot: a Parquet file per table, with the runs that the snapshot does not hold yet.

A part is the files of one name in the folders of all tables. Runs are insert-only, so a part never changes; which runs
are new is decided by their run_id, never by a time. They are numbered on from those of before, in the order of arrival,
in which the store keeps its rows.
"""

import glob
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from weighin_aggregator.store.engine import quoted
from weighin_aggregator.store.schema import PUBLIC_QUERIES
from weighin_analysis.fleet.snapshot.folder import PARQUET

_NOTHING_NEW = """
CREATE OR REPLACE TEMP TABLE new_run(run_id UUID, run_number BIGINT);
CREATE OR REPLACE TEMP TABLE new_hardware(hardware_id UUID);
"""
_NEW = """
INSERT INTO new_run
    SELECT run_id, (SELECT coalesce(max(run_number), 0) FROM {runs}) + row_number() OVER (ORDER BY rowid)
    FROM run WHERE run_id::VARCHAR NOT IN (SELECT run_id FROM {runs}) ORDER BY rowid LIMIT {most};
INSERT INTO new_hardware
    SELECT hardware_id FROM hardware WHERE hardware_id::VARCHAR NOT IN (SELECT hardware_id FROM {hardware});
"""
# The samples of a part are in memory together: 20 KB a run.
_PART_RUNS = 20_000
# As what is held where nothing is.
_NO_ROWS = "(SELECT '' AS run_id, 0 AS run_number, '' AS hardware_id WHERE false)"


def export_new(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write what is new, one part after the other; nothing where nothing is new, unless the folder is empty.

    Parts in the folder that hold other runs than this store, or other columns than it writes, are removed first, with
    everything else there.
    """
    connection.execute(_NOTHING_NEW)  # the public queries name these tables
    if not _continues(connection, _held(folder)):
        for path in folder.iterdir():
            shutil.rmtree(path)
    while _export_part(connection, folder):
        pass


def _export_part(connection: duckdb.DuckDBPyConnection, folder: Path) -> bool:
    """Write the next part, if there is one; True where more may be left."""
    held = _held(folder)
    connection.execute(_NOTHING_NEW)
    connection.execute(
        _NEW.format(runs=held.get("runs", _NO_ROWS), hardware=held.get("hardware", _NO_ROWS), most=_PART_RUNS)
    )
    numbers = [int(part.stem) for part in _parts(folder, "runs") if part.stem.isdecimal()]
    (new_count,) = connection.execute("SELECT count(*) FROM new_run").fetchall()[0]
    if numbers and not new_count:
        return False
    for table, query in PUBLIC_QUERIES.items():
        (folder / table).mkdir(exist_ok=True)
        path = folder / table / f"{max(numbers, default=0) + 1:06}.parquet"
        connection.execute(f"COPY ({query}) TO {quoted(path)} {PARQUET}")
    return bool(new_count == _PART_RUNS)


def _held(folder: Path) -> dict[str, str]:
    """Return SQL that reads the parts of each table that has any."""
    return {table: _reader(files) for table in PUBLIC_QUERIES if (files := _parts(folder, table))}


def _continues(connection: duckdb.DuckDBPyConnection, held: Mapping[str, str]) -> bool:
    """Tell whether what is held of the tables is of this store, with the columns of today."""
    if held.keys() != PUBLIC_QUERIES.keys():
        return False
    if any(_columns(connection, f"FROM {held[name]}") != _columns(connection, PUBLIC_QUERIES[name]) for name in held):
        return False
    strange = connection.execute(
        f"SELECT 1 FROM {held['runs']} AS held LEFT JOIN run ON held.run_id = run.run_id::VARCHAR "  # noqa: S608 - names of our own files
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
