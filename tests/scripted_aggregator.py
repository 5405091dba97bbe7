"""A real gRPC server on a free loopback port that answers each call as a test tells it to."""

import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from weighin.v1 import services_pb2, services_pb2_grpc

Answer = services_pb2.SubmitRunsResponse | grpc.Status
Script = Callable[[services_pb2.SubmitRunsRequest], Answer]


def outcomes(
    request: services_pb2.SubmitRunsRequest,
    outcome: services_pb2.Outcome.ValueType,
    reason: str = "",
    field_violations: Sequence[str] = (),
) -> services_pb2.SubmitRunsResponse:
    """The same outcome for every envelope."""
    return services_pb2.SubmitRunsResponse(
        results=[
            services_pb2.RunResult(
                run_id=envelope.run_id, outcome=outcome, reason=reason, field_violations=field_violations
            )
            for envelope in request.envelopes
        ]
    )


def store_all(request: services_pb2.SubmitRunsRequest) -> services_pb2.SubmitRunsResponse:
    """The answer of an aggregator at its best."""
    return outcomes(request, services_pb2.OUTCOME_STORED)


def failure(code: grpc.StatusCode, reason: str | None = None, retry_after_seconds: float | None = None) -> grpc.Status:
    """A failed call, with the details that the contract wants."""
    message = status_pb2.Status(code=code.value[0], message="as the test says")
    if reason is not None:
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.ErrorInfo(domain="weighin", reason=reason))
        message.details.append(packed)
    if retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(retry_after_seconds * 1000))
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        message.details.append(packed)
    status: grpc.Status = rpc_status.to_status(message)
    return status


class ScriptedAggregator(services_pb2_grpc.RunServiceServicer):
    """Remembers every call that reached it; ``script`` may be changed between calls."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[services_pb2.SubmitRunsRequest] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.health = health.HealthServicer()
        self.address = ""

    def SubmitRuns(  # noqa: N802 - gRPC's name
        self, request: services_pb2.SubmitRunsRequest, context: grpc.ServicerContext
    ) -> services_pb2.SubmitRunsResponse:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        answer = self.script(request)
        if isinstance(answer, services_pb2.SubmitRunsResponse):
            return answer
        context.abort_with_status(answer)
        raise AssertionError("abort_with_status raises")

    def RenewCredential(  # noqa: N802 - gRPC's name
        self, request: services_pb2.RenewCredentialRequest, context: grpc.ServicerContext
    ) -> services_pb2.RenewCredentialResponse:
        raise NotImplementedError

    def DeleteDeviceData(  # noqa: N802 - gRPC's name
        self, request: services_pb2.DeleteDeviceDataRequest, context: grpc.ServicerContext
    ) -> services_pb2.DeleteDeviceDataResponse:
        raise NotImplementedError

    def set_serving(self, serving: bool) -> None:
        statuses = health_pb2.HealthCheckResponse
        self.health.set("", statuses.SERVING if serving else statuses.NOT_SERVING)


@contextmanager
def scripted_aggregator(
    script: Script = store_all, *, max_request_bytes: int = 4 << 20
) -> Iterator[ScriptedAggregator]:
    """Serve ``script`` until the block ends."""
    aggregator = ScriptedAggregator(script)
    with ThreadPoolExecutor(max_workers=4) as pool:
        server = grpc.server(
            pool, options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", max_request_bytes)]
        )
        services_pb2_grpc.add_RunServiceServicer_to_server(aggregator, server)
        health_pb2_grpc.add_HealthServicer_to_server(aggregator.health, server)
        aggregator.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield aggregator
        finally:
            server.stop(grace=None).wait()


def deaf_address() -> str:
    """A loopback address where nobody listens: a port that was ours a moment ago."""
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{once.getsockname()[1]}"
