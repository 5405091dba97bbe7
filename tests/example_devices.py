"""Devices and cards for tests of the report, made by hand where a whole snapshot is not needed."""

from datetime import UTC, datetime

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Basis, Card, CardRow, Estimate, Verdict
from weighin_analysis.snapshot import DeviceRecord, Hardware, RunRecord

HARDWARE = Hardware(
    hardware_id="h",
    cpu_model="Cortex-A76",
    cpu_vendor="ARM",
    cpu_architecture="aarch64",
    physical_core_count=4,
    logical_core_count=4,
    instruction_sets=("asimd",),
    caches=(),
    last_level_cache_bytes=None,
    max_frequency_hertz=None,
    memory_total_bytes=4 << 30,
    os_family="linux",
    os_name=None,
    os_version=None,
    os_kernel=None,
    virtualization_kind=None,
    virtualization_product=None,
    python_version=None,
    onnxruntime_version="1.31.0",
    onnx_version=None,
    numpy_version=None,
    accelerators=(),
    execution_providers=(),
    form_factor=None,
)
RUN = RunRecord(
    run_id="019c1c38-a400-7000-8000-000000000001",
    sequence=1,
    receive_time=datetime(2026, 2, 28, 10, 0, tzinfo=UTC),
    observe_time=None,
    elapsed_seconds=None,
    source="native",
    agent_version="0.1.0",
    suite="quick",
    suite_version=1,
    memory_available_bytes=None,
    read_bandwidth_bytes_per_second=None,
    single_thread_read_bandwidth_bytes_per_second=None,
    storage_free_bytes=None,
    before=None,
    after=None,
    measurements=(),
    failures=(),
    gaps=(),
)
DEVICE = DeviceRecord(device_id="0b6f1c1e-6a51-4d0c-9d7e-2f4f5a7c9b10", hardware=HARDWARE, run=RUN, run_count=1)


def card_row(
    size_class: str = "1B",
    verdict: Verdict = Verdict.COMFORTABLE,
    *,
    decode_tokens_per_second: float | None = 20.0,
    kind: ArchitectureKind = ArchitectureKind.DECODER,
    scheme: str = "int4_block32",
) -> CardRow:
    """A row of a card; only what the tests look at may be chosen."""
    decode = decode_tokens_per_second
    return CardRow(
        size_class=size_class,
        architecture=f"a {size_class} model",
        architecture_kind=kind,
        scheme=scheme,
        execution_provider="cpu",
        threads=4,
        decode_tokens_per_second=None
        if decode is None
        else Estimate(value=decode, low=decode / 1.2, high=decode * 1.2),
        prefill_tokens_per_second=None,
        time_to_first_token_seconds=Estimate(value=2.0, low=1.7, high=2.4),
        latency_seconds=None,
        memory_bytes=1 << 30,
        download_bytes=10**9,
        verdict=verdict,
        reasons=(),
        basis=Basis.LAYER_PROBE,
    )


def a_card(*rows: CardRow, tier: str | None = None) -> Card:
    """A card of the given rows."""
    return Card(
        limits_version="test", formula_version="test", headline="A headline.", tier=tier, limited_by=None, rows=rows
    )
