"""The aggregator as the agent sees it: the only module that knows gRPC.

No process may be forked while a channel is open (grpc issues 13464 and 18075): measure first, then open a client.
"""

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from weighin.v1 import services_pb2, services_pb2_grpc
from weighin_agent.errors import (
    AggregatorAwayError,
    DeliveryError,
    DeviceRefusedError,
    UnacceptableRequestError,
    UsageError,
)

SUBMIT_DEADLINE_SECONDS = 15.0
HEALTH_DEADLINE_SECONDS = 5.0
_DEVICE_ID_KEY = "weighin-device-id"
_ERROR_DOMAIN = "weighin"
_CHANNEL_OPTIONS = (
    # gRPC obeys the http_proxy of the environment: a plain-text loopback call must not leave by way of a proxy.
    ("grpc.enable_http_proxy", 0),
    # Channels of one process share a connection, and with it gRPC's own backoff, unless told not to.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 1 << 20),
)
_REFUSED_CODES = frozenset(
    {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION}
)
_REASONS_OF_THE_REQUEST = frozenset({"MALFORMED_REQUEST", "TOO_MANY_RUNS"})


_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_LONGEST_DETAIL = 500


class Outcome(StrEnum):
    """What became of one run. RETRY stands for every answer that is not one of the others."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    RETRY = "retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnswer:
    """The aggregator's answer for one run.

    ``reason`` is an upper-case constant, None where it gave none; ``detail`` is one printable line, often empty.
    """

    run_id: str
    outcome: Outcome
    reason: str | None
    detail: str


def parse_loopback_address(address: str) -> str:
    """Check a plain-text address and write it as gRPC wants it, for example "127.0.0.1:50051".

    Raises UsageError where it is not HOST:PORT, or where the host is not this machine: plain text goes nowhere else.
    """
    host, colon, port = address.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise UsageError(f"{address!r} is not an address; give HOST:PORT, for example 127.0.0.1:50051")
    if host == "localhost":
        host = "127.0.0.1"  # not looked up: a hosts file could send it elsewhere
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        ip = None
    if ip is None or not ip.is_loopback:
        raise UsageError(
            f"{address!r} is not on this machine; without encryption only 127.0.0.1, ::1 and localhost are allowed"
        )
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


class AggregatorClient:
    """One device's line to the aggregator at ``address``, which must be loopback; a context manager.

    The channel is opened by the first call, and anew after a failed one: an old channel waits for its own backoff
    before it notices that the aggregator is back.
    """

    def __init__(self, address: str, *, device_id: str) -> None:
        self.address = parse_loopback_address(address)
        self._metadata = ((_DEVICE_ID_KEY, device_id),)
        self._open_channel: grpc.Channel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._open_channel is not None:
            self._open_channel.close()
            self._open_channel = None

    def check_health(self, deadline_seconds: float = HEALTH_DEADLINE_SECONDS) -> None:
        """Return when the aggregator says that it takes runs; else raise DeliveryError."""
        stub = health_pb2_grpc.HealthStub(self._channel())
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=deadline_seconds)
        except grpc.RpcError as error:
            self.close()
            raise _translated(error, self.address) from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise AggregatorAwayError(
                f"the aggregator at {self.address} is not taking runs now; try again later", reason="NOT_SERVING"
            )

    def submit(
        self, request: services_pb2.SubmitRunsRequest, deadline_seconds: float = SUBMIT_DEADLINE_SECONDS
    ) -> tuple[RunAnswer, ...]:
        """Send one call and return its answers, in whatever number and order the aggregator gave them.

        Raises DeliveryError where the call as a whole failed; it may have been carried out all the same.
        """
        stub = services_pb2_grpc.RunServiceStub(self._channel())
        try:
            response = stub.SubmitRuns(request, timeout=deadline_seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            self.close()
            raise _translated(error, self.address) from error
        return tuple(_run_answer(result) for result in response.results)

    def _channel(self) -> grpc.Channel:
        # The one place that will choose between plain loopback and mutual TLS.
        if self._open_channel is None:
            self._open_channel = grpc.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
        return self._open_channel


_OUTCOMES = {
    services_pb2.OUTCOME_STORED: Outcome.STORED,
    services_pb2.OUTCOME_DUPLICATE: Outcome.DUPLICATE,
    services_pb2.OUTCOME_REJECTED: Outcome.REJECTED,
}


def _run_answer(result: services_pb2.RunResult) -> RunAnswer:
    # What a server writes ends in files and on a terminal here: one line, no control characters, no great length.
    detail = "".join(letter for letter in "; ".join(result.field_violations) if letter.isprintable())
    return RunAnswer(
        run_id=result.run_id,
        outcome=_OUTCOMES.get(result.outcome, Outcome.RETRY),
        reason=_reason(result.reason),
        detail=detail[:_LONGEST_DETAIL],
    )


def _reason(text: str) -> str | None:
    return text if _REASON.fullmatch(text) else None


def _translated(error: grpc.RpcError, address: str) -> DeliveryError:
    # What a blocking call raises is also the call itself; the type stubs cannot say so.
    call = cast("grpc.Call", error)
    code = call.code()
    info, retry_after_seconds = _details(call)
    reason = info or code.name
    if reason in _REASONS_OF_THE_REQUEST or _is_too_large(code, info, retry_after_seconds):
        return UnacceptableRequestError(f"the aggregator at {address} cannot take the call: {reason}", reason=reason)
    if code in _REFUSED_CODES:
        return DeviceRefusedError(f"the aggregator at {address} refuses this device: {reason}", reason=reason)
    what = _WHAT_HAPPENED.get(code, "did not take the call")
    return AggregatorAwayError(
        f"the aggregator at {address} {what} ({reason})", reason=reason, retry_after_seconds=retry_after_seconds
    )


_WHAT_HAPPENED = {
    grpc.StatusCode.UNAVAILABLE: "is not reachable or not ready",
    grpc.StatusCode.DEADLINE_EXCEEDED: "did not answer in time",
    grpc.StatusCode.INTERNAL: "failed inside",
    grpc.StatusCode.UNKNOWN: "failed inside",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "has had enough for now",
    grpc.StatusCode.UNIMPLEMENTED: "does not know this call; it may be older than this agent, or no aggregator",
}


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
                reason = _reason(info.reason)
            elif detail.Unpack(retry):
                delay_seconds = max(0.0, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)
    except (ValueError, DecodeError):
        # A proxy in between may answer with details that contradict the status: the status alone is then believed.
        return None, None
    return reason, delay_seconds
