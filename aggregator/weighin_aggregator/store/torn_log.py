"""What DuckDB would not read of its log, or not without a fuss.

A loss of power leaves pages of the last transaction that never reached the disk.

DuckDB takes an entry that runs over the end of its log for the end, but refuses the whole store for one whose bytes are
not those that were written (seen with 1.5.5). A transaction is synced before anybody is told of it and before the next
one begins, so only the last can be torn, and it was never acknowledged.
"""

import os
import re
from pathlib import Path

# Before every entry: its size and its checksum, 8 bytes each, the lowest first.
_HEAD_BYTES = 16
# The entry that ends a transaction; no other is of its size.
_END_BYTES = 5
_END = re.compile(rb"\x05\0{7}.{8}\x64\0\x64\xff\xff", re.DOTALL)
# How the entry begins with which a checkpoint marks its log: of type 99.
_CHECKPOINT_MARK = bytes.fromhex("6400636500")


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


def has_unread_transactions(log: Path, read_bytes: float) -> bool:
    """Whether transactions end behind what was read of a log, as where the size of an entry or the head is damaged.

    A log whose checkpoint ended has its mark, and is not read for a good reason. Raises OSError.
    """
    try:
        written = log.read_bytes()
    except FileNotFoundError:
        return False
    ends = [found.end() for found in _END.finditer(written)]
    return bool(ends) and ends[-1] > read_bytes and _CHECKPOINT_MARK not in written[ends[-1] :]


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
