"""Importing what others published: the rows of external devices in a snapshot, alone or beside those of another."""

import glob
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from weighin_analysis.fleet.external.estimates import FORMULA_VERSION, estimate_rows, left_out
from weighin_analysis.fleet.external.published import (
    FORM_FACTORS,
    Imported,
    Row,
    device_row,
    devices_of,
    measurement_rows,
    memory_is_disputed,
    run_row,
)
from weighin_analysis.fleet.grading.expressions import text, texts
from weighin_analysis.fleet.grading.regrade import regrade
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.fleet.snapshot.column_types import column_types
from weighin_analysis.fleet.snapshot.folder import (
    PARQUET,
    Manifest,
    Part,
    part_of,
    publishing,
    write_manifest,
)
from weighin_analysis.fleet.snapshot.views import TABLES
from weighin_analysis.limits import Limits
from weighin_analysis.public.rows import PublicRow

_PART = "external.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A snapshot to write beside; all of its files were checked."""

    manifest: Manifest
    files: Mapping[str, tuple[Path, ...]]


def open_base(folder: Path) -> Base:
    """Return the snapshot in a folder; SnapshotError where it is damaged or of another version."""
    with Fleet(folder) as fleet:
        return Base(manifest=fleet.manifest, files=fleet.files)


def import_rows(
    rows: Sequence[PublicRow],
    out: Path,
    *,
    base: Base | None,
    limits: Limits,
    import_time: datetime,
    file_sha256: str,
) -> Imported:
    """Write a snapshot of published rows, and of ``base`` where there is one; SnapshotError where it cannot be written.

    A device that is in ``base`` already is replaced. Verdicts and tiers are graded under ``limits``.
    """
    devices = devices_of(rows)
    estimates = [row for device in devices for row in estimate_rows(device, limits)]
    tables = {
        "devices": [device_row(device, import_time) for device in devices],
        "runs": [run_row(device, import_time, file_sha256) for device in devices],
        "measurements": [row for device in devices for row in measurement_rows(device)],
        "estimates": estimates,
    }
    kept = _write_snapshot(out, tables, base, limits, import_time)
    return Imported(
        row_count=len(rows),
        device_count=len(devices),
        estimate_count=len(estimates),
        estimated_device_count=len({row["device_id"] for row in estimates}),
        disputed_memory_count=sum(map(memory_is_disputed, devices)),
        unknown_classes=dict(
            Counter(name for device in devices if (name := device.rows[0].device_class) not in FORM_FACTORS)
        ),
        left_out=dict(Counter(reason for row in rows if (reason := left_out(row))).most_common()),
        replaced_device_count=(base.manifest.rows("devices") if base else 0) - kept,
        kept_device_count=kept,
    )


def _write_snapshot(
    out: Path, tables: Mapping[str, Sequence[Row]], base: Base | None, limits: Limits, import_time: datetime
) -> int:
    """Write rows and their grades beside those of ``base``, and return how many devices of it were kept."""
    with duckdb.connect() as connection, publishing(out) as work:
        for table in TABLES:
            _make_table(connection, table, tables.get(table, ()))
        if base:
            _number_on(connection, tables, base)
        graded = regrade(connection, limits)
        connection.execute(f"INSERT INTO verdicts BY NAME FROM {graded.verdicts}")
        connection.execute(f"INSERT INTO tiers BY NAME FROM {graded.tiers}")
        parts = {}
        for table in TABLES:
            (work / table).mkdir()
            kept = _kept(connection, table, base.files[table] if base else (), work)
            parts[table] = (*kept, _write(connection, f"FROM {table}", work, f"{table}/{_PART}"))
        manifest = Manifest(
            time=import_time,
            formula_version=base.manifest.formula_version if base else FORMULA_VERSION,
            limits_version=limits.version,
            plausibility_version=base.manifest.plausibility_version if base else None,
            tables=parts,
        )
        write_manifest(work, manifest)
    return manifest.rows("devices") - len(tables["devices"])


def _make_table(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> None:
    columns = ", ".join(f'"{name}" {kind}' for name, kind in column_types(table).items())
    connection.execute(f"CREATE TABLE {table} ({columns})")
    if rows:
        connection.register("new_rows", pa.Table.from_pylist([dict(row) for row in rows]))
        connection.execute(f"INSERT INTO {table} BY NAME FROM new_rows")


def _number_on(connection: duckdb.DuckDBPyConnection, tables: Iterable[str], base: Base) -> None:
    """Let the numbers of the new runs follow those of the runs that are kept."""
    runs = f"read_parquet([{texts(glob.escape(str(path)) for path in base.files['runs'])}])"
    kept = f"SELECT coalesce(max(run_number), 0) FROM {runs} ANTI JOIN devices USING (device_id)"  # noqa: S608 - our own files
    (last,) = connection.execute(kept).fetchone() or (0,)
    for table in tables:
        connection.execute(f"UPDATE {table} SET run_number = run_number + $1", [last])  # noqa: S608 - our own tables


def _kept(connection: duckdb.DuckDBPyConnection, table: str, files: Sequence[Path], work: Path) -> list[Part]:
    """Write what is kept of the files of a table."""
    has_devices = "device_id" in column_types(table)
    parts = []
    for number, path in enumerate(files, start=1):
        name = f"{table}/{number:06}.parquet"
        held = f"FROM read_parquet({text(glob.escape(str(path)))})"  # DuckDB takes every name for a pattern
        if (
            has_devices
            and connection.execute(f"SELECT 1 {held} SEMI JOIN devices USING (device_id) LIMIT 1").fetchone()
        ):
            parts.append(_write(connection, f"{held} ANTI JOIN devices USING (device_id)", work, name))
        else:
            shutil.copyfile(path, work / name)
            (rows,) = connection.execute(f"SELECT count(*) {held}").fetchone() or (0,)
            parts.append(part_of(work, name, rows))
    return parts


def _write(connection: duckdb.DuckDBPyConnection, query: str, work: Path, name: str) -> Part:
    """Write the rows of a query as a part of the snapshot."""
    copied = connection.execute(f"COPY ({query}) TO {text(str(work / name))} {PARQUET}").fetchone()
    return part_of(work, name, copied[0] if copied else 0)
