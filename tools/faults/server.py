"""A real aggregator that faults happen to, on one port through all its deaths."""

import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aggregator_process
import grpc
from aggregator_process import Server
from grpc_health.v1 import health_pb2, health_pb2_grpc

BROKEN_SERVER = Path(__file__).parent / "broken_server.py"
_MOST_SECONDS = 60.0
_POLL_SECONDS = 0.02
# Each look is a connection of its own: a channel that failed would wait for its own backoff.
CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


def free_port() -> int:
    """Find a port of the loopback interface where nobody listens now."""
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        port: int = once.getsockname()[1]
        return port


def start(data: Path, port: int, *broken: str, options: Sequence[str] = ()) -> Server:
    """Start a server: ``broken`` are the first arguments of broken_server.py, ``options`` are of `serve`."""
    program = (str(BROKEN_SERVER), *broken) if broken else aggregator_process.PROGRAM
    return aggregator_process.start(
        data, data.with_name("log"), port=port, program=program, mode=("--insecure", *options)
    )


@contextmanager
def serving(data: Path, port: int, *broken: str) -> Iterator[Server]:
    """Serve inside the block; the process is gone after it."""
    server = start(data, port, *broken)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def is_serving(address: str, timeout_seconds: float = 1.0) -> bool:
    """Ask the health service once."""
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def seconds_until(address: str, serving: bool, since: float) -> float:
    """Wait until health is, or is not, SERVING; seconds from ``since``, on the monotonic clock, until then."""
    while is_serving(address) is not serving:
        if time.monotonic() - since > _MOST_SECONDS:
            state = "not SERVING" if serving else "SERVING"
            sys.exit(f"faults: {address} is still {state} after {_MOST_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - since
