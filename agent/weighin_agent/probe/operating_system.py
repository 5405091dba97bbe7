"""The operating system, on Linux and Android."""

import sys
from pathlib import Path

from weighin_agent.device import OperatingSystem, ProbeGapReason
from weighin_agent.probe.files import read_line, read_source
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.text import clean_text


def parse_os_release(text: str) -> dict[str, str]:
    """Parse the lines NAME=value, or NAME="value", of os-release (freedesktop.org); other lines are left out."""
    facts = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            facts[name] = value.strip().strip("\"'").strip()
    return facts


def parse_kernel_release(text: str) -> str | None:
    """Parse "Linux version RELEASE (who built it) ..." of /proc/version; only the release is kept."""
    words = text.split(maxsplit=3)
    return clean_text(words[2]) if len(words) > 2 and words[:2] == ["Linux", "version"] else None


def read_operating_system(gaps: Gaps, root: Path = Path("/")) -> OperatingSystem:
    """Read distribution and kernel. In a container these are the container's distribution and the host's kernel."""
    source = read_source(root / "etc/os-release")
    if not source.text:
        source = read_source(root / "usr/lib/os-release")
    release = parse_os_release(source.text)
    name, version = clean_text(release.get("NAME", "")), clean_text(release.get("VERSION_ID", ""))
    kernel = parse_kernel_release(read_line(root / "proc/version"))
    return OperatingSystem(
        family="android" if _is_android() else "linux",
        name=gaps.need("operating_system.name", name, source.absence, "the distribution does not name itself"),
        # A rolling distribution has no version.
        version=gaps.need("operating_system.version", version, source.absence, "the distribution states no version"),
        kernel=gaps.need(
            "operating_system.kernel", kernel, ProbeGapReason.NOT_OFFERED, "the kernel's release is not readable"
        ),
    )


def _is_android() -> bool:
    # sys.platform is "android" only from Python 3.13 on; before, an Android Python has this function alone.
    return hasattr(sys, "getandroidapilevel")
