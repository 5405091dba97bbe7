"""A disk that fills up under the aggregator, and one under an agent, and is freed again."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from aggregator_process import wait_until

from faults import server
from faults.broken_server import BLIND
from faults.devices import Device, Fleet, device, pause, sending, set_aside
from faults.oracle import Books, audit
from weighin_agent.errors import AgentError, SpoolError, StateError
from weighin_agent.fleet.actions import status

DEVICES = 5
MOST_RECOVERY_SECONDS = 60.0
_SERVER_DISK_BYTES = 192 << 20
_AGENT_DISK_BYTES = 2 << 20
_BLOCK_BYTES = 1 << 16
_RUNS_BETWEEN = 20


class NoSmallDiskError(Exception):
    """No disk can be made full on this system; the text says what it lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A folder that can be made full: a small file system of its own, else by a limit on the size of files."""

    folder: Path
    is_mounted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FullServerDisks:
    """``blind_rounds`` met a server that does not look how full the disk is: there the write itself fails.

    In every third round the server is killed and started again before the disk is freed.

    ``recovery`` is from the moment when the disk was free until health said SERVING. Where no tmpfs could be mounted,
    a limit on the size of files stood in.
    """

    is_tmpfs: bool
    rounds: int
    blind_rounds: int
    not_serving_rounds: int
    deaths: int
    recovery_longest_seconds: float
    set_aside: tuple[str, ...]
    books: Books

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held."""
        missed = [*self.books.missed(), *self.set_aside]
        if self.not_serving_rounds < self.rounds:
            missed.append(f"health said so in {self.not_serving_rounds} of {self.rounds} rounds only")
        if self.deaths:
            missed.append(f"the server ended {self.deaths} times")
        if self.recovery_longest_seconds > MOST_RECOVERY_SECONDS:
            missed.append(f"serving again took {self.recovery_longest_seconds:.0f} s")
        return tuple(missed)


