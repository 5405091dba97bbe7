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


def read_cpu_seconds() -> CpuSeconds | None:
    """Read the system's counters; None where it does not let us, as on Android and in some sandboxes."""
    try:
        counters = psutil.cpu_times()
    except OSError:
        return None
    # Guest time is already inside user time (Linux counts it twice).
    times = {name: value for name, value in counters._asdict().items() if not name.startswith("guest")}
    total = sum(times.values())
    return CpuSeconds(total, total - times["idle"] - times.get("iowait", 0.0), times.get("steal"))


def share(seconds: float, before: CpuSeconds | None, after: CpuSeconds | None) -> float | None:
    """Return ``seconds`` as a share of all CPU time between two readings; None where that was too short to tell.

    Single counters may step back a little, so the share is held within 0 and 1.
    """
    if before is None or after is None or after.total - before.total < _LEAST_INTERVAL_SECONDS:
        return None
    return min(1.0, max(0.0, seconds / (after.total - before.total)))


def busy_share(before: CpuSeconds | None, after: CpuSeconds | None, own_seconds: float = 0.0) -> float | None:
    """Return the share of all CPU time that was busy with others than us, None where it cannot be told."""
    if before is None or after is None:
        return None
    return share(after.busy - before.busy - own_seconds, before, after)


def steal_share(before: CpuSeconds | None, after: CpuSeconds | None) -> float | None:
    """Return the share of all CPU time that the hypervisor gave to others, None where it does not say."""
    if before is None or after is None or before.steal is None or after.steal is None:
        return None
    return share(after.steal - before.steal, before, after)


class ForeignLoad:
    """Measures the share of all CPU time that others used between two calls.

    "Others" are all processes but this one; time stolen by the hypervisor counts as theirs.
    """

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._last = read_cpu_seconds(), self._own_seconds()

    def share_since_last(self) -> float | None:
        """Return the share since the last call, 0 to 1; None if that was too short ago, or cannot be read."""
        (before, own_before), (after, own_after) = self._last, (read_cpu_seconds(), self._own_seconds())
        found = busy_share(before, after, own_after - own_before)
        if found is not None:
            self._last = after, own_after
        return found

    def _own_seconds(self) -> float:
        times = self._own.cpu_times()
        return times.user + times.system
