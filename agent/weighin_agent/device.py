"""What a device is: the facts of ``weighin.v1.Device`` as Python values.

A fact that could not be read is None and a `ProbeGap` says why; 0 is always a real zero. Sizes are whole bytes.
Nothing here identifies a person or one copy of a machine.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class CacheKind(StrEnum):
    """What a processor cache holds."""

    DATA = "data"
    INSTRUCTION = "instruction"
    UNIFIED = "unified"


class VirtualizationKind(StrEnum):
    """What stands between the operating system and the hardware, as far as the system can tell."""

    NONE = "none"
    VIRTUAL_MACHINE = "virtual_machine"
    CONTAINER = "container"
    CONTAINER_IN_VIRTUAL_MACHINE = "container_in_virtual_machine"


class FormFactor(StrEnum):
    """What the device is to a person, as the system's firmware or maker says."""

    DESKTOP = "desktop"
    LAPTOP = "laptop"
    SERVER = "server"
    PHONE = "phone"
    TABLET = "tablet"
    SINGLE_BOARD = "single_board"
    VIRTUAL_MACHINE = "virtual_machine"


class AcceleratorKind(StrEnum):
    """A graphics processor or a neural processor."""

    GPU = "gpu"
    NPU = "npu"


class ProbeGapReason(StrEnum):
    """Why a fact could not be read."""

    NOT_IMPLEMENTED = "not_implemented"
    NOT_OFFERED = "not_offered"
    PERMISSION_DENIED = "permission_denied"
    TIMED_OUT = "timed_out"
    READ_FAILED = "read_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeGap:
    """A fact that could not be read, and why.

    ``fact`` is the path of the field, for example "cpu.max_frequency_hertz"; ``detail`` is one line for a person,
    without a path, a name or an address. Beside a fact that was read, a gap says in what it falls short.
    """

    fact: str
    reason: ProbeGapReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """All caches of one level and kind: the size of one instance, and how many instances this system may use."""

    level: int
    kind: CacheKind
    size_bytes: int
    instance_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The central processor, counted as this system may use it (affinity applied).

    ``instruction_sets`` names only those that decide which matrix kernels run, lower case and sorted.
    """

    model: str | None = None
    vendor: str | None = None
    architecture: str | None = None
    physical_core_count: int | None = None
    logical_core_count: int | None = None
    instruction_sets: tuple[str, ...] = ()
    caches: tuple[Cache, ...] = ()
    max_frequency_hertz: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Main memory, and the rate at which it was read: with a thread on every physical core, and with one thread."""

    total_bytes: int | None = None
    available_bytes: int | None = None
    read_bandwidth_bytes_per_second: float | None = None
    single_thread_read_bandwidth_bytes_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Free space for an ordinary user where models would be kept, rounded down to 64 MiB."""

    free_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingSystem:
    """``family`` is "linux", "windows", "macos", "android", or the system's own name in lower case."""

    family: str
    name: str | None = None
    version: str | None = None
    kernel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Virtualization:
    """``product`` is for example "kvm", "wsl", "docker", or "docker in kvm"; None when it is not named."""

    kind: VirtualizationKind
    product: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A GPU or NPU; its memory is None where it has none of its own.

    ``shares_main_memory`` is True where it works in main memory, as integrated GPUs and NPUs do, even if the firmware
    sets a part of it aside; None if unknown.
    """

    kind: AcceleratorKind
    vendor: str | None = None
    model: str | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    driver_version: str | None = None
    compute_capability: str | None = None
    shares_main_memory: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionProvider:
    """What the runtime on this device offers; ``reason`` says why it is not measured and is empty when it is.

    ``adapter`` is the device behind it as the driver names it, None for the processor itself. ``is_software`` tells
    that the adapter is a program on the processor: such numbers never count in tiers.
    """

    name: str
    measured: bool
    reason: str = ""
    adapter: str | None = None
    is_software: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeVersions:
    """Versions of what decides a timing; ``python`` for example "CPython 3.11.7"."""

    python: str | None = None
    onnxruntime: str | None = None
    onnx: str | None = None
    numpy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One physical or virtual machine as its own operating system describes it."""

    cpu: Cpu
    memory: Memory
    storage: Storage
    operating_system: OperatingSystem
    virtualization: Virtualization | None
    accelerators: tuple[Accelerator, ...]
    execution_providers: tuple[ExecutionProvider, ...]
    runtime_versions: RuntimeVersions
    form_factor: FormFactor | None = None


def last_level_cache(cpu: Cpu) -> Cache | None:
    """Return the cache nearest to memory, None if no cache is known."""
    holding_data = [cache for cache in cpu.caches if cache.kind is not CacheKind.INSTRUCTION]
    return max(holding_data, key=lambda cache: cache.level, default=None)


def usable_core_count(cpu: Cpu, quota_cores: float | None) -> int:
    """Return how many threads can run all the time: one for each physical core, fewer under a container's quota."""
    core_count = cpu.physical_core_count or cpu.logical_core_count or 1
    return core_count if quota_cores is None else min(core_count, max(1, math.floor(quota_cores)))
