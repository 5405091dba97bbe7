"""Bounded reading of files that nobody vouches for.

The libraries of the formats map or load whole files and trust what a header claims. A header that comes from a download
is not to be trusted: here every count is held against what the file can hold before anything is made of it, and the
work and the memory of one file are bounded.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from weighin_analysis.errors import ModelFileError

# Above real headers: a graph of 20,000 nodes takes a million reads, three texts for each of 262,144 tokens 800,000.
MOST_READS = 3_000_000
MOST_BYTES = 64 * 2**20
MOST_TENSORS = 200_000  # the largest mixtures of experts have 140,000, scales included
MOST_DIMS = 8
_CHUNK = 2**16
_MOST_SHOWN = 80
_MOST_UNCLEAR, _LEAST_UNCLEAR = 0.1, 0.01  # of the bytes


def shown(text: str) -> str:
    """Return a text from a file as it may be shown: no control characters, no more than 80 characters."""
    cut = text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in cut)


class Reader:
    """Reads one file forwards and skips what it is not asked for.

    Every failure is a ModelFileError that names the file. ``reads`` and ``bytes_read`` count the work.
    """

    def __init__(self, file: BinaryIO, path: Path, byte_count: int) -> None:
        self._file = file
        self._buffer = b""
        self._start = 0  # of the buffer, in the file
        self.path = path
        self.byte_count = byte_count
        self.position = 0
        self.reads = 0
        self.bytes_read = 0

    def go_on_from(self, other: "Reader") -> None:
        """Count the work of an earlier part of the same model, too, so that many parts are bounded as one file is."""
        self.reads += other.reads
        self.bytes_read += other.bytes_read

    def error(self, problem: str) -> ModelFileError:
        """Return the error that says what is wrong with this file."""
        return ModelFileError(f"{shown(self.path.name)}: {problem}")

    def take(self, count: int, what: str) -> bytes:
        """Return the next ``count`` bytes; ``what`` they are is said where the file ends before them."""
        self.reads += 1
        self.bytes_read += count
        first = self.position - self._start
        last = first + count
        if last > len(self._buffer) or self.reads > MOST_READS:
            self._fill(count, what)
            first, last = 0, count
        self.position += count
        return self._buffer[first:last]

    def _fill(self, count: int, what: str) -> None:
        """Let the buffer begin at the position and hold ``count`` bytes."""
        end = self.position + count
        if end > self.byte_count:
            raise self._cut_off(end, what)
        if self.reads > MOST_READS or self.bytes_read > MOST_BYTES:
            raise self.error("its header is longer than that of any model; refusing to read on")
        self._file.seek(self.position)
        self._buffer = self._file.read(max(count, _CHUNK))
        self._start = self.position
        if len(self._buffer) < count:
            raise self.error("became shorter while it was read")

    def _cut_off(self, end: int, what: str) -> ModelFileError:
        return self.error(f"ends within {what}: byte {end:,} of {self.byte_count:,}; download it again")

    def skip(self, count: int, what: str) -> None:
        """Pass over ``count`` bytes without reading them."""
        if self.position + count > self.byte_count:
            raise self._cut_off(self.position + count, what)
        self.position += count

    def unsigned(self, width: int, what: str) -> int:
        """Return the next ``width`` bytes as an unsigned little-endian number."""
        return int.from_bytes(self.take(width, what), "little")

    def varint(self, what: str) -> int:
        """Return the next number of seven bits a byte, the lowest first, as protobuf writes them: at most 64 bits."""
        at = self.position - self._start
        if at < len(self._buffer) and self.reads < MOST_READS and self._buffer[at] < 128:  # most are of one byte
            self.reads += 1
            self.bytes_read += 1
            self.position += 1
            return self._buffer[at]
        number = 0
        for shift in range(0, 70, 7):
            byte = self.take(1, what)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                return number & (2**64 - 1)
        raise self.error(f"{what} is no number")

    def text(self, count: int, what: str) -> str:
        """Return the next ``count`` bytes as a text."""
        try:
            return self.take(count, what).decode()
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not UTF-8 text") from error


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """Open a regular file; ModelFileError where there is none or it cannot be read."""
    try:
        byte_count = regular_file_bytes(path)
        with path.open("rb") as file:
            yield Reader(file, path, byte_count)
    except OSError as error:
        raise ModelFileError(f"{shown(path.name)}: {os.strerror(error.errno or 0)}") from error


def regular_file_bytes(path: Path) -> int:
    """Return the size of a regular file. A pipe or a device is an error: reading one may wait forever."""
    try:
        found = path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # a name with a NUL byte; a loop of links
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no usable file name"
        raise ModelFileError(f"{shown(path.name)}: {reason}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ModelFileError(f"{shown(path.name)}: is not a regular file")
    return found.st_size


def beside(model: Path, location: str, folder: Path | None = None) -> Path:
    """Return the file of a name relative to ``folder``, that of the model unless it is told.

    It must lie in that folder, or in the one where the model itself lies when its name is a link, as in a cache of
    downloads. ModelFileError where it lies elsewhere, is no regular file, or is the model itself.
    """
    home = folder or model.parent
    refused = ModelFileError(f"{shown(model.name)}: names {shown(location)!r} as its data, outside its own folder")
    if not location or "\\" in location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise refused
    path = home / location
    try:
        regular_file_bytes(path)
    except ModelFileError as error:
        raise ModelFileError(f"{shown(model.name)}: its other part cannot be used: {error}") from error
    try:
        real, homes = path.resolve(strict=True), (home.resolve(strict=True), model.resolve(strict=True).parent)
    except (OSError, RuntimeError) as error:
        raise refused from error
    if not any(real.is_relative_to(home) for home in homes):
        raise refused
    if real == model.resolve():
        raise ModelFileError(f"{shown(model.name)}: names itself as its data")
    return path


def product(reader: Reader, dims: tuple[int, ...], name: str) -> int:
    """Return the elements of a tensor, at most 2^63 - 1."""
    if len(dims) > MOST_DIMS:
        raise reader.error(f"tensor {shown(name)!r} has {len(dims)} dimensions")
    count = 1
    for dim in dims:
        count *= dim
        if dim < 0 or count >= 2**63:
            raise reader.error(f"tensor {shown(name)!r} has impossible dimensions")
    return count


def check_apart(reader: Reader, places: list[tuple[int, int, str]]) -> None:
    """Raise ModelFileError where two of the places (begin, end, name) overlap."""
    places.sort()
    for (_, end, name), (begin, _, other) in pairwise(places):
        if begin < end:
            raise reader.error(f"tensors {shown(name)!r} and {shown(other)!r} overlap")


def note_of_integers(path: Path, unclear_bytes: int, all_bytes: int) -> list[str]:
    """Return a note where integers that may hold uncounted weights are more than a hundredth of a model's bytes.

    ModelFileError where they are more than a tenth: the number of the others would not be that of the model.
    """
    if unclear_bytes > _MOST_UNCLEAR * all_bytes:
        raise ModelFileError(
            f"{shown(path.name)}: {unclear_bytes / all_bytes:.0%} of it may be weights packed into integers (as by "
            "GPTQ, AWQ, MLX or bitsandbytes); its header does not tell their number, so name the model instead"
        )
    if unclear_bytes > _LEAST_UNCLEAR * all_bytes:
        return [f"{unclear_bytes / all_bytes:.1%} of it are integers of no known use; weights in them are not counted."]
    return []
