"""Publishes a snapshot without rows at TARGET, and is killed before its NUMBER-th step on the file system.

Run as ``python killed_publisher.py TARGET TIME NUMBER``; exits 0 when it has fewer steps.
"""

import os
import signal
import sys
from datetime import datetime
from pathlib import Path

from weighin_analysis.fleet.snapshot.folder import Manifest, part_of, publishing, write_manifest
from weighin_analysis.fleet.snapshot.views import TABLES

_STEPS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "shutil.rmtree", "tempfile.mkdtemp"}


def publish(target: Path, time: datetime) -> None:
    """Write a snapshot whose parts hold nothing."""
    with publishing(target) as folder:
        tables = {}
        for table in TABLES:
            (folder / table).mkdir()
            (folder / table / "1.parquet").touch()
            tables[table] = (part_of(folder, f"{table}/1.parquet", 0),)
        write_manifest(folder, Manifest(time=time, formula_version="f", limits_version="l", tables=tables))


def _kill_before(step: int) -> None:
    """Kill this process just before it takes a step; an audit hook is asked before each."""
    seen = 0

    def count(event: str, _: object) -> None:
        nonlocal seen
        if event in _STEPS:
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


if __name__ == "__main__":
    _kill_before(int(sys.argv[3]))
    publish(Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2]))
