"""What becomes of one envelope before the store sees it: accepted, or refused with a reason."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from weighin.v1 import measurement_pb2, run_pb2, services_pb2
from weighin_aggregator.identity.peer import is_lower_case_uuid
from weighin_aggregator.intake.reading import Reading, read, reread
from weighin_aggregator.intake.rules import at_least
from weighin_aggregator.intake.validate import are_sound, violations
from weighin_aggregator.limits import Limits
from weighin_aggregator.refusal import Reason, Refusal

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A run that keeps every rule. ``raw`` are the bytes as they came, ``sha256`` their hash.

    ``attempt_count`` is how often the device had sent it before.
    """

    run_id: str
    sequence: int
    sha256: bytes
    raw: bytes
    run: Reading
    attempt_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A run that is not stored as it is; ``retry`` means that the same run may be taken later."""

    reason: Reason
    retry: bool = False
    field_violations: tuple[str, ...] = ()


def examine(envelope: services_pb2.RunEnvelope, limits: Limits) -> Accepted | Refused:
    """Check one envelope. Raises Refusal for the whole call when its run carries no consent."""
    return examine_all([envelope], limits)[0]


def examine_all(envelopes: Sequence[services_pb2.RunEnvelope], limits: Limits) -> list[Accepted | Refused]:
    """Check the envelopes of a call, each by itself; of two with one run_id the second is refused.

    Raises Refusal for the whole call when a run carries no consent.
    """
    seen: set[str] = set()
    faults = [_fault(envelope, seen, limits) for envelope in envelopes]
    whole = [envelope for envelope, fault in zip(envelopes, faults, strict=True) if fault is None]
    sound = _quickly_read(whole, limits)
    return [
        fault or _judged(envelope, sound.get(envelope.run_id) or _read(envelope, limits))
        for envelope, fault in zip(envelopes, faults, strict=True)
    ]


def _fault(envelope: services_pb2.RunEnvelope, seen: set[str], limits: Limits) -> Refused | None:
    """Find what is wrong with an envelope before its run is looked at; ``seen`` are the run_ids before it."""
    if envelope.run_id in seen or not is_lower_case_uuid(envelope.run_id):
        return Refused(reason=Reason.RUN_ID_INVALID)
    seen.add(envelope.run_id)
    if len(envelope.run) > limits.run_bytes:
        return _invalid(f"run: must have at most {limits.run_bytes} bytes")
    if hashlib.sha256(envelope.run).digest() != envelope.run_sha256:
        return Refused(reason=Reason.CHECKSUM_MISMATCH, retry=True)
    return None


def _judged(envelope: services_pb2.RunEnvelope, run: Reading | Refused) -> Accepted | Refused:
    if isinstance(run, Refused):
        return run
    return Accepted(
        run_id=envelope.run_id,
        sequence=envelope.sequence,
        sha256=envelope.run_sha256,
        raw=envelope.run,
        run=run,
        attempt_count=envelope.attempt_count,
    )


def _quickly_read(envelopes: Sequence[services_pb2.RunEnvelope], limits: Limits) -> Mapping[str, Reading]:
    """Read together, by run_id, the runs of this contract that are as they should be; of others ``_read`` must say."""
    readings = {
        envelope.run_id: reading
        for envelope in envelopes
        if not any(_envelope_violations(envelope)) and (reading := read(envelope.run)) and _is_current(reading.head)
    }
    sound = are_sound(list(readings.values()), limits)
    return {run_id: reading for (run_id, reading), is_sound in zip(readings.items(), sound, strict=True) if is_sound}


def _is_current(run: run_pb2.Run) -> bool:
    return run.schema_version == SCHEMA_VERSION and run.consent_version >= 1


def _read(envelope: services_pb2.RunEnvelope, limits: Limits) -> Reading | Refused:
    """Read any run, or find the first reason not to take it."""
    try:
        run = run_pb2.Run.FromString(envelope.run)
    except DecodeError:
        return Refused(reason=Reason.MALFORMED_RUN)
    if run.schema_version > SCHEMA_VERSION:
        return Refused(reason=Reason.SCHEMA_TOO_NEW, retry=True)
    if run.schema_version < 1:
        return _invalid("schema_version: must be at least 1")
    if run.consent_version < 1:
        raise Refusal(Reason.CONSENT_REQUIRED)
    if _has_unknown_fields(run):
        return Refused(reason=Reason.UNKNOWN_FIELD)
    if run.schema_version == 1:
        _say_what_version_1_left_unsaid(run)
    broken = [*_envelope_violations(envelope), *violations(run, limits)][: limits.violations]
    return _invalid(*broken) if broken else reread(run)


def _say_what_version_1_left_unsaid(run: run_pb2.Run) -> None:
    """Name the feed-forward blocks, of which version 1 knew one for each kind of architecture."""
    for case in (*(one.case for one in run.measurements), *(one.case for one in run.failures)):
        is_encoder = case.architecture.kind == measurement_pb2.ARCHITECTURE_KIND_ENCODER
        case.architecture.feed_forward = (
            measurement_pb2.FEED_FORWARD_GELU if is_encoder else measurement_pb2.FEED_FORWARD_SWIGLU
        )


def _envelope_violations(envelope: services_pb2.RunEnvelope) -> Iterator[str]:
    yield from at_least("sequence", envelope.sequence, 1)
    yield from at_least("attempt_count", envelope.attempt_count, 0)


def _invalid(*field_violations: str) -> Refused:
    return Refused(reason=Reason.FIELD_INVALID, field_violations=field_violations)


def _has_unknown_fields(run: run_pb2.Run) -> bool:
    """Tell whether any message inside holds a field unknown to this server, and drop such fields.

    Comparing sizes lets protobuf walk the tree in C: reading unknown fields message by message from Python would cost
    more than everything else that is done with a run.
    """
    size = run.ByteSize()
    run.DiscardUnknownFields()
    return run.ByteSize() != size
