"""Whether the disk has room for another weigh-in: its models, and the run that must survive until it is delivered."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from weighin_agent.errors import EnvironmentFailure

_LEAST_FREE_BYTES = 200 << 20
_LEAST_FREE_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How large the disk under the state folder is, and what of it is free to us."""

    free_bytes: int
    total_bytes: int

    @property
    def needed_bytes(self) -> int:
        """With less than this free nothing is measured."""
        return max(_LEAST_FREE_BYTES, round(_LEAST_FREE_SHARE * self.total_bytes))

    @property
    def is_low(self) -> bool:
        """Whether nothing is measured for want of room."""
        return self.free_bytes < self.needed_bytes


def room_in(folder: Path) -> Room:
    """Read how full the disk is on which ``folder`` lies, or will lie. Raises EnvironmentFailure."""
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    try:
        usage = shutil.disk_usage(existing)
    except OSError as error:
        raise EnvironmentFailure(f"the disk under {existing} cannot be read: {error.strerror or error}") from error
    return Room(free_bytes=usage.free, total_bytes=usage.total)


def lack_of_room(folder: Path) -> str | None:
    """Say that the disk is too full to measure; None where it is not. Raises EnvironmentFailure."""
    room = room_in(folder)
    if not room.is_low:
        return None
    return (
        f"only {room.free_bytes >> 20} MiB are free on the disk of {folder}, and {room.needed_bytes >> 20} are needed "
        "to measure; make room, the runs in the spool are kept"
    )


def require_room(folder: Path) -> None:
    """Raise EnvironmentFailure where the disk is too full to measure."""
    lack = lack_of_room(folder)
    if lack:
        raise EnvironmentFailure(lack)
