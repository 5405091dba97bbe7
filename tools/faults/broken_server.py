"""A child process: an aggregator that kills itself at a named point, or that does not see how full its disk is.

``broken_server.py FAULT CHANCE MARK serve ...`` where FAULT is one of the names below, CHANCE from 0 to 1 says when,
and the file MARK gets the name of the point that was reached.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from weighin_aggregator import cli
from weighin_aggregator.store.store import Store

BEFORE_COMMIT, AFTER_COMMIT, IN_CHECKPOINT = "before commit", "after commit", "in checkpoint"
BLIND = "blind to a full disk"
# A commit of runs, not of what a start writes; and a checkpoint of as much takes about that long.
_LATEST_COMMIT = 12
_CHECKPOINT_SECONDS = 0.03


class Connection:
    """A connection of DuckDB that looks at each statement; everything else is the connection's own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, watch: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._connection = connection
        self._watch = watch
        # DuckDB finds the tables that a statement names in the frame of its caller, which is not this one.
        connection.execute("SET python_scan_all_frames = true")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *parameters: Any) -> Any:
        """Execute a statement, unless the process dies of it."""
        return self._watch(statement, lambda: self._connection.execute(statement, *parameters))


class Killer:
    """Kills this process at its point."""

    def __init__(self, point: str, chance: float, mark: Path) -> None:
        self._point, self._chance, self._mark = point, chance, mark
        self._commits = int(chance * _LATEST_COMMIT) + 1
        self._inserted = False

    def watch(self, statement: str, execute: Callable[[], Any]) -> Any:
        """Pass a statement on; die where it is the one."""
        self._inserted = self._inserted or statement.startswith("INSERT INTO run ")
        if statement == "COMMIT" and self._inserted and self._point in (BEFORE_COMMIT, AFTER_COMMIT):
            return self._commit(execute)
        if statement.startswith("CHECKPOINT") and self._inserted and self._point == IN_CHECKPOINT:
            return self._checkpoint(execute)
        return execute()

    def _commit(self, execute: Callable[[], Any]) -> Any:
        self._commits -= 1
        if self._commits == 0 and self._point == BEFORE_COMMIT:
            self._die()
        done = execute()
        if self._commits == 0:
            self._die()
        return done

    def _checkpoint(self, execute: Callable[[], Any]) -> Any:
        self._mark.write_text(self._point)
        threading.Thread(target=self._die_later, daemon=True).start()
        execute()
        # It was faster than death: not inside.
        self._mark.unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def _die_later(self) -> None:
        time.sleep(self._chance * _CHECKPOINT_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    def _die(self) -> None:
        self._mark.write_text(self._point)
        os.kill(os.getpid(), signal.SIGKILL)


def _endless(self: Store) -> int:  # noqa: ARG001 - a method
    return 1 << 60


def main(fault: str, chance: str, mark: str, *arguments: str) -> int:
    """Break what ``fault`` names, then be the aggregator."""
    if fault == BLIND:
        Store.free_disk_bytes = _endless  # type: ignore[method-assign]
    else:
        killer, connect = Killer(fault, float(chance), Path(mark)), duckdb.connect
        duckdb.connect = lambda *given, **named: Connection(connect(*given, **named), killer.watch)  # type: ignore[assignment]
    return cli.main(list(arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
