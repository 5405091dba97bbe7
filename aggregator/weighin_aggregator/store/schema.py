"""The tables of the store: data definition as text, and the order of its versions.

Migrations are only ever appended. Each runs in one transaction together with the row that records it.
Times are UTC. Enums are lower-case words without their prefix. NULL means that the device did not tell.
"""

from weighin_aggregator.store.identity_schema import IDENTITY_TABLES
from weighin_aggregator.store.upkeep_schema import UPKEEP_TABLES

_CONDITIONS = """STRUCT(
    memory_available_bytes BIGINT, foreign_cpu_share FLOAT, steal_cpu_share FLOAT, power_source VARCHAR,
    frequency_hertz BIGINT, temperature_celsius FLOAT,
    canary_matrix_flops DOUBLE, canary_read_bytes_per_second DOUBLE)"""

_ARCHITECTURE = """STRUCT(
    name VARCHAR, kind VARCHAR, layers INTEGER, hidden INTEGER, ffn INTEGER, heads INTEGER, kv_heads INTEGER,
    head_dim INTEGER, vocab INTEGER, tied_embeddings BOOLEAN)"""

# `raw` holds the bytes of a run as they came, so that every other table can be derived again. DuckDB is told not to
# compress it: versions that try make every checkpoint many times slower and gain little on protobuf.
# Only `run` and `hardware` have a key: a run's row decides whether the rest of it is new.
_FIRST = f"""
CREATE TABLE run(
    run_id UUID PRIMARY KEY, device_id UUID NOT NULL, sequence BIGINT NOT NULL,
    receive_time TIMESTAMP NOT NULL, observe_time TIMESTAMP NOT NULL, elapsed_seconds DOUBLE NOT NULL,
    source VARCHAR NOT NULL, schema_version INTEGER NOT NULL, agent_version VARCHAR NOT NULL,
    consent_version INTEGER NOT NULL, suite VARCHAR NOT NULL, suite_version INTEGER NOT NULL,
    suite_sha256 VARCHAR NOT NULL, hardware_id UUID NOT NULL,
    attempt_count INTEGER NOT NULL, send_time TIMESTAMP, spool_dropped_count BIGINT NOT NULL,
    spool_quarantined_count BIGINT NOT NULL, memory_available_bytes BIGINT,
    read_bandwidth_bytes_per_second DOUBLE, single_thread_read_bandwidth_bytes_per_second DOUBLE,
    storage_free_bytes BIGINT, accelerator_memory_available_bytes BIGINT[] NOT NULL,
    "before" {_CONDITIONS}, "after" {_CONDITIONS},
    run_sha256 BLOB NOT NULL, raw BLOB NOT NULL USING COMPRESSION uncompressed);

CREATE TABLE hardware(
    hardware_id UUID PRIMARY KEY, cpu_model VARCHAR, cpu_vendor VARCHAR, cpu_architecture VARCHAR,
    physical_core_count INTEGER, logical_core_count INTEGER, instruction_sets VARCHAR[],
    caches STRUCT(level INTEGER, kind VARCHAR, size_bytes BIGINT, instance_count INTEGER)[],
    last_level_cache_bytes BIGINT, max_frequency_hertz BIGINT, memory_total_bytes BIGINT,
    os_family VARCHAR, os_name VARCHAR, os_version VARCHAR, os_kernel VARCHAR,
    virtualization_kind VARCHAR, virtualization_product VARCHAR,
    python_version VARCHAR, onnxruntime_version VARCHAR, onnx_version VARCHAR, numpy_version VARCHAR,
    accelerators STRUCT(
        kind VARCHAR, vendor VARCHAR, model VARCHAR, memory_total_bytes BIGINT, driver_version VARCHAR,
        compute_capability VARCHAR)[],
    execution_providers STRUCT(name VARCHAR, measured BOOLEAN, reason VARCHAR)[]);

CREATE TABLE measurement(
    run_id UUID NOT NULL, ord INTEGER NOT NULL, architecture {_ARCHITECTURE}, scheme VARCHAR NOT NULL,
    requested_execution_provider VARCHAR NOT NULL, execution_provider VARCHAR NOT NULL, threads INTEGER NOT NULL,
    probe_layers INTEGER NOT NULL, head_columns INTEGER NOT NULL,
    layers_graph_sha256 VARCHAR, head_graph_sha256 VARCHAR,
    phase VARCHAR NOT NULL, token_count INTEGER NOT NULL, context_depth INTEGER NOT NULL, peak_memory_bytes BIGINT);

CREATE TABLE series(
    run_id UUID NOT NULL, measurement_ord INTEGER NOT NULL, ord INTEGER NOT NULL, part VARCHAR NOT NULL,
    round INTEGER NOT NULL, phase VARCHAR NOT NULL, token_count INTEGER NOT NULL, context_depth INTEGER NOT NULL,
    clock VARCHAR NOT NULL, foreign_cpu_share FLOAT, median_seconds FLOAT, sample_seconds FLOAT[] NOT NULL);

CREATE TABLE case_failure(
    run_id UUID NOT NULL, ord INTEGER NOT NULL, architecture {_ARCHITECTURE}, scheme VARCHAR NOT NULL,
    execution_provider VARCHAR NOT NULL, threads INTEGER NOT NULL, probe_layers INTEGER NOT NULL,
    head_columns INTEGER NOT NULL, reason VARCHAR NOT NULL, detail VARCHAR NOT NULL);

CREATE TABLE probe_gap(
    run_id UUID NOT NULL, ord INTEGER NOT NULL, fact VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    detail VARCHAR NOT NULL);
"""

