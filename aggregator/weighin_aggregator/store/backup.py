"""Backups: a folder with a copy of the store, the keys of the fleet, and a manifest that is written last.

Who holds a backup holds all runs, and can admit devices: its folder is for its owner only.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from weighin_aggregator.durable import sync
from weighin_aggregator.errors import BackupError, CopyOvertakenError
from weighin_aggregator.store.copying import Copy, count_rows
from weighin_aggregator.store.schema import MIGRATIONS
from weighin_aggregator.store.store import FILE_NAME, utc_now

# The key and the certificates by which devices know the server and the server its devices.
AUTHORITY = "authority"
# Where in the data directory a server puts the backup that a command then takes away.
BACKUPS = "backups"

_MANIFEST = "manifest.json"
_BACKUP_VERSION = 1
_UNFINISHED = ".unfinished"

# Begins a copy of the store at a path.
Begin = Callable[[Path], Copy]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file of a backup: its size and the SHA-256 of its bytes, hexadecimal."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup holds. ``create_time`` is UTC; ``files`` are by their path inside it, with forward slashes."""

    create_time: datetime
    schema_version: int
    rows: Mapping[str, int]
    files: Mapping[str, Part]

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum(part.size_bytes for part in self.files.values())


def write_backup(data: Path, target: Path, begin: Begin) -> Backup:
    """Write a backup of a data directory into the new folder ``target``, which is whole or not there at all.

    Raises BackupError, StoreUnavailableError.
    """
    with _publishing(target) as folder:
        folder.mkdir(mode=0o700)
        create_time, rows = _copy_store(begin, folder / FILE_NAME)
        if (data / AUTHORITY).is_dir():
            shutil.copytree(data / AUTHORITY, folder / AUTHORITY)
        if count_rows(folder / FILE_NAME) != rows:
            raise BackupError(f"{folder / FILE_NAME} does not hold what was written; is the disk sound?")
        files = {path.relative_to(folder).as_posix(): _part(path) for path in _files_below(folder)}
        backup = Backup(create_time=create_time, schema_version=len(MIGRATIONS), rows=rows, files=files)
        (folder / _MANIFEST).write_text(_to_json(backup))
    return backup


def take_backup(source: Path, target: Path) -> Backup:
    """Move a backup that a server wrote to the new folder ``target``, also to another disk. Raises BackupError.

    After an error it is gone: a server's disk must not fill with backups that nobody could take.
    """
    try:
        with _publishing(target) as folder:
            # Each into a folder that is closed already: on another disk a move is a copy, and takes its time.
            folder.mkdir(mode=0o700)
            for path in list(source.iterdir()):
                shutil.move(path, folder)
            return checked_backup(folder)
    finally:
        shutil.rmtree(source, ignore_errors=True)


def remove_unfinished(data: Path) -> None:
    """Remove what a death in the middle of a backup left in the data directory; call it while none is being made."""
    for left in (data / BACKUPS).glob(f".*{_UNFINISHED}"):
        shutil.rmtree(left, ignore_errors=True)


def require_new(target: Path) -> None:
    """Pass only a folder that is not there. Raises BackupError."""
    if target.exists():
        raise BackupError(f"{target} is there already; name a new folder")


def require_outside(data: Path, target: Path) -> None:
    """Pass only a folder outside the data directory: what is lost with that is no backup. Raises BackupError."""
    if target.resolve().is_relative_to(data.resolve()):
        raise BackupError(f"{target} is inside the data directory; name a folder elsewhere, best on another disk")


def checked_backup(folder: Path) -> Backup:
    """Read a backup whose every byte is as it was written. Raises BackupError in one line for any other folder."""
    backup = _read(folder)
    for name, part in backup.files.items():
        try:
            found = _part(folder / name)
        except OSError as error:
            raise BackupError(f"the backup {folder} is not whole: {name}: {error.strerror}") from error
        if found != part:
            raise BackupError(f"the backup {folder} is damaged: {name} is not what was written")
    return backup


def _copy_store(begin: Begin, path: Path) -> tuple[datetime, Mapping[str, int]]:
    """Copy the store as it is at the moment that is returned; again where something was deleted meanwhile."""
    while True:
        copy = begin(path)
        try:
            copy.fill()
            moment, rows = utc_now(), copy.catch_up()
            copy.finish()
        except CopyOvertakenError:
            continue
        finally:
            copy.close()
        return moment, rows


@contextmanager
def _publishing(target: Path) -> Iterator[Path]:
    """Give a path beside ``target`` for a folder that becomes it, on disk, when the block ends without an error."""
    unfinished = target.with_name(f".{target.name}{_UNFINISHED}")
    try:
        require_new(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)  # what a crash left
        yield unfinished
        for path in (*unfinished.rglob("*"), unfinished):
            sync(path)
        unfinished.rename(target)
        sync(target.parent)
    except OSError as error:
        raise BackupError(f"cannot write the backup {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _part(path: Path) -> Part:
    with path.open("rb") as file:
        return Part(size_bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _to_json(backup: Backup) -> str:
    document = {
        "backup_version": _BACKUP_VERSION,
        "create_time": backup.create_time.isoformat() + "Z",
        "schema_version": backup.schema_version,
        "rows": dict(backup.rows),
        "files": {name: {"bytes": part.size_bytes, "sha256": part.sha256} for name, part in backup.files.items()},
    }
    return json.dumps(document, indent=2) + "\n"


def _read(folder: Path) -> Backup:
    try:
        document: Any = json.loads((folder / _MANIFEST).read_text())
    except OSError as error:
        raise BackupError(f"{folder} is no finished backup: {_MANIFEST}: {error.strerror}") from error
    except ValueError as error:
        raise BackupError(f"{folder} is no backup: {_MANIFEST} cannot be read as JSON") from error
    version = document.get("backup_version") if isinstance(document, dict) else None
    if version != _BACKUP_VERSION:
        raise BackupError(f"{folder} is a backup of version {version}, this program reads {_BACKUP_VERSION}")
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        backup = Backup(
            create_time=datetime.fromisoformat(document["create_time"]).replace(tzinfo=None),
            schema_version=int(document["schema_version"]),
            rows={str(name): int(count) for name, count in document["rows"].items()},
            files={
                _inside(name): Part(size_bytes=int(part["bytes"]), sha256=str(part["sha256"]))
                for name, part in document["files"].items()
            },
        )
        if FILE_NAME in backup.files:
            return backup
    raise BackupError(f"{folder} is no backup: {_MANIFEST} does not name its files")


def _inside(name: str) -> str:
    """Pass a name that leads to the store or into the authority: a manifest may come from elsewhere."""
    if name != FILE_NAME and (not name.startswith(f"{AUTHORITY}/") or ".." in Path(name).parts):
        raise ValueError(name)
    return name
