"""Snapshots as values: every device with its hardware and all measurements of its newest run."""

import glob
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from weighin_analysis.errors import SnapshotError
from weighin_analysis.fleet.folder import checked_files, read_manifest
from weighin_analysis.fleet.rows import Row, build, failure_of, hardware_of, measurement_of, run_of, series_of
from weighin_analysis.measurement import Measurement, Series
from weighin_analysis.snapshot import CaseFailure, DeviceRecord, ProbeGap, Snapshot

_TAKE_ANOTHER = "take a new one with `weighin-aggregator snapshot --data DIR --out DIR`"

# A device counts its own runs, so the highest number is the newest run whatever its clock says.
_NEWEST_RUNS = """
    SELECT *, count(*) OVER (PARTITION BY device_id) AS run_count FROM runs
    QUALIFY row_number() OVER (PARTITION BY device_id ORDER BY sequence DESC, receive_time DESC, run_id) = 1
    ORDER BY receive_time DESC, run_id
"""


def load_snapshot(folder: Path) -> Snapshot:
    """Read a snapshot folder: every device once, with its newest run.

    SnapshotError, in one line, when the folder is missing, is no snapshot, is damaged, or is of another version.
    """
    manifest = read_manifest(folder)
    files = checked_files(folder, manifest)
    try:
        tables = _read_tables(folder, files)
        return Snapshot(time=manifest.time, devices=_devices(tables))
    except duckdb.Error as cause:
        first_line = str(cause).splitlines()[0]
        raise SnapshotError(f"{folder}: a table cannot be read ({first_line}); {_TAKE_ANOTHER}") from cause
    except (KeyError, TypeError, ValueError, OverflowError) as cause:  # a column or a value that does not belong there
        raise SnapshotError(
            f"{folder}: holds what this version cannot take ({cause}); upgrade weighin-analysis, or {_TAKE_ANOTHER}"
        ) from cause


def _read_tables(folder: Path, files: Mapping[str, Sequence[Path]]) -> dict[str, list[dict[str, Any]]]:
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
        for table, parts in files.items():
            connection.read_parquet([glob.escape(str(part.resolve())) for part in parts]).create_view(table)
        connection.execute(f"CREATE TEMP TABLE newest AS {_NEWEST_RUNS}")
        tables = {"runs": _rows(connection, "FROM newest"), "hardware": _rows(connection, "FROM hardware")}
        for table in ("measurements", "case_failures", "probe_gaps"):
            tables[table] = _rows(connection, f"FROM {table} SEMI JOIN newest USING (run_id) ORDER BY run_id, ord")
        tables["series"] = _rows(
            connection, "FROM series SEMI JOIN newest USING (run_id) ORDER BY run_id, measurement_ord, ord"
        )
        return tables


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _devices(tables: Mapping[str, Sequence[Row]]) -> tuple[DeviceRecord, ...]:
    hardware = {row["hardware_id"]: hardware_of(row) for row in tables["hardware"]}
    series: defaultdict[tuple[str, int], list[Series]] = defaultdict(list)
    for row in tables["series"]:
        series[row["run_id"], row["measurement_ord"]].append(series_of(row))
    measurements: defaultdict[str, list[Measurement]] = defaultdict(list)
    for row in tables["measurements"]:
        measurements[row["run_id"]].append(measurement_of(row, series[row["run_id"], row["ord"]]))
    failures: defaultdict[str, list[CaseFailure]] = defaultdict(list)
    for row in tables["case_failures"]:
        failures[row["run_id"]].append(failure_of(row))
    gaps: defaultdict[str, list[ProbeGap]] = defaultdict(list)
    for row in tables["probe_gaps"]:
        gaps[row["run_id"]].append(build(ProbeGap, row))
    return tuple(
        build(
            DeviceRecord,
            row,
            hardware=hardware[row["hardware_id"]],
            run=run_of(row, measurements[row["run_id"]], failures[row["run_id"]], gaps[row["run_id"]]),
        )
        for row in tables["runs"]
    )
