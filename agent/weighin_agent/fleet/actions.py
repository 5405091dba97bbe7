"""Life in a fleet: enrol, keep a run, deliver what waits, and tell a person where things stand."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from weighin.v1 import run_pb2, services_pb2
from weighin_agent.errors import DamagedRunError, DeliveryError, StateError
from weighin_agent.fleet.address import parse_loopback_address
from weighin_agent.fleet.client import AggregatorClient
from weighin_agent.fleet.consent import note_consent, require_consent
from weighin_agent.fleet.credential import Validity
from weighin_agent.fleet.delivery import GIVE_UP_AFTER_SECONDS, DeliveryReport, Pace, deliver
from weighin_agent.fleet.entry import Entry
from weighin_agent.fleet.ledger import Backoff
from weighin_agent.fleet.line import open_line
from weighin_agent.fleet.quarantine import QuarantinedRun
from weighin_agent.fleet.room import Room, room_in
from weighin_agent.fleet.run_id import create_time_seconds, uuid7
from weighin_agent.fleet.spool import Spool
from weighin_agent.fleet.state import Enrolment, Forgetting, State
from weighin_agent.fleet.token import EnrollmentToken
from weighin_agent.run import Run
from weighin_agent.wire import message_to_run


@dataclass(frozen=True, slots=True, kw_only=True)
class LastDelivery:
    """The outcome of the last delivery; fields as in DeliveryReport, ``quarantined_count`` those it set aside."""

    time_seconds: float
    stored_count: int
    duplicate_count: int
    quarantined_count: int
    kept_count: int
    kept_reason: str | None
    kept_detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where things stand on this device.

    ``device_id`` is None before the first start, ``enrolment`` where there is none, ``oldest_pending_age_seconds`` when
    nothing waits. ``dropped_count`` and ``quarantined_count`` are since installation; ``quarantine`` is what of it can
    still be looked at. ``damaged_files`` of the state folder were set aside and begun anew. ``certificate`` is None
    without one that can be used with the key and the authority here, ``forgetting`` where nobody asked for it.
    """

    state_folder: Path
    device_id: str | None
    enrolment: Enrolment | None
    certificate: Validity | None
    forgetting: Forgetting | None
    room: Room
    pending_count: int
    pending_bytes: int
    oldest_pending_age_seconds: float | None
    dropped_count: int
    quarantined_count: int
    quarantine: tuple[QuarantinedRun, ...]
    damaged_files: tuple[str, ...]
    last_delivery: LastDelivery | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestRun:
    """The newest run that this device made, sent or not."""

    run_id: str
    run: Run


@contextmanager
def working(state: State) -> Iterator[Spool]:
    """Hold the state folder, as the one agent that may write there, with its spool made ready.

    Raises StateError when another agent is at work.
    """
    with state.locked():
        spool = Spool(state.spool_folder)
        spool.recover()
        yield spool


def keep_run(state: State, spool: Spool, run: bytes) -> Entry:
    """Put a serialized Run in the spool under a new run_id, and keep it as the newest; then it survives a crash.

    Raises StateError while the device is being forgotten.
    """
    if state.forgetting() is not None:
        raise StateError("this device is being forgotten: no run is kept until `weighin-agent forget` is through")
    newest_sequence = max((entry.sequence for entry in spool.pending()), default=0)
    entry = spool.add(run, run_id=uuid7(), sequence=state.take_sequence(after=newest_sequence))
    envelope = services_pb2.RunEnvelope(run_id=entry.run_id, sequence=entry.sequence, run=run)
    state.save_newest_run(envelope.SerializeToString())
    return entry


def newest_run(state: State) -> NewestRun | None:
    """Read the newest run of this device, None where there is none.

    Raises DamagedRunError where it is damaged, or of a contract that this version cannot read.
    """
    sealed = state.newest_run()
    if sealed is None:
        return None
    try:
        envelope = services_pb2.RunEnvelope.FromString(sealed)
        return NewestRun(run_id=envelope.run_id, run=message_to_run(run_pb2.Run.FromString(envelope.run)))
    except (DecodeError, ValueError) as error:
        raise DamagedRunError(f"this version cannot read the newest run in {state.folder}") from error


def deliver_runs(
    state: State,
    spool: Spool,
    *,
    give_up_after_seconds: float = GIVE_UP_AFTER_SECONDS,
    heed_own_backoff: bool = False,
    pace: Pace | None = None,
) -> DeliveryReport:
    """Deliver what waits to the aggregator where this device is enrolled, and remember the outcome for ``status``.

    That the aggregator is away, or that there is none, is an outcome and no error: the runs stay in the spool.
    Raises StateError while the device is being forgotten.
    """
    if state.forgetting() is not None:
        raise StateError("this device is being forgotten: no run is sent; go on with `weighin-agent forget`")
    enrolment = state.enrolment()
    if enrolment is None:
        return _not_enrolled(len(spool.pending()))
    pace = pace or Pace()
    with open_line(state, enrolment) as line:
        if not spool.pending():
            with suppress(DeliveryError):
                line.keep_fresh()
        report = deliver(
            spool,
            line,
            give_up_after_seconds=give_up_after_seconds,
            heed_own_backoff=heed_own_backoff,
            pace=pace,
        )
    if report.was_needed:
        # What was delivered stays delivered, even where a full disk has no room to remember it.
        with suppress(StateError):
            state.save_last_delivery(asdict(_last_delivery_of(report, pace.now_seconds())))
    return report


