"""The one way in which readers look at files and folders of the system. Nothing here raises."""

from dataclasses import dataclass
from pathlib import Path

from weighin_agent.device import ProbeGapReason

# Far more than any file of /proc or /sys that the probe reads; a wrong file must not fill the memory.
_MOST_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The text of a file, and the reason to give for a fact that is not found in it."""

    text: str
    absence: ProbeGapReason


def read_source(path: Path) -> Source:
    """Read a small text file; a file that cannot be read is an empty text with the reason."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES)
    except PermissionError:
        return Source(text="", absence=ProbeGapReason.PERMISSION_DENIED)
    except (FileNotFoundError, NotADirectoryError):
        return Source(text="", absence=ProbeGapReason.NOT_OFFERED)
    except OSError:  # an attribute of a driver may answer with any errno
        return Source(text="", absence=ProbeGapReason.READ_FAILED)
    return Source(text=data.decode("utf-8", errors="replace"), absence=ProbeGapReason.NOT_OFFERED)


def read_line(path: Path) -> str:
    """Return the first line of a small file, stripped; "" if there is none."""
    lines = read_source(path).text.strip().splitlines()
    # Device-tree strings end with a NUL.
    return lines[0].strip("\0 \t") if lines else ""


def list_folder(folder: Path) -> tuple[Path, ...]:
    """Return what a folder holds, sorted by name; nothing if it cannot be read."""
    try:
        return tuple(sorted(folder.iterdir()))
    except OSError:
        return ()


def link_name(link: Path) -> str:
    """Return the last part of what a symbolic link points to, "" if it is none."""
    try:
        return link.readlink().name
    except OSError:
        return ""


def exists(path: Path) -> bool:
    """Whether there is something at ``path`` that may be looked at."""
    try:
        return path.exists()
    except OSError:  # a folder on the way may not be entered
        return False
