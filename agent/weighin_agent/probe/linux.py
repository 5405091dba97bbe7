"""The readers for Linux. `android`, `macos`, `windows` and `portable` offer the same names."""

from weighin_agent.probe.accelerators import read_accelerators
from weighin_agent.probe.cpu import read_cpu
from weighin_agent.probe.form_factor import read_form_factor
from weighin_agent.probe.memory import read_available_bytes, read_memory_sizes
from weighin_agent.probe.operating_system import read_operating_system
from weighin_agent.probe.power import read_mains
from weighin_agent.probe.virtualization import read_virtualization

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
