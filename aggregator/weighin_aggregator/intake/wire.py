"""Many protobuf messages of one kind decoded at once, each field into an array.

A message costs more to make in Python than all that is asked of it, and a call of runs holds thousands of them. Only
the plain form is understood: known fields in ascending order, each once but the repeated ones. That is how protobuf
itself writes, and of such bytes every decoder reads the same. What is not ``plain`` has meaningless values.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_VARINT, _FIXED_64, _DELIMITED, _FIXED_32 = 0, 1, 2, 5
# Set in every byte of a number but its last.
_MORE = 0x80
# An int32 that is not negative has at most 5 bytes, such an int64 at most 9.
_INT32_BYTES, _INT64_BYTES = 5, 9
_INT32_MAX = (1 << 31) - 1
# A scan looks at most so far behind the end of its buffer: a number of 9 bytes, or a double.
_PADDING = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Where messages, texts or bytes lie in a buffer."""

    starts: Integers
    ends: Integers

    def of(self, buffer: bytes) -> list[bytes]:
        """Cut them out."""
        return [buffer[start:end] for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]


def _size(data: bytes, at: int) -> tuple[int, int]:
    """Read a size of any length, and where what it tells the size of begins."""
    size = 0
    for step in range(_INT32_BYTES):
        size |= (data[at + step] & ~_MORE) << 7 * step
        if data[at + step] < _MORE:
            return size, at + step + 1
    return 1 << 35, at  # Larger than any message.


@dataclass(slots=True, kw_only=True)
class Scan:
    """Reads one field after the other, in ascending order, of many messages that lie in one buffer.

    ``at`` is how far each has been read, ``plain`` which hold nothing so far that was not understood.
    """

    data: npt.NDArray[np.uint8]
    at: Integers
    ends: Integers
    plain: Flags

    @classmethod
    def over(cls, buffer: bytes, spans: Spans) -> Self:
        """Begin to read the messages at ``spans``."""
        data = np.frombuffer(buffer + _PADDING, np.uint8)
        return cls(data=data, at=spans.starts.copy(), ends=spans.ends, plain=np.ones(len(spans.starts), np.bool_))

    def int32(self, number: int) -> Integers:
        """Read numbers that are not negative, 0 where there is none."""
        values = self._varint(self._step_over_tag(number, _VARINT), _INT32_BYTES)
        self.plain &= values <= _INT32_MAX
        return values

    def optional_int64(self, number: int) -> tuple[Integers, Flags]:
        """Read numbers that are not negative, and whether each is there."""
        found = self._step_over_tag(number, _VARINT)
        return self._varint(found, _INT64_BYTES), found

    def optional_float(self, number: int) -> tuple[npt.NDArray[np.float32], Flags]:
        """Read numbers, and whether each is there."""
        found = self._step_over_tag(number, _FIXED_32)
        return self._fixed(found, 4).view("<f4")[:, 0], found

    def optional_double(self, number: int) -> tuple[npt.NDArray[np.float64], Flags]:
        """Read numbers, and whether each is there."""
        found = self._step_over_tag(number, _FIXED_64)
        return self._fixed(found, 8).view("<f8")[:, 0], found

    def delimited(self, number: int) -> Spans:
        """Read where texts, bytes or messages lie; one that is not there is empty."""
        return self._delimited(self._step_over_tag(number, _DELIMITED))

    def repeated(self, number: int) -> tuple[Integers, Spans]:
        """Read where the entries of a repeated field lie, in order, and for each the index of its message.

        One entry follows the other, so this goes message by message.
        """
        data, tag = self.data.tobytes(), number << 3 | _DELIMITED
        owners: list[int] = []
        starts: list[int] = []
        ends: list[int] = []
        last: list[int] = []
        for index, (begin, end) in enumerate(zip(self.at.tolist(), self.ends.tolist(), strict=True)):
            at = begin
            while at < end and data[at] == tag:
                size, start = data[at + 1], at + 2
                if size >= _MORE:
                    size, start = _size(data, at + 1)
                at = start + size
                if at > end:
                    break
                owners.append(index)
                starts.append(start)
                ends.append(at)
            last.append(at)
        at_last = np.array(last, np.int64)
        self.plain &= at_last <= self.ends
        self.at = np.minimum(at_last, self.ends)
        spans = Spans(starts=np.array(starts, np.int64), ends=np.array(ends, np.int64))
        return np.array(owners, np.int64), spans

    def end(self) -> Flags:
        """Return of which messages everything has been read and understood."""
        self.plain &= self.at == self.ends
        return self.plain

    def _step_over_tag(self, number: int, wire_type: int) -> Flags:
        """Go on where the next field is the one that is asked for."""
        found: Flags = (self.at < self.ends) & (self.data[self.at] == number << 3 | wire_type)
        self.at += found
        return found

    def _varint(self, wanted: Flags, most_bytes: int) -> Integers:
        values = np.zeros(len(self.at), np.int64)
        more = wanted.copy()
        for shift in range(0, 7 * most_bytes, 7):
            if not more.any():
                break
            byte = self.data[self.at].astype(np.int64)
            values |= np.where(more, (byte & ~_MORE) << shift, 0)
            self.at += more
            more &= byte >= _MORE
        self.plain &= ~more
        return values

    def _delimited(self, wanted: Flags) -> Spans:
        lengths = self._varint(wanted, _INT32_BYTES)
        ends = self.at + lengths
        self.plain &= ends <= self.ends
        # No further than the message, whatever it says.
        starts, ends = np.minimum(self.at, self.ends), np.minimum(ends, self.ends)
        self.at = ends.copy()
        return Spans(starts=starts, ends=ends)

    def _fixed(self, wanted: Flags, size: int) -> npt.NDArray[np.uint8]:
        found: npt.NDArray[np.uint8] = self.data[self.at[:, None] + np.arange(size)] * wanted[:, None]
        self.at += wanted * size
        return found
