"""Puts the device together from the readers of this operating system."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

from weighin_agent.device import Cpu, Device, Memory, ProbeGap, ProbeGapReason, RuntimeVersions, Storage
from weighin_agent.probe import android, linux, macos, portable, windows
from weighin_agent.probe.bandwidth import nothing_measured, read_bandwidth
from weighin_agent.probe.cpuinfo_library import read_cpu_name
from weighin_agent.probe.execution_providers import read_execution_providers
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.presence import person_present
from weighin_agent.probe.storage import read_storage
from weighin_agent.probe.system import System, this_system, this_system_name
from weighin_agent.probe.versions import read_runtime_versions

_READERS = {"Linux": linux, "Android": android, "Darwin": macos, "Windows": windows}


def readers_for(system_name: str) -> ModuleType:
    """Return the readers for an operating system, named as `System.name` has it. The only such switch."""
    return _READERS.get(system_name, portable)


def probe(storage_folder: Path, *, bandwidth: bool = True) -> tuple[Device, tuple[ProbeGap, ...]]:
    """Read what this device is, and why some of it could not be read.

    ``storage_folder`` is where models would be kept; it need not exist. ``bandwidth=False`` leaves out the measurement
    of memory bandwidth, which loads every core for about a second. A reader that fails is a gap, never an error.
    """
    gaps = Gaps()
    machine = read_machine(gaps, this_system())
    device = replace(
        machine,
        memory=_measure(gaps, machine.cpu, machine.memory, bandwidth),
        storage=read_storage(gaps, storage_folder),
        execution_providers=read_execution_providers(gaps),
        runtime_versions=read_runtime_versions(gaps),
    )
    return device, gaps.all()


def read_machine(gaps: Gaps, system: System) -> Device:
    """Read what a machine tells of itself; what is measured on it, or installed there, is left empty."""
    readers = readers_for(system.name)
    cpu: Cpu = readers.read_cpu(gaps, system)
    if cpu.model is None:
        cpu = replace(cpu, model=read_cpu_name(gaps, system))
    total, available = readers.read_memory_sizes(gaps, system)
    virtualization = readers.read_virtualization(gaps, system)
    return Device(
        cpu=cpu,
        memory=Memory(total_bytes=total, available_bytes=available),
        storage=Storage(),
        operating_system=readers.read_operating_system(gaps, system),
        virtualization=virtualization,
        accelerators=readers.read_accelerators(gaps, system),
        execution_providers=(),
        runtime_versions=RuntimeVersions(),
        form_factor=readers.read_form_factor(gaps, system, virtualization),
    )


def available_bytes() -> int | None:
    """Return what a new process can take now without swapping, bytes; None if the system does not say."""
    found: int | None = readers_for(this_system_name()).read_available_bytes()
    return found


def draws_from_mains() -> bool | None:
    """Whether this machine draws from the mains now rather than from a battery; None if the system does not say."""
    found: bool | None = readers_for(this_system_name()).read_mains()
    return found


def person_at_machine() -> bool | None:
    """Whether a person uses this machine now; None if the system does not say."""
    return person_present(this_system())


def _measure(gaps: Gaps, cpu: Cpu, memory: Memory, bandwidth: bool) -> Memory:
    if bandwidth:
        many, single = read_bandwidth(gaps, cpu, memory.available_bytes)
    else:
        many, single = nothing_measured(gaps, ProbeGapReason.NOT_OFFERED, "not measured: left out on request")
    return replace(memory, read_bandwidth_bytes_per_second=many, single_thread_read_bandwidth_bytes_per_second=single)
