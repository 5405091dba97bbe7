"""What a failed gRPC call means for the agent, and one line about it for a person: what happened, what to do."""

import re
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from weighin_agent.errors import (
    AggregatorAwayError,
    CredentialRefusedError,
    DeliveryError,
    DeviceRefusedError,
    UnacceptableRequestError,
    UnsafeChannelError,
)
from weighin_agent.fleet.tls_diagnosis import Fault

_ERROR_DOMAIN = "weighin"
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_REASONS_OF_THE_REQUEST = frozenset({"MALFORMED_REQUEST", "TOO_MANY_RUNS"})
_REASONS_OF_THE_CREDENTIAL = frozenset({"CREDENTIAL_INVALID", "UNAUTHENTICATED"})
_REFUSED_CODES = frozenset(
    {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION}
)
_WHAT_HAPPENED = {
    grpc.StatusCode.UNAVAILABLE: "is not reachable or not ready",
    grpc.StatusCode.DEADLINE_EXCEEDED: "did not answer in time",
    grpc.StatusCode.INTERNAL: "failed inside",
    grpc.StatusCode.UNKNOWN: "failed inside",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "has had enough for now",
    grpc.StatusCode.UNIMPLEMENTED: "does not know this call; it may be older than this agent, or no aggregator",
}
_ENROL_ANEW = "ask its operator for a new token, then `weighin-agent enroll`"
_WHAT_TO_DO = {
    "CREDENTIAL_INVALID": f"does not know this device's credential; {_ENROL_ANEW}",
    "UNAUTHENTICATED": f"does not know this device's credential; {_ENROL_ANEW}",
    "DEVICE_ID_TAKEN": f"knows this device's id by another key; {_ENROL_ANEW}",
    "DEVICE_REVOKED": f"has shut this device out; {_ENROL_ANEW}",
    "CLONE_SUSPECTED": f"has seen two devices under this one's name, as after copying its state folder; {_ENROL_ANEW}",
    "DEVICE_FORGOTTEN": f"was told to forget this device and takes nothing more from it; to join anew, {_ENROL_ANEW}",
    "CONSENT_REQUIRED": "wants a consent that this device has not given; read it and accept it with "
    "`weighin-agent enroll`",
    "AGENT_TOO_OLD": "takes nothing from an agent this old; install a newer weighin-agent, the runs wait",
    "ENROLLMENT_TOKEN_INVALID": "does not take this token: it is unknown, used up or expired; ask its operator for a "
    "new one (`weighin-aggregator token create`)",
}
_FAULTS = {
    Fault.TLS_EXPIRED: "shows a certificate that has expired by this device's clock; set the clock if it is wrong, "
    "else tell its operator",
    Fault.TLS_NOT_YET_VALID: "shows a certificate that is not valid yet by this device's clock; set the clock, which "
    "is probably behind",
    Fault.TLS_UNTRUSTED: "shows a certificate of an authority that this device did not enrol with; ask its operator "
    "whether that is right, and enrol with a new token only then",
    Fault.TLS_HOST_MISMATCH: "shows a certificate for another name; use the address that its operator serves under "
    "(`weighin-aggregator serve --name`)",
    Fault.TLS_CLIENT_CERT: f"does not take this device's certificate; {_ENROL_ANEW}",
    Fault.CREDENTIAL_DAMAGED: "cannot be reached with this device's key and certificate, which are damaged or gone; "
    f"{_ENROL_ANEW}",
    Fault.PLAINTEXT: "does not speak TLS: it is another program, or an aggregator that serves with --insecure; check "
    "the address",
    Fault.UNREACHABLE: "is not reachable; check that it runs and that no firewall is in between",
    Fault.NAME_NOT_RESOLVED: "cannot be found: its host name does not resolve; check the name and the network",
}


def reason_of(text: str) -> str | None:
    """Return ``text`` where it is an upper-case constant, else None."""
    return text if _REASON.fullmatch(text) else None


def call_error(error: grpc.RpcError, address: str) -> DeliveryError:
    """Say what a failed call means."""
    # What a blocking call raises is also the call itself; the type stubs cannot say so.
    call = cast("grpc.Call", error)
    code = call.code()
    info, retry_after_seconds = _details(call)
    reason = info or code.name
    if reason in _REASONS_OF_THE_REQUEST or _is_too_large(code, info, retry_after_seconds):
        return UnacceptableRequestError(f"the aggregator at {address} cannot take the call: {reason}", reason=reason)
    if code in _REFUSED_CODES:
        kind = CredentialRefusedError if reason in _REASONS_OF_THE_CREDENTIAL else DeviceRefusedError
        return kind(f"the aggregator at {address} {_refusal(reason)}", reason=reason)
    what = _WHAT_HAPPENED.get(code, "did not take the call")
    asked = "" if retry_after_seconds is None else f"; it asks for {retry_after_seconds:.0f} s of patience"
    return AggregatorAwayError(
        f"the aggregator at {address} {what} ({reason}){asked}", reason=reason, retry_after_seconds=retry_after_seconds
    )


def may_be_the_way(error: DeliveryError) -> bool:
    """Whether a failed call may have failed on the way there: then the way is worth a look."""
    return error.reason in (grpc.StatusCode.UNAVAILABLE.name, grpc.StatusCode.DEADLINE_EXCEEDED.name)


def fault_error(fault: Fault, address: str) -> DeliveryError:
    """Say what is wrong with the way to an aggregator."""
    text = f"the aggregator at {address} {_FAULTS[fault]} ({fault})"
    if fault in (Fault.UNREACHABLE, Fault.NAME_NOT_RESOLVED):
        return AggregatorAwayError(text, reason=fault.value)
    if fault is Fault.TLS_CLIENT_CERT:
        return CredentialRefusedError(text, reason=fault.value)
    if fault is Fault.CREDENTIAL_DAMAGED:
        return DeviceRefusedError(text, reason=fault.value)
    return UnsafeChannelError(text, reason=fault.value)


def _refusal(reason: str) -> str:
    known = _WHAT_TO_DO.get(reason)
    return f"{known} ({reason})" if known else f"refuses this device: {reason}"


def _is_too_large(code: grpc.StatusCode, info: str | None, retry_after_seconds: float | None) -> bool:
    # The gRPC library itself answers an oversized message, so there are no details; a quota comes with a delay.
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED and info is None and retry_after_seconds is None


def _details(call: grpc.Call) -> tuple[str | None, float | None]:
    """Read the reason in ErrorInfo and the delay in RetryInfo, seconds; None for what is not there or not readable."""
    reason, delay_seconds = None, None
    try:
        status = rpc_status.from_call(call)
        for detail in status.details if status else ():
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            if detail.Unpack(info) and info.domain == _ERROR_DOMAIN:
                reason = reason_of(info.reason)
            elif detail.Unpack(retry):
                delay_seconds = max(0.0, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)
    except (ValueError, DecodeError):
        # A proxy in between may answer with details that contradict the status: the status alone is then believed.
        return None, None
    return reason, delay_seconds
