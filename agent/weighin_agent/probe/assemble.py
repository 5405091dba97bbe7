"""Puts the device together from the readers of this operating system."""

import platform
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from weighin_agent.device import Cpu, Device, Memory, ProbeGap, ProbeGapReason
from weighin_agent.probe import linux, portable
from weighin_agent.probe.bandwidth import nothing_measured, read_bandwidth
from weighin_agent.probe.cpu_name import read_cpu_name
from weighin_agent.probe.execution_providers import read_execution_providers
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.storage import read_storage
from weighin_agent.probe.versions import read_runtime_versions


def readers_for(system: str) -> ModuleType:
    """Return the readers for an operating system, named as `platform.system` names it. The only such switch."""
    return linux if system in ("Linux", "Android") else portable


def probe(storage_folder: Path, *, bandwidth: bool = True) -> tuple[Device, tuple[ProbeGap, ...]]:
    """Read what this device is, and why some of it could not be read.

    ``storage_folder`` is where models would be kept; it need not exist. ``bandwidth=False`` leaves out the measurement
    of memory bandwidth, which loads every core for about a second. A reader that fails is a gap, never an error.
    """
    gaps = Gaps()
    readers = readers_for(platform.system())
    cpu: Cpu = readers.read_cpu(gaps)
    if cpu.model is None:
        cpu = replace(cpu, model=read_cpu_name(gaps))
    device = Device(
        cpu=cpu,
        memory=_read_memory(gaps, readers, cpu, bandwidth),
        storage=read_storage(gaps, storage_folder),
        operating_system=readers.read_operating_system(gaps),
        virtualization=readers.read_virtualization(gaps),
        accelerators=readers.read_accelerators(gaps),
        execution_providers=read_execution_providers(gaps),
        runtime_versions=read_runtime_versions(gaps),
    )
    return device, gaps.all()


def _read_memory(gaps: Gaps, readers: ModuleType, cpu: Cpu, bandwidth: bool) -> Memory:
    total, available = readers.read_memory_sizes(gaps)
    if bandwidth:
        many, single = read_bandwidth(gaps, cpu, available)
    else:
        many, single = nothing_measured(gaps, ProbeGapReason.NOT_OFFERED, "not measured: left out on request")
    return Memory(
        total_bytes=total,
        available_bytes=available,
        read_bandwidth_bytes_per_second=many,
        single_thread_read_bandwidth_bytes_per_second=single,
    )
