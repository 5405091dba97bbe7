"""The readers for systems that have none of their own yet: what psutil and the standard library tell, and gaps."""

import platform

import psutil

from weighin_agent.device import Accelerator, Cpu, OperatingSystem, ProbeGapReason, Virtualization
from weighin_agent.probe.accelerator_list import read_each
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.memory import read_memory_sizes_portably as read_memory_sizes
from weighin_agent.probe.nvidia import find_nvidia
from weighin_agent.probe.text import clean_text

__all__ = ["read_accelerators", "read_cpu", "read_memory_sizes", "read_operating_system", "read_virtualization"]

_NO_READER = "this version has no reader for this operating system"
_FAMILIES = {"Darwin": "macos", "Windows": "windows", "Linux": "linux", "Android": "android"}


def read_cpu(gaps: Gaps) -> Cpu:
    """Read counts, architecture and highest clock; the last reader finds the name."""
    for fact in ("cpu.vendor", "cpu.instruction_sets", "cpu.caches"):
        gaps.add(fact, ProbeGapReason.NOT_IMPLEMENTED, _NO_READER)
    physical, logical = psutil.cpu_count(logical=False), psutil.cpu_count(logical=True)
    reason = ProbeGapReason.NOT_OFFERED
    return Cpu(
        architecture=gaps.need("cpu.architecture", clean_text(platform.machine()), reason, "the system does not say"),
        physical_core_count=gaps.need("cpu.physical_core_count", physical, reason, "the system does not say"),
        logical_core_count=gaps.need("cpu.logical_core_count", logical, reason, "the system does not say"),
        max_frequency_hertz=gaps.need("cpu.max_frequency_hertz", _max_frequency_hertz(), reason, "no clock is stated"),
    )


def read_operating_system(gaps: Gaps) -> OperatingSystem:
    """Read family, version and kernel."""
    system = platform.system()
    is_mac = system == "Darwin"
    reason = ProbeGapReason.NOT_OFFERED
    release = clean_text(platform.release())
    version = clean_text(platform.mac_ver()[0]) if is_mac else release
    return OperatingSystem(
        family=_FAMILIES.get(system, (clean_text(system) or "unknown").lower()),
        name=gaps.need("operating_system.name", "macOS" if is_mac else clean_text(system), reason, "it has no name"),
        version=gaps.need("operating_system.version", version, reason, "the system states no version"),
        # Not platform.version(): on the BSDs it names who built the kernel, on which machine and in which folder.
        kernel=gaps.need("operating_system.kernel", release, reason, "it has no release"),
    )


def read_virtualization(gaps: Gaps) -> Virtualization | None:
    """Record that nothing can tell yet."""
    gaps.add("virtualization", ProbeGapReason.NOT_IMPLEMENTED, _NO_READER)
    return None


def read_accelerators(gaps: Gaps) -> tuple[Accelerator, ...]:
    """List NVIDIA's accelerators, and say that there may be others."""
    gaps.add("accelerators", ProbeGapReason.NOT_IMPLEMENTED, "only NVIDIA's accelerators are found on this system")
    return read_each(gaps, find_nvidia(gaps) or ())


def _max_frequency_hertz() -> int | None:
    # Neither the function nor its answer exists everywhere.
    try:
        frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    except (OSError, RuntimeError, NotImplementedError):
        return None
    megahertz = None if frequency is None else frequency.max or frequency.current
    return int(megahertz * 10**6) if megahertz else None
