"""Files that only their owner may read, in place whole or not at all."""

import os
from pathlib import Path

from weighin_aggregator.durable import sync


def write_private(path: Path, content: bytes) -> None:
    """Put a file of mode 0600 in place, on disk when this returns. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)  # what a crash left
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    unfinished.replace(path)
    sync(path.parent)
