"""What one spooled run is called, and which runs go when the spool holds too much."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from weighin_agent.fleet.run_id import create_time_seconds, is_run_id

# The first agent is younger than this moment (2025-01-01): a run_id from before it tells of a clock that was not set,
# as on boards without a battery, and not of an old run.
_FIRST_PLAUSIBLE_TIME_SECONDS = 1_735_689_600.0
_FILE_NAME = re.compile(r"(\d{12,18})-([0-9a-f-]{36})\.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One spooled run. ``size_bytes`` is the size of its file, a little above that of its envelope on the wire."""

    run_id: str
    sequence: int
    size_bytes: int

    @property
    def file_name(self) -> str:
        """Name of the run's file: a sorted listing is in the order in which the runs were made."""
        return f"{self.sequence:012d}-{self.run_id}.run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How much the spool, and in the same measure its quarantine, may hold; past a cap the oldest goes first."""

    run_count: int = 1_000
    total_bytes: int = 50 << 20
    age_seconds: float = 30 * 86_400.0


def parse_file_name(name: str) -> tuple[int, str] | None:
    """Read sequence and run_id in the name of a run's file, None where it is not one."""
    match = _FILE_NAME.fullmatch(name)
    if match is None or not is_run_id(match[2]):
        return None
    sequence = int(match[1])
    return (sequence, match[2]) if f"{sequence:012d}" == match[1] else None


def surplus_runs(entries: Sequence[Entry], caps: Caps, now_seconds: float) -> tuple[Entry, ...]:
    """List those of ``entries``, given oldest first, that the caps leave no room for; never the newest."""
    surplus: list[Entry] = []
    kept_count = kept_bytes = 0
    full = False
    for index, entry in enumerate(reversed(entries)):
        made = create_time_seconds(entry.run_id)
        too_old = made >= _FIRST_PLAUSIBLE_TIME_SECONDS and now_seconds - made > caps.age_seconds
        # Once one does not fit, nothing older does: a small old run must not outlive a large newer one.
        full = full or kept_count >= caps.run_count or kept_bytes + entry.size_bytes > caps.total_bytes
        if index and (too_old or full):
            surplus.append(entry)
        else:
            kept_count += 1
            kept_bytes += entry.size_bytes
    return tuple(reversed(surplus))