# What blocks an architecture is made of, the shorter layer probe, and what stands behind an execution provider. A run
# of before ran SwiGLU in every decoder and GELU in every encoder, had one layer probe, and no software adapter.
_ARCHITECTURE_BLOCKS = """
ALTER TABLE {table} ALTER COLUMN architecture SET DATA TYPE STRUCT(
    name VARCHAR, kind VARCHAR, layers INTEGER, hidden INTEGER, ffn INTEGER, heads INTEGER, kv_heads INTEGER,
    head_dim INTEGER, vocab INTEGER, tied_embeddings BOOLEAN, feed_forward VARCHAR, query_key_norm BOOLEAN,
    sandwich_norm BOOLEAN, sliding_window INTEGER, global_layer_interval INTEGER)
USING struct_insert(
    architecture, feed_forward := CASE architecture['kind'] WHEN 'encoder' THEN 'gelu' ELSE 'swiglu' END,
    query_key_norm := false, sandwich_norm := false, sliding_window := NULL, global_layer_interval := NULL);
"""
_SHORT_PROBE = """
ALTER TABLE {table} ADD COLUMN short_probe_layers INTEGER DEFAULT 0;
ALTER TABLE {table} ALTER COLUMN short_probe_layers SET NOT NULL;
ALTER TABLE {table} ALTER COLUMN short_probe_layers DROP DEFAULT;
"""
_SECOND = f"""
{_ARCHITECTURE_BLOCKS.format(table="measurement")}
{_SHORT_PROBE.format(table="measurement")}
ALTER TABLE measurement ADD COLUMN short_layers_graph_sha256 VARCHAR;
ALTER TABLE measurement ADD COLUMN output_correlation DOUBLE;
ALTER TABLE measurement ADD COLUMN output_relative_rms DOUBLE;

{_ARCHITECTURE_BLOCKS.format(table="case_failure")}
{_SHORT_PROBE.format(table="case_failure")}

ALTER TABLE hardware ALTER COLUMN accelerators SET DATA TYPE STRUCT(
    kind VARCHAR, vendor VARCHAR, model VARCHAR, memory_total_bytes BIGINT, driver_version VARCHAR,
    compute_capability VARCHAR, shares_main_memory BOOLEAN)[]
USING list_transform(accelerators, lambda one: struct_insert(one, shares_main_memory := NULL));
ALTER TABLE hardware ALTER COLUMN execution_providers SET DATA TYPE STRUCT(
    name VARCHAR, measured BOOLEAN, reason VARCHAR, adapter VARCHAR, is_software BOOLEAN)[]
USING list_transform(execution_providers, lambda one: struct_insert(one, adapter := NULL, is_software := false));
ALTER TABLE hardware ADD COLUMN form_factor VARCHAR;
"""

