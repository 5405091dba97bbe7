"""What the health service says, on every port."""

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2

from weighin_aggregator.serve.enrollment_service import ENROLLMENT_SERVICE
from weighin_aggregator.serve.run_service import RUN_SERVICE


class HealthReporter:
    """Tells the health service whether runs can be stored, from the event loop or from the committer's thread."""

    def __init__(self) -> None:
        self._servicer = health.aio.HealthServicer()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def from_thread(self, writable: bool) -> None:
        """Say from another thread whether the store takes writes."""
        self._loop.call_soon_threadsafe(self._schedule, writable)

    def _schedule(self, writable: bool) -> None:
        # The loop itself holds tasks weakly.
        task = self._loop.create_task(self.set(writable))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def offer(self, server: grpc.aio.Server) -> None:
        """Answer Check on a server. Watch is UNIMPLEMENTED: a stranger could hold as many as it likes, for ever."""
        check = grpc.unary_unary_rpc_method_handler(
            self._servicer.Check,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(health.SERVICE_NAME, {"Check": check}),))

    async def stop(self) -> None:
        """Say from now on that nothing is served."""
        await self._servicer.enter_graceful_shutdown()

    async def set(self, writable: bool) -> None:
        """Say whether the store takes writes."""
        serving = health_pb2.HealthCheckResponse.ServingStatus
        for service in ("", RUN_SERVICE, ENROLLMENT_SERVICE):
            await self._servicer.set(service, serving.SERVING if writable else serving.NOT_SERVING)
