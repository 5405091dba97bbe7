"""Snapshots: what the store holds as Parquet files, judged, in a folder that is complete or not there at all.

The facts come from the store; a child process of low priority judges them with the analysis core. What an earlier
snapshot holds already is taken over.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from weighin_aggregator.errors import SnapshotError
from weighin_aggregator.store.store import utc_now
from weighin_analysis import errors as analysis_errors
from weighin_analysis.fleet.snapshot.earlier import link_or_copy, take_over
from weighin_analysis.fleet.snapshot.folder import is_snapshot, publishing
from weighin_analysis.fleet.snapshot.folder import require_target as require_folder

# Where in the data directory the operator's snapshots lie.
SNAPSHOTS = "snapshots"

# Adds what is new to the folder of a snapshot and returns of which moment (UTC) it is, as `Store.export`.
Export = Callable[[Path], Awaitable[datetime]]

_JUDGE = (sys.executable, "-P", "-m", "weighin_analysis.fleet.judging.judge_runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A snapshot. ``judged_run_count`` runs were judged now; ``refused`` says of those that could not be why, by id."""

    folder: Path
    run_count: int
    device_count: int
    judged_run_count: int
    refused: Mapping[str, str]


async def write_snapshot(export: Export, target: Path, earlier: Sequence[Path] = ()) -> Written:
    """Write what a store holds now into ``target``. Raises SnapshotError, and what ``export`` raises.

    ``earlier`` are snapshots whose parts may be taken over, besides the one that is replaced. Cancelling ends the child
    process and leaves ``target`` as it was.
    """
    with _translated(target), publishing(target) as folder:
        await asyncio.to_thread(take_over, folder, [target, *earlier])
        moment = await export(folder)
        return Written(folder=target, **await _judge(folder, moment))


async def write_numbered_snapshot(export: Export, parent: Path, kept: int) -> Written:
    """Write a snapshot named after the time into ``parent``, and remove the oldest over ``kept``."""
    with _translated(parent):
        parent.mkdir(mode=0o700, exist_ok=True)
    target = parent / f"{utc_now():%Y%m%dT%H%M%S.%fZ}"
    written = await write_snapshot(export, target, numbered_snapshots(parent))
    for old in numbered_snapshots(parent)[:-kept]:
        shutil.rmtree(old, ignore_errors=True)
    return written


def numbered_snapshots(parent: Path) -> list[Path]:
    """Return the finished snapshots that a server wrote into ``parent``, the oldest first."""
    return sorted(path for path in parent.glob("[!.]*") if is_snapshot(path))


def copy_snapshot(source: Path, target: Path) -> None:
    """Copy a finished snapshot to ``target``. Raises SnapshotError."""
    with _translated(target), publishing(target) as folder:
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            link_or_copy(file, folder / file.relative_to(source))


def require_target(target: Path) -> None:
    """Pass only a folder that is missing, empty, or a snapshot that may be replaced. Raises SnapshotError."""
    with _translated(target):
        require_folder(target)


async def _judge(folder: Path, moment: datetime) -> dict[str, Any]:
    """Let a child process judge the new runs and finish the folder; returns what it tells. Raises SnapshotError."""
    pipe = asyncio.subprocess.PIPE
    # It ends when its standard input closes: also when this process is killed.
    judge = await asyncio.create_subprocess_exec(
        *_JUDGE, str(folder), moment.isoformat(), stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert judge.stdout is not None, "it has a pipe"
    assert judge.stderr is not None, "it has a pipe"
    try:
        answer, complaint = await asyncio.gather(judge.stdout.read(), judge.stderr.read())
        code = await judge.wait()
    finally:
        if judge.returncode is None:
            judge.kill()
            await judge.wait()
    if code:
        lines = complaint.decode(errors="replace").splitlines() or [f"its process ended with {code}"]
        raise SnapshotError(f"the snapshot was not judged: {lines[-1]}")
    told: dict[str, Any] = json.loads(answer)
    return told


@contextmanager
def _translated(target: Path) -> Iterator[None]:
    try:
        yield
    except analysis_errors.SnapshotError as error:
        raise SnapshotError(str(error)) from error
    except OSError as error:
        raise SnapshotError(f"cannot write the snapshot {target}: {error.strerror or error}") from error
