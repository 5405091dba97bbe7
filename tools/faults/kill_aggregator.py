"""SIGKILL of the aggregator while devices deliver. It leaves the page cache alone: this says nothing of lost power."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

from faults import server
from faults.devices import pause, sending, set_aside
from faults.oracle import Books, audit

DEVICES = 20
LATEST_KILL_SECONDS = 0.5
MOST_RECOVERY_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregatorKills:
    """``kills_under_way`` cut off a delivery at least; ``recovery`` is from the start of a process to SERVING."""

    kills: int
    devices: int
    kills_under_way: int
    broken_deliveries: int
    duplicate_answers: int
    recovery_median_seconds: float
    recovery_p99_seconds: float
    recovery_longest_seconds: float
    set_aside: tuple[str, ...]
    books: Books

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held."""
        missed = [*self.books.missed(), *self.set_aside]
        if 2 * self.kills_under_way < self.kills:
            missed.append(f"only {self.kills_under_way} of {self.kills} kills cut off a delivery")
        if self.recovery_p99_seconds >= MOST_RECOVERY_SECONDS:
            missed.append(f"serving again took {self.recovery_p99_seconds:.1f} s (p99)")
        return tuple(missed)


def inject(folder: Path, size: int, chance: random.Random) -> AggregatorKills:
    """Kill a server ``size`` times under devices that keep and deliver all the while."""
    data, port = folder / "data", server.free_port()
    process = server.start(data, port)
    under_way, recoveries = 0, []
    try:
        with sending(folder, process.address, DEVICES) as fleet:
            for _ in range(size):
                pause(chance.uniform(0, LATEST_KILL_SECONDS))
                broken = fleet.broken_deliveries
                process.kill()
                start = time.monotonic()
                process = server.start(data, port)
                recoveries.append(server.seconds_until(process.address, serving=True, since=start))
                under_way += fleet.broken_deliveries > broken
                fleet.check()
    finally:
        process.stop()
    recoveries.sort()
    return AggregatorKills(
        kills=size,
        devices=DEVICES,
        kills_under_way=under_way,
        broken_deliveries=fleet.broken_deliveries,
        duplicate_answers=sum(ledger.duplicate_count for ledger in fleet.ledgers),
        recovery_median_seconds=recoveries[len(recoveries) // 2],
        recovery_p99_seconds=recoveries[int(0.99 * (len(recoveries) - 1))],
        recovery_longest_seconds=recoveries[-1],
        set_aside=set_aside(fleet.ledgers),
        books=audit(data, fleet.ledgers),
    )
