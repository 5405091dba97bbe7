"""The file system, so that what is said to be written survives a crash and a power cut."""

import os
import sys
from pathlib import Path

_PRIVATE_FOLDER_MODE = 0o700
_PRIVATE_FILE_MODE = 0o600
# Nobody else ends a name like this: leftovers are removed by it, also from a folder that others use, too.
TEMPORARY_SUFFIX = ".weighin-tmp"


def told(error: OSError) -> str:
    """Say what the system refused, and of which file."""
    what = error.strerror or str(error)
    return f"{what}: {error.filename}" if isinstance(error.filename, str) else what


def make_private_folder(folder: Path) -> None:
    """Make ``folder``, with its parents, readable by its owner alone. Raises OSError.

    A folder that is there keeps its mode: somebody else may have set it, and every file in it is private by itself.
    """
    folder.mkdir(mode=_PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``: after a crash the file holds either all of it or what it held before. Raises OSError.

    On return the bytes and the name are on the medium.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, _PRIVATE_FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError:
        # A full disk leaves a piece behind, which would keep the disk full.
        temporary.unlink(missing_ok=True)
        raise


def move_durably(source: Path, target: Path) -> None:
    """Rename within one file system; on return both folders say so on the medium. Raises OSError."""
    source.replace(target)
    sync_folder(target.parent)
    sync_folder(source.parent)


if sys.platform == "win32":
    import msvcrt

    _BINARY = os.O_BINARY

    def sync_folder(folder: Path) -> None:
        """Do nothing: Windows opens no folder, and NTFS logs a rename itself."""

    def _sync(descriptor: int) -> None:
        os.fsync(descriptor)

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    _BINARY = 0

    def sync_folder(folder: Path) -> None:
        """Put the names in ``folder`` on the medium. Raises OSError."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _sync(descriptor: int) -> None:
        # On macOS fsync leaves the bytes in the drive's cache; F_FULLFSYNC does not.
        full_sync = getattr(fcntl, "F_FULLFSYNC", None)
        if full_sync is None:
            os.fsync(descriptor)
        else:
            fcntl.fcntl(descriptor, full_sync)

    def _lock(descriptor: int) -> None:
        # flock and not lockf: a POSIX record lock is lost as soon as any descriptor of the file is closed.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """A lock that the operating system releases when its process ends, however it ends.

    The file stays: removing it would let a third process lock a new file while a second still holds the old one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock at once or raise BlockingIOError; OSError where the file cannot be opened."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE_MODE)
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError) as error:  # PermissionError: Windows' word for "locked"
            os.close(descriptor)
            raise BlockingIOError(*error.args) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
