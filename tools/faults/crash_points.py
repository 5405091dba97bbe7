"""The aggregator dies at a named point of its work: before and after COMMIT, in a checkpoint, after a reply."""

import random
import signal
from dataclasses import dataclass
from pathlib import Path

from aggregator_process import wait_until

from faults import server
from faults.broken_server import AFTER_COMMIT, BEFORE_COMMIT, IN_CHECKPOINT
from faults.devices import Fleet, sending, set_aside
from faults.oracle import Books, audit

AFTER_REPLY = "after reply"
POINTS = (BEFORE_COMMIT, AFTER_COMMIT, IN_CHECKPOINT, AFTER_REPLY)
DEVICES = 5
_MOST_SECONDS = 60.0
# Enough in the log for a checkpoint to take a while.
_RUNS_BEFORE_CHECKPOINT = 30
# A checkpoint may end before death comes: then once more, each time twice as early.
_MOST_TRIES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashes:
    """``hits`` per point: how often of ``wanted`` the process died there and not beside it."""

    wanted: int
    deaths: int
    hits: dict[str, int]
    duplicate_answers: int
    set_aside: tuple[str, ...]
    books: Books

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held."""
        beside = tuple(
            f"{count} of {self.wanted} deaths {point}" for point, count in self.hits.items() if count < self.wanted
        )
        return (*self.books.missed(), *self.set_aside, *beside)


def inject(folder: Path, size: int, chance: random.Random) -> Crashes:
    """Let a server die ``size`` times at each point, over one data directory and the same devices."""
    data, port = folder / "data", server.free_port()
    hits, deaths = dict.fromkeys(POINTS, 0), 0
    process = server.start(data, port)
    try:
        with sending(folder, process.address, DEVICES) as fleet:
            for point in POINTS * size:
                for earlier in range(_MOST_TRIES):
                    process.kill()
                    deaths += 1
                    has_hit = _die(point, chance.random() / 2**earlier, data, port, fleet)
                    process = server.start(data, port)
                    fleet.check()
                    if has_hit:
                        hits[point] += 1
                        break
    finally:
        process.stop()
    return Crashes(
        wanted=size,
        deaths=deaths,
        hits=hits,
        duplicate_answers=sum(ledger.duplicate_count for ledger in fleet.ledgers),
        set_aside=set_aside(fleet.ledgers),
        books=audit(data, fleet.ledgers),
    )


def _die(point: str, moment: float, data: Path, port: int, fleet: Fleet) -> bool:
    """Serve until the server has died, at a moment from 0 to 1; whether it died at its point."""
    mark = data.with_name("mark")
    mark.unlink(missing_ok=True)
    before = fleet.acknowledged_runs
    if point == AFTER_REPLY:
        process = server.start(data, port)
        wait_until(lambda: fleet.acknowledged_runs > before)
        process.kill()
        return True
    process = server.start(data, port, point, str(moment), str(mark))
    if point == IN_CHECKPOINT:
        wait_until(lambda: fleet.acknowledged_runs >= before + _RUNS_BEFORE_CHECKPOINT)
        process.process.send_signal(signal.SIGTERM)  # the checkpoint of a graceful end
    process.process.wait(_MOST_SECONDS)
    return mark.is_file() and mark.read_text() == point
