"""Devices of a fleet under fault: real agents in threads of this process, each with a ledger outside of its own."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from example_runs import example_run

from faults.oracle import Ledger
from weighin_agent.fleet.actions import deliver_runs, enroll_insecure, keep_run, working
from weighin_agent.fleet.delivery import Pace
from weighin_agent.fleet.spool import Spool
from weighin_agent.fleet.state import State

MOST_DRAIN_SECONDS = 60.0
# A backoff that lasts a minute in life lasts 0.6 seconds here.
_HASTE = 100.0
_PAUSE_SECONDS = 0.05
# A device that cannot deliver waits with the next run.
_MOST_WAITING_RUNS = 20


def small_run() -> bytes:
    """Make a run of one measurement, for faults that need many."""
    run = example_run()
    del run.measurements[1:]
    del run.measurements[0].series[2:]
    return run.SerializeToString()


SMALL_RUN = small_run()


def hasty() -> Pace:
    """Return the pace of an agent that waits for nothing; its clocks run faster than in life, but for deadlines."""
    start = time.time()
    return Pace(
        clock=lambda: time.monotonic() * _HASTE,
        now_seconds=lambda: start + (time.time() - start) * _HASTE,
        wait=lambda _seconds: True,
    )


@dataclass(slots=True, kw_only=True)
class Device:
    """One agent at work in its state folder; a call of its may take ``patience_seconds``."""

    state: State
    spool: Spool
    run: bytes
    patience_seconds: float = 10.0
    ledger: Ledger = field(default_factory=Ledger)
    pace: Pace = field(default_factory=hasty)

    def enroll(self, address: str) -> None:
        """Enrol over plain text. Raises AgentError."""
        enroll_insecure(self.state, self.spool, address, 1)

    def keep(self, count: int) -> None:
        """Put new runs in the spool. Raises AgentError."""
        for _ in range(count):
            self.ledger.keep(keep_run(self.state, self.spool, self.run).run_id, self.run)

    def deliver(self) -> None:
        """Offer everything that waits, in one try; nothing while the backoff lasts, as a timer does."""
        tried = self.spool.ledger.attempt_counts
        before = {entry.run_id for entry in self.spool.pending()}
        self.ledger.sent_again |= {run_id for run_id in before if tried.get(run_id, 0)}
        report = deliver_runs(
            self.state,
            self.spool,
            give_up_after_seconds=self.patience_seconds,
            heed_own_backoff=True,
            pace=self.pace,
        )
        after = {entry.run_id for entry in self.spool.pending()}
        aside = {run.run_id for run in report.quarantined}
        self.ledger.acknowledged |= before - after - aside
        self.ledger.set_aside += [f"{run.reason}: {run.detail}" for run in report.quarantined]
        self.ledger.timed_out |= after if report.kept_reason == "DEADLINE_EXCEEDED" else set()
        self.ledger.duplicate_count += report.duplicate_count
        self.ledger.delivery_count += bool(before)
        self.ledger.broken_count += report.kept_reason not in (None, "BACKING_OFF")

    def drain(self, most_seconds: float = MOST_DRAIN_SECONDS) -> None:
        """Deliver until nothing waits, or for so long."""
        end = time.monotonic() + most_seconds
        while self.spool.pending() and time.monotonic() < end:
            self.deliver()
            pause(_PAUSE_SECONDS)


@contextmanager
def device(folder: Path, run: bytes = SMALL_RUN) -> Iterator[Device]:
    """Hold a state folder as an agent does."""
    state = State(folder)
    with working(state) as spool:
        yield Device(state=state, spool=spool, run=run)


@dataclass(slots=True, kw_only=True)
class Fleet:
    """Devices that keep and deliver runs, each in a thread, until ``stop``."""

    ledgers: list[Ledger] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    is_given_up: bool = False
    _threads: list["Future[None]"] = field(default_factory=list)

    @property
    def acknowledged_runs(self) -> int:
        """How many runs were acknowledged so far."""
        return sum(len(ledger.acknowledged) for ledger in self.ledgers)

    @property
    def kept_runs(self) -> int:
        """How many runs were kept so far."""
        return sum(len(ledger.kept) for ledger in self.ledgers)

    @property
    def broken_deliveries(self) -> int:
        """How many deliveries were cut off so far."""
        return sum(ledger.broken_count for ledger in self.ledgers)

    def check(self) -> None:
        """Raise what a device has raised."""
        for thread in self._threads:
            if thread.done():
                thread.result()


@contextmanager
def sending(
    folder: Path,
    address: str,
    count: int,
    *,
    run: bytes = SMALL_RUN,
    runs_at_once: int = 3,
    patience_seconds: float = 10.0,
) -> Iterator[Fleet]:
    """Let ``count`` devices keep and deliver inside the block, and deliver the rest at its end."""
    fleet = Fleet()

    def live(one: Device, chance: random.Random) -> None:
        while not fleet.stop.is_set():
            if len(one.spool.pending()) < _MOST_WAITING_RUNS:
                one.keep(chance.randint(1, runs_at_once))
            one.deliver()
            fleet.stop.wait(chance.uniform(0, 2 * _PAUSE_SECONDS))
        if not fleet.is_given_up:
            one.drain()

    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        devices = [stack.enter_context(device(folder / f"device {number}", run)) for number in range(count)]
        for one in devices:
            one.patience_seconds = patience_seconds
            one.enroll(address)
        fleet.ledgers += [one.ledger for one in devices]
        chances = [random.Random(number) for number in range(count)]  # noqa: S311 - no secret
        fleet._threads += [pool.submit(live, one, chances[number]) for number, one in enumerate(devices)]
        try:
            yield fleet
        except BaseException:  # Ctrl-C too: what waits need not arrive any more
            fleet.is_given_up = True
            raise
        finally:
            fleet.stop.set()
    fleet.check()


def pause(seconds: float) -> None:
    """Let time pass: not a wait for anything, the moment is the fault."""
    threading.Event().wait(seconds)


def set_aside(ledgers: Sequence[Ledger]) -> tuple[str, ...]:
    """Why runs were quarantined, by all devices; no fault of the line may do that."""
    return tuple(reason for ledger in ledgers for reason in ledger.set_aside)
