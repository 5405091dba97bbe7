"""Snapshots: a folder of Parquet files and a manifest, complete or not there at all."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from weighin_aggregator.errors import SnapshotError
from weighin_aggregator.store import Store, utc_now

MANIFEST = "manifest.json"
SNAPSHOT_SCHEMA_VERSION = 2


def write_snapshot(store: Store, target: Path) -> None:
    """Write what the store holds now into ``target``, all of one moment. Raises SnapshotError, StoreError."""
    target = _real(target)
    require_target(target)
    with _new_folder_beside(target) as folder:
        snapshot_time = utc_now()
        _write_manifest(folder, snapshot_time, store.export(folder))
        _publish(folder, target)


def copy_snapshot(source: Path, target: Path) -> None:
    """Copy a finished snapshot to ``target``. Raises SnapshotError."""
    target = _real(target)
    require_target(target)
    with _new_folder_beside(target) as folder:
        for file in sorted(source.iterdir()):
            shutil.copyfile(file, folder / file.name)
        _publish(folder, target)


def write_numbered_snapshot(store: Store, parent: Path, kept: int) -> Path:
    """Write a snapshot named after the time into ``parent``, remove the oldest over ``kept``, return the new one."""
    with _translated(parent):
        parent.mkdir(mode=0o700, exist_ok=True)
    target = parent / f"{utc_now():%Y%m%dT%H%M%S.%fZ}"
    write_snapshot(store, target)
    finished = sorted(path for path in parent.iterdir() if not path.name.startswith(".") and _is_snapshot(path))
    for old in finished[:-kept]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def require_target(target: Path) -> None:
    """Pass only a folder that is missing, empty, or a snapshot that may be replaced."""
    with _translated(target):
        usable = not target.exists() or (target.is_dir() and not any(target.iterdir())) or _is_snapshot(target)
    if not usable:
        raise SnapshotError(f"{target} holds something that is no snapshot; name a new or an empty folder")


def _is_snapshot(folder: Path) -> bool:
    """Tell a folder that holds what a manifest of ours names, and nothing else. Many programs write a manifest.json."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        named = {MANIFEST, *(table["file"] for table in manifest["tables"].values())}
        return "schema_version" in manifest and {path.name for path in folder.iterdir()} == named
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _real(target: Path) -> Path:
    """Follow links: what is replaced is the folder that they lead to, and its neighbours share its file system."""
    return Path(os.path.realpath(target))


def _write_manifest(folder: Path, snapshot_time: datetime, rows: Mapping[str, int]) -> None:
    tables = {
        name: {"file": f"{name}.parquet", "rows": count, "sha256": _sha256(folder / f"{name}.parquet")}
        for name, count in rows.items()
    }
    manifest = {
        "schema_version": SNAPSHOT_SCHEMA_VERSION,
        "snapshot_time": snapshot_time.isoformat(timespec="microseconds") + "Z",
        "tables": tables,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _new_folder_beside(target: Path) -> Iterator[Path]:
    """Give a folder on the file system of ``target``; what is left of it at the end is removed."""
    with _translated(target):
        parent = target.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, target: Path) -> None:
    """Put a finished folder in the place of ``target``. Nobody ever sees half a snapshot there.

    Between the two renames of a replacement there is nothing at ``target`` for a moment: no portable call swaps two
    folders.
    """
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)
    if target.exists():
        old = folder.with_name(folder.name + ".old")
        target.rename(old)
        try:
            folder.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old)
    else:
        folder.rename(target)
    _sync(target.absolute().parent)


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SnapshotError(f"cannot write the snapshot {path}: {error.strerror or error}") from error
