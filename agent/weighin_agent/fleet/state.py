"""The state folder: who this device is, where it is enrolled, and the lock that keeps a second agent out."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from weighin_agent import files
from weighin_agent.errors import DamagedRunError, StateError
from weighin_agent.fleet.credential import Credential
from weighin_agent.fleet.sealed import seal, unseal

_DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this device is: a random UUIDv4, derived from nothing, and the sequence that its next run gets."""

    device_id: str
    next_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """Where this device sends its runs, and the version of the consent text that its user accepted.

    ``insecure`` says that the way there is plain text, which only the loopback interface may be. ``enroll_address`` is
    where it enrolled, and where it proves its key once its certificate has expired; None without encryption.
    """

    aggregator_address: str
    consent_version: int
    insecure: bool
    enroll_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The name that this device had, or has, at an aggregator where it enrolled."""

    device_id: str
    aggregator_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """That this device is to be forgotten.

    ``request_id`` names the deletion to the aggregator, ``request_time_seconds`` is when it was asked for, Unix time.
    ``acknowledged``: what the aggregator had is deleted, and what is left here may go.
    """

    request_id: str
    request_time_seconds: float
    acknowledged: bool


def state_folder(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Find where the agent keeps its state: ``path``, else WEIGHIN_STATE_DIR, else the system's place for such."""
    if path is not None:
        return path
    named = environment.get("WEIGHIN_STATE_DIR")
    return Path(named) if named else Path(platformdirs.user_state_dir("weighin", appauthor=False))


