"""Putting a backup in the place of what a data directory holds, which is kept beside it.

What was refused stays refused: devices that were revoked or forgotten and tokens that were used since the backup.
"""

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import structlog

from weighin_aggregator.durable import sync
from weighin_aggregator.errors import BackupError, StoreBusyError, StoreError, StoreVersionError
from weighin_aggregator.store.backup import Backup, checked_backup
from weighin_aggregator.store.copying import count_rows
from weighin_aggregator.store.deletion import delete_forgotten
from weighin_aggregator.store.directory import owned
from weighin_aggregator.store.engine import log_of
from weighin_aggregator.store.journal import journal_of
from weighin_aggregator.store.schema import MIGRATIONS
from weighin_aggregator.store.store import FILE_NAME, RESTORING, Store, utc_now

_UNFINISHED = "restore.unfinished"
# What was there before, until all of it has made room.
_REPLACED = "restoring.before"
_Rows = list[tuple[Any, ...]]

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was restored, and the folder with what was there before: None where nothing was."""

    backup: Backup
    kept: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    """Rows of the tables that refuse a device or a token."""

    forgotten: _Rows
    revoked: _Rows
    used: _Rows


def restore(data: Path, source: Path) -> Restored:
    """Make a data directory hold what a backup holds.

    A crash at any moment leaves what was there, or a store that refuses to open until this is run again. Raises
    BackupError, StoreBusyError while a server runs, StoreVersionError for a backup of a newer aggregator.
    """
    backup = checked_backup(source)
    if backup.schema_version > len(MIGRATIONS):
        raise StoreVersionError(
            f"{source} has schema version {backup.schema_version}, this aggregator knows {len(MIGRATIONS)}; "
            "use the aggregator that made it, or a newer one"
        )
    try:
        with owned(data):
            kept = _finish(data)  # an earlier restore that was interrupted
            with ExitStack() as opened:
                before = opened.enter_context(_opened(data)) if (data / FILE_NAME).exists() else None
                _prepare(data / _UNFINISHED, source, backup, before)
            # From here on it is finished, by this process or by the next restore.
            (data / _UNFINISHED).rename(data / RESTORING)
            sync(data)
            return Restored(backup=backup, kept=_finish(data) or kept)
    except OSError as error:
        raise BackupError(f"cannot restore into {data}: {error.strerror or error}") from error


def _opened(data: Path) -> Store:
    """Open the store that is there as it is, of whatever version, if it can be opened."""
    store = Store(data / FILE_NAME)
    try:
        store.attach()
    except StoreBusyError:
        raise
    except StoreError as error:
        _log.warning("refused_devices_not_carried_over", why=str(error))
    return store


def _prepare(folder: Path, source: Path, backup: Backup, before: Store | None) -> None:
    """Make the folder whose contents take their places."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for name in backup.files:
        (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(source / name, folder / name)
    if count_rows(folder / FILE_NAME) != backup.rows:
        raise BackupError(f"{source} does not hold the rows that it names; take another backup")
    refused = None if before is None or not before.is_open else _read_refused(before)
    with Store.open(folder) as store:
        if refused is not None:
            store.transact(lambda connection: _refuse(connection, refused))
        store.checkpoint()
    # The backup itself is what was before its migration; the lock is that of the data directory.
    for extra in folder.glob(f"{FILE_NAME}.*"):
        extra.unlink()
    for path in folder.rglob("*"):
        sync(path)


def _finish(data: Path) -> Path | None:
    """Put what is prepared in its places; return where that of before is, None where there was none."""
    prepared = data / RESTORING
    if not prepared.is_dir():
        return None
    replaced = data / _REPLACED
    for fresh in sorted(prepared.iterdir()):
        for old in (data / fresh.name, log_of(data / fresh.name), journal_of(data / fresh.name)):
            if old.exists():
                replaced.mkdir(mode=0o700, exist_ok=True)
                old.rename(replaced / old.name)
        fresh.rename(data / fresh.name)
    kept = data / f"before-restore-{utc_now():%Y%m%dT%H%M%S.%fZ}" if replaced.exists() else None
    if kept is not None:
        sync(replaced)
        replaced.rename(kept)
    sync(data)
    prepared.rmdir()
    sync(data)
    return kept


def _read_refused(store: Store) -> _Refused | None:
    def read(connection: duckdb.DuckDBPyConnection) -> _Refused:
        return _Refused(
            forgotten=connection.execute("SELECT device_sha256, forget_time FROM forgotten_device").fetchall(),
            revoked=connection.execute("FROM device_event WHERE kind = 'revoked'").fetchall(),
            used=connection.execute("FROM enrollment_use").fetchall(),
        )

    try:
        return store.transact(read)
    except StoreError as error:  # as one of a version before there were such devices
        _log.warning("refused_devices_not_carried_over", why=str(error))
        return None


def _refuse(connection: duckdb.DuckDBPyConnection, refused: _Refused) -> None:
    for row in refused.forgotten:
        connection.execute("INSERT INTO forgotten_device VALUES (?, ?) ON CONFLICT DO NOTHING", row)
    for row in refused.revoked:
        connection.execute("INSERT INTO device_event SELECT ?::UUID, ?, ? EXCEPT FROM device_event", row)
    for row in refused.used:
        connection.execute("INSERT INTO enrollment_use SELECT ?, ?::UUID, ?::UUID, ? EXCEPT FROM enrollment_use", row)
    delete_forgotten(connection, utc_now())
