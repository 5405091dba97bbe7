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
# How a log begins: its version, which database it is of, and after how many checkpoints; numbers of 7 bits a byte.
_NUMBER = rb"[\x80-\xff]*[\0-\x7f]"
_HEAD = re.compile(
    rb"\x64\0\x62\x65\0%b(?:\x66\0\x10(?:%b){16}\x67\0%b)?\xff\xff" % (_NUMBER, _NUMBER, _NUMBER), re.DOTALL
)
_MOST_HEAD_BYTES = 64
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


def has_unread_transactions(written: bytes, was_read: bool) -> bool:
    """Whether transactions end behind what DuckDB read of a log, as where its head or the size of an entry is damaged.

    ``was_read`` says that it read anything at all. A log that its checkpoint has marked is not read for a good reason.
    """
    head = _HEAD.match(written)
    if head is None:
        return len(written) > _MOST_HEAD_BYTES
    read = position = head.end()
    while was_read and position + _HEAD_BYTES <= len(written):
        size = int.from_bytes(written[position : position + 8], "little")
        position += _HEAD_BYTES + size
        if size == _END_BYTES and position <= len(written):
            read = position
    ends = [found.end() for found in _END.finditer(written, read)]
    return bool(ends) and _CHECKPOINT_MARK not in written[ends[-1] :]


def _is_one_transaction(rest: bytes) -> bool:
    """Whether nothing comes behind the end of a transaction; no entry ends in zeros: those were never written."""
    rest, position = rest.rstrip(b"\0"), 0
    while position + _HEAD_BYTES < len(rest):
        size = int.from_bytes(rest[position : position + 8], "little")
        position += _HEAD_BYTES + size
        if not size:  # A page with the head of an entry is missing, too: then only ends tell of transactions.
            return all(found.end() == len(rest) for found in _END.finditer(rest))
        if size == _END_BYTES:
            return position >= len(rest)
    return True
