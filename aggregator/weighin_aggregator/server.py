"""The server: store, committer, services and health, put together and taken apart in the right order."""

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import structlog
from google.protobuf.internal import api_implementation
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from weighin_aggregator.commit import Committer
from weighin_aggregator.errors import AggregatorError, ListenError, StoreError
from weighin_aggregator.limits import DEFAULT_LIMITS, Limits
from weighin_aggregator.service import RUN_SERVICE, Services
from weighin_aggregator.serving import announced
from weighin_aggregator.store import Store

# Where in the data directory the operator's snapshots lie.
SNAPSHOTS = "snapshots"
# Time for answers that are already decided to leave the process.
_CLOSE_SECONDS = 1.0
# The committer asks for the interpreter after every call into DuckDB and would wait up to 5 ms for it each time.
_SWITCH_INTERVAL_SECONDS = 0.0005

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a server needs to know. ``host`` is a loopback address; port 0 takes any free one."""

    data: Path
    host: str
    port: int
    limits: Limits = field(default_factory=lambda: DEFAULT_LIMITS)


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[str]:
    """Serve inside the ``async with`` block; gives the address. Raises ListenError, StoreError.

    Leaving the block answers everybody who was promised something, then closes the store, unless the committer is still
    inside it.
    """
    _require_native_protobuf()
    with ExitStack() as closing:
        store = closing.enter_context(Store.open(config.data, create=True))
        reporter = _HealthReporter()
        committer = Committer(store, config.limits, reporter.from_thread)
        services = Services(committer, config.limits, config.data.absolute() / SNAPSHOTS)
        server = grpc.aio.server(options=_options(config.limits))
        server.add_generic_rpc_handlers(services.handlers())
        health_pb2_grpc.add_HealthServicer_to_server(reporter.servicer, server)
        address = _listen(server, config)
        committer.start()
        await reporter.set(True)
        await server.start()
        _tune_interpreter()
        _log.info("serving", address=address)
        try:
            with announced(config.data, address):
                yield address
        finally:
            await reporter.servicer.enter_graceful_shutdown()
            drained = await services.drain(config.limits.drain_seconds)
            await server.stop(_CLOSE_SECONDS)
            stopped = await asyncio.to_thread(committer.stop, _CLOSE_SECONDS)
            if not stopped:
                # Nothing that was acknowledged depends on this: the log is read at the next start.
                closing.pop_all()
            _finish(store, drained and stopped)


class _HealthReporter:
    """Tells the health service whether runs can be stored, from the event loop or from the committer's thread."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def from_thread(self, writable: bool) -> None:
        self._loop.call_soon_threadsafe(self._schedule, writable)

    def _schedule(self, writable: bool) -> None:
        # The loop itself holds tasks weakly.
        task = self._loop.create_task(self.set(writable))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def set(self, writable: bool) -> None:
        serving = health_pb2.HealthCheckResponse.ServingStatus
        for service in ("", RUN_SERVICE):
            await self.servicer.set(service, serving.SERVING if writable else serving.NOT_SERVING)


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        # Without this a second server binds the same port and the kernel shares the connections out.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.request_bytes),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        ("grpc.max_connection_idle_ms", limits.idle_seconds * 1000),
        ("grpc.max_connection_age_ms", limits.age_seconds * 1000),
        ("grpc.max_connection_age_grace_ms", limits.age_grace_seconds * 1000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", limits.ping_interval_seconds * 1000),
    ]


def _listen(server: grpc.aio.Server, config: Config) -> str:
    host = f"[{config.host}]" if ":" in config.host else config.host
    try:
        _try_port(config)
        port = server.add_insecure_port(f"{host}:{config.port}")
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else "gRPC could not bind it"
        raise ListenError(f"cannot listen on {host}:{config.port}: {why}; choose another with --listen") from error
    return f"{host}:{port}"


def _try_port(config: Config) -> None:
    """Bind the port for a moment: the system says what is wrong with it, gRPC only that something is."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As gRPC does: connections of an earlier server that linger are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((config.host, config.port))
        probe.listen(1)


def _require_native_protobuf() -> None:
    """Refuse the pure-Python implementation: a nested message can exhaust its stack."""
    kind = api_implementation.Type()
    if kind != "upb":
        raise AggregatorError(f"protobuf runs on its {kind!r} implementation; install one with the native 'upb'")


def _tune_interpreter() -> None:
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    # Modules and classes live as long as the process: the collector need not look at them again and again.
    gc.collect()
    gc.freeze()


def _finish(store: Store, drained: bool) -> None:
    if not drained:
        # The committer may be inside the store: leave it alone.
        _log.warning("stopped_before_drained")
        return
    try:
        store.checkpoint()
    except StoreError as error:
        _log.error("checkpoint_failed", error=str(error))
    _log.info("stopped")
