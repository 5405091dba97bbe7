"""The readers for Linux. `portable` offers the same names for every other system."""

from weighin_agent.probe.accelerators import read_accelerators
from weighin_agent.probe.cpu import read_cpu
from weighin_agent.probe.memory import read_memory_sizes
from weighin_agent.probe.operating_system import read_operating_system
from weighin_agent.probe.virtualization import read_virtualization

__all__ = ["read_accelerators", "read_cpu", "read_memory_sizes", "read_operating_system", "read_virtualization"]
