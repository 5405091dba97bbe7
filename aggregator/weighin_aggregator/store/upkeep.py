"""What keeps a store in order: runs that are too old are deleted, and what was deleted is erased from the disk."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from weighin_aggregator.errors import CopyOvertakenError, StoreError
from weighin_aggregator.limits import Limits
from weighin_aggregator.store.backup import BACKUPS, Backup, remove_unfinished, write_backup
from weighin_aggregator.store.commit import Committer
from weighin_aggregator.store.deletion import delete_received_before, is_erasure_due
from weighin_aggregator.store.snapshot import SNAPSHOTS
from weighin_aggregator.store.store import FILE_NAME, Store, utc_now

_COMPACTED = f"{FILE_NAME}.compacted"
# Copies of a store as it once was: before a migration, before a restore, or a backup that no command took away.
_KEPT_COPIES = (f"{FILE_NAME}.before-*", "before-restore-*", f"{BACKUPS}/*")

_Answer = TypeVar("_Answer")

_log = structlog.get_logger()


class WithStore(Protocol):
    """Gives a call the store, for itself, and returns what it returns. Raises StoreError."""

    def __call__(self, call: Callable[[Store], _Answer], /) -> _Answer:
        """Run the call."""


class Upkeep:
    """The upkeep of a server, at its start and twice a day, beside its commits.

    Who holds ``copying`` is the only one who copies from the store: a backup, a compaction, a snapshot.
    """

    def __init__(self, data: Path, committer: Committer, limits: Limits) -> None:
        self._data = data
        self._committer = committer
        self._limits = limits
        self.copying = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Begin nothing more; what is under way ends when the store is closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def back_up(self) -> tuple[Path, Backup]:
        """Write a backup into the data directory for a command to take away. Raises BackupError, StoreError."""
        return await self._copying(self._back_up)

    async def record(self, backup: Backup) -> None:
        """Remember that a backup was written, once a command is there to take it. Raises StoreError."""
        await asyncio.to_thread(record_backup, self._with_store, backup)
        _log.info("backup_written", runs=backup.rows["run"], size_bytes=backup.size_bytes)

    async def _copying(self, make: Callable[[WithStore], _Answer]) -> _Answer:
        """Return what ``make`` returns, in a thread of its own; a store is copied once at a time."""
        async with self.copying:
            return await asyncio.to_thread(make, self._with_store)

    def _back_up(self, with_store: WithStore) -> tuple[Path, Backup]:
        target = self._data / BACKUPS / f"{utc_now():%Y%m%dT%H%M%S.%fZ}"
        return target, write_backup(self._data, target, lambda path: with_store(lambda store: store.begin_copy(path)))

    def _with_store(self, call: Callable[[Store], _Answer], /) -> _Answer:
        return self._committer.between_commits(call).result()

    async def _work(self) -> None:
        while True:
            await self._copying(self._keep_up)
            await asyncio.sleep(self._limits.upkeep_seconds)

    def _keep_up(self, with_store: WithStore) -> None:
        remove_unfinished(self._data)
        try:
            delete_expired(with_store, self._limits, utc_now())
            if compact(self._data, with_store):
                _log.info("store_compacted")
            remove_old_copies(self._data, self._limits.kept_copy_days, utc_now())
        except StoreError as error:  # the next time may succeed
            _log.error("upkeep_failed", why=str(error))


def record_backup(with_store: WithStore, backup: Backup) -> None:
    """Remember that a backup was written."""
    row = [backup.create_time, backup.rows["run"]]
    with_store(lambda store: store.transact(lambda one: one.execute("INSERT INTO backup VALUES (?, ?)", row)))


def delete_expired(with_store: WithStore, limits: Limits, now: datetime) -> int:
    """Delete the runs that were received longer ago than they are kept, a few at a time; 0 days keeps all of them."""
    if not limits.retention_days:
        return 0
    oldest = now - timedelta(days=limits.retention_days)
    delete = partial(delete_received_before, oldest=oldest, run_limit=limits.deleted_runs, moment=now)
    counts = iter(lambda: with_store(lambda store: store.transact(delete)), 0)
    total = sum(counts)
    if total:
        _log.info("runs_expired", runs=total, received_before=oldest.isoformat() + "Z")
    return total


def compact(data: Path, with_store: WithStore) -> bool:
    """Erase from the disk what was deleted, snapshots of before too; False where nothing was deleted.

    The store goes on committing, but for the moment in which the copy takes its place. Raises StoreError.
    """
    if not with_store(lambda store: store.transact(is_erasure_due)):
        return False
    # With what a killed server left unfinished there.
    shutil.rmtree(data / SNAPSHOTS, ignore_errors=True)
    while not _replace(data / _COMPACTED, with_store):
        pass
    return True


def remove_old_copies(data: Path, kept_days: int, now: datetime) -> None:
    """Remove copies of the store that lie in its data directory for longer than they are kept."""
    oldest = now - timedelta(days=kept_days)
    for path in _kept_copies(data):
        with suppress(OSError):
            if datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None) < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                _log.info("old_copy_removed", name=path.name)


def _kept_copies(data: Path) -> Iterator[Path]:
    for pattern in _KEPT_COPIES:
        yield from data.glob(pattern)


def _replace(path: Path, with_store: WithStore) -> bool:
    """Put a copy in the place of the store; False where something was deleted meanwhile."""
    copy = with_store(lambda store: store.begin_copy(path))
    try:
        copy.fill()
        with_store(lambda store: store.adopt(copy))
    except CopyOvertakenError:
        return False
    finally:
        copy.discard()
    return True
