"""The file spool: a run is on disk before it is sent and leaves the disk only when it is acknowledged.

One sealed file per run, named by its sequence, so that a listing is in order and no file depends on another. Methods
that write are for the one process that holds the lock of the state folder.
"""

import hashlib
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from google.protobuf.message import DecodeError

from weighin.v1 import services_pb2
from weighin_agent import files
from weighin_agent.errors import DamagedRunError, SpoolError, UnreadableRunError
from weighin_agent.fleet.entry import Caps, Entry, parse_file_name, surplus_runs
from weighin_agent.fleet.ledger import Backoff, Ledger, decode_ledger, encode_ledger
from weighin_agent.fleet.quarantine import NOTE_SUFFIX, Quarantine, QuarantinedRun
from weighin_agent.fleet.run_id import is_run_id
from weighin_agent.fleet.sealed import seal, unseal


class Spool:
    """The runs in ``folder``. Every method raises SpoolError where the file system refuses."""

    def __init__(self, folder: Path, *, caps: Caps | None = None, now_seconds: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._caps = caps or Caps()
        self._now_seconds = now_seconds
        self._quarantine = Quarantine(folder / "quarantine", now_seconds=now_seconds)
        self._ledger_path = folder / "ledger"
        self._ledger: Ledger | None = None

    def recover(self) -> None:
        """Make the spool ready to write: finish what a crash cut short, set a damaged ledger aside, keep caps."""
        with self._translated():
            for folder in (self.folder, self._quarantine.folder):
                files.make_private_folder(folder)
                for leftover in folder.glob("*" + files.TEMPORARY_SUFFIX):
                    leftover.unlink(missing_ok=True)
            self._recover_ledger()
            self._remove(self.ledger.removing)
        self._ledger = self.ledger.only(entry.run_id for entry in self.pending())
        self._keep_to_caps()

    def add(self, run: bytes, *, run_id: str, sequence: int) -> Entry:
        """Keep a serialized Run; on return it survives a crash. ``sequence`` must be above every one in the spool."""
        entries = self.pending()
        known = any(entry.run_id == run_id for entry in entries)
        if known or not is_run_id(run_id) or sequence <= max((entry.sequence for entry in entries), default=0):
            raise SpoolError(f"a run cannot be kept as {run_id!r} with sequence {sequence}: both must be valid and new")
        entry = self._write(run, run_id=run_id, sequence=sequence)
        self._keep_to_caps()
        return entry

    def rewrite(self, entry: Entry, run: bytes) -> Entry:
        """Put other bytes in the place of a run that was never sent; once sent, the bytes of a run_id are fixed."""
        if self.ledger.attempt_counts.get(entry.run_id, 0):
            raise SpoolError(f"run {entry.run_id} was sent before and can no longer be changed")
        return self._write(run, run_id=entry.run_id, sequence=entry.sequence)

    def pending(self) -> tuple[Entry, ...]:
        """List the runs not yet acknowledged, oldest first. Another kind of name, or no file, is left alone."""
        with self._translated():
            return tuple(sorted(_entries(self.folder), key=lambda entry: entry.sequence))

    def read(self, entry: Entry) -> services_pb2.RunEnvelope:
        """Read the envelope of a run, with the number of earlier tries.

        Raises DamagedRunError where it is not what was written, UnreadableRunError where it cannot be read now.
        """
        try:
            sealed = (self.folder / entry.file_name).read_bytes()
        except OSError as error:
            raise UnreadableRunError(
                f"{entry.file_name} cannot be read, and stays: {error.strerror or error}; see to it, as with `chown` "
                "where another user's agent wrote it"
            ) from error
        try:
            envelope = services_pb2.RunEnvelope.FromString(unseal(sealed))
        except (ValueError, DecodeError) as error:
            raise DamagedRunError(f"spool file {entry.file_name} cannot be used: {error}") from error
        if (envelope.run_id, envelope.sequence) != (entry.run_id, entry.sequence):
            raise DamagedRunError(f"spool file {entry.file_name} holds another run than its name says")
        envelope.attempt_count = self.ledger.attempt_counts.get(entry.run_id, 0)
        return envelope

    def acknowledge(self, entry: Entry) -> None:
        """Let a run go that the aggregator has stored."""
        # Not synced: a file that comes back after a power cut is sent again and answered as a duplicate.
        with self._translated():
            (self.folder / entry.file_name).unlink(missing_ok=True)

    def quarantine(self, entry: Entry, reason: str, detail: str) -> QuarantinedRun:
        """Set a run aside that must not be sent again; ``reason`` is an upper-case constant."""
        with self._translated():
            return self._quarantine.take_in(self.folder / entry.file_name, reason, detail)

    def quarantined(self) -> tuple[QuarantinedRun, ...]:
        """List what was set aside and is still there, oldest first."""
        with self._translated():
            return self._quarantine.runs()

    @property
    def ledger(self) -> Ledger:
        """Counts, tries and backoff; a damaged ledger reads as an empty one until ``recover`` sets it aside."""
        if self._ledger is None:
            with self._translated():
                try:
                    self._ledger = decode_ledger(self._ledger_path.read_bytes())
                except (FileNotFoundError, ValueError):
                    self._ledger = Ledger()
        return self._ledger

    @property
    def dropped_count(self) -> int:
        """Runs given up because of the caps since installation."""
        return self.ledger.dropped_count

    @property
    def quarantined_count(self) -> int:
        """Files set aside since installation, those included that have left the quarantine."""
        with self._translated():
            return self.ledger.discarded_count + self._quarantine.count()

    def note_attempts(self, run_ids: Iterable[str]) -> None:
        """Count one try for each run; to be called before sending."""
        self._remember(self.ledger.with_attempts(run_ids))

    def note_mismatch(self, run_id: str) -> int:
        """Count one answer that the run's bytes arrived altered; returns how many there were by now."""
        self._remember(self.ledger.with_mismatch(run_id))
        return self.ledger.mismatch_counts[run_id]

    def set_backoff(self, backoff: Backoff) -> None:
        """Remember across processes how long to leave the aggregator alone."""
        if backoff != self.ledger.backoff:
            self._remember(replace(self.ledger, backoff=backoff))

    def _write(self, run: bytes, *, run_id: str, sequence: int) -> Entry:
        envelope = services_pb2.RunEnvelope(
            run_id=run_id, run=run, run_sha256=hashlib.sha256(run).digest(), sequence=sequence
        )
        data = seal(envelope.SerializeToString())
        entry = Entry(run_id=run_id, sequence=sequence, size_bytes=len(data))
        with self._translated():
            files.write_durably(self.folder / entry.file_name, data)
        return entry

    def _remember(self, ledger: Ledger) -> None:
        """Save what does no harm if it is forgotten: on a full disk, delivering is what makes room."""
        with suppress(SpoolError):
            self._save(ledger)
        self._ledger = ledger

    def _save(self, ledger: Ledger) -> None:
        with self._translated():
            files.write_durably(self._ledger_path, encode_ledger(ledger))
        self._ledger = ledger

    def _recover_ledger(self) -> None:
        self._ledger = None
        try:
            decode_ledger(self._ledger_path.read_bytes())
        except FileNotFoundError:
            return
        except ValueError as error:
            self._quarantine.take_in(self._ledger_path, "DAMAGED", f"the ledger is {error}: its counts begin anew")

    def _keep_to_caps(self) -> None:
        runs = [entry.file_name for entry in surplus_runs(self.pending(), self._caps, self._now_seconds())]
        with self._translated():
            aside = [run.file_name for run in self._quarantine.surplus(self._caps)]
        if not runs and not aside:
            return
        # Counted and named before they go, in one write: a crash in between neither hides a loss nor counts it twice.
        self._save(
            replace(
                self.ledger,
                dropped_count=self.ledger.dropped_count + len(runs),
                discarded_count=self.ledger.discarded_count + len(aside),
                removing=(*runs, *(f"{self._quarantine.folder.name}/{name}" for name in aside)),
            )
        )
        with self._translated():
            self._remove(self.ledger.removing)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / (name + NOTE_SUFFIX)).unlink(missing_ok=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SpoolError(
                f"the spool in {self.folder} cannot be used: {files.told(error)}; make room or repair it"
            ) from error


def _entries(folder: Path) -> Iterator[Entry]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        name = parse_file_name(path.name)
        if name is None:
            continue
        try:
            facts = path.stat()
        except OSError:  # gone since it was listed, as another process may be at work; or a link to nowhere
            continue
        if stat.S_ISREG(facts.st_mode):
            yield Entry(sequence=name[0], run_id=name[1], size_bytes=facts.st_size)
