"""The border between the tables of a snapshot and values. Nothing else knows both sides."""

import dataclasses
import glob
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

import duckdb

from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.conditions import Conditions
from weighin_analysis.errors import SnapshotError
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, Series, SeriesPart
from weighin_analysis.scheme import Scheme
from weighin_analysis.snapshot import (
    Accelerator,
    Cache,
    CaseFailure,
    DeviceRecord,
    ExecutionProvider,
    Hardware,
    ProbeGap,
    RunRecord,
    Snapshot,
)

SCHEMA_VERSION = 2
TABLES = ("run", "hardware", "measurement", "series", "case_failure", "probe_gap")

_TAKE_ANOTHER = "take a new one with `weighin-aggregator snapshot --data DIR --out DIR`"
_Row = Mapping[str, Any]
_T = TypeVar("_T")

# What a column may hold where a value wants this type; not isinstance, to which True is a number.
_SCALARS: dict[object, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (float, int), str: (str,)}
# No number is below zero but of degrees; these are divided by, or mean nothing when zero.
_POSITIVE = frozenset(
    {"layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "threads", "probe_layers", "token_count"}
    | {"sliding_window", "global_layer_interval"}
)

# A device counts its own runs, so the highest number is the newest run whatever its clock says.
_NEWEST_RUNS = """
    SELECT *, count(*) OVER (PARTITION BY device_id) AS run_count FROM run
    QUALIFY row_number() OVER (PARTITION BY device_id ORDER BY sequence DESC, receive_time DESC, run_id) = 1
    ORDER BY receive_time DESC, run_id
"""


def load_snapshot(folder: Path) -> Snapshot:
    """Read a snapshot folder: every device once, with its newest run.

    SnapshotError, in one line, when the folder is missing, is no snapshot, is damaged, or is of another version.
    """
    manifest = _read_manifest(folder)
    files = {table: _checked_file(folder, manifest, table) for table in TABLES}
    try:
        tables = _read_tables(folder, files)
        return Snapshot(time=_aware(datetime.fromisoformat(manifest["snapshot_time"])), devices=_devices(tables))
    except duckdb.Error as cause:
        first_line = str(cause).splitlines()[0]
        raise SnapshotError(f"{folder}: a table cannot be read ({first_line}); {_TAKE_ANOTHER}") from cause
    except (KeyError, TypeError, ValueError, OverflowError) as cause:  # a column or a value that does not belong there
        raise SnapshotError(
            f"{folder}: holds what this version cannot take ({cause}); upgrade weighin-analysis, or {_TAKE_ANOTHER}"
        ) from cause


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not folder.is_dir():
        raise SnapshotError(
            f"{folder}: there is no such folder; make one with `weighin-aggregator snapshot --data DIR --out DIR`"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as cause:
        raise SnapshotError(f"{folder}: not a snapshot, it holds no manifest.json; {_TAKE_ANOTHER}") from cause
    except (OSError, ValueError, RecursionError) as cause:
        raise SnapshotError(f"{path}: cannot be read as JSON; {_TAKE_ANOTHER}") from cause
    if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA_VERSION:
        found = manifest.get("schema_version") if isinstance(manifest, dict) else None
        raise SnapshotError(
            f"{path}: schema version {found}, this program reads {SCHEMA_VERSION}; use matching versions of both"
        )
    return manifest


def _checked_file(folder: Path, manifest: _Row, table: str) -> Path:
    """Return the file of a table once its bytes match the manifest."""
    try:
        entry = manifest["tables"][table]
        name, expected = str(entry["file"]), entry["sha256"]
        # The manifest may come from elsewhere: a name with a folder in it must not lead out of the snapshot.
        if Path(name).name != name:
            raise ValueError(name)
    except (KeyError, TypeError, ValueError) as cause:
        raise SnapshotError(
            f"{folder / 'manifest.json'}: names no usable file for table {table}; {_TAKE_ANOTHER}"
        ) from cause
    path = folder / name
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as cause:
        raise SnapshotError(f"{path}: cannot be opened ({cause.strerror}); {_TAKE_ANOTHER}") from cause
    if found != expected:
        raise SnapshotError(f"{path}: damaged, its SHA-256 is not the one in manifest.json; {_TAKE_ANOTHER}")
    return path


def _read_tables(folder: Path, files: Mapping[str, Path]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that belong to the newest run of every device."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(":memory:", config=config) as connection:
        # Nothing outside this folder can be read or written. DuckDB takes every file name for a pattern and checks it
        # as one, so the folder is allowed in both spellings.
        real = str(folder.resolve())
        allowed = ", ".join("'" + name.replace("'", "''") + "/'" for name in (real, glob.escape(real)))
        connection.execute(f"SET allowed_directories = [{allowed}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        for table, path in files.items():
            connection.read_parquet(glob.escape(str(path.resolve()))).create_view(table)
        connection.execute(f"CREATE TEMP TABLE newest AS {_NEWEST_RUNS}")
        tables = {"run": _rows(connection, "FROM newest"), "hardware": _rows(connection, "FROM hardware")}
        for table in ("measurement", "case_failure", "probe_gap"):
            tables[table] = _rows(connection, f"FROM {table} SEMI JOIN newest USING (run_id) ORDER BY run_id, ord")
        tables["series"] = _rows(
            connection, "FROM series SEMI JOIN newest USING (run_id) ORDER BY run_id, measurement_ord, ord"
        )
        return tables


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _devices(tables: Mapping[str, Sequence[_Row]]) -> tuple[DeviceRecord, ...]:
    hardware = {row["hardware_id"]: _hardware(row) for row in tables["hardware"]}
    series: defaultdict[tuple[str, int], list[Series]] = defaultdict(list)
    for row in tables["series"]:
        series[row["run_id"], row["measurement_ord"]].append(_series(row))
    measurements: defaultdict[str, list[Measurement]] = defaultdict(list)
    for row in tables["measurement"]:
        measurements[row["run_id"]].append(_measurement(row, series[row["run_id"], row["ord"]]))
    failures: defaultdict[str, list[CaseFailure]] = defaultdict(list)
    for row in tables["case_failure"]:
        failures[row["run_id"]].append(_build(CaseFailure, row, case=_case(row, row["execution_provider"])))
    gaps: defaultdict[str, list[ProbeGap]] = defaultdict(list)
    for row in tables["probe_gap"]:
        gaps[row["run_id"]].append(_build(ProbeGap, row))
    return tuple(
        _build(
            DeviceRecord,
            row,
            hardware=hardware[row["hardware_id"]],
            run=_run(row, measurements[row["run_id"]], failures[row["run_id"]], gaps[row["run_id"]]),
        )
        for row in tables["run"]
    )


def _run(
    row: _Row, measurements: Sequence[Measurement], failures: Sequence[CaseFailure], gaps: Sequence[ProbeGap]
) -> RunRecord:
    return _build(
        RunRecord,
        row,
        receive_time=_aware(row["receive_time"]),
        observe_time=_aware(row["observe_time"]) if row["observe_time"] else None,
        accelerator_memory_available_bytes=tuple(_optional_ints(row["accelerator_memory_available_bytes"] or ())),
        before=_build(Conditions, row["before"]) if row["before"] else None,
        after=_build(Conditions, row["after"]) if row["after"] else None,
        measurements=tuple(measurements),
        failures=tuple(failures),
        gaps=tuple(gaps),
    )


def _optional_ints(values: Sequence[Any]) -> list[int | None]:
    """Return the values of a list column as they are; TypeError for one that is no whole number."""
    if not all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values):
        raise TypeError("a list of whole numbers holds something else")
    return list(values)


def _hardware(row: _Row) -> Hardware:
    return _build(
        Hardware,
        row,
        instruction_sets=_list_of(str, row["instruction_sets"] or []),
        caches=tuple(_build(Cache, one) for one in row["caches"] or ()),
        accelerators=tuple(_build(Accelerator, one) for one in row["accelerators"] or ()),
        execution_providers=tuple(_build(ExecutionProvider, one) for one in row["execution_providers"] or ()),
    )


def _measurement(row: _Row, series: Sequence[Series]) -> Measurement:
    case = _case(row, row["requested_execution_provider"])
    return _build(Measurement, row, case=case, phase=Phase(row["phase"]), series=tuple(series))


def _case(row: _Row, execution_provider: str) -> Case:
    shape = row["architecture"]
    return _build(
        Case,
        row,
        architecture=_build(
            Architecture,
            shape,
            kind=ArchitectureKind(shape["kind"]),
            feed_forward=FeedForward(shape["feed_forward"]),
        ),
        scheme=Scheme(row["scheme"]),
        execution_provider=execution_provider,
        # A case that failed before its graphs were built has none.
        layers_graph_sha256=row.get("layers_graph_sha256") or "",
        short_layers_graph_sha256=row.get("short_layers_graph_sha256") or "",
        head_graph_sha256=row.get("head_graph_sha256") or "",
    )


def _series(row: _Row) -> Series:
    return _build(
        Series,
        row,
        part=SeriesPart(row["part"]),
        phase=Phase(row["phase"]),
        clock=ClockKind(row["clock"]),
        sample_seconds=_list_of(float, row["sample_seconds"]),
    )


def _build(kind: Callable[..., _T], row: _Row, /, **converted: Any) -> _T:
    """Make a value from the columns of its own names; ``converted`` are those that need more than copying."""
    values = {}
    for name, types in _columns(kind):
        value = converted[name] if name in converted else row[name]
        if types and (type(value) not in types or not _possible(name, value)):
            raise ValueError(f"{name} is {value!r:.40}")
        values[name] = value
    return kind(**values)


@cache
def _columns(kind: Callable[..., object]) -> tuple[tuple[str, tuple[type, ...]], ...]:
    """Return (name, types that its column may hold) of every field of a value; no types where it is no scalar."""
    hints = get_type_hints(kind)
    found: list[tuple[str, tuple[type, ...]]] = []
    for field in dataclasses.fields(cast("Any", kind)):
        hint = hints[field.name]
        wanted = [one for one in get_args(hint) if one is not type(None)] or [hint]
        types = _SCALARS.get(wanted[0], ()) if len(wanted) == 1 else ()
        absent = (type(None),) if type(None) in get_args(hint) else ()
        found.append((field.name, types + absent if types else ()))
    return tuple(found)


def _possible(name: str, value: object) -> bool:
    """Return whether a number may stand in a field of this name."""
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or isinstance(value, bool) or value >= (name in _POSITIVE)


def _list_of(kind: type[_T], values: object) -> tuple[_T, ...]:
    """Return a list of a snapshot, all of one type, as a tuple."""
    if not isinstance(values, list) or not set(map(type, values)) <= {kind}:
        raise ValueError(f"{values!r:.40} is no list of {kind.__name__}")
    return tuple(values)


def _aware(time: object) -> datetime:
    """Return a time of a snapshot, which is UTC also where it does not say so, as an aware one."""
    if not isinstance(time, datetime):
        raise TypeError(f"{time!r:.40} is no time")
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
