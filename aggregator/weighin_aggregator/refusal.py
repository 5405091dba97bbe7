"""Why something is refused: the reasons of the contract, and the status that carries each to the client."""

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

    # Of a whole call.
    MALFORMED_REQUEST = "MALFORMED_REQUEST"
    TOO_MANY_RUNS = "TOO_MANY_RUNS"
    CREDENTIAL_INVALID = "CREDENTIAL_INVALID"
    CONSENT_REQUIRED = "CONSENT_REQUIRED"
    OVERLOADED = "OVERLOADED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    LOOPBACK_ONLY = "LOOPBACK_ONLY"
    SNAPSHOT_FAILED = "SNAPSHOT_FAILED"
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
        text="the call names no device; send a lower-case UUID as weighin-device-id",
    ),
    Reason.CONSENT_REQUIRED: _Answer(
        code=grpc.StatusCode.FAILED_PRECONDITION, text="a run carries no consent; ask the user, then measure again"
    ),
    Reason.OVERLOADED: _Answer(code=grpc.StatusCode.UNAVAILABLE, text="too many runs are waiting", retry_seconds=5),
    Reason.SHUTTING_DOWN: _Answer(code=grpc.StatusCode.UNAVAILABLE, text="the server is stopping", retry_seconds=5),
    Reason.STORE_UNAVAILABLE: _Answer(
        code=grpc.StatusCode.UNAVAILABLE, text="the store cannot write now", retry_seconds=60
    ),
    Reason.LOOPBACK_ONLY: _Answer(
        code=grpc.StatusCode.PERMISSION_DENIED, text="only the operator on the server's own machine may ask for this"
    ),
    Reason.SNAPSHOT_FAILED: _Answer(
        code=grpc.StatusCode.FAILED_PRECONDITION, text="the snapshot could not be written; the server's log says why"
    ),
    Reason.INTERNAL_ERROR: _Answer(code=grpc.StatusCode.INTERNAL, text="internal error"),
}


class Refusal(Exception):  # noqa: N818 - an answer to the client, not an error of the server
    """Ends a call with a reason of the contract; ``error_id`` finds the line in the log that tells more."""

    def __init__(self, reason: Reason, error_id: str | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.error_id = error_id

    def status(self) -> grpc.Status:
        """Build the status with its google.rpc details: ErrorInfo, and RetryInfo where a later attempt may succeed."""
        answer = _ANSWERS[self.reason]
        info = error_details_pb2.ErrorInfo(domain=ERROR_DOMAIN, reason=self.reason.value)
        if self.error_id is not None:
            info.metadata["error_id"] = self.error_id
        details = [info]
        if answer.retry_seconds is not None:
            delay = duration_pb2.Duration(seconds=answer.retry_seconds)
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        message = status_pb2.Status(code=answer.code.value[0], message=answer.text)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            message.details.append(packed)
        status: grpc.Status = rpc_status.to_status(message)
        return status
