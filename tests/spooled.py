"""Helpers of the agent's tests: a spool with runs in it, and a clock that a test moves by hand."""

from dataclasses import dataclass, field
from pathlib import Path

from weighin_agent.fleet.delivery import Pace
from weighin_agent.fleet.entry import Caps, Entry
from weighin_agent.fleet.run_id import uuid7
from weighin_agent.fleet.spool import Spool

NOON_SECONDS = 1_770_000_000.0


def run_id_of(unix_seconds: float) -> str:
    return uuid7(lambda: unix_seconds)


@dataclass
class HandClock:
    """Time that passes only by waiting; also remembers how long each wait was."""

    seconds: float = NOON_SECONDS
    waits: list[float] = field(default_factory=list)
    stop_asked: bool = False

    def now(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.seconds += seconds
        return self.stop_asked

    def pace(self, share: float = 0.5) -> Pace:
        """Every draw lands at ``share`` of its range."""
        return Pace(
            clock=self.now,
            now_seconds=self.now,
            wait=self.wait,
            uniform=lambda low, high: low + share * (high - low),
        )


def open_spool(folder: Path, *, caps: Caps | None = None, clock: HandClock | None = None) -> Spool:
    spool = Spool(folder, caps=caps, now_seconds=(clock or HandClock()).now)
    spool.recover()
    return spool


def add_runs(spool: Spool, count: int, *, run: bytes = b"run", clock: HandClock | None = None) -> list[Entry]:
    """Add ``count`` runs whose bytes end with their sequence."""
    first = max((entry.sequence for entry in spool.pending()), default=0) + 1
    now = (clock or HandClock()).now
    return [
        spool.add(run + str(sequence).encode(), run_id=uuid7(now), sequence=sequence)
        for sequence in range(first, first + count)
    ]
