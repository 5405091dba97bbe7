"""Main memory: how much there is, and how much a new process can take."""

from pathlib import Path

import psutil

from weighin_agent.device import ProbeGapReason
from weighin_agent.probe.cgroup import read_memory_headroom_bytes
from weighin_agent.probe.files import read_source
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.system import System
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


def read_available_bytes(root: Path = Path("/")) -> int | None:
    """Return the kernel's estimate (since Linux 3.14), or less where a control group allows less."""
    available = parse_meminfo(read_source(root / "proc/meminfo").text).get("MemAvailable")
    headroom = read_memory_headroom_bytes(root)
    return available if available is None or headroom is None else min(available, headroom)


def read_memory_sizes(gaps: Gaps, system: System) -> tuple[int | None, int | None]:
    """Return total and available bytes on Linux and Android."""
    source = read_source(system.root / "proc/meminfo")
    total = parse_meminfo(source.text).get("MemTotal")
    gaps.need("memory.total_bytes", total, source.absence, "the kernel does not state the size of the memory")
    available = read_available_bytes(system.root)
    gaps.need("memory.available_bytes", available, source.absence, "the kernel does not state what is available")
    return total, available


def read_available_bytes_portably() -> int | None:
    """Return what psutil counts as available; None if the system does not say."""
    try:
        return psutil.virtual_memory().available
    except (psutil.Error, OSError):
        return None


def need_memory_sizes(
    gaps: Gaps, total: int | None, available: int | None, reason: ProbeGapReason, detail: str
) -> tuple[int | None, int | None]:
    """Return both sizes as they are, with a gap for each that is absent."""
    gaps.need("memory.total_bytes", total, reason, detail)
    return total, gaps.need("memory.available_bytes", available, reason, detail)
