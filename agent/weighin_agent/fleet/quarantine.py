"""Where a run goes that must not be sent again, and why: nothing is thrown away without a person being able to look."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from weighin_agent import files
from weighin_agent.fleet.entry import Caps, parse_file_name

NOTE_SUFFIX = ".reason.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRun:
    """A file that was set aside. ``run_id`` is None for a file that is no run, ``reason`` where its note is lost.

    ``reason`` is an upper-case constant, ``detail`` one line for a person; the time is Unix seconds.
    """

    file_name: str
    run_id: str | None
    reason: str | None
    detail: str
    size_bytes: int
    quarantine_time_seconds: float


class Quarantine:
    """The files set aside in ``folder``. Its methods raise OSError; the spool, which owns it, translates."""

    def __init__(self, folder: Path, *, now_seconds: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._now_seconds = now_seconds

    def take_in(self, path: Path, reason: str, detail: str) -> QuarantinedRun:
        """Move the file at ``path`` here, with a note of the reason."""
        note = {"reason": reason, "detail": detail, "quarantine_time_seconds": self._now_seconds()}
        target = self.folder / path.name
        # The note first: after a crash in between it stands alone and says nothing. A full disk has no room for it, but
        # a file that cannot be used must still get out of the way of the others.
        with suppress(OSError):
            files.write_durably(_note_path(target), json.dumps(note).encode())
        files.move_durably(path, target)
        return _quarantined(target)

    def runs(self) -> tuple[QuarantinedRun, ...]:
        """List what is here, oldest first."""
        found = []
        for path in self._paths():
            try:
                found.append(_quarantined(path))
            except FileNotFoundError:  # gone since it was listed: another process may be at work
                continue
        return tuple(sorted(found, key=lambda run: (run.quarantine_time_seconds, run.file_name)))

    def count(self) -> int:
        """Count the files here."""
        return len(self._paths())

    def surplus(self, caps: Caps) -> tuple[QuarantinedRun, ...]:
        """List what the caps leave no room for, the oldest first."""
        kept_bytes = 0
        surplus: list[QuarantinedRun] = []
        for number, run in enumerate(reversed(self.runs()), start=1):
            kept_bytes += run.size_bytes
            too_old = self._now_seconds() - run.quarantine_time_seconds > caps.age_seconds
            if too_old or number > caps.run_count or kept_bytes > caps.total_bytes:
                surplus.append(run)
        return tuple(reversed(surplus))

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        ignored = (NOTE_SUFFIX, files.TEMPORARY_SUFFIX)
        return [path for path in self.folder.iterdir() if not path.name.endswith(ignored)]


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + NOTE_SUFFIX)


def _quarantined(path: Path) -> QuarantinedRun:
    facts = path.stat()
    name = parse_file_name(path.name)
    try:
        note = json.loads(_note_path(path).read_bytes())
        reason, detail = str(note["reason"]), str(note["detail"])
        moment = float(note["quarantine_time_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        # A lost note must not hide the file; when it came here is then told by the file itself.
        reason, detail, moment = None, "the note of the reason is lost", facts.st_mtime
    return QuarantinedRun(
        file_name=path.name,
        run_id=name[1] if name else None,
        reason=reason,
        detail=detail,
        size_bytes=facts.st_size,
        quarantine_time_seconds=moment,
    )
