"""The folder of a snapshot: a manifest and, per table, a folder of Parquet files; complete or not there at all."""

import ctypes
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from weighin_analysis.errors import SnapshotError
from weighin_analysis.fleet.snapshot.views import TABLES, VIEWS_VERSION

MANIFEST = "manifest.json"
# How DuckDB writes a part. With lz4 it is read in little more than half the time that zstd takes, for a seventh more
# bytes of measurements and a fourteenth of estimates.
PARQUET = "(FORMAT parquet, COMPRESSION lz4_raw)"
SCHEMA_VERSION = 3

# In the name of a folder whose snapshot is being made, behind that of its target.
_DRAFT = ".weighin-"
# The end of the name of a snapshot that is being replaced, where two folders cannot be swapped.
_REPLACED = ".old"
# Of fcntl.h and stdio.h.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

TAKE_ANOTHER = "take a new one with `weighin-aggregator snapshot --data DIR --out DIR`, or import it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One Parquet file of a table; ``file`` is its path inside the snapshot, with forward slashes."""

    file: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a snapshot holds; ``time`` is aware and in UTC.

    ``tables`` has every name of ``TABLES`` with at least one file, which may have no rows. ``plausibility_version`` is
    None where nothing was held against any rule, as where all devices are external.
    """

    time: datetime
    formula_version: str
    limits_version: str
    tables: Mapping[str, tuple[Part, ...]]
    views_version: int = VIEWS_VERSION
    plausibility_version: str | None = None

    def rows(self, table: str) -> int:
        """Return how many rows a table has."""
        return sum(part.rows for part in self.tables[table])


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a snapshot; SnapshotError in one line where there is none, or none that can be used."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise SnapshotError(
            f"{folder}: there is no such folder; make one with `weighin-aggregator snapshot --data DIR --out DIR`"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as cause:
        raise SnapshotError(f"{folder}: not a snapshot, it holds no {MANIFEST}; {TAKE_ANOTHER}") from cause
    except (OSError, ValueError, RecursionError) as cause:
        raise SnapshotError(f"{path}: cannot be read as JSON; {TAKE_ANOTHER}") from cause
    if not isinstance(document, dict):
        raise SnapshotError(f"{path}: is no manifest; {TAKE_ANOTHER}")
    found = document.get("schema_version")
    if found != SCHEMA_VERSION:
        raise SnapshotError(
            f"{path}: schema version {found}, this program reads {SCHEMA_VERSION}; use matching versions of both"
        )
    try:
        return Manifest(
            time=_time(document["snapshot_time"]),
            formula_version=_text(document["formula_version"]),
            limits_version=_text(document["limits_version"]),
            tables={table: _parts(document["tables"][table]["files"]) for table in TABLES},
            views_version=int(document["views_version"]),
            plausibility_version=document["plausibility_version"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as cause:
        raise SnapshotError(f"{path}: names no usable files ({cause!r:.80}); {TAKE_ANOTHER}") from cause


def checked_files(folder: Path, manifest: Manifest, tables: Iterable[str] = TABLES) -> dict[str, tuple[Path, ...]]:
    """Return the files of these tables once their bytes match the manifest; SnapshotError names one that does not.

    Of all other tables every file must be there, and of its size.
    """
    read = frozenset(tables)
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # the hashes are most of what opening a large snapshot takes
        found = {
            table: threads.map(partial(_checked_file, folder, hashed=table in read), parts)
            for table, parts in manifest.tables.items()
        }
        files = {table: tuple(paths) for table, paths in found.items()}
    return {table: paths for table, paths in files.items() if table in read}


def part_of(folder: Path, file: str, rows: int) -> Part:
    """Return what a manifest says of a file that was written into a snapshot's folder."""
    path = folder / file
    return Part(file=file, rows=rows, size_bytes=path.stat().st_size, sha256=_sha256(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a snapshot whose files are all there."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "views_version": manifest.views_version,
        "snapshot_time": manifest.time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z",
        "formula_version": manifest.formula_version,
        "limits_version": manifest.limits_version,
        "plausibility_version": manifest.plausibility_version,
        "tables": {
            table: {
                "rows": manifest.rows(table),
                "files": [
                    {"file": part.file, "rows": part.rows, "bytes": part.size_bytes, "sha256": part.sha256}
                    for part in manifest.tables[table]
                ],
            }
            for table in TABLES
        },
    }
    (folder / MANIFEST).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


@contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """Give an empty folder beside ``target``; it takes its place when the block ends without an error.

    A process that is killed in between leaves ``target`` as it was, and beside it a folder that the next one removes.
    Raises SnapshotError before anything is written where ``target`` holds what is no snapshot.
    """
    target = Path(os.path.realpath(target))  # what is replaced is the folder that a link leads to
    require_target(target)
    with ExitStack() as held:
        with _translated(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(target.parent):
                _clear_up(target.parent)
                folder = Path(tempfile.mkdtemp(prefix=f".{target.name}{_DRAFT}", dir=target.parent))
                held.callback(shutil.rmtree, folder, ignore_errors=True)
                held.enter_context(_locked(folder))
        yield folder
        with _translated(target), _locked(target.parent):
            _publish(folder, target)


def _clear_up(parent: Path) -> None:
    """Remove what killed processes left in a folder: a process holds the lock of its own while it lives."""
    for left in parent.glob(f".*{_DRAFT}*"):
        target = parent / left.name[1:].rpartition(_DRAFT)[0]
        if left.suffix == _REPLACED and not target.exists():
            left.rename(target)
            continue
        with suppress(OSError), _locked(left, wait=False):
            shutil.rmtree(left)


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder, which the system releases however the process ends.

    Without ``wait`` an OSError says that it cannot be had now. To wait for one that a file system does not offer at
    all, as NFS, is to go without: then nobody can have it, and nobody clears up.
    """
    import fcntl  # noqa: PLC0415 - where there is none, as on Windows, a snapshot can still be read

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError) if wait else nullcontext():
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def require_target(target: Path) -> None:
    """Pass only a folder that is missing, empty, or a snapshot that may be replaced."""
    with _translated(target):
        usable = not target.exists() or (target.is_dir() and not any(target.iterdir())) or is_snapshot(target)
    if not usable:
        raise SnapshotError(f"{target} holds something that is no snapshot; name a new or an empty folder")


def is_snapshot(folder: Path) -> bool:
    """Tell a folder that holds what a manifest of ours names, and nothing else."""
    return (named := _named_files(folder)) is not None and _files_below(folder) == {MANIFEST, *named}


def in_snapshot(folder: Path) -> bool:
    """Tell a folder in which, or above which, lies a manifest of ours, whatever lies beside it."""
    folder = Path(os.path.realpath(folder))
    return any(_named_files(one) is not None for one in (folder, *folder.parents))


def _named_files(folder: Path) -> Sequence[str] | None:
    """Return the files that a manifest of this version, or of an earlier one, names; None where there is none.

    Many programs write a manifest.json.
    """
    named = []
    try:
        document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for table in document["tables"].values():
            named += [part["file"] for part in table["files"]] if "files" in table else [table["file"]]
        return named if "schema_version" in document else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _parts(documents: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    if not documents:
        raise ValueError("a table without a file")
    return tuple(map(_part, documents))


def _part(document: Mapping[str, Any]) -> Part:
    file, rows, size = _text(document["file"]), document["rows"], document["bytes"]
    # The manifest may come from elsewhere: a name must not lead out of the snapshot.
    if Path(file).is_absolute() or ".." in Path(file).parts or "\\" in file:
        raise ValueError(file)
    if type(rows) is not int or type(size) is not int or min(rows, size) < 0:
        raise TypeError(f"{file} has no count of rows and bytes")
    return Part(file=file, rows=rows, size_bytes=size, sha256=_text(document["sha256"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _time(value: object) -> datetime:
    time = datetime.fromisoformat(_text(value))
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _checked_file(folder: Path, part: Part, *, hashed: bool) -> Path:
    path = folder / part.file
    try:
        is_sound = path.stat().st_size == part.size_bytes and (not hashed or _sha256(path) == part.sha256)
    except OSError as cause:
        raise SnapshotError(f"{path}: cannot be opened ({cause.strerror}); {TAKE_ANOTHER}") from cause
    if not is_sound:
        raise SnapshotError(f"{path}: damaged, its bytes are not those that {MANIFEST} tells; {TAKE_ANOTHER}")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _publish(folder: Path, target: Path) -> None:
    """Put a finished folder in the place of ``target``. Nobody ever sees half a snapshot there.

    Where the system cannot swap two folders there is nothing at ``target`` for a moment, between two renames; who is
    killed just then leaves the old snapshot aside, and ``_clear_up`` puts it back.
    """
    flush(folder)
    if not target.exists():
        folder.rename(target)
    elif not _exchanged(folder, target):
        old = folder.with_name(folder.name + _REPLACED)
        target.rename(old)
        try:
            folder.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old)
    _sync(target.parent)


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system or the file system cannot (Linux: man 2 renameat2)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    paths = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return rename is not None and rename(*paths, _RENAME_EXCHANGE) == 0


def flush(folder: Path) -> None:
    """Wait until a folder and everything in it is on the disk."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


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
