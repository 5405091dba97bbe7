"""The data directory: closed to other users, and owned by one process at a time, which `flock` tells (Linux, macOS)."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import structlog

from weighin_aggregator.errors import StoreBusyError, StoreError

# Never removed: who waits with the old file open would hold a lock that nobody else sees.
LOCK = "weighin.duckdb.lock"
_OWN_NAMES = (
    "weighin.duckdb*",
    ".weighin.duckdb*",
    "authority",
    "serving.json",
    ".serving.json*",
    "snapshots",
    "backups",
    "restoring*",
    "restore.unfinished",
    "before-restore-*",
    "lost+found",  # of a disk of its own
)
_PRIVATE_MODE = 0o700
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_log = structlog.get_logger()


@contextmanager
def owned(data: Path) -> Iterator[None]:
    """Be the only one who works in a data directory inside the block; one that is missing is made.

    DuckDB locks its file, but compaction and a restore put another file in its place. Raises StoreBusyError,
    StoreError.
    """
    try:
        data.mkdir(mode=_PRIVATE_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the data directory {data}: {error.strerror}") from error
    _require_no_manifest(data)
    _close_to_others(data)
    try:
        descriptor = os.open(data / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open {data / LOCK}: {error.strerror}") from error
    try:
        _lock(descriptor, data)
        yield
    finally:
        os.close(descriptor)


def _require_no_manifest(data: Path) -> None:
    if os.path.lexists(data / "manifest.json"):
        raise StoreError(
            f"{data} is a backup or a snapshot and no data directory; a backup is put into one with "
            "`weighin-aggregator restore --data DIR FOLDER`"
        )


def _lock(descriptor: int, data: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Always as long: on a full disk the file must not have to grow.
        os.pwrite(descriptor, f"{os.getpid():10}\n".encode(), 0)
        folder = data.stat()
        if os.geteuid() == 0 != folder.st_uid:  # root looks into it while the user of the server does not run
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    except BlockingIOError as error:
        pid = _pid_in(descriptor)
        holder = "another process" if pid is None else f"process {pid}"
        raise StoreBusyError(
            f"{data} is in use by {holder}; stop it first, or use another --data directory", pid
        ) from error
    except OSError as error:
        raise StoreError(f"cannot lock {data / LOCK}: {error.strerror}") from error


def _pid_in(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0)
    return int(text) if text.strip().isdigit() else None


def _close_to_others(data: Path) -> None:
    """Keep other users out of what devices sent, unless they may have other business in that folder."""
    try:
        if not data.stat().st_mode & _OF_OTHERS:
            return
        foreign = sorted(path.name for path in data.iterdir() if not _is_own(path.name))
        if not foreign:
            data.chmod(_PRIVATE_MODE)
    except OSError as error:
        raise StoreError(
            f"cannot close {data} to other users: {error.strerror}; let its owner do it: chmod 700 {data}"
        ) from error
    if foreign:
        raise StoreError(
            f"{data} is open to other users and holds what is not weighin's, as {foreign[0]}; close it with "
            f"`chmod 700 {data}`, or name a folder of its own"
        )
    _log.warning("data_directory_closed")


def _is_own(name: str) -> bool:
    return any(fnmatch(name, own) for own in _OWN_NAMES)
