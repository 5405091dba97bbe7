"""What a snapshot says about a fleet: hardware and runs, as `fleet/snapshot/rows.py` makes them of its rows.

Facts only. What could not be read on a device is None here, and its ``ProbeGap`` says why. Bytes are integers, shares
are 0 to 1, times are aware and in UTC.
"""

from dataclasses import dataclass
from datetime import datetime

from weighin_analysis.conditions import Conditions
from weighin_analysis.measurement import Case, Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """One level and kind of processor cache; ``size_bytes`` is one instance."""

    level: int
    kind: str | None
    size_bytes: int
    instance_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A GPU or NPU; ``memory_total_bytes`` is None where it shares main memory.

    ``shares_main_memory`` is None where that is not known.
    """

    kind: str | None
    vendor: str | None
    model: str | None
    memory_total_bytes: int | None
    driver_version: str | None
    compute_capability: str | None
    shares_main_memory: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionProvider:
    """What the runtime offers; ``reason`` says why it was not measured, None when it was.

    ``adapter`` is the device behind it as its driver names it, None for the processor itself; ``is_software`` tells
    that it is a program on the processor.
    """

    name: str
    measured: bool
    reason: str | None
    adapter: str | None
    is_software: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One kind of machine as its own operating system describes it, with the library versions that decide a timing."""

    hardware_id: str
    cpu_model: str | None
    cpu_vendor: str | None
    cpu_architecture: str | None
    physical_core_count: int | None
    logical_core_count: int | None
    instruction_sets: tuple[str, ...]
    caches: tuple[Cache, ...]
    last_level_cache_bytes: int | None
    max_frequency_hertz: int | None
    memory_total_bytes: int | None
    os_family: str | None
    os_name: str | None
    os_version: str | None
    os_kernel: str | None
    virtualization_kind: str | None
    virtualization_product: str | None
    python_version: str | None
    onnxruntime_version: str | None
    onnx_version: str | None
    numpy_version: str | None
    accelerators: tuple[Accelerator, ...]
    execution_providers: tuple[ExecutionProvider, ...]
    form_factor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeGap:
    """A fact that could not be read, and why."""

    fact: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFailure:
    """A case that gave no measurement, and why. ``memory_gate`` is an answer about the device, not a fault."""

    case: Case
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One execution of a suite on one device.

    ``observe_time`` and ``send_time`` are by the device's clock, ``receive_time`` is by ours.
    """

    run_id: str
    run_number: int
    sequence: int
    receive_time: datetime
    observe_time: datetime | None
    elapsed_seconds: float | None
    source: str
    agent_version: str
    suite: str
    suite_version: int
    memory_available_bytes: int | None
    read_bandwidth_bytes_per_second: float | None
    single_thread_read_bandwidth_bytes_per_second: float | None
    storage_free_bytes: int | None
    accelerator_memory_available_bytes: tuple[int | None, ...]
    before: Conditions | None
    after: Conditions | None
    measurements: tuple[Measurement, ...]
    failures: tuple[CaseFailure, ...]
    gaps: tuple[ProbeGap, ...]
    send_time: datetime | None = None
