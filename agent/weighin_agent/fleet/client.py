"""The aggregator as the agent sees it: its calls, over plain loopback or TLS.

Of the agent's modules only this one and ``call_errors`` know gRPC. No process may be forked while a channel is open
(grpc issues 13464 and 18075): measure first, then open a client.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from weighin.v1 import services_pb2, services_pb2_grpc
from weighin_agent.errors import AggregatorAwayError
from weighin_agent.fleet.address import parse_address, parse_loopback_address
from weighin_agent.fleet.call_errors import call_error, fault_error, may_be_the_way, reason_of
from weighin_agent.fleet.credential import Credential
from weighin_agent.fleet.tls_diagnosis import Fault, diagnose

SUBMIT_DEADLINE_SECONDS = 15.0
HEALTH_DEADLINE_SECONDS = 5.0
CREDENTIAL_DEADLINE_SECONDS = 20.0
_DEVICE_ID_KEY = "weighin-device-id"
_CHANNEL_OPTIONS = (
    # gRPC obeys the http_proxy of the environment: a plain-text loopback call must not leave by way of a proxy.
    ("grpc.enable_http_proxy", 0),
    # Channels of one process share a connection, and with it gRPC's own backoff, unless told not to.
    ("grpc.use_local_subchannel_pool", 1),
    # Trying again is ours alone: a name server must not tell gRPC to do it behind the count of attempts.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", 1 << 20),
)
_LONGEST_DETAIL = 500
_Answered = TypeVar("_Answered")


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


class _Line:
    """A line to one port of an aggregator; a context manager.

    Over TLS where there is an authority to trust, with this device's certificate where there is a credential. The
    channel is opened by the first call, and anew after a failed one: an old channel waits for its own backoff before it
    notices that the aggregator is back, and a renewed certificate counts from the next one on.
    """

    def __init__(
        self, address: str, *, authority_pem: bytes | None = None, credential: Credential | None = None
    ) -> None:
        self.address = address
        self._authority_pem = authority_pem
        self._credential = credential
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
        """Return when the aggregator says that it takes calls; else raise DeliveryError."""
        answer = self._call(
            lambda channel: health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=deadline_seconds
            )
        )
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise AggregatorAwayError(
                f"the aggregator at {self.address} is not taking runs now; try again later", reason="NOT_SERVING"
            )

    def _call(self, call: Callable[[grpc.Channel], _Answered]) -> _Answered:
        if self._open_channel is None:
            self._open_channel = self._open()
        try:
            return call(self._open_channel)
        except grpc.RpcError as error:
            self.close()
            failed = call_error(error, self.address)
            fault = self._diagnosis() if may_be_the_way(failed) else None
            raise (fault_error(fault, self.address) if fault else failed) from error

    def _open(self) -> grpc.Channel:
        if self._authority_pem is None:
            return grpc.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
        key_pem = certificate_pem = None
        if self._credential is not None:
            key_pem, certificate_pem = self._credential.key_pem(), self._credential.certificate_pem()
            # Without an authority gRPC would trust all that the system trusts.
            if not (self._authority_pem and key_pem and certificate_pem):
                raise fault_error(Fault.CREDENTIAL_DAMAGED, self.address)
        secrets = grpc.ssl_channel_credentials(self._authority_pem, key_pem, certificate_pem)
        return grpc.secure_channel(self.address, secrets, options=_CHANNEL_OPTIONS)

    def _diagnosis(self) -> Fault | None:
        return None if self._authority_pem is None else diagnose(self.address, self._authority_pem, self._credential)


class AggregatorClient(_Line):
    """One device's line to the port that takes runs: over mutual TLS with ``credential``, else plain and loopback only.

    The certificate says who calls; on a plain line, which has none, the metadata of each call does.
    """

    def __init__(self, address: str, *, device_id: str, credential: Credential | None = None) -> None:
        if credential is None:
            super().__init__(parse_loopback_address(address))
        else:
            authority_pem = credential.authority_pem() or b""
            super().__init__(parse_address(address), authority_pem=authority_pem, credential=credential)
        self._metadata = ((_DEVICE_ID_KEY, device_id),) if credential is None else ()

    def submit(
        self, request: services_pb2.SubmitRunsRequest, deadline_seconds: float = SUBMIT_DEADLINE_SECONDS
    ) -> tuple[RunAnswer, ...]:
        """Send one call and return its answers, in whatever number and order the aggregator gave them.

        Raises DeliveryError where the call as a whole failed; it may have been carried out all the same.
        """
        response = self._call(
            lambda channel: services_pb2_grpc.RunServiceStub(channel).SubmitRuns(
                request, timeout=deadline_seconds, metadata=self._metadata
            )
        )
        return tuple(_run_answer(result) for result in response.results)

    def keep_fresh(self) -> None:
        """Do nothing: a line as such does not age; ``RenewingLine`` does."""

    def renew(self, csr_der: bytes) -> bytes:
        """Ask for a new certificate for the key of a signing request; returns the chain, PEM. Raises DeliveryError."""
        request = services_pb2.RenewCredentialRequest(csr_der=csr_der)
        response = self._call(
            lambda channel: services_pb2_grpc.RunServiceStub(channel).RenewCredential(
                request, timeout=CREDENTIAL_DEADLINE_SECONDS
            )
        )
        return response.certificate_chain_pem

    def delete_device_data(self, request_id: str) -> None:
        """Have everything deleted that this device ever sent; return when it is so. Raises DeliveryError."""
        request = services_pb2.DeleteDeviceDataRequest(request_id=request_id)
        self._call(
            lambda channel: services_pb2_grpc.RunServiceStub(channel).DeleteDeviceData(
                request, timeout=SUBMIT_DEADLINE_SECONDS, metadata=self._metadata
            )
        )


class EnrollmentClient(_Line):
    """A device's line to the port where devices enrol: TLS, trusting ``authority_pem`` alone, without a certificate."""

    def __init__(self, address: str, *, authority_pem: bytes) -> None:
        super().__init__(parse_address(address), authority_pem=authority_pem)

    def enroll(self, request: services_pb2.EnrollRequest) -> services_pb2.EnrollResponse:
        """Enrol, or prove the key of an expired certificate. Raises DeliveryError."""
        return self._call(
            lambda channel: services_pb2_grpc.EnrollmentServiceStub(channel).Enroll(
                request, timeout=CREDENTIAL_DEADLINE_SECONDS
            )
        )


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
        reason=reason_of(result.reason),
        detail=detail[:_LONGEST_DETAIL],
    )
