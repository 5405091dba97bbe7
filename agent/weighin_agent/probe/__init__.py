"""The probe: reads what a device is, without load and without anything that identifies it."""

from weighin_agent.probe.assemble import available_bytes, draws_from_mains, person_at_machine, probe
from weighin_agent.probe.cgroup import cpu_quota_cores

__all__ = ["available_bytes", "cpu_quota_cores", "draws_from_mains", "person_at_machine", "probe"]
