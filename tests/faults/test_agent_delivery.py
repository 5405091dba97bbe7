"""SIGKILL of the aggregator while an agent delivers, and of the agent while it adds and delivers.

The truth is a ledger outside both. WEIGHIN_KILLS and WEIGHIN_SEED make it longer or repeat it. A SIGKILL leaves the
page cache alone, so this says nothing about the loss of power.
"""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import adding_agent
import aggregator_process
import duckdb
import pytest
from example_runs import example_run

from weighin_agent.fleet.actions import deliver_runs, enroll_insecure, keep_run, working
from weighin_agent.fleet.delivery import Pace
from weighin_agent.fleet.spool import Spool
from weighin_agent.fleet.state import State

KILLS = int(os.environ.get("WEIGHIN_KILLS", "10"))
LATEST_KILL_SECONDS = 0.5
# Pauses of a twentieth of what they are in life, so that the tries outnumber the kills.
HASTE = Pace(uniform=lambda low, high: low + random.uniform(0, 0.05) * (high - low))


@pytest.fixture
def chance() -> random.Random:
    """Where the kills fall; the seed is printed for a failure to be repeated."""
    seed = int(os.environ.get("WEIGHIN_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"WEIGHIN_SEED={seed}")
    return random.Random(seed)


def pause(seconds: float) -> None:
    """Not a wait for anything: the random moment is the fault."""
    threading.Event().wait(seconds)


def kill_later(server: aggregator_process.Server, seconds: float, gone: threading.Event) -> None:
    pause(seconds)
    server.kill()
    gone.set()


def stored_run_ids(data: Path) -> list[str]:
    with duckdb.connect(str(data / "weighin.duckdb"), read_only=True) as store:
        return [run_id for (run_id,) in store.execute("SELECT run_id::VARCHAR FROM run").fetchall()]


def add_and_deliver_until_the_server_is_gone(state: State, spool: Spool, run: bytes, gone: threading.Event) -> set[str]:
    added = set()
    while not gone.is_set():
        added |= {keep_run(state, spool, run).run_id for _ in range(3)}
        deliver_runs(state, spool, give_up_after_seconds=0.0, pace=HASTE)
    return added


@pytest.mark.slow
def test_killing_the_aggregator_loses_no_spooled_run_and_stores_none_twice(
    tmp_path: Path, chance: random.Random
) -> None:
    data, log, state = tmp_path / "data", tmp_path / "log", State(tmp_path / "state")
    run = example_run().SerializeToString()
    spooled: set[str] = set()
    with working(state) as spool:
        for _ in range(KILLS):
            server = aggregator_process.start(data, log)
            enroll_insecure(state, spool, server.address, 1)
            gone = threading.Event()
            moment_seconds = chance.uniform(0, LATEST_KILL_SECONDS)
            killer = threading.Thread(target=kill_later, args=(server, moment_seconds, gone))
            killer.start()
            spooled |= add_and_deliver_until_the_server_is_gone(state, spool, run, gone)
            killer.join()
        left = len(spool.pending())
        acknowledged = spooled - {entry.run_id for entry in spool.pending()}
        with aggregator_process.serving(data, log) as server:
            enroll_insecure(state, spool, server.address, 1)
            report = deliver_runs(state, spool, pace=HASTE)
        assert (spool.pending(), spool.quarantined(), spool.dropped_count) == ((), (), 0)
    stored = stored_run_ids(data)
    print(f"{KILLS} kills, {len(spooled)} runs, {left} left at the end, {report.duplicate_count} of them duplicates")
    assert len(spooled) > KILLS, "the kills came before anything was sent"
    assert acknowledged <= set(stored)
    assert sorted(stored) == sorted(spooled)


def run_agent_until_killed(folder: Path, address: str, chance: random.Random) -> list[str]:
    """The run_ids that the agent had promised to keep when it was killed."""
    tests = str(Path(adding_agent.__file__).parent)
    with subprocess.Popen(
        [sys.executable, adding_agent.__file__, str(folder), address],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": tests},
    ) as agent:
        assert agent.stdout is not None
        first = agent.stdout.readline()
        pause(chance.uniform(0, LATEST_KILL_SECONDS))
        agent.kill()
        lines = [first, *agent.stdout]
        agent.wait(timeout=30)
    # A line without its end was cut off by the kill: its run is kept, but nobody was told.
    return [line.strip() for line in lines if line.endswith("\n")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_killing_the_agent_loses_no_spooled_run_and_sends_none_into_the_store_twice(
    tmp_path: Path, chance: random.Random
) -> None:
    data, log, state = tmp_path / "data", tmp_path / "log", State(tmp_path / "state")
    promised: list[str] = []
    with aggregator_process.serving(data, log) as server:
        for _ in range(KILLS):
            promised += run_agent_until_killed(state.folder, server.address, chance)
        with working(state) as spool:
            left = len(spool.pending())
            report = deliver_runs(state, spool, pace=HASTE)
            assert (spool.pending(), spool.quarantined(), spool.dropped_count) == ((), (), 0)
    stored = stored_run_ids(data)
    print(f"{KILLS} kills, {len(promised)} runs, {left} left at the end, {report.duplicate_count} of them duplicates")
    assert len(promised) > KILLS, "the kills came before anything was added"
    assert len(stored) == len(set(stored))
    assert set(promised) <= set(stored)
    assert len(stored) <= len(promised) + KILLS, "at most one run per kill was kept before it could be told"
