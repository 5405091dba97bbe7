"""Names for runs: UUIDv7, which sort by the time they were made."""

import os
import re
import time
import uuid
from collections.abc import Callable

_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def uuid7(now_seconds: Callable[[], float] = time.time, random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """Make a UUIDv7 in lower case (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 74 random bits."""
    # A clock before 1970 or past the year 10889 does not fit in 48 bits; the run is worth keeping all the same.
    milliseconds = int(min(max(now_seconds() * 1000, 0), (1 << 48) - 1))
    random = int.from_bytes(random_bytes(10)) & ((1 << 74) - 1)
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | (random >> 62) << 64 | 2 << 62 | random & ((1 << 62) - 1)))


def is_run_id(text: str) -> bool:
    """Tell whether ``text`` is a UUIDv7 in its canonical lower-case form."""
    return _CANONICAL.fullmatch(text) is not None


def create_time_seconds(run_id: str) -> float:
    """Read when a UUIDv7 was made, Unix seconds, by the clock of its maker."""
    return (uuid.UUID(run_id).int >> 80) / 1000
