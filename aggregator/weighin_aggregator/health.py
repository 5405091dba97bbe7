"""What the health service says, on every port."""

import asyncio

from grpc_health.v1 import health, health_pb2

from weighin_aggregator.enrollment_service import ENROLLMENT_SERVICE
from weighin_aggregator.run_service import RUN_SERVICE


class HealthReporter:
    """Tells the health service whether runs can be stored, from the event loop or from the committer's thread."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()
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

    async def set(self, writable: bool) -> None:
        """Say whether the store takes writes."""
        serving = health_pb2.HealthCheckResponse.ServingStatus
        for service in ("", RUN_SERVICE, ENROLLMENT_SERVICE):
            await self.servicer.set(service, serving.SERVING if writable else serving.NOT_SERVING)
