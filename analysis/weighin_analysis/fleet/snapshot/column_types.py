"""The whole type of every column of a snapshot, in DuckDB's words: what an empty table is made from.

The facts are the store's (docs/store.md); a test holds their columns against its tables.
"""

from collections.abc import Mapping

from weighin_analysis.fleet.snapshot.views import VIEWS

_CONDITIONS = """STRUCT(memory_available_bytes BIGINT, foreign_cpu_share FLOAT, steal_cpu_share FLOAT,
power_source VARCHAR, frequency_hertz BIGINT, temperature_celsius FLOAT, canary_matrix_flops DOUBLE,
canary_read_bytes_per_second DOUBLE)"""
_ARCHITECTURE = """STRUCT("name" VARCHAR, kind VARCHAR, layers INTEGER, hidden INTEGER, ffn INTEGER, heads INTEGER,
kv_heads INTEGER, head_dim INTEGER, vocab INTEGER, tied_embeddings BOOLEAN, feed_forward VARCHAR,
query_key_norm BOOLEAN, sandwich_norm BOOLEAN, sliding_window INTEGER, global_layer_interval INTEGER)"""
_STRUCTS = {"before": _CONDITIONS, "after": _CONDITIONS, "architecture": _ARCHITECTURE}


def _types(text: str) -> dict[str, str]:
    """Return {column: type} of lines that each hold both."""
    lines = [line.strip().partition(" ") for line in text.strip().splitlines()]
    return {name: kind for name, _, kind in lines}


_FACTS: Mapping[str, Mapping[str, str]] = {
    "hardware": _types(
        """
        hardware_id VARCHAR
        cpu_model VARCHAR
        cpu_vendor VARCHAR
        cpu_architecture VARCHAR
        physical_core_count INTEGER
        logical_core_count INTEGER
        instruction_sets VARCHAR[]
        caches STRUCT("level" INTEGER, kind VARCHAR, size_bytes BIGINT, instance_count INTEGER)[]
        last_level_cache_bytes BIGINT
        max_frequency_hertz BIGINT
        memory_total_bytes BIGINT
        os_family VARCHAR
        os_name VARCHAR
        os_version VARCHAR
        os_kernel VARCHAR
        virtualization_kind VARCHAR
        virtualization_product VARCHAR
        python_version VARCHAR
        onnxruntime_version VARCHAR
        onnx_version VARCHAR
        numpy_version VARCHAR
        accelerators STRUCT(kind VARCHAR, vendor VARCHAR, model VARCHAR, memory_total_bytes BIGINT, \
driver_version VARCHAR, compute_capability VARCHAR, shares_main_memory BOOLEAN)[]
        execution_providers STRUCT("name" VARCHAR, measured BOOLEAN, reason VARCHAR, adapter VARCHAR, \
is_software BOOLEAN)[]
        form_factor VARCHAR
        """
    ),
    "series": _types(
        """
        run_id VARCHAR
        measurement_ord INTEGER
        ord INTEGER
        part VARCHAR
        round INTEGER
        phase VARCHAR
        token_count INTEGER
        context_depth INTEGER
        clock VARCHAR
        foreign_cpu_share FLOAT
        median_seconds FLOAT
        sample_seconds FLOAT[]
        """
    ),
    "case_failures": _types(
        f"""
        run_id VARCHAR
        ord INTEGER
        architecture {_ARCHITECTURE.replace(chr(10), " ")}
        scheme VARCHAR
        execution_provider VARCHAR
        threads INTEGER
        probe_layers INTEGER
        head_columns INTEGER
        reason VARCHAR
        detail VARCHAR
        short_probe_layers INTEGER
        """
    ),
    "probe_gaps": _types(
        """
        run_id VARCHAR
        ord INTEGER
        fact VARCHAR
        reason VARCHAR
        detail VARCHAR
        """
    ),
}


def column_types(table: str) -> Mapping[str, str]:
    """Return {column: type} of a view or of a table of facts, in order."""
    views = {view.name: view for view in VIEWS}
    if table in _FACTS:
        return _FACTS[table]
    return {one.name: _STRUCTS[one.name] if one.type == "STRUCT" else one.type for one in views[table].columns}
