"""What the health service says, on every port.

The messages are those of grpcio-health-checking, the answers are not: its servicer aborts a call about a service that
it does not know, which keeps the call (see service.py), and whatever does not decode would be answered by gRPC itself.
"""

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from weighin_aggregator.serve.enrollment_service import ENROLLMENT_SERVICE
from weighin_aggregator.serve.run_service import RUN_SERVICE
from weighin_aggregator.serve.service import Context

_SERVICES = frozenset({"", RUN_SERVICE, ENROLLMENT_SERVICE})


class HealthReporter:
    """Tells whether runs can be stored; nothing is served before the first ``set``."""

    def __init__(self) -> None:
        self._writable = False
        self._stopped = False

    def set(self, writable: bool) -> None:
        """Say, from any thread, whether the store takes writes."""
        self._writable = writable

    def stop(self) -> None:
        """Say from now on that nothing is served."""
        self._stopped = True

    def offer(self, server: grpc.aio.Server) -> None:
        """Answer Check on a server. Watch is UNIMPLEMENTED: a stranger could hold as many as it likes, for ever."""
        check: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._check)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(health.SERVICE_NAME, {"Check": check}),))

    async def _check(self, data: bytes, context: Context) -> bytes:
        try:
            service = health_pb2.HealthCheckRequest.FromString(data).service
        except DecodeError:
            return _refused(context, grpc.StatusCode.INVALID_ARGUMENT, "the request does not decode")
        if service not in _SERVICES:
            return _refused(context, grpc.StatusCode.NOT_FOUND, "no such service")
        statuses = health_pb2.HealthCheckResponse.ServingStatus
        serving = self._writable and not self._stopped
        answer = health_pb2.HealthCheckResponse(status=statuses.SERVING if serving else statuses.NOT_SERVING)
        said: bytes = answer.SerializeToString()
        return said


def _refused(context: Context, code: grpc.StatusCode, text: str) -> bytes:
    context.set_code(code)
    context.set_details(text)
    return b""
