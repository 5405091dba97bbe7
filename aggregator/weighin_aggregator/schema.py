"""The tables of the store: data definition as text, and the order of its versions.

Migrations are only ever appended. Each runs in one transaction together with the row that records it.
Times are UTC. Enums are lower-case words without their prefix. NULL means that the device did not tell.
"""

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

MIGRATIONS = (_FIRST,)

VERSION_TABLE = "CREATE TABLE IF NOT EXISTS migration(version INTEGER PRIMARY KEY, applied_time TIMESTAMP NOT NULL)"

# What a snapshot takes from each table. Identifiers become text, which every reader of Parquet understands; the raw
# bytes stay in the store.
PUBLIC_QUERIES = {
    "run": "SELECT * EXCLUDE (raw) REPLACE (run_id::VARCHAR AS run_id, device_id::VARCHAR AS device_id, "
    "hardware_id::VARCHAR AS hardware_id, lower(hex(run_sha256)) AS run_sha256) FROM run",
    "hardware": "SELECT * REPLACE (hardware_id::VARCHAR AS hardware_id) FROM hardware",
    "measurement": "SELECT * REPLACE (run_id::VARCHAR AS run_id) FROM measurement",
    "series": "SELECT * REPLACE (run_id::VARCHAR AS run_id) FROM series",
    "case_failure": "SELECT * REPLACE (run_id::VARCHAR AS run_id) FROM case_failure",
    "probe_gap": "SELECT * REPLACE (run_id::VARCHAR AS run_id) FROM probe_gap",
}
TABLES = tuple(PUBLIC_QUERIES)
