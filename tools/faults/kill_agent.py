"""SIGKILL of the agent at any moment: while it starts, enrols, keeps runs and delivers them."""

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from faults import server
from faults.devices import SMALL_RUN, device, pause, set_aside
from faults.oracle import Books, Ledger, audit

AGENT_CHILD = Path(__file__).parent / "agent_child.py"
LATEST_KILL_SECONDS = 0.5
# Devices beside each other, each killed and started again and again.
DEVICES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKills:
    """``starts`` that got as far as the first run; ``failed_starts`` ended by themselves, which none may.

    ``waiting_at_end`` runs were delivered after the last kill, ``duplicate_answers`` of them had arrived before.
    """

    kills: int
    starts: int
    failed_starts: tuple[str, ...]
    waiting_at_end: int
    duplicate_answers: int
    dropped_runs: int
    set_aside: tuple[str, ...]
    books: Books

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held. A kill may fall between keeping a run and telling of it."""
        missed = [*self.books.missed(unknown_runs=self.kills), *self.failed_starts, *self.set_aside]
        if self.dropped_runs:
            missed.append(f"{self.dropped_runs} runs were dropped")
        if 2 * self.starts < self.kills:
            missed.append(f"only {self.starts} of {self.kills} starts got as far as a run")
        return tuple(missed)


def inject(folder: Path, size: int, chance: random.Random) -> AgentKills:
    """Kill agents ``size`` times in all, each time in a folder that its earlier life left behind."""
    data, run_file = folder / "data", folder / "run"
    run_file.write_bytes(SMALL_RUN)
    with server.serving(data, server.free_port()) as process, ThreadPoolExecutor(DEVICES) as pool:
        shares = [range(number, size, DEVICES) for number in range(DEVICES)]
        lives = [
            pool.submit(_live, folder / f"device {number}", process.address, run_file, len(share), chance.random())
            for number, share in enumerate(shares)
        ]
        ended = [life.result() for life in lives]
    ledgers = [life.ledger for life in ended]
    return AgentKills(
        kills=size,
        starts=sum(life.starts for life in ended),
        failed_starts=tuple(text for life in ended for text in life.failed_starts),
        waiting_at_end=sum(life.waiting_at_end for life in ended),
        duplicate_answers=sum(ledger.duplicate_count for ledger in ledgers),
        dropped_runs=sum(life.dropped_runs for life in ended),
        set_aside=set_aside(ledgers),
        books=audit(data, ledgers),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Life:
    ledger: Ledger
    starts: int
    failed_starts: tuple[str, ...]
    waiting_at_end: int
    dropped_runs: int


def _live(folder: Path, address: str, run_file: Path, kills: int, seed: float) -> _Life:
    chance = random.Random(seed)  # noqa: S311 - no secret
    told: list[str] = []
    failed: list[str] = []
    starts = 0
    for _ in range(kills):
        run_ids, error = _run_until_killed(folder, address, run_file, chance)
        told += run_ids
        starts += bool(run_ids)
        failed += [error] if error else []
    with device(folder, run_file.read_bytes()) as last:
        for run_id in told:
            last.ledger.keep(run_id, last.run)
        last.enroll(address)
        waiting = len(last.spool.pending())
        last.drain()
        # What left the spool of an earlier life was acknowledged: nothing else may take a run out of it.
        last.ledger.acknowledged |= set(told) - {entry.run_id for entry in last.spool.pending()}
        return _Life(
            ledger=last.ledger,
            starts=starts,
            failed_starts=tuple(failed),
            waiting_at_end=waiting,
            dropped_runs=last.spool.dropped_count,
        )


def _run_until_killed(
    folder: Path, address: str, run_file: Path, chance: random.Random
) -> tuple[list[str], str | None]:
    """Return the run_ids that an agent had promised to keep, and what it said if it ended before it was killed."""
    line = [sys.executable, str(AGENT_CHILD), str(folder), address, str(run_file)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        assert agent.stderr is not None
        agent.stdout.readline()
        pause(chance.uniform(0, LATEST_KILL_SECONDS))
        ended = agent.poll() is not None
        agent.kill()
        lines, errors = agent.stdout.readlines(), agent.stderr.read()
    # A line without its end was cut off by the kill: its run is kept, but nobody was told.
    told = [line.strip() for line in lines if line.endswith("\n")]
    return told, (errors.strip().splitlines() or ["ended without a word"])[-1] if ended else None
