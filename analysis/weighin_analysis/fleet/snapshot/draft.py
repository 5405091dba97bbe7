"""The folder of a snapshot that is being made: its parts as tables of DuckDB, and new parts from rows of the views."""

import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from weighin_analysis.estimate import FORMULA_VERSION
from weighin_analysis.fleet.grading.expressions import text, texts
from weighin_analysis.fleet.snapshot.folder import PARQUET, Manifest, part_of, write_manifest
from weighin_analysis.fleet.snapshot.rows import Row
from weighin_analysis.fleet.snapshot.views import FACTS, TABLES, View
from weighin_analysis.limits import current_limits
from weighin_analysis.plausible import plausibility_rules

# Every part is opened at every query: when there are more, they become one.
MOST_PARTS = 16
_PARTED = ("runs", "measurements", "estimates", "verdicts", "plausibility", *FACTS)
_TYPES: Mapping[str, pa.DataType] = {
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "DOUBLE": pa.float64(),
    "INTEGER": pa.int32(),
    "TIMESTAMP": pa.timestamp("us"),
    "VARCHAR": pa.string(),
    "VARCHAR[]": pa.list_(pa.string()),
}


class Draft:
    """The folder of a snapshot with the facts of all of its runs, whose judgements are to come.

    Its methods raise duckdb.Error and OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "temp_directory": "",  # nothing but parts may come into the folder
            }
        )
        for table in ("runs", *FACTS):
            self._connection.execute(f"CREATE VIEW {table} AS FROM {_reader(self._parts(table))}")

    def __enter__(self) -> "Draft":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        """Run a statement that has no answer."""
        self._connection.execute(statement, values)

    def rows(self, query: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        cursor = self._connection.execute(query, values)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def part(self, table: str, name: str) -> str:
        """Return SQL that reads the part of a name of a table."""
        return _reader([self._folder / table / name])

    def unjudged(self) -> list[str]:
        """Return the names of the parts that have no estimates."""
        judged = {path.name for path in self._parts("estimates")}
        return [path.name for path in self._parts("runs") if path.name not in judged]

    @contextmanager
    def writer(self, view: View, name: str) -> Iterator[pq.ParquetWriter]:
        """Give the writer of a part for tables of a view; the file is there also if nothing is written."""
        path = self._folder / view.name / name
        path.parent.mkdir(exist_ok=True)
        with pq.ParquetWriter(path, _schema(view), compression="lz4") as writer:
            yield writer

    def collect(self, view: View) -> None:
        """Make a view of the rows that were taken over, as ``old_NAME``, and a table for new ones, as ``new_NAME``."""
        empty = table_of(view, [])
        self._connection.from_arrow(empty).create(f"new_{view.name}")
        parts = self._parts(view.name)
        source = _reader(parts) if parts else f"new_{view.name} LIMIT 0"
        self._connection.execute(f"CREATE VIEW old_{view.name} AS FROM {source}")

    def add(self, view: View, rows: Sequence[Row]) -> None:
        """Add new rows of a view that is collected."""
        self._connection.from_arrow(table_of(view, rows)).insert_into(f"new_{view.name}")

    def insert(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        """Insert rows into a table."""
        if rows:
            self._connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)  # noqa: S608 - our own table

    def replace(self, table: str, query: str) -> None:
        """Replace all parts of a table by one that holds the answer to a query, which may read them."""
        old = self._parts(table)
        name = self._parts("runs")[-1].name
        (self._folder / table).mkdir(exist_ok=True)
        # Under a name of its own: the old parts may be links to those of an earlier snapshot.
        new = self._folder / table / "new"
        self._connection.execute(f"COPY ({query}) TO {text(str(new))} {PARQUET}")
        for path in old:
            path.unlink()
        new.rename(self._folder / table / name)

    def merge(self) -> None:
        """Make one part of every table of all its parts, once there are too many."""
        if len(self._parts("runs")) <= MOST_PARTS:
            return
        # What the others are named after comes last.
        for table in sorted(_PARTED, key=lambda table: table == "runs"):
            self.replace(table, f"FROM {_reader(self._parts(table))}")

    def finish(self, time: datetime) -> Manifest:
        """Write the manifest of what the folder holds, under the versions of today."""
        files = glob.escape(str(self._folder)) + "/*/*"
        counted = self._connection.execute("SELECT file_name, num_rows FROM parquet_file_metadata(?)", [files])
        rows = dict(counted.fetchall())
        tables = {
            table: tuple(part_of(self._folder, f"{table}/{path.name}", rows[str(path)]) for path in self._parts(table))
            for table in TABLES
        }
        manifest = Manifest(
            time=time,
            formula_version=FORMULA_VERSION,
            limits_version=current_limits().version,
            plausibility_version=plausibility_rules().version,
            tables=tables,
        )
        write_manifest(self._folder, manifest)
        return manifest

    def _parts(self, table: str) -> list[Path]:
        return sorted((self._folder / table).glob("*.parquet"))


def table_of(view: View, rows: Sequence[Row]) -> pa.Table:
    """Return rows as a table with the columns of a view; what a row does not have is NULL."""
    return pa.Table.from_pylist(list(rows), schema=_schema(view))


def _schema(view: View) -> pa.Schema:
    return pa.schema([(column.name, _TYPES[column.type]) for column in view.columns])


def _reader(files: Sequence[Path]) -> str:
    """Return SQL that reads files; DuckDB takes every name for a pattern."""
    return f"read_parquet([{texts(glob.escape(str(file)) for file in files)}])"
