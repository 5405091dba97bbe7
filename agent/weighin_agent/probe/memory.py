"""Main memory: how much there is, and how much a new process can take."""

import platform
from pathlib import Path

import psutil

from weighin_agent.device import ProbeGapReason
from weighin_agent.probe.cgroup import read_memory_headroom_bytes
from weighin_agent.probe.files import read_source
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.text import parse_whole_number


def parse_meminfo(text: str) -> dict[str, int]:
    """Parse /proc/meminfo into bytes by the kernel's names; lines that are no size are left out."""
    sizes = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        number, _, unit = rest.strip().partition(" ")
        kibibytes = parse_whole_number(number)
        if kibibytes is not None and unit.strip() == "kB":
            sizes[name.strip()] = kibibytes * 1024
    return sizes


def available_bytes() -> int | None:
    """Return what a new process can take now without swapping, bytes; None if the system does not say."""
    return read_available_bytes() if platform.system() in ("Linux", "Android") else psutil.virtual_memory().available


def read_available_bytes(root: Path = Path("/")) -> int | None:
    """Return the kernel's estimate (since Linux 3.14), or less where a control group allows less."""
    available = parse_meminfo(read_source(root / "proc/meminfo").text).get("MemAvailable")
    headroom = read_memory_headroom_bytes(root)
    return available if available is None or headroom is None else min(available, headroom)


def read_memory_sizes(gaps: Gaps, root: Path = Path("/")) -> tuple[int | None, int | None]:
    """Return total and available bytes on Linux."""
    source = read_source(root / "proc/meminfo")
    total = parse_meminfo(source.text).get("MemTotal")
    gaps.need("memory.total_bytes", total, source.absence, "the kernel does not state the size of the memory")
    available = read_available_bytes(root)
    gaps.need("memory.available_bytes", available, source.absence, "the kernel does not state what is available")
    return total, available


def read_memory_sizes_portably(gaps: Gaps) -> tuple[int | None, int | None]:
    """Return total and available bytes on any system that psutil knows."""
    try:
        memory = psutil.virtual_memory()
    except (psutil.Error, OSError):
        for fact in ("memory.total_bytes", "memory.available_bytes"):
            gaps.add(fact, ProbeGapReason.READ_FAILED, "the system did not tell the size of the memory")
        return None, None
    return memory.total, memory.available
