"""The probe: reads what a device is, without load and without anything that identifies it."""

from weighin_agent.device import last_level_cache_bytes
from weighin_agent.probe.assemble import probe
from weighin_agent.probe.memory import available_bytes

__all__ = ["available_bytes", "last_level_cache_bytes", "probe"]
