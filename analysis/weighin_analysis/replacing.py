"""Put a file in its place whole: who reads must not see half of a new one, and what fails leaves the old one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path in the folder of ``path``, of the same ending, whose file takes its place; after an error none does.

    OSError where the folder cannot be written.
    """
    # A name that no file of a user has: what lies beside is not ours to write over.
    unfinished = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
