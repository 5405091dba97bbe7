"""A store as the first version of the aggregator made it."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from weighin_aggregator.store.engine import attach, connect
from weighin_aggregator.store.schema import MIGRATIONS, VERSION_TABLE


def packed(value: str, names: str) -> str:
    """The struct of these fields alone of a value."""
    return f"struct_pack({', '.join(f'{name} := {value}.{name}' for name in names.split())})"


ARCHITECTURE = packed("architecture", "name kind layers hidden ffn heads kv_heads head_dim vocab tied_embeddings")
ACCELERATOR = packed("one", "kind vendor model memory_total_bytes driver_version compute_capability")
PROVIDER = packed("one", "name measured reason")
# What the columns of the first version say of rows as they are now.
FIRST_COLUMNS = {
    "run": "*",
    "hardware": "DISTINCT ON (hardware_id) * EXCLUDE (form_factor) REPLACE ("
    f"list_transform(accelerators, lambda one: {ACCELERATOR}) AS accelerators, "
    f"list_transform(execution_providers, lambda one: {PROVIDER}) AS execution_providers)",
    "measurement": "* EXCLUDE (short_probe_layers, short_layers_graph_sha256, output_correlation, output_relative_rms) "
    f"REPLACE ({ARCHITECTURE} AS architecture)",
    "series": "*",
    "case_failure": f"* EXCLUDE (short_probe_layers) REPLACE ({ARCHITECTURE} AS architecture)",
    "probe_gap": "*",
}


def make_store_of_the_first_version(data: Path, rows: Mapping[str, pa.Table]) -> None:
    """Make a data directory as the first aggregator left it, with these rows."""
    data.mkdir()
    with connect(data / "weighin.duckdb") as connection:
        attach(connection, data / "weighin.duckdb", "store")
        connection.execute(VERSION_TABLE)
        connection.execute(MIGRATIONS[0])
        connection.execute("INSERT INTO migration VALUES (1, now()::TIMESTAMP)")
        for name, columns_ in FIRST_COLUMNS.items():
            connection.register("given", rows[name])
            connection.execute(f"INSERT INTO {name} BY NAME SELECT {columns_} FROM given")
            connection.unregister("given")