@dataclass(frozen=True, slots=True, kw_only=True)
class FullAgentDisks:
    """``refused_runs`` were not kept, with a clear line; ``starts_on_full`` and ``sent_on_full`` worked all the same.

    ``recovery`` is from the moment when the disk was free until a run was kept and acknowledged. Where no tmpfs could
    be mounted, a limit on the size of files stood in.
    """

    is_tmpfs: bool
    rounds: int
    refused_runs: int
    starts_on_full: int
    sent_on_full: int
    failed_starts: tuple[str, ...]
    recovery_longest_seconds: float
    set_aside: tuple[str, ...]
    books: Books

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held."""
        missed = [*self.books.missed(), *self.failed_starts, *self.set_aside]
        if self.refused_runs < self.rounds:
            missed.append(f"the disk was full in {self.refused_runs} of {self.rounds} rounds only")
        if not self.sent_on_full:
            missed.append("nothing was delivered from a full disk")
        if self.recovery_longest_seconds > MOST_RECOVERY_SECONDS:
            missed.append(f"keeping runs again took {self.recovery_longest_seconds:.0f} s")
        return tuple(missed)


def inject_server(folder: Path, size: int, chance: random.Random) -> FullServerDisks:
    """Fill the disk under a server ``size`` times while devices deliver, every other time under a blind one."""
    port, not_serving, deaths, recoveries = server.free_port(), 0, 0, []
    with small_disk(folder / "disk", _SERVER_DISK_BYTES) as disk:
        data = disk.folder / "data"
        process = server.start(data, port)
        try:
            with sending(folder, process.address, DEVICES) as fleet:
                for number in range(size):
                    process.stop()
                    # Between the two, nobody is promised anything.
                    process = server.start(data, port, *([BLIND, "0", "none"] if number % 2 else []))
                    known = fleet.acknowledged_runs
                    _wait_for_runs(fleet, known + _RUNS_BETWEEN)
                    with full(disk, process.process.pid):
                        filled = time.monotonic()
                        server.seconds_until(process.address, serving=False, since=filled)
                        not_serving += 1
                        pause(chance.uniform(0, 1))
                        if disk.is_mounted and number % 3 == 0:
                            process.kill()
                            process = server.start(data, port)
                            server.seconds_until(process.address, serving=False, since=time.monotonic())
                    recoveries.append(server.seconds_until(process.address, serving=True, since=time.monotonic()))
                    deaths += process.process.poll() is not None
                    fleet.check()
        finally:
            process.stop()
        books = audit(data, fleet.ledgers)
    return FullServerDisks(
        is_tmpfs=disk.is_mounted,
        rounds=size,
        blind_rounds=size // 2,
        not_serving_rounds=not_serving,
        deaths=deaths,
        recovery_longest_seconds=max(recoveries),
        set_aside=set_aside(fleet.ledgers),
        books=books,
    )


def inject_agent(folder: Path, size: int, chance: random.Random) -> FullAgentDisks:
    """Fill the disk under an agent ``size`` times, start another in its folder, deliver, and free the disk."""
    data, refused, starts, sent, failed, recoveries = folder / "data", 0, 0, 0, [], []
    with (
        server.serving(data, server.free_port()) as process,
        small_disk(folder / "disk", _AGENT_DISK_BYTES) as disk,
    ):
        state = disk.folder / "state"
        with device(state) as one:
            one.enroll(process.address)
        ledger = one.ledger
        for _ in range(size):
            with device(state) as one:
                one.ledger = ledger
                one.keep(chance.randint(1, 3))
                with full(disk, os.getpid()):
                    refused += _is_refused(one)
            with full(disk, os.getpid()):
                try:
                    status(one.state)
                    with device(state) as another:
                        another.ledger = ledger
                        starts += 1
                        before = len(ledger.acknowledged)
                        another.deliver()
                        sent += len(ledger.acknowledged) - before
                except AgentError as error:
                    failed.append(str(error))
            freed = time.monotonic()
            with device(state) as last:
                last.ledger = ledger
                last.keep(1)
                last.drain()
            recoveries.append(time.monotonic() - freed)
    return FullAgentDisks(
        is_tmpfs=disk.is_mounted,
        rounds=size,
        refused_runs=refused,
        starts_on_full=starts,
        sent_on_full=sent,
        failed_starts=tuple(failed),
        recovery_longest_seconds=max(recoveries),
        set_aside=set_aside([ledger]),
        books=audit(data, [ledger]),
    )


def _wait_for_runs(fleet: Fleet, count: int) -> None:
    wait_until(lambda: fleet.acknowledged_runs > count, 60.0)


def _is_refused(one: Device) -> bool:
    """Whether a run is refused with an error of ours; one that was kept is a promise like any other."""
    try:
        one.keep(1)
    except (SpoolError, StateError):
        return True
    return False


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Disk]:
    """Mount a tmpfs for the length of the block, where this process may. Raises NoSmallDiskError."""
    folder.mkdir(parents=True)
    is_mounted = _mount(folder, size_bytes)
    if not is_mounted and sys.platform != "linux":
        raise NoSmallDiskError("no tmpfs can be mounted here, and only Linux limits the files of another process")
    try:
        yield Disk(folder=folder, is_mounted=is_mounted)
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(folder: Path, size_bytes: int) -> bool:
    line = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=777", "none", str(folder)]
    try:
        return subprocess.run(line, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def full(disk: Disk, pid: int) -> Iterator[None]:
    """Leave no free byte on a disk, at least for the process ``pid``, for the length of the block."""
    with _filled(disk.folder) if disk.is_mounted else _limited(pid):
        yield


@contextmanager
def _filled(folder: Path) -> Iterator[None]:
    ballast = folder / "ballast"
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (_BLOCK_BYTES, 1):
            with suppress(OSError):
                while True:
                    os.write(descriptor, bytes(size))
        yield
    finally:
        os.close(descriptor)
        ballast.unlink()


@contextmanager
def _limited(pid: int) -> Iterator[None]:
    """Let no file grow; pipes and sockets are not concerned."""
    process = psutil.Process(pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)
