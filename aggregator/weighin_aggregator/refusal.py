"""Why something is refused: the reasons of the contract, and the status that carries each to the client."""

import math
from dataclasses import dataclass
from enum import StrEnum

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

ERROR_DOMAIN = "weighin"


class Reason(StrEnum):
    """Upper-case constants of the contract; docs/ingest.md says what the agent does about each."""

    # Of one run.
    RUN_ID_INVALID = "RUN_ID_INVALID"
    RUN_ID_REUSED = "RUN_ID_REUSED"
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"
    MALFORMED_RUN = "MALFORMED_RUN"
    FIELD_INVALID = "FIELD_INVALID"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    NOT_STORABLE = "NOT_STORABLE"
    SCHEMA_TOO_NEW = "SCHEMA_TOO_NEW"

    # Of a whole call; FIELD_INVALID too.
    MALFORMED_REQUEST = "MALFORMED_REQUEST"
    TOO_MANY_RUNS = "TOO_MANY_RUNS"
    CREDENTIAL_INVALID = "CREDENTIAL_INVALID"
    DEVICE_REVOKED = "DEVICE_REVOKED"
    DEVICE_FORGOTTEN = "DEVICE_FORGOTTEN"
    DEVICE_ID_TAKEN = "DEVICE_ID_TAKEN"
    ENROLLMENT_TOKEN_INVALID = "ENROLLMENT_TOKEN_INVALID"  # noqa: S105 - a reason
    TOO_MANY_FAILURES = "TOO_MANY_FAILURES"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    CONSENT_REQUIRED = "CONSENT_REQUIRED"
    OVERLOADED = "OVERLOADED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    OPERATOR_ONLY = "OPERATOR_ONLY"
    DEVICE_UNKNOWN = "DEVICE_UNKNOWN"
    NOT_ENROLLING = "NOT_ENROLLING"
    SNAPSHOT_FAILED = "SNAPSHOT_FAILED"
    BACKUP_FAILED = "BACKUP_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Texts are fixed: nothing that a client sent comes back, and nothing about the inside of the server."""

    code: grpc.StatusCode
    text: str
    retry_seconds: int | None = None


_ANSWERS = {
    Reason.MALFORMED_REQUEST: _Answer(
        code=grpc.StatusCode.INVALID_ARGUMENT, text="the request does not decode; send the runs one by one"
    ),
    Reason.TOO_MANY_RUNS: _Answer(
        code=grpc.StatusCode.INVALID_ARGUMENT, text="too many runs in one call; send at most 100"
    ),
    Reason.CREDENTIAL_INVALID: _Answer(
        code=grpc.StatusCode.UNAUTHENTICATED,
        text="the call proves no enrolled device; renew its certificate, or enrol with a token",
    ),
    Reason.DEVICE_REVOKED: _Answer(code=grpc.StatusCode.PERMISSION_DENIED, text="the operator has revoked this device"),
    Reason.DEVICE_FORGOTTEN: _Answer(
        code=grpc.StatusCode.FAILED_PRECONDITION, text="this device was forgotten on its own request"
    ),
    Reason.DEVICE_ID_TAKEN: _Answer(
        code=grpc.StatusCode.PERMISSION_DENIED, text="this device_id belongs to another key"
    ),
    Reason.ENROLLMENT_TOKEN_INVALID: _Answer(
        code=grpc.StatusCode.UNAUTHENTICATED, text="the token is unknown, used up or expired; ask the operator for one"
    ),
    Reason.TOO_MANY_FAILURES: _Answer(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED, text="too many failed attempts from this address", retry_seconds=60
    ),
    Reason.QUOTA_EXCEEDED: _Answer(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED, text="this device sends more than it may", retry_seconds=60
    ),
    Reason.FIELD_INVALID: _Answer(code=grpc.StatusCode.INVALID_ARGUMENT, text="a field of the request breaks a rule"),
    Reason.CONSENT_REQUIRED: _Answer(
        code=grpc.StatusCode.FAILED_PRECONDITION, text="a run carries no consent; ask the user, then measure again"
    ),
    Reason.OVERLOADED: _Answer(code=grpc.StatusCode.UNAVAILABLE, text="too many runs are waiting", retry_seconds=5),
    Reason.SHUTTING_DOWN: _Answer(code=grpc.StatusCode.UNAVAILABLE, text="the server is stopping", retry_seconds=5),
    Reason.STORE_UNAVAILABLE: _Answer(
        code=grpc.StatusCode.UNAVAILABLE, text="the store cannot write now", retry_seconds=60
    ),
    Reason.OPERATOR_ONLY: _Answer(
        code=grpc.StatusCode.PERMISSION_DENIED, text="only the operator on the server's own machine may ask for this"
    ),
    Reason.DEVICE_UNKNOWN: _Answer(code=grpc.StatusCode.NOT_FOUND, text="no such device is enrolled"),
    Reason.NOT_ENROLLING: _Answer(
        code=grpc.StatusCode.FAILED_PRECONDITION, text="it serves plain text (--insecure), where no device enrols"
    ),
    Reason.SNAPSHOT_FAILED: _Answer(
        code=grpc.StatusCode.FAILED_PRECONDITION, text="the snapshot could not be written; the server's log says why"
    ),
    Reason.BACKUP_FAILED: _Answer(
        code=grpc.StatusCode.FAILED_PRECONDITION, text="the backup could not be written; the server's log says why"
    ),
    Reason.INTERNAL_ERROR: _Answer(code=grpc.StatusCode.INTERNAL, text="internal error"),
}


class Refusal(Exception):  # noqa: N818 - an answer to the client, not an error of the server
    """Ends a call with a reason of the contract.

    ``error_id`` finds the line in the log that tells more; ``field`` names the field that breaks a rule;
    ``wait_seconds`` is how long to wait, where that is known better than by the reason alone.
    """

    def __init__(
        self,
        reason: Reason,
        error_id: str | None = None,
        *,
        field: str | None = None,
        wait_seconds: float | None = None,
    ) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.error_id = error_id
        self.field = field
        self.wait_seconds = wait_seconds

    def status(self) -> grpc.Status:
        """Build the status with its google.rpc details: ErrorInfo, and RetryInfo where a later attempt may succeed."""
        answer = _ANSWERS[self.reason]
        info = error_details_pb2.ErrorInfo(domain=ERROR_DOMAIN, reason=self.reason.value)
        if self.error_id is not None:
            info.metadata["error_id"] = self.error_id
        if self.field is not None:
            info.metadata["field"] = self.field
        details = [info]
        retry_seconds = answer.retry_seconds if self.wait_seconds is None else math.ceil(self.wait_seconds)
        if retry_seconds is not None:
            delay = duration_pb2.Duration(seconds=retry_seconds)
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        message = status_pb2.Status(code=answer.code.value[0], message=answer.text)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            message.details.append(packed)
        status: grpc.Status = rpc_status.to_status(message)
        return status
