"""How much of the CPU other processes use, from the system's counters."""

from typing import NamedTuple

import psutil

# Counters tick at 100 Hz: a shorter interval says nothing.
_LEAST_INTERVAL_SECONDS = 0.05


class CpuSeconds(NamedTuple):
    """CPU time since boot over all CPUs; ``steal`` is None where no hypervisor reports it."""

    total: float
    busy: float
    steal: float | None


def read_cpu_seconds() -> CpuSeconds:
    """Read the system's counters."""
    # Guest time is already inside user time (Linux counts it twice).
    times = {name: value for name, value in psutil.cpu_times()._asdict().items() if not name.startswith("guest")}
    total = sum(times.values())
    return CpuSeconds(total, total - times["idle"] - times.get("iowait", 0.0), times.get("steal"))


class ForeignLoad:
    """Measures the share of all CPU time that others used between two calls.

    "Others" are all processes but this one; time stolen by the hypervisor counts as theirs.
    """

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._last = read_cpu_seconds(), self._own_seconds()

    def share_since_last(self) -> float | None:
        """Return the share since the last call, 0 to 1, or None if that was too short ago to tell."""
        (before, own_before), now = self._last, (read_cpu_seconds(), self._own_seconds())
        total = now[0].total - before.total
        if total < _LEAST_INTERVAL_SECONDS:
            return None
        self._last = now
        foreign = (now[0].busy - before.busy) - (now[1] - own_before)
        return min(1.0, max(0.0, foreign / total))

    def _own_seconds(self) -> float:
        times = self._own.cpu_times()
        return times.user + times.system
