"""Resets, half-open connections, latency and partitions between devices and aggregator."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

from faults import server
from faults.devices import pause, sending, set_aside
from faults.oracle import Books, audit
from faults.proxy import proxy

DEVICES = 20
MOST_DRAIN_SECONDS = 15 * 60.0
_LATENCY_SECONDS = 0.3
_SPELL_SECONDS = (0.2, 1.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadNetwork:
    """``drain`` is from the end of the bad weather until nothing waits; clocks of backoffs run 100 times as fast."""

    seconds: float
    spells: dict[str, int]
    broken_deliveries: int
    deliveries: int
    duplicate_answers: int
    drain_seconds: float
    set_aside: tuple[str, ...]
    books: Books

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held."""
        missed = [*self.books.missed(), *self.set_aside]
        missed += [f"no spell of {name}" for name, count in self.spells.items() if not count]
        if not self.broken_deliveries:
            missed.append("no delivery was cut off")
        if self.drain_seconds > MOST_DRAIN_SECONDS:
            missed.append(f"what waited took {self.drain_seconds:.0f} s to arrive")
        return tuple(missed)


def inject(folder: Path, size: int, chance: random.Random) -> BadNetwork:
    """Let devices deliver through ``size`` seconds of bad weather, then drain."""
    data = folder / "data"
    spells = dict.fromkeys(("reset", "half-open", "latency", "partition"), 0)
    with server.serving(data, server.free_port()) as process, proxy(process.address, chance) as line:
        with sending(folder, line.address, DEVICES, patience_seconds=1.0) as fleet:
            end = time.monotonic() + size
            # In turn, so that even a short time sees all.
            while time.monotonic() < end:
                spell = min(spells, key=lambda name: spells[name])
                spells[spell] += 1
                match spell:
                    case "reset":
                        line.change()
                        line.reset()
                    case "half-open":
                        line.change(is_silent=True)
                    case "latency":
                        line.reset()
                        line.change(latest_seconds=_LATENCY_SECONDS)
                    case "partition":
                        line.change(is_closed=True)
                        line.reset()
                pause(chance.uniform(*_SPELL_SECONDS))
                fleet.check()
            line.change()
            line.reset()
            fair = time.monotonic()
        drained = time.monotonic()
    return BadNetwork(
        seconds=float(size),
        spells=spells,
        broken_deliveries=fleet.broken_deliveries,
        deliveries=sum(ledger.delivery_count for ledger in fleet.ledgers),
        duplicate_answers=sum(ledger.duplicate_count for ledger in fleet.ledgers),
        drain_seconds=drained - fair,
        set_aside=set_aside(fleet.ledgers),
        books=audit(data, fleet.ledgers),
    )
