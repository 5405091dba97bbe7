"""Files and folders that are on disk when a function returns."""

import os
import shutil
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file with its mode; ``target`` is whole or as it was. Raises OSError."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        shutil.copy(source, unfinished)
        sync(unfinished)
        unfinished.replace(target)
        sync(target.parent)
    finally:
        unfinished.unlink(missing_ok=True)