def enroll(state: State, spool: Spool, token: EnrollmentToken, consent_version: int) -> Enrolment:
    """Enrol this device where a token says, over TLS; its key is made here.

    Raises UsageError without consent, DeliveryError where the aggregator does not answer, does not prove to be the one
    that the token names, or does not take the token.
    """
    # Here, because no other command has a use for what it imports.
    from weighin_agent.fleet.enrolment import certify  # noqa: PLC0415

    try:
        enrolment = certify(state, token, consent_version)
    except DeliveryError as error:
        raise DeliveryError(f"cannot enrol: {error}", reason=error.reason) from error
    _join(state, spool, enrolment)
    return enrolment


def enroll_insecure(state: State, spool: Spool, address: str, consent_version: int) -> Enrolment:
    """Enrol this device with an aggregator on this machine, over plain text.

    Raises UsageError for an address elsewhere or without consent, DeliveryError where no aggregator answers there.
    """
    require_consent(consent_version)
    address = parse_loopback_address(address)
    with AggregatorClient(address, device_id=state.device_id()) as client:
        try:
            client.check_health()
        except DeliveryError as error:
            raise DeliveryError(
                f"cannot enrol: {error}; start one there, or check the address, then enrol again", reason=error.reason
            ) from error
    enrolment = Enrolment(aggregator_address=address, consent_version=consent_version, insecure=True)
    _join(state, spool, enrolment)
    return enrolment


def _join(state: State, spool: Spool, enrolment: Enrolment) -> None:
    # Consent first: cut short between the two, the device is not enrolled and enrolling again does both.
    note_consent(spool, enrolment.consent_version)
    state.save_enrolment(enrolment)
    # What an earlier aggregator refused or asked for says nothing about this one.
    spool.set_backoff(Backoff())


def status(state: State, now_seconds: Callable[[], float] = time.time) -> Status:
    """Where things stand; reads only, so that it works beside an agent at work."""
    identity = state.identity()
    spool = Spool(state.spool_folder)
    pending = spool.pending()
    oldest = min((create_time_seconds(entry.run_id) for entry in pending), default=None)
    return Status(
        state_folder=state.folder,
        device_id=identity.device_id if identity else None,
        enrolment=state.enrolment(),
        certificate=_certificate_validity(state),
        forgetting=state.forgetting(),
        room=room_in(state.folder),
        pending_count=len(pending),
        pending_bytes=sum(entry.size_bytes for entry in pending),
        oldest_pending_age_seconds=None if oldest is None else max(0.0, now_seconds() - oldest),
        dropped_count=spool.dropped_count,
        quarantined_count=spool.quarantined_count,
        quarantine=spool.quarantined(),
        damaged_files=state.damaged(),
        last_delivery=_last_delivery(state),
    )


def _certificate_validity(state: State) -> Validity | None:
    credential, identity = state.credential, state.identity()
    try:
        key_pem, certificate_pem = credential.key_pem(), credential.certificate_pem()
        authority_pem = credential.authority_pem()
    except StateError:  # as of another user; the rest of the status is worth telling
        return None
    if not (identity and key_pem and certificate_pem and authority_pem):
        return None
    # Here, because a device without a certificate has no use for what it imports.
    from weighin_agent.fleet.certificates import certificate_of, validity  # noqa: PLC0415

    with suppress(ValueError, TypeError):
        return validity(certificate_of(certificate_pem, key_pem, authority_pem, identity.device_id))
    return None


def _not_enrolled(kept_count: int) -> DeliveryReport:
    return DeliveryReport(
        stored_count=0,
        duplicate_count=0,
        quarantined=(),
        kept_count=kept_count,
        kept_reason="NOT_ENROLLED" if kept_count else None,
        kept_detail="this device is not enrolled; runs wait until it is" if kept_count else None,
    )


def _last_delivery_of(report: DeliveryReport, time_seconds: float) -> LastDelivery:
    return LastDelivery(
        time_seconds=time_seconds,
        stored_count=report.stored_count,
        duplicate_count=report.duplicate_count,
        quarantined_count=len(report.quarantined),
        kept_count=report.kept_count,
        kept_reason=report.kept_reason,
        kept_detail=report.kept_detail,
    )


def _last_delivery(state: State) -> LastDelivery | None:
    record = state.last_delivery()
    match record:
        case {
            "time_seconds": int() | float() as moment,
            "stored_count": int(stored),
            "duplicate_count": int(duplicate),
            "quarantined_count": int(quarantined),
            "kept_count": int(kept),
            "kept_reason": str() | None as reason,
            "kept_detail": str() | None as detail,
        }:
            return LastDelivery(
                time_seconds=moment,
                stored_count=stored,
                duplicate_count=duplicate,
                quarantined_count=quarantined,
                kept_count=kept,
                kept_reason=reason,
                kept_detail=detail,
            )
    return None
