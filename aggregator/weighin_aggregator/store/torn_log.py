"""The end of a write-ahead log as a loss of power leaves it: pages of the last transaction that never reached the disk.

DuckDB takes an entry that runs over the end of its log for the end, but refuses the whole store for one whose bytes are
not those that were written (seen with 1.5.5). A transaction is synced before anybody is told of it and before the next
one begins, so only the last can be torn, and it was never acknowledged.
"""

import os
from pathlib import Path

# Before every entry: its size and its checksum, 8 bytes each, the lowest first.
_HEAD_BYTES = 16
# The entry that ends a transaction; no other is of its size.
_END_BYTES = 5


def cut_off_torn_end(log: Path, position: int) -> bool:
    """Cut a log off before the entry whose content begins there.

    False, and nothing done, where that would take more than one transaction. Raises OSError.
    """
    start = position - _HEAD_BYTES
    with log.open("r+b") as file:
        file.seek(start)
        if not _is_one_transaction(file.read()):
            return False
        file.truncate(start)
        os.fsync(file.fileno())
    return True


def _is_one_transaction(rest: bytes) -> bool:
    """Whether nothing comes behind the end of a transaction; no entry ends in zeros: those were never written."""
    rest, position = rest.rstrip(b"\0"), 0
    while position + _HEAD_BYTES < len(rest):
        size = int.from_bytes(rest[position : position + 8], "little")
        position += _HEAD_BYTES + size
        if not size:
            return False  # What follows may be anything.
        if size == _END_BYTES:
            return position >= len(rest)
    return True