MIGRATIONS = (_FIRST, _SECOND, IDENTITY_TABLES, UPKEEP_TABLES)

VERSION_TABLE = "CREATE TABLE IF NOT EXISTS migration(version INTEGER PRIMARY KEY, applied_time TIMESTAMP NOT NULL)"

# What a snapshot takes of the runs of the table `new_run`, which numbers them, and of the hardware of `new_hardware`:
# columns as the public views and docs/store.md say. Identifiers become text, which every reader of Parquet understands;
# the raw bytes stay. The times of a measurement are those of its full model, or of its layers: a sample that is no time
# is no sample.
_MEASUREMENTS = """
WITH sample AS (
    SELECT run_id, measurement_ord AS ord, part = 'full_model' AS is_full_model, unnest(sample_seconds) AS seconds
    FROM series SEMI JOIN new_run USING (run_id) WHERE part IN ('layers', 'full_model')),
summary AS (
    SELECT run_id, ord, is_full_model, count(*) AS sample_count, median(seconds)::DOUBLE AS median_seconds
    FROM sample WHERE isfinite(seconds) AND seconds > 0 GROUP BY ALL),
of_measurement AS (
    SELECT run_id, ord, max_by(summary, is_full_model) AS best FROM summary GROUP BY ALL)
SELECT m.run_id::VARCHAR AS run_id, n.run_number, r.device_id::VARCHAR AS device_id, r.source, m.ord,
    m.architecture['name'] AS model, CASE WHEN best['is_full_model'] THEN 'full_model' ELSE 'layer_probe' END AS kind,
    m.scheme, 'onnxruntime' AS runtime, m.requested_execution_provider, m.execution_provider, m.threads, m.phase,
    m.token_count, m.context_depth, coalesce(best['sample_count'], 0)::INTEGER AS sample_count,
    best['median_seconds'] AS median_seconds,
    CASE WHEN best['is_full_model'] THEN m.token_count / best['median_seconds'] END AS tokens_per_second,
    m.peak_memory_bytes, m.output_correlation, m.output_relative_rms, m.probe_layers, m.short_probe_layers,
    m.head_columns, m.layers_graph_sha256, m.short_layers_graph_sha256, m.head_graph_sha256, m.architecture
FROM measurement m JOIN new_run n USING (run_id) JOIN run r USING (run_id)
LEFT JOIN of_measurement o ON o.run_id = m.run_id AND o.ord = m.ord
"""
PUBLIC_QUERIES = {
    "runs": "SELECT run_id::VARCHAR AS run_id, run_number, * EXCLUDE (run_id, run_number, raw) "
    "REPLACE (device_id::VARCHAR AS device_id, hardware_id::VARCHAR AS hardware_id, "
    "lower(hex(run_sha256)) AS run_sha256) FROM run JOIN new_run USING (run_id)",
    "hardware": "SELECT * REPLACE (hardware_id::VARCHAR AS hardware_id) "
    "FROM hardware SEMI JOIN new_hardware USING (hardware_id)",
    "measurements": _MEASUREMENTS,
    "series": "SELECT * REPLACE (run_id::VARCHAR AS run_id) FROM series SEMI JOIN new_run USING (run_id)",
    "case_failures": "SELECT * REPLACE (run_id::VARCHAR AS run_id) FROM case_failure SEMI JOIN new_run USING (run_id)",
    "probe_gaps": "SELECT * REPLACE (run_id::VARCHAR AS run_id) FROM probe_gap SEMI JOIN new_run USING (run_id)",
}
