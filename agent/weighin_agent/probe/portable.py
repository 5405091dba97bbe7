"""The readers for systems that have none of their own: what psutil and the standard library tell, and gaps."""

import platform

import psutil

from weighin_agent.device import Accelerator, Cpu, FormFactor, OperatingSystem, ProbeGapReason, Virtualization
from weighin_agent.probe.accelerator_list import read_each
from weighin_agent.probe.cpuinfo_library import read_instruction_sets
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.memory import need_memory_sizes
from weighin_agent.probe.memory import read_available_bytes_portably as read_available_bytes
from weighin_agent.probe.nvidia import find_nvidia
from weighin_agent.probe.operating_system import need_kernel
from weighin_agent.probe.power import read_mains_portably as read_mains
from weighin_agent.probe.system import System
from weighin_agent.probe.text import clean_text

__all__ = [
    "read_accelerators",
    "read_available_bytes",
    "read_cpu",
    "read_form_factor",
    "read_mains",
    "read_memory_sizes",
    "read_operating_system",
    "read_virtualization",
]

_NO_READER = "this version has no reader for this operating system"


def read_cpu(gaps: Gaps, system: System) -> Cpu:
    """Read counts, architecture, highest clock and instruction sets; the last reader finds the name."""
    for fact in ("cpu.vendor", "cpu.caches"):
        gaps.add(fact, ProbeGapReason.NOT_IMPLEMENTED, _NO_READER)
    physical, logical = psutil.cpu_count(logical=False), psutil.cpu_count(logical=True)
    reason = ProbeGapReason.NOT_OFFERED
    return Cpu(
        architecture=gaps.need("cpu.architecture", clean_text(system.architecture), reason, "the system does not say"),
        physical_core_count=gaps.need("cpu.physical_core_count", physical, reason, "the system does not say"),
        logical_core_count=gaps.need("cpu.logical_core_count", logical, reason, "the system does not say"),
        instruction_sets=read_instruction_sets(gaps, system),
        max_frequency_hertz=gaps.need("cpu.max_frequency_hertz", _max_frequency_hertz(), reason, "no clock is stated"),
    )


def read_memory_sizes(gaps: Gaps, system: System) -> tuple[int | None, int | None]:
    """Return total and available bytes."""
    del system
    try:
        memory = psutil.virtual_memory()
    except (psutil.Error, OSError):
        detail = "the system did not tell the size of the memory"
        return need_memory_sizes(gaps, None, None, ProbeGapReason.READ_FAILED, detail)
    return memory.total, memory.available


def read_operating_system(gaps: Gaps, system: System) -> OperatingSystem:
    """Read family, version and kernel."""
    reason = ProbeGapReason.NOT_OFFERED
    version = clean_text(platform.release())
    return OperatingSystem(
        family=(clean_text(system.name) or "unknown").lower(),
        name=gaps.need("operating_system.name", clean_text(system.name), reason, "it has no name"),
        version=gaps.need("operating_system.version", version, reason, "the system states no version"),
        kernel=need_kernel(gaps, system),
    )


def read_virtualization(gaps: Gaps, system: System) -> Virtualization | None:
    """Record that nothing can tell."""
    del system
    gaps.add("virtualization", ProbeGapReason.NOT_IMPLEMENTED, _NO_READER)
    return None


def read_form_factor(gaps: Gaps, system: System, virtualization: Virtualization | None) -> FormFactor | None:
    """Record that nothing can tell."""
    del system, virtualization
    gaps.add("form_factor", ProbeGapReason.NOT_IMPLEMENTED, _NO_READER)
    return None


def read_accelerators(gaps: Gaps, system: System) -> tuple[Accelerator, ...]:
    """List NVIDIA's accelerators, and say that there may be others."""
    gaps.add("accelerators", ProbeGapReason.NOT_IMPLEMENTED, "only NVIDIA's accelerators are found on this system")
    return read_each(gaps, find_nvidia(gaps, system) or ())


def _max_frequency_hertz() -> int | None:
    # Neither the function nor its answer exists everywhere.
    try:
        frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    except (OSError, RuntimeError, NotImplementedError):
        return None
    megahertz = None if frequency is None else frequency.max or frequency.current
    return int(megahertz * 10**6) if megahertz else None
