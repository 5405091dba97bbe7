"""The probe: reads what a device is, without load and without anything that identifies it."""

from weighin_agent.probe.assemble import probe
from weighin_agent.probe.cgroup import cpu_quota_cores
from weighin_agent.probe.memory import available_bytes

__all__ = ["available_bytes", "cpu_quota_cores", "probe"]
