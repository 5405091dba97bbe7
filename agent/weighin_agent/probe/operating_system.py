"""The operating system, on Linux."""

from weighin_agent.device import OperatingSystem, ProbeGapReason
from weighin_agent.probe.files import read_source
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.system import System
from weighin_agent.probe.text import clean_text


def parse_os_release(text: str) -> dict[str, str]:
    """Parse the lines NAME=value, or NAME="value", of os-release (freedesktop.org); other lines are left out."""
    facts = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            facts[name] = value.strip().strip("\"'").strip()
    return facts


def read_operating_system(gaps: Gaps, system: System) -> OperatingSystem:
    """Read distribution and kernel. In a container these are the container's distribution and the host's kernel."""
    source = read_source(system.root / "etc/os-release")
    if not source.text:
        source = read_source(system.root / "usr/lib/os-release")
    release = parse_os_release(source.text)
    name, version = clean_text(release.get("NAME", "")), clean_text(release.get("VERSION_ID", ""))
    return OperatingSystem(
        family="linux",
        name=gaps.need("operating_system.name", name, source.absence, "the distribution does not name itself"),
        # A rolling distribution has no version.
        version=gaps.need("operating_system.version", version, source.absence, "the distribution states no version"),
        kernel=need_kernel(gaps, system),
    )


def need_kernel(gaps: Gaps, system: System) -> str | None:
    """Return the kernel's release; never its version line, which names who built it, and where."""
    kernel = clean_text(system.kernel)
    reason = ProbeGapReason.NOT_OFFERED
    return gaps.need("operating_system.kernel", kernel, reason, "the kernel's release is not readable")
