"""The numbers of a report as CSV and JSON: the values behind the page, exact and one to a column."""

# ruff: noqa: S608 (of other texts only versions are part of a query, and those are quoted)

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from weighin_analysis.fleet.coverage.values import (
    BaselineDevice,
    ClassSpeed,
    CoverageRow,
    GateRow,
    Share,
    ShipRow,
    VerdictCount,
)
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.printable import printable
from weighin_analysis.report.findings import Findings, FreeMemory, MemoryNeed, Tally
from weighin_analysis.report.queries import Graded, devices_query

_BATCH_ROWS = 50_000
# A spreadsheet would take a text that begins so for a formula; a device may have sent it.
_FORMULA = ("=", "+", "-", "@")
_DEVICE_COLUMNS = (
    "device_id, source, name, form_factor, os_family, cpu_architecture, physical_core_count, memory_total_bytes, "
    "memory_available_bytes, accelerator_kind, accelerator_model, accelerator_memory_bytes, disturbed, run_count, "
    "strftime(last_receive_time, '%Y-%m-%dT%H:%M:%S.%fZ') AS last_receive_time, tier_probability, usable_tier, "
    "limited_by, scheme, execution_provider, chrome_built_in_ai, copilot_plus_pc, android_performance_class"
)


def csv_files(findings: Findings) -> Mapping[str, str]:
    """Return the CSV files of a report by name, all but that of the devices."""
    coverage = findings.coverage
    tables: tuple[tuple[str, type, Sequence[Any]], ...] = (
        ("coverage.csv", CoverageRow, coverage.rows),
        ("ship.csv", ShipRow, coverage.ship),
        ("tiers.csv", VerdictCount, findings.verdict_counts),
        ("speeds.csv", ClassSpeed, coverage.speeds),
        ("baselines.csv", BaselineDevice, coverage.baselines),
        ("gates.csv", GateRow, coverage.gates),
        ("memory.csv", MemoryNeed, findings.needs),
        ("free_memory.csv", FreeMemory, findings.stock),
        ("versions.csv", Tally, findings.tallies),
    )
    return {name: _csv(kind, rows) for name, kind, rows in tables}


def to_json(findings: Findings, headline: str) -> str:
    """Return everything that a report says as one JSON document."""
    document = {
        "headline": headline,
        "snapshot_time": findings.time.astimezone(UTC).isoformat(),
        "coverage": dataclasses.asdict(findings.coverage),
        "limits": [dataclasses.asdict(one) for one in findings.limits],
        "run_count": findings.run_count,
        "tiers": [dataclasses.asdict(one) for one in findings.verdict_counts],
        "memory": [dataclasses.asdict(one) for one in findings.needs],
        "free_memory": [dataclasses.asdict(one) for one in findings.stock],
        "devices": [dataclasses.asdict(one) for one in findings.devices],
        "versions": [dataclasses.asdict(one) for one in findings.tallies],
    }
    text = json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"
    return text.replace("\x7f", "\\u007f")  # the one of ASCII's controls that JSON leaves as it is


def _finite(value: Any) -> Any:
    """Return a document with null for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_devices(fleet: Fleet, graded: Sequence[Graded], path: Path) -> None:
    """Write all devices with their tiers as CSV, a batch at a time: there may be millions."""
    versions = [one.limits.version.replace('"', '""') for one in graded]
    names = [f"tier_under_{version}" for version in versions] if len(versions) > 1 else ["tier"]
    tiers = ", ".join(f'tier_{place} AS "{name}"' for place, name in enumerate(names))
    query = (
        f"SELECT {_DEVICE_COLUMNS}, {tiers} FROM ({devices_query(graded)}) AS d "
        "ORDER BY d.last_receive_time DESC NULLS LAST, device_id"
    )
    with fleet.asking():
        reader = fleet.connection.sql(query).to_arrow_reader(_BATCH_ROWS)
        with pyarrow.csv.CSVWriter(path, reader.schema) as writer:
            for batch in reader:
                columns = [_guarded(column) if pa.types.is_string(column.type) else column for column in batch.columns]
                writer.write_batch(pa.record_batch(columns, schema=reader.schema))


def _guarded(column: "pa.Array[Any]") -> "pa.Array[Any]":
    """Return a column of texts as a spreadsheet may have them; Python looks only at those few that may be changed."""
    doubtful: Any = pyarrow.compute.match_substring_regex(column, r"^[=+@-]|[^ -~]")
    texts = pa.array([_cell(text) for text in column.filter(doubtful).to_pylist()], pa.string())
    guarded: pa.Array[Any] = pyarrow.compute.replace_with_mask(column, doubtful, texts)
    return guarded


def _csv(kind: type, rows: Sequence[Any]) -> str:
    """Return values as CSV with a header, one number to a column."""
    text = io.StringIO()
    writer = csv.writer(text)
    ends = {name: _ends(hint) for name, hint in get_type_hints(kind).items()}
    writer.writerow([name + end for name, found in ends.items() for end in found])
    for row in rows:
        writer.writerow([cell for name, found in ends.items() for cell in _cells(getattr(row, name), len(found))])
    return text.getvalue()


def _ends(hint: object) -> tuple[str, ...]:
    """Return what is added to the name of a field for each column that a value of this type takes."""
    kinds = {hint, *get_args(hint)}
    if Share in kinds:
        return "", "_low", "_high"
    return ("_p25", "_p50", "_p75") if tuple[float, float, float] in kinds else ("",)


def _cells(value: object, count: int) -> tuple[object, ...]:
    if value is None:
        return (None,) * count
    if isinstance(value, Share):
        return value.value, value.low, value.high
    if isinstance(value, tuple):
        return value
    return (_cell(value),)


def _cell(value: object) -> object:
    """Return a value as every CSV here has it: a text drives no terminal and is no formula to a spreadsheet."""
    if not isinstance(value, str):
        return value
    shown = printable(value)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
