"""What becomes of one envelope before the store sees it: accepted, or refused with a reason."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from weighin.v1 import measurement_pb2, run_pb2, services_pb2
from weighin_aggregator.limits import Limits
from weighin_aggregator.peer import is_lower_case_uuid
from weighin_aggregator.refusal import Reason, Refusal
from weighin_aggregator.rules import at_least
from weighin_aggregator.validate import violations

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
    run: run_pb2.Run
    attempt_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A run that is not stored as it is; ``retry`` means that the same run may be taken later."""

    reason: Reason
    retry: bool = False
    field_violations: tuple[str, ...] = ()


def examine(envelope: services_pb2.RunEnvelope, limits: Limits) -> Accepted | Refused:
    """Check one envelope by itself. Raises Refusal for the whole call when its run carries no consent."""
    if not is_lower_case_uuid(envelope.run_id):
        return Refused(reason=Reason.RUN_ID_INVALID)
    if len(envelope.run) > limits.run_bytes:
        return _invalid(f"run: must have at most {limits.run_bytes} bytes")
    if hashlib.sha256(envelope.run).digest() != envelope.run_sha256:
        return Refused(reason=Reason.CHECKSUM_MISMATCH, retry=True)
    try:
        run = run_pb2.Run.FromString(envelope.run)
    except DecodeError:
        return Refused(reason=Reason.MALFORMED_RUN)
    return _refuse(run, envelope, limits) or Accepted(
        run_id=envelope.run_id,
        sequence=envelope.sequence,
        sha256=envelope.run_sha256,
        raw=envelope.run,
        run=run,
        attempt_count=envelope.attempt_count,
    )


def _refuse(run: run_pb2.Run, envelope: services_pb2.RunEnvelope, limits: Limits) -> Refused | None:
    """Find the first reason not to take a run that decodes, None if there is none."""
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
    return _invalid(*broken) if broken else None


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
