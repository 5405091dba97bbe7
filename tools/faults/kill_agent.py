"""SIGKILL of the agent at any moment: while it starts, enrols, keeps runs and delivers them, over mutual TLS."""

import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aggregator_process

from faults.devices import SMALL_RUN, device, pause, set_aside
from faults.oracle import Books, Ledger, audit
from weighin_agent.fleet.actions import enroll
from weighin_agent.fleet.token import parse_token

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
    with _serving(data) as token, ThreadPoolExecutor(DEVICES) as pool:
        shares = [range(number, size, DEVICES) for number in range(DEVICES)]
        lives = [
            pool.submit(_live, folder / f"device {number}", token, run_file, len(share), chance.random())
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


@contextmanager
def _serving(data: Path) -> Iterator[str]:
    """Serve with mutual TLS inside the block; a token for exactly as many enrolments as there are devices."""
    unbounded = ("--calls-per-minute", "1000000", "--runs-per-day", "1000000", "--enroll-listen", "127.0.0.1:0")
    process = aggregator_process.start(data, data.with_name("log"), mode=unbounded)
    try:
        made = aggregator_process.command(
            "token", "create", "--data", data, "--group", "faults", "--uses", str(DEVICES)
        )
        assert made.returncode == 0, made.stderr
        yield made.stdout.strip()
    finally:
        process.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Life:
    ledger: Ledger
    starts: int
    failed_starts: tuple[str, ...]
    waiting_at_end: int
    dropped_runs: int


def _live(folder: Path, token: str, run_file: Path, kills: int, seed: float) -> _Life:
    chance = random.Random(seed)  # noqa: S311 - no secret
    told: list[str] = []
    failed: list[str] = []
    starts = 0
    for _ in range(kills):
        run_ids, error = _run_until_killed(folder, token, run_file, chance)
        told += run_ids
        starts += bool(run_ids)
        failed += [error] if error else []
    with device(folder, run_file.read_bytes()) as last:
        for run_id in told:
            last.ledger.keep(run_id, last.run)
        if last.state.enrolment() is None:
            enroll(last.state, last.spool, parse_token(token), 1)
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


def _run_until_killed(folder: Path, token: str, run_file: Path, chance: random.Random) -> tuple[list[str], str | None]:
    """Return the run_ids that an agent had promised to keep, and what it said if it ended before it was killed."""
    line = [sys.executable, str(AGENT_CHILD), str(folder), token, str(run_file)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        assert agent.stderr is not None
        # From when it has loaded, or from its first run: a slow machine must not spend all kills on its start.
        begun = [agent.stdout.readline() for _ in range(chance.choice((1, 2, 2)))]
        pause(chance.uniform(0, LATEST_KILL_SECONDS))
        ended = agent.poll() is not None
        agent.kill()
        lines, errors = [*begun[1:], *agent.stdout], agent.stderr.read()
    # A line without its end was cut off by the kill: its run is kept, but nobody was told.
    told = [line.strip() for line in lines if line.endswith("\n")]
    return told, (errors.strip().splitlines() or ["ended without a word"])[-1] if ended else None
