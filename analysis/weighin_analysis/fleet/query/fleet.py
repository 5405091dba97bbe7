"""A snapshot that is open: its tables behind SQL, and the judgements over its devices."""

import glob
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import duckdb

from weighin_analysis.errors import LimitsError, SnapshotError
from weighin_analysis.fleet.query.answer import Answer
from weighin_analysis.fleet.snapshot.folder import TAKE_ANOTHER, Manifest, checked_files, read_manifest
from weighin_analysis.fleet.snapshot.views import TABLES, VIEWS, VIEWS_VERSION
from weighin_analysis.limits import Limits, load_several_limits, shipped_versions


class Fleet:
    """An open snapshot. A context manager; use from one thread at a time.

    Every table of the snapshot is a view of its name in ``connection``, DuckDB in memory, which reads the folder and
    nothing else, loads no extension and changes no setting.
    """

    def __init__(self, folder: Path, *, tables: Collection[str] = TABLES) -> None:
        """Open a snapshot; SnapshotError in one line where it is missing, damaged or of another version.

        Nothing but ``tables`` can be asked, and only their files are looked at: those of a large fleet are gigabytes.
        """
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        if self.manifest.views_version != VIEWS_VERSION:
            raise SnapshotError(
                f"{folder}: its views are version {self.manifest.views_version}, this program reads {VIEWS_VERSION}; "
                "use matching versions of both"
            )
        self.files = checked_files(folder, self.manifest, tables)
        # DuckDB may read where it puts what its memory does not hold, and would take the folder that one works in.
        self._spilled = TemporaryDirectory(prefix="weighin-")
        try:
            self.connection = _connected(folder, self.files, Path(self._spilled.name))
        except SnapshotError:
            self._spilled.cleanup()
            raise

    def __enter__(self) -> Self:
        """Return the fleet itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let go of the files; nothing can be asked afterwards."""
        self.connection.close()
        self._spilled.cleanup()

    @property
    def time(self) -> datetime:
        """When the snapshot was taken; aware, in UTC."""
        return self.manifest.time

    @property
    def formula_version(self) -> str:
        """Version of the formulas behind the estimates."""
        return self.manifest.formula_version

    @property
    def limits_version(self) -> str:
        """Version of the limits behind the verdicts and tiers that the snapshot holds."""
        return self.manifest.limits_version

    def limits(self, names: Sequence[str] = ()) -> tuple[Limits, ...]:
        """Return the limits of several names, each once; without a name those of the snapshot.

        LimitsError where one cannot be read, or where two with other numbers share a version: the snapshot's own
        version always means the numbers that it was judged by.
        """
        found = load_several_limits(names or [self.limits_version])
        if self.limits_version not in shipped_versions() and self.limits_version in {one.version for one in found}:
            raise LimitsError(
                f"limits {self.limits_version!r} are those that the snapshot was judged by, and this program does not "
                "know their numbers; give yours another version"
            )
        return found

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Say what DuckDB cannot do within the block as a SnapshotError in one line; Ctrl-C stays Ctrl-C."""
        try:
            yield
        except duckdb.InterruptException as cause:
            raise KeyboardInterrupt from cause
        except duckdb.Error as cause:
            raise SnapshotError(f"{self.folder}: cannot be asked ({' '.join(str(cause).split())})") from cause

    def sql(self, query: str) -> Answer:
        """Ask one question of the tables: a single SELECT (also FROM, WITH, VALUES, DESCRIBE and SUMMARIZE).

        QueryError, in one line, where it is anything else, or where DuckDB finds it wrong.
        """
        return Answer(self.connection, query)


def _connected(folder: Path, files: Mapping[str, Sequence[Path]], spilled: Path) -> duckdb.DuckDBPyConnection:
    """Return DuckDB with a view of every table, that can reach nothing but the folder and an empty one of its own."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
    }
    connection = duckdb.connect(":memory:", config=config)
    try:
        # DuckDB takes every file name for a pattern and checks it as one, so the folder is allowed in both spellings.
        real = str(folder.resolve())
        allowed = ", ".join("'" + name.replace("'", "''") + "/'" for name in (real, glob.escape(real)))
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET temp_directory = '{}'".format(str(spilled).replace("'", "''")))
        connection.execute(f"SET allowed_directories = [{allowed}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        for table, paths in files.items():
            connection.read_parquet([glob.escape(str(path.resolve())) for path in paths]).create_view(table)
        _check_columns(connection, folder, files)
    except duckdb.Error as cause:
        connection.close()
        reason = str(cause).splitlines()[0]
        raise SnapshotError(f"{folder}: a table cannot be read ({reason}); {TAKE_ANOTHER}") from cause
    except SnapshotError:
        connection.close()
        raise
    return connection


def _check_columns(connection: duckdb.DuckDBPyConnection, folder: Path, tables: Collection[str]) -> None:
    """Pass only views that have their columns; a later version of a view may have more."""
    for view in (one for one in VIEWS if one.name in tables):
        relation = connection.view(view.name)
        kinds = {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}
        for column in view.columns:
            found = kinds.get(column.name, "missing")
            if found.partition("(")[0] != column.type:
                raise SnapshotError(
                    f"{folder / view.name}: column {column.name} is {found}, not {column.type}; {TAKE_ANOTHER}"
                )
