"""A rollback journal: what a checkpoint of DuckDB overwrites, kept until the checkpoint has ended.

A checkpoint writes new blocks where nothing is, waits for the disk, and then writes the header that names them. Blocks
of metadata that have room left are the exception: those it overwrites where they are (seen with DuckDB 1.5.5, 1.5.6 and
2.0.0). A process that is killed, or a disk that fills up, in the middle of such a write leaves a block that is neither
old nor new, and a file that nobody can open any more: its log, which still holds what was committed, too.
"""

import hashlib
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from weighin_aggregator.durable import sync

# The file's own header and two in turns, of which a checkpoint writes the older as its last step:
# https://duckdb.org/docs/stable/internals/storage
_HEADERS_BYTES = 3 * 4096
# Position and length of a piece of the file.
_PIECE = struct.Struct("<QQ")
_HASH_BYTES = hashlib.sha256().digest_size


class Journal:
    """The journal of one DuckDB file. All methods raise OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal = journal_of(path)
        self._descriptor: int | None = None

    def open(self) -> None:
        """Keep the file open while DuckDB does: to close any descriptor of it gives up the lock of this process."""
        self._descriptor = os.open(self._path, os.O_RDONLY)

    def close(self) -> None:
        """Let go of the file, which DuckDB has closed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def begin(self, block_ids: Iterable[int], block_bytes: int) -> None:
        """Keep these blocks as they are, on disk, before a checkpoint overwrites them.

        What an earlier checkpoint kept and did not end is never replaced: it may be the only whole copy.
        """
        assert self._descriptor is not None, "the journal of a file that is not open"
        pieces = [(0, _HEADERS_BYTES), *((_HEADERS_BYTES + number * block_bytes, block_bytes) for number in block_ids)]
        hashed = hashlib.sha256()
        with self._journal.open("xb") as file:
            self._journal.chmod(0o600)
            file.write(bytes(_HASH_BYTES))
            for position, length in pieces:
                piece = os.pread(self._descriptor, length, position)
                if len(piece) == length:  # Otherwise it is new, and not in the file yet.
                    for part in (_PIECE.pack(position, length), piece):
                        hashed.update(part)
                        file.write(part)
            file.seek(0)
            file.write(hashed.digest())
            file.flush()
            os.fsync(file.fileno())
        sync(self._journal.parent)

    def end(self) -> None:
        """Forget what was kept: the checkpoint has ended, or was rolled back."""
        self._journal.unlink(missing_ok=True)

    def roll_back(self) -> bool:
        """Undo a checkpoint that did not end, before DuckDB opens the file; tell whether there was one.

        The journal stays until the file has been opened. The last step of a checkpoint is a header. While the headers
        are the kept ones, the file is as the checkpoint found it, but for the kept blocks and for blocks that no header
        names.
        """
        if not self._journal.exists():
            return False
        pieces = _read(self._journal)
        return bool(pieces) and _put_back(self._path, *pieces)


def journal_of(path: Path) -> Path:
    """Return where the journal of a file is."""
    return path.with_name(f"{path.name}.journal")


def _read(journal: Path) -> list[tuple[int, bytes]]:
    """Read the kept pieces by their position; none if the journal is not whole: no checkpoint came after it."""
    kept = journal.read_bytes()
    if kept[:_HASH_BYTES] != hashlib.sha256(kept[_HASH_BYTES:]).digest():
        return []
    pieces, rest = [], memoryview(kept)[_HASH_BYTES:]
    while rest:
        position, length = _PIECE.unpack_from(rest)
        pieces.append((position, bytes(rest[_PIECE.size : _PIECE.size + length])))
        rest = rest[_PIECE.size + length :]
    return pieces


def _put_back(path: Path, headers: tuple[int, bytes], *blocks: tuple[int, bytes]) -> bool:
    with path.open("r+b") as file:
        if file.read(_HEADERS_BYTES) != headers[1]:
            return False
        for position, block in blocks:
            file.seek(position)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return True