class State:
    """The state in ``folder``. Reading needs no lock; every method that writes is for the holder of ``locked``."""

    def __init__(self, folder: Path, *, new_uuid: Callable[[], uuid.UUID] = uuid.uuid4) -> None:
        self.folder = folder
        self._new_uuid = new_uuid
        self._identity_path = folder / "identity"
        self._enrolment_path = folder / "enrolment.json"
        self._memberships_path = folder / "memberships.json"
        self._last_delivery_path = folder / "last_delivery.json"
        self._newest_run_path = folder / "newest_run"
        self._forgetting_path = folder / "forgetting.json"
        self._pending_enrolment_path = folder / "pending_enrolment.json"

    @property
    def spool_folder(self) -> Path:
        """Where the runs wait."""
        return self.folder / "spool"

    @property
    def credential(self) -> Credential:
        """What this device proves itself with, where it enrolled with a token."""
        return Credential(self.folder / "credential")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other agent out of this folder; at the first start, make the folder and the device's identity.

        Raises StateError when another agent holds it. A crash releases it.
        """
        with self._translated():
            files.make_private_folder(self.folder)
            lock = files.FileLock(self.folder / "lock")
            try:
                lock.acquire()
            except BlockingIOError as error:
                raise StateError(
                    f"another weighin-agent is at work in {self.folder}; wait until it has finished, then try again"
                ) from error
        try:
            self._recover()
            yield
        finally:
            lock.release()

    def identity(self) -> Identity | None:
        """Read who this device is; None before the first start, or while its file is damaged."""
        try:
            return Identity(**json.loads(unseal(self._identity_path.read_bytes())))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        except OSError as error:
            raise self._refused(error) from error

    def device_id(self) -> str:
        """Return who this device is. Raises StateError before the first start, or where its file is damaged."""
        identity = self.identity()
        if identity is None:
            raise StateError(f"the identity in {self.folder} is gone; start the agent again to make a new one")
        return identity.device_id

    def take_sequence(self, *, after: int) -> int:
        """Take the sequence of a new run, above ``after``, the highest in the spool.

        Never given twice, even after a crash: what a crash loses is a gap, which says that a run was lost.
        """
        identity = self.identity()
        if identity is None:
            raise StateError(f"the identity in {self.folder} is gone; start the agent again to make a new one")
        sequence = max(identity.next_sequence, after + 1)
        self._save_identity(Identity(device_id=identity.device_id, next_sequence=sequence + 1))
        return sequence

    def enrolment(self) -> Enrolment | None:
        """Read where this device is enrolled; None when it is not, or when the record is damaged."""
        match self._read_json(self._enrolment_path):
            case {"aggregator_address": str(address), "consent_version": int(version), "insecure": True}:
                return Enrolment(aggregator_address=address, consent_version=version, insecure=True)
            case {
                "aggregator_address": str(address),
                "consent_version": int(version),
                "insecure": False,
                "enroll_address": str(enroll_address),
            }:
                return Enrolment(
                    aggregator_address=address,
                    consent_version=version,
                    insecure=False,
                    enroll_address=enroll_address,
                )
        return None

    def has_lost_enrolment(self) -> bool:
        """Whether there was an enrolment whose record was found damaged."""
        return self.enrolment() is None and self._enrolment_path.name + _DAMAGED_SUFFIX in self.damaged()

    def save_enrolment(self, enrolment: Enrolment) -> None:
        """Remember where this device is enrolled, and for ``memberships`` under which name."""
        here = Membership(device_id=self.device_id(), aggregator_address=enrolment.aggregator_address)
        known = self.memberships()
        if here not in known:
            self.save_memberships((*known, here))
        self._write_json(self._enrolment_path, asdict(enrolment))

    def memberships(self) -> tuple[Membership, ...]:
        """Read where this device ever enrolled, the newest last: it may be another now, or enrolled elsewhere."""
        record = self._read_json(self._memberships_path)
        found = []
        for one in record if isinstance(record, list) else ():
            match one:
                case {"device_id": str(device_id), "aggregator_address": str(address)}:
                    found.append(Membership(device_id=device_id, aggregator_address=address))
        return tuple(found)

    def save_memberships(self, memberships: Sequence[Membership]) -> None:
        """Remember these alone."""
        if memberships:
            self._write_json(self._memberships_path, [asdict(one) for one in memberships])
        else:
            with self._translated():
                self._memberships_path.unlink(missing_ok=True)

    def enrolment_request_id(self, token_id: str) -> str:
        """Return the UUID that names this device's enrolment with a token: a repeat is the same, and uses it once."""
        match self._read_json(self._pending_enrolment_path):
            case {"token_id": str(known), "request_id": str(request_id)} if known == token_id:
                return request_id
        request_id = str(self._new_uuid())
        self._write_json(self._pending_enrolment_path, {"token_id": token_id, "request_id": request_id})
        return request_id

    def become_another(self) -> None:
        """Begin anew as another device, without a credential: nobody knows this one yet."""
        self.credential.erase()
        with self._translated():
            self._pending_enrolment_path.unlink(missing_ok=True)
        self._save_identity(Identity(device_id=str(self._new_uuid()), next_sequence=1))

    def forgetting(self) -> Forgetting | None:
        """Read whether this device is to be forgotten; None when it is not.

        A record that is damaged says so all the same; until the next start each reading gives it another name.
        """
        known = self._known_forgetting()
        if known is not None:
            return known
        with self._translated():
            try:
                asked = self._forgetting_path.stat().st_mtime
            except FileNotFoundError:
                return None
        return Forgetting(request_id=str(self._new_uuid()), request_time_seconds=asked, acknowledged=False)

    def _known_forgetting(self) -> Forgetting | None:
        match self._read_json(self._forgetting_path):
            case {
                "request_id": str(request_id),
                "request_time_seconds": int() | float() as moment,
                "acknowledged": bool(acknowledged),
            }:
                return Forgetting(request_id=request_id, request_time_seconds=moment, acknowledged=acknowledged)
        return None

    def save_forgetting(self, forgetting: Forgetting) -> None:
        """Remember across restarts that this device is to be forgotten."""
        self._write_json(self._forgetting_path, asdict(forgetting))

    def erase_spool(self) -> None:
        """Remove every run that waits or was set aside."""
        with self._translated():
            if self.spool_folder.exists():
                shutil.rmtree(self.spool_folder)
                files.sync_folder(self.folder)

    def erase(self) -> None:
        """Remove all that this folder says about the device; last, that it was to be forgotten."""
        self.erase_spool()
        self.credential.erase()
        records = (
            self._newest_run_path,
            self._enrolment_path,
            self._pending_enrolment_path,
            self._last_delivery_path,
            self._identity_path,
            self._memberships_path,
        )
        with self._translated():
            for path in (*records, *(self.folder / name for name in self.damaged())):
                path.unlink(missing_ok=True)
            files.sync_folder(self.folder)
            self._forgetting_path.unlink(missing_ok=True)
            files.sync_folder(self.folder)

    def last_delivery(self) -> dict[str, object] | None:
        """Read the record of the last delivery, None where there is none that can be read."""
        record = self._read_json(self._last_delivery_path)
        return record if isinstance(record, dict) else None

    def save_last_delivery(self, record: Mapping[str, object]) -> None:
        """Remember how the last delivery went."""
        self._write_json(self._last_delivery_path, record)

    def newest_run(self) -> bytes | None:
        """Read the newest run that this device made, None where there is none; DamagedRunError."""
        try:
            return unseal(self._newest_run_path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DamagedRunError(f"the newest run in {self.folder} is damaged") from error
        except OSError as error:
            raise self._refused(error) from error

    def save_newest_run(self, run: bytes) -> None:
        """Keep a run in the place of the one before it; it stays when its file in the spool has been delivered."""
        with self._translated():
            files.write_durably(self._newest_run_path, seal(run))

    def damaged(self) -> tuple[str, ...]:
        """List the files that were found damaged and set aside."""
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(path.name for path in self.folder.glob("*" + _DAMAGED_SUFFIX)))

    def _recover(self) -> None:
        with self._translated():
            for leftover in self.folder.glob("*" + files.TEMPORARY_SUFFIX):
                leftover.unlink(missing_ok=True)
            if self.enrolment() is None:
                self._set_aside(self._enrolment_path)
            if not self.memberships():
                self._set_aside(self._memberships_path)
            forgetting = self.forgetting()
            if forgetting is not None and self._known_forgetting() is None:
                self.save_forgetting(forgetting)  # Damaged: from now on it has one name.
            if self.identity() is None:
                # A device that lost its identity begins anew as another: to be counted twice is better than to be
                # mistaken for a clone, which is what using a sequence twice would look like.
                self._set_aside(self._identity_path)
                self.become_another()

    def _set_aside(self, path: Path) -> None:
        if path.exists():
            files.move_durably(path, path.with_name(path.name + _DAMAGED_SUFFIX))

    def _save_identity(self, identity: Identity) -> None:
        with self._translated():
            files.write_durably(self._identity_path, seal(json.dumps(asdict(identity)).encode() + b"\n"))

    def _read_json(self, path: Path) -> object:
        try:
            record: object = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        except OSError as error:
            raise self._refused(error) from error
        return record

    def _write_json(self, path: Path, record: Mapping[str, object] | Sequence[object]) -> None:
        with self._translated():
            files.write_durably(path, json.dumps(record, indent=1).encode() + b"\n")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> StateError:
        return StateError(
            f"the state folder {self.folder} cannot be used: {files.told(error)}; see to it, or set WEIGHIN_STATE_DIR"
        )
