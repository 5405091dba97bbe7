"""The columns of every table as Arrow sees them: same names and order as ``schema``, identifiers as text."""

import pyarrow as pa

_TEXT: pa.DataType = pa.string()
_INT: pa.DataType = pa.int32()
_BIGINT: pa.DataType = pa.int64()
_FLOAT: pa.DataType = pa.float32()
_DOUBLE: pa.DataType = pa.float64()
_BYTES: pa.DataType = pa.binary()
_FLAG: pa.DataType = pa.bool_()
_TIME: pa.DataType = pa.timestamp("us")


def _struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct(list(fields.items()))


def _schema(**fields: pa.DataType) -> pa.Schema:
    return pa.schema(list(fields.items()))


CONDITIONS = _struct(
    memory_available_bytes=_BIGINT,
    foreign_cpu_share=_FLOAT,
    steal_cpu_share=_FLOAT,
    power_source=_TEXT,
    frequency_hertz=_BIGINT,
    temperature_celsius=_FLOAT,
    canary_matrix_flops=_DOUBLE,
    canary_read_bytes_per_second=_DOUBLE,
)
ARCHITECTURE = _struct(
    name=_TEXT,
    kind=_TEXT,
    layers=_INT,
    hidden=_INT,
    ffn=_INT,
    heads=_INT,
    kv_heads=_INT,
    head_dim=_INT,
    vocab=_INT,
    tied_embeddings=_FLAG,
    feed_forward=_TEXT,
    query_key_norm=_FLAG,
    sandwich_norm=_FLAG,
    sliding_window=_INT,
    global_layer_interval=_INT,
)
_CACHE = _struct(level=_INT, kind=_TEXT, size_bytes=_BIGINT, instance_count=_INT)
_ACCELERATOR = _struct(
    kind=_TEXT,
    vendor=_TEXT,
    model=_TEXT,
    memory_total_bytes=_BIGINT,
    driver_version=_TEXT,
    compute_capability=_TEXT,
    shares_main_memory=_FLAG,
)
_EXECUTION_PROVIDER = _struct(name=_TEXT, measured=_FLAG, reason=_TEXT, adapter=_TEXT, is_software=_FLAG)

RUN = _schema(
    run_id=_TEXT,
    device_id=_TEXT,
    sequence=_BIGINT,
    receive_time=_TIME,
    observe_time=_TIME,
    elapsed_seconds=_DOUBLE,
    source=_TEXT,
    schema_version=_INT,
    agent_version=_TEXT,
    consent_version=_INT,
    suite=_TEXT,
    suite_version=_INT,
    suite_sha256=_TEXT,
    hardware_id=_TEXT,
    attempt_count=_INT,
    send_time=_TIME,
    spool_dropped_count=_BIGINT,
    spool_quarantined_count=_BIGINT,
    memory_available_bytes=_BIGINT,
    read_bandwidth_bytes_per_second=_DOUBLE,
    single_thread_read_bandwidth_bytes_per_second=_DOUBLE,
    storage_free_bytes=_BIGINT,
    accelerator_memory_available_bytes=pa.list_(_BIGINT),
    before=CONDITIONS,
    after=CONDITIONS,
    run_sha256=_BYTES,
    raw=_BYTES,
)
HARDWARE = _schema(
    hardware_id=_TEXT,
    cpu_model=_TEXT,
    cpu_vendor=_TEXT,
    cpu_architecture=_TEXT,
    physical_core_count=_INT,
    logical_core_count=_INT,
    instruction_sets=pa.list_(_TEXT),
    caches=pa.list_(_CACHE),
    last_level_cache_bytes=_BIGINT,
    max_frequency_hertz=_BIGINT,
    memory_total_bytes=_BIGINT,
    os_family=_TEXT,
    os_name=_TEXT,
    os_version=_TEXT,
    os_kernel=_TEXT,
    virtualization_kind=_TEXT,
    virtualization_product=_TEXT,
    python_version=_TEXT,
    onnxruntime_version=_TEXT,
    onnx_version=_TEXT,
    numpy_version=_TEXT,
    accelerators=pa.list_(_ACCELERATOR),
    execution_providers=pa.list_(_EXECUTION_PROVIDER),
    form_factor=_TEXT,
)
MEASUREMENT = _schema(
    run_id=_TEXT,
    ord=_INT,
    architecture=ARCHITECTURE,
    scheme=_TEXT,
    requested_execution_provider=_TEXT,
    execution_provider=_TEXT,
    threads=_INT,
    probe_layers=_INT,
    head_columns=_INT,
    layers_graph_sha256=_TEXT,
    head_graph_sha256=_TEXT,
    phase=_TEXT,
    token_count=_INT,
    context_depth=_INT,
    peak_memory_bytes=_BIGINT,
    short_probe_layers=_INT,
    short_layers_graph_sha256=_TEXT,
    output_correlation=_DOUBLE,
    output_relative_rms=_DOUBLE,
)
_CASE = {
    "architecture", "scheme", "requested_execution_provider", "threads", "probe_layers", "head_columns",
    "layers_graph_sha256", "head_graph_sha256", "short_probe_layers", "short_layers_graph_sha256",
}  # fmt: skip
# What a measurement shares with all others of its case.
MEASURED_CASE = pa.schema([field for field in MEASUREMENT if field.name in _CASE])
# The two columns of a series that ``records`` computes from all samples at once come last.
SERIES = _schema(
    run_id=_TEXT,
    measurement_ord=_INT,
    ord=_INT,
    part=_TEXT,
    round=_INT,
    phase=_TEXT,
    token_count=_INT,
    context_depth=_INT,
    clock=_TEXT,
    foreign_cpu_share=_FLOAT,
    median_seconds=_FLOAT,
    sample_seconds=pa.list_(_FLOAT),
)
CASE_FAILURE = _schema(
    run_id=_TEXT,
    ord=_INT,
    architecture=ARCHITECTURE,
    scheme=_TEXT,
    execution_provider=_TEXT,
    threads=_INT,
    probe_layers=_INT,
    head_columns=_INT,
    reason=_TEXT,
    detail=_TEXT,
    short_probe_layers=_INT,
)
PROBE_GAP = _schema(run_id=_TEXT, ord=_INT, fact=_TEXT, reason=_TEXT, detail=_TEXT)
