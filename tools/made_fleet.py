"""A made fleet: a snapshot of any number of devices that nobody ever measured, for tests and benchmarks.

Nothing in it is a finding. Devices are of five kinds; bandwidth and arithmetic are log-normal, a time is the bytes that
a model reads and the products that it computes divided by these, and an estimate is off by an error of the spread that
its interval states. The same seed makes the same devices. A part holds 100,000 devices: memory stays bounded.

    python tools/made_fleet.py FOLDER --devices 1000000
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist

import duckdb
import numpy as np
import pyarrow as pa

from weighin_aggregator.store.schema import MIGRATIONS
from weighin_analysis.catalog import architecture, size_classes
from weighin_analysis.estimate import FORMULA_VERSION
from weighin_analysis.fleet.grading.expressions import text
from weighin_analysis.fleet.grading.regrade import tiers_query, verdicts_query
from weighin_analysis.fleet.snapshot.folder import PARQUET, Manifest, Part, part_of, publishing, write_manifest
from weighin_analysis.fleet.snapshot.views import FACTS, TABLES, VIEWS
from weighin_analysis.footprint import KV_BYTES_PER_ELEMENT, bytes_read_per_token, download_bytes, memory_bytes
from weighin_analysis.limits import Limits, current_limits
from weighin_analysis.scheme import Scheme

SNAPSHOT_TIME = datetime(2026, 3, 1, tzinfo=UTC)
SCHEMES = (Scheme.INT4_BLOCK32, Scheme.INT8_BLOCK32)
MOST_MEASUREMENTS = 70  # seven reference models, two schemes, five lengths
_PART_DEVICES = 100_000
_SQL = Path(__file__).with_suffix(".sql")
_STORE_TABLES = {"hardware": "hardware", "series": "series", "case_failures": "case_failure", "probe_gaps": "probe_gap"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Devices of one kind: their share, and the medians of what varies between them."""

    name: str
    share: float
    os_family: str
    cpu_architecture: str
    cores: int
    memory_gib: tuple[int, ...]
    bandwidth_bytes_per_second: float
    products_per_second: float


KINDS = (
    Kind(
        name="phone",
        share=0.35,
        os_family="android",
        cpu_architecture="arm64",
        cores=8,
        memory_gib=(4, 6, 8, 12, 16),
        bandwidth_bytes_per_second=14e9,
        products_per_second=60e9,
    ),
    Kind(
        name="laptop",
        share=0.35,
        os_family="windows",
        cpu_architecture="x86_64",
        cores=8,
        memory_gib=(8, 16, 16, 32),
        bandwidth_bytes_per_second=30e9,
        products_per_second=200e9,
    ),
    Kind(
        name="desktop",
        share=0.15,
        os_family="linux",
        cpu_architecture="x86_64",
        cores=12,
        memory_gib=(16, 32, 32, 64),
        bandwidth_bytes_per_second=42e9,
        products_per_second=400e9,
    ),
    Kind(
        name="tablet",
        share=0.10,
        os_family="android",
        cpu_architecture="arm64",
        cores=8,
        memory_gib=(4, 6, 8, 12),
        bandwidth_bytes_per_second=12e9,
        products_per_second=45e9,
    ),
    Kind(
        name="single_board",
        share=0.05,
        os_family="linux",
        cpu_architecture="arm64",
        cores=4,
        memory_gib=(4, 8, 16),
        bandwidth_bytes_per_second=5e9,
        products_per_second=15e9,
    ),
)
# Standard deviation of ln(speed) between devices of one kind.
_SPREAD = 0.45
# A device with a fast memory tends to have a fast processor.
_CORRELATION = 0.7


def make_fleet(
    folder: Path,
    *,
    devices: int,
    seed: int,
    runs_per_device: int = 1,
    measurements_per_run: int = 40,
    source: str = "native",
) -> Path:
    """Write the snapshot of a made fleet at ``folder``, in the place of one that is there, and return ``folder``.

    Every device runs ``runs_per_device`` times, of which the last counts.
    """
    assert runs_per_device >= 1
    assert 0 <= measurements_per_run <= MOST_MEASUREMENTS
    limits = current_limits()
    graded = {"verdicts": verdicts_query(limits), "tiers": tiers_query(limits)}
    with publishing(folder) as work, duckdb.connect() as connection:
        _make_constants(connection, limits)
        _set_variables(
            connection, seed=seed, run_count=runs_per_device, measurement_count=measurements_per_run, source=source
        )
        parts: dict[str, list[Part]] = {table: [] for table in TABLES}
        for number, first in enumerate(range(0, max(devices, 1), _PART_DEVICES), start=1):
            connection.register("drawn", _drawn(min(_PART_DEVICES, devices - first), first, seed))
            connection.execute(_SQL.read_text(encoding="utf-8"))
            for view in VIEWS:
                if view.name in graded:  # from the parts of this round that were written before
                    connection.execute(f"CREATE OR REPLACE VIEW made_{view.name} AS {graded[view.name]}")
                columns = [(column.name, column.type) for column in view.columns]
                parts[view.name].append(_write(connection, work, view.name, columns, number))
                connection.read_parquet(str(work / parts[view.name][-1].file)).create_view(view.name)
        for table in FACTS:
            parts[table] = [_write(connection, work, table, _store_columns(connection, _STORE_TABLES[table]), 1)]
        write_manifest(
            work,
            Manifest(
                time=SNAPSHOT_TIME,
                formula_version=FORMULA_VERSION,
                limits_version=limits.version,
                tables={name: tuple(files) for name, files in parts.items()},
            ),
        )
    return folder


