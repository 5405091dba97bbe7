"""Runs one piece of upkeep again and again, each time killed at a later step, each time on a fresh copy.

``killed_keeper.py WHAT BASE WORK`` copies the folder BASE to WORK/1, WORK/2, ..., and lets a child do WHAT in the copy,
killed by SIGKILL just before its first, second, ... step; the last one has no such step and ends by itself. A step is a
change of the file system, or one of the statements that change what is on disk or who holds it.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import example_runs

from weighin_aggregator.cli import WithoutPandas
from weighin_aggregator.commands.upkeep import alone
from weighin_aggregator.identity.roster import tombstone
from weighin_aggregator.store import copying, engine, store, upkeep
from weighin_aggregator.store.backup import write_backup
from weighin_aggregator.store.deletion import delete_device
from weighin_aggregator.store.restore import restore
from weighin_aggregator.store.store import Store, utc_now

_STATEMENTS = {"ATTACH", "BEGIN", "COMMIT", "CHECKPOINT", "DETACH"}
_EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}


class Killing:
    """A connection whose statements are steps."""

    def __init__(self, connection: Any, step: Callable[[], None]) -> None:
        self._connection = connection
        self._step = step

    def execute(self, sql: str, *rest: Any) -> Any:
        if sql.split(maxsplit=1)[0] in _STATEMENTS:
            self._step()
        return self._connection.execute(sql, *rest)

    def close(self) -> None:
        self._step()
        self._connection.close()

    def cursor(self) -> "Killing":
        return Killing(self._connection.cursor(), self._step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def back_up(folder: Path) -> None:
    with Store.open(folder / "data") as opened:
        write_backup(folder / "data", folder / "backup", opened.begin_copy)


def compact(folder: Path) -> None:
    with Store.open(folder / "data") as opened:
        upkeep.compact(folder / "data", alone(opened))


def forget(folder: Path) -> None:
    device = example_runs.DEVICE_ID
    with Store.open(folder / "data") as opened:
        opened.transact(partial(delete_device, device_id=device, digest=tombstone(device), moment=utc_now()))


def migrate(folder: Path) -> None:
    Store.open(folder / "data").close()


def put_back(folder: Path) -> None:
    restore(folder / "data", folder / "backup")


PIECES = {one.__name__: one for one in (back_up, compact, forget, migrate, put_back)}


def _killed_before(number: int, folder: Path) -> Callable[[], None]:
    """Return what counts a step, and kills this process before the step of a number."""
    seen = 0

    def step() -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not any(str(folder) in str(one) for one in arguments[:2]):
            return
        if event != "open" or (arguments[2] & os.O_ACCMODE) != os.O_RDONLY:
            step()

    sys.addaudithook(audit)
    return step


def _do(what: str, folder: Path, number: int) -> None:
    step = _killed_before(number, folder)
    for module in (copying, store):
        module.connect = lambda path: Killing(engine.connect(path), step)  # type: ignore[attr-defined]
    PIECES[what](folder)


def main(what: str, base: Path, work: Path) -> None:
    sys.meta_path.insert(0, WithoutPandas())  # as the command does
    number, is_killed = 0, True
    while is_killed:
        number += 1
        folder = work / str(number)
        shutil.copytree(base, folder)
        child = os.fork()  # nothing is connected and no thread runs here: a child costs no start of the interpreter
        if child == 0:
            code = 1
            try:
                _do(what, folder, number)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        is_killed = os.WIFSIGNALED(status)
        if not is_killed and os.waitstatus_to_exitcode(status):
            sys.exit(f"{what} failed before step {number}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
