"""The rules of the contract about a device and about what could not be read from it."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from google.protobuf.message import Message

from weighin.v1 import device_pb2
from weighin_aggregator.intake.hardware import lasting_part
from weighin_aggregator.intake.rules import (
    at_least,
    at_most,
    at_most_entries,
    free_text,
    one_line,
    positive,
    stated,
    stated_values,
    version,
)
from weighin_aggregator.limits import Limits

_CACHE_KINDS = stated_values(device_pb2.CacheKind)
_VIRTUALIZATION_KINDS = stated_values(device_pb2.VirtualizationKind)
_ACCELERATOR_KINDS = stated_values(device_pb2.AcceleratorKind)
_FORM_FACTORS = stated_values(device_pb2.FormFactor) | {device_pb2.FORM_FACTOR_UNSPECIFIED}
_GAP_REASONS = stated_values(device_pb2.ProbeGapReason)
# A device sends what has gathered in its spool at once. What keeps the rules has some hundred bytes.
_REMEMBERED_DEVICES, _REMEMBERED_BYTES = 1_024, 4_096


def sizes(device: device_pb2.Device, limits: Limits) -> Iterator[str]:
    """Find lists that are too long to be walked through."""
    yield from at_most_entries("device.accelerators", device.accelerators, limits.accelerators)
    yield from at_most_entries("device.execution_providers", device.execution_providers, limits.execution_providers)
    yield from at_most_entries("device.cpu.caches", device.cpu.caches, limits.caches)
    yield from at_most_entries("device.cpu.instruction_sets", device.cpu.instruction_sets, limits.instruction_sets)


def device(device: device_pb2.Device, limits: Limits) -> Iterator[str]:
    """Check a device. A fact may be absent; one that is present must say something."""
    data = lasting_part(device)
    yield from _broken_by_lasting_part(data, limits) if len(data) <= _REMEMBERED_BYTES else _lasting(device, limits)
    yield from at_least("device.memory.available_bytes", device.memory.available_bytes, 0)
    for name in ("read_bandwidth_bytes_per_second", "single_thread_read_bandwidth_bytes_per_second"):
        if device.memory.HasField(name):
            yield from positive(f"device.memory.{name}", getattr(device.memory, name))
    yield from at_least("device.storage.free_bytes", device.storage.free_bytes, 0)
    for index, accelerator in enumerate(device.accelerators):
        path = f"device.accelerators[{index}].memory_available_bytes"
        yield from at_least(path, accelerator.memory_available_bytes, 0)


@lru_cache(_REMEMBERED_DEVICES)
def _broken_by_lasting_part(data: bytes, limits: Limits) -> tuple[str, ...]:
    return tuple(_lasting(device_pb2.Device.FromString(data), limits))


def _lasting(device: device_pb2.Device, limits: Limits) -> Iterator[str]:
    yield from _cpu(device.cpu, limits)
    yield from _counts("device.memory", device.memory, ("total_bytes",))
    if device.HasField("operating_system"):
        system = device.operating_system
        yield from free_text("device.operating_system.family", system.family, limits)
        yield from _texts("device.operating_system", system, ("name",), limits)
        yield from _versions("device.operating_system", system, ("version", "kernel"), limits)
    if device.HasField("virtualization"):
        yield from stated("device.virtualization.kind", device.virtualization.kind, _VIRTUALIZATION_KINDS)
        yield from _texts("device.virtualization", device.virtualization, ("product",), limits)
    for index, accelerator in enumerate(device.accelerators):
        yield from _accelerator(f"device.accelerators[{index}]", accelerator, limits)
    for index, provider in enumerate(device.execution_providers):
        yield from _execution_provider(f"device.execution_providers[{index}]", provider, limits)
    versions = ("python", "onnxruntime", "onnx", "numpy")
    yield from _versions("device.runtime_versions", device.runtime_versions, versions, limits)
    yield from stated("device.form_factor", device.form_factor, _FORM_FACTORS)


def probe_gaps(gaps: Sequence[device_pb2.ProbeGap], limits: Limits) -> Iterator[str]:
    """Check that each gap names a fact and a reason; the detail may be empty."""
    for index, gap in enumerate(gaps):
        path = f"probe_gaps[{index}]"
        if not gap.fact:
            yield f"{path}.fact: must not be empty"
        yield from one_line(f"{path}.fact", gap.fact, limits)
        yield from stated(f"{path}.reason", gap.reason, _GAP_REASONS)
        yield from one_line(f"{path}.detail", gap.detail, limits)


def _texts(path: str, message: Message, names: tuple[str, ...], limits: Limits) -> Iterator[str]:
    """Check optional names of a message: absence is never written as an empty text."""
    for name in names:
        if message.HasField(name):
            yield from free_text(f"{path}.{name}", getattr(message, name), limits)


def _versions(path: str, message: Message, names: tuple[str, ...], limits: Limits) -> Iterator[str]:
    """Check optional versions of a message, like ``_texts``."""
    for name in names:
        if message.HasField(name):
            yield from version(f"{path}.{name}", getattr(message, name), limits)


def _counts(path: str, message: Message, names: tuple[str, ...]) -> Iterator[str]:
    """Check optional counts of a message: absence is never written as 0."""
    for name in names:
        if message.HasField(name):
            yield from at_least(f"{path}.{name}", getattr(message, name), 1)


def _cpu(cpu: device_pb2.Cpu, limits: Limits) -> Iterator[str]:
    yield from _texts("device.cpu", cpu, ("model", "vendor", "architecture"), limits)
    yield from _counts("device.cpu", cpu, ("physical_core_count", "logical_core_count", "max_frequency_hertz"))
    for index, name in enumerate(cpu.instruction_sets):
        yield from free_text(f"device.cpu.instruction_sets[{index}]", name, limits)
    for index, cache in enumerate(cpu.caches):
        path = f"device.cpu.caches[{index}]"
        yield from at_least(f"{path}.level", cache.level, 1)
        yield from stated(f"{path}.kind", cache.kind, _CACHE_KINDS)
        for name, most in (("size_bytes", limits.cache_bytes), ("instance_count", limits.cache_instances)):
            yield from at_least(f"{path}.{name}", getattr(cache, name), 1)
            yield from at_most(f"{path}.{name}", getattr(cache, name), most)


def _accelerator(path: str, accelerator: device_pb2.Accelerator, limits: Limits) -> Iterator[str]:
    yield from stated(f"{path}.kind", accelerator.kind, _ACCELERATOR_KINDS)
    yield from _texts(path, accelerator, ("vendor", "model"), limits)
    yield from _versions(path, accelerator, ("driver_version", "compute_capability"), limits)
    yield from _counts(path, accelerator, ("memory_total_bytes",))


def _execution_provider(path: str, provider: device_pb2.ExecutionProvider, limits: Limits) -> Iterator[str]:
    yield from free_text(f"{path}.name", provider.name, limits)
    yield from one_line(f"{path}.reason", provider.reason, limits)
    if provider.measured and provider.reason:
        yield f"{path}.reason: must be empty when the execution provider is measured"
    if not provider.measured and not provider.reason:
        yield f"{path}.reason: must say why the execution provider is not measured"
    if provider.HasField("adapter"):
        if not provider.adapter:
            yield f"{path}.adapter: must not be empty"
        # Drivers write names with commas and colons.
        yield from one_line(f"{path}.adapter", provider.adapter, limits)