def _write(
    connection: duckdb.DuckDBPyConnection, work: Path, table: str, columns: Sequence[tuple[str, str]], number: int
) -> Part:
    """Write what ``made_...`` holds as a part of a table; a column that it lacks is NULL, and without it no row is."""
    made = connection.table(f"made_{table}").columns if _exists(connection, f"made_{table}") else []
    structs = dict(_store_columns(connection, "run") + _store_columns(connection, "measurement"))
    chosen = [
        f'CAST({name if name in made else "NULL"} AS {structs[name] if kind == "STRUCT" else kind}) AS "{name}"'
        for name, kind in columns
    ]
    query = f"SELECT {', '.join(chosen)} " + (f"FROM made_{table}" if made else "WHERE false")
    path = work / table / f"{number:04d}.parquet"
    path.parent.mkdir(exist_ok=True)
    copy = f"COPY ({query}) TO {text(str(path))} {PARQUET}"
    (rows,) = connection.execute(copy).fetchone() or (0,)
    return part_of(work, f"{table}/{path.name}", rows)


def _exists(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    return bool(connection.execute("FROM duckdb_views() SELECT 1 WHERE view_name = $1", [name]).fetchone())


def _store_columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    """Return the columns of a table of the store with their types; an identifier is text in a snapshot."""
    store = connection.table(f"store.{table}")
    kinds = (str(kind).replace("UUID", "VARCHAR") for kind in store.types)
    return list(zip(store.columns, kinds, strict=True))


def _make_constants(connection: duckdb.DuckDBPyConnection, limits: Limits) -> None:
    """Make what is the same for every device: the store's tables, the kinds, the models, the numbers of the limits."""
    connection.execute("CREATE SCHEMA store; USE store")
    for migration in MIGRATIONS:
        connection.execute(migration)
    connection.execute("USE main")
    connection.register("kinds", pa.Table.from_pylist([asdict(kind) for kind in KINDS]))
    connection.register("shapes", pa.Table.from_pylist(_models(limits)))
    connection.execute("CREATE TABLE models AS FROM shapes")
    struct = dict(_store_columns(connection, "measurement"))["architecture"]
    connection.execute(f"ALTER TABLE models ALTER architecture TYPE {struct}")
    _set_variables(
        connection,
        prompt_tokens=limits.prompt_tokens,
        decode_context_depth=limits.decode_context_depth,
        memory_context_tokens=limits.memory_context_tokens,
        encoder_tokens=limits.encoder_tokens,
        interval_probability=limits.interval_probability,
        quantile=NormalDist().inv_cdf(0.5 + limits.interval_probability / 2),
        formula_version=FORMULA_VERSION,
    )


def _set_variables(connection: duckdb.DuckDBPyConnection, **variables: str | float) -> None:
    for name, value in variables.items():
        connection.execute(f"SET VARIABLE {name} = $1", [value])


def _models(limits: Limits) -> list[dict[str, object]]:
    """Return what the reference decoder of every size class takes in each scheme."""
    rows: list[dict[str, object]] = []
    for rank, size_class in enumerate(size_classes()):
        name = size_class.reference or size_class.representative
        for scheme in SCHEMES if name else ():
            shape = architecture(name or "")
            rows.append(
                {
                    "size_class": size_class.name,
                    "rank": rank,
                    "measured": size_class.reference is not None,
                    "model": shape.name,
                    "scheme": str(scheme),
                    "architecture": asdict(shape),
                    "layers": shape.layers,
                    "bytes_read_per_token": bytes_read_per_token(shape, scheme),
                    "cache_bytes_per_token": shape.kv_cache_bytes(1, KV_BYTES_PER_ELEMENT),
                    "products_per_token": shape.layers * shape.layer_weight_count,
                    "memory_bytes": memory_bytes(
                        shape,
                        scheme,
                        context_tokens=limits.memory_context_tokens,
                        prompt_tokens=limits.prompt_tokens,
                    ),
                    "download_bytes": download_bytes(shape, scheme),
                }
            )
    return rows


def _drawn(count: int, first: int, seed: int) -> pa.Table:
    """Return ``count`` devices from number ``first`` on, drawn from the kinds."""
    random = np.random.default_rng([seed, first])
    kind = random.choice(len(KINDS), size=count, p=[kind.share for kind in KINDS])
    memory = np.zeros(count, dtype=np.int64)
    for number, one in enumerate(KINDS):
        memory[kind == number] = random.choice(one.memory_gib, size=int((kind == number).sum()))
    z = random.multivariate_normal([0, 0], [[1, _CORRELATION], [_CORRELATION, 1]], size=count)
    bandwidths = np.array([one.bandwidth_bytes_per_second for one in KINDS])
    products = np.array([one.products_per_second for one in KINDS])
    return pa.table(
        {
            "number": np.arange(first, first + count),
            "kind": np.array([one.name for one in KINDS])[kind],
            "memory_gib": memory,
            "free_share": random.uniform(0.35, 0.85, count),
            "storage_free_gib": random.uniform(1, 200, count),
            "bandwidth": bandwidths[kind] * np.exp(_SPREAD * z[:, 0]),
            "products": products[kind] * np.exp(_SPREAD * z[:, 1]),
            "disturbed": random.random(count) < 0.05,
        }
    )


def main() -> int:
    """Write a made fleet."""
    parser = argparse.ArgumentParser(description="Write the snapshot of a made fleet.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    make_fleet(options.folder, devices=options.devices, seed=options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
