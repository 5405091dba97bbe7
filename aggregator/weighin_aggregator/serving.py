"""How an operator's command finds the server that owns a data directory, and asks it for a snapshot or for counts.

The file is only a hint: it is believed when its process is the one that holds the store. What a killed server leaves
behind is therefore harmless.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import grpc

from weighin.v1 import services_pb2, services_pb2_grpc
from weighin_aggregator.errors import ListenError, SnapshotError, StoreBusyError, StoreUnavailableError
from weighin_aggregator.store import Stats

_FILE_NAME = "serving.json"
_STATS_TIMEOUT_SECONDS = 60.0
# The server is on this machine: gRPC would send even that through the proxy that the environment names.
_CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A server: its process id and the address where it listens."""

    pid: int
    address: str


@contextmanager
def announced(data: Path, address: str) -> Iterator[None]:
    """Say in the data directory that this process serves it, for as long as it does. Raises ListenError."""
    path = data / _FILE_NAME
    fresh = path.with_suffix(".tmp")
    try:
        fresh.write_text(json.dumps(asdict(Serving(pid=os.getpid(), address=address))))
        fresh.replace(path)
    except OSError as error:
        raise ListenError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_server(data: Path, busy: StoreBusyError) -> Serving:
    """Return the server that holds the store. Raises ``busy`` again when the holder is no server."""
    try:
        serving = Serving(**json.loads((data / _FILE_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        raise busy from None
    if busy.pid is not None and busy.pid != serving.pid:
        raise busy
    return serving


def request_snapshot(serving: Serving) -> Path:
    """Let the server write a snapshot and return its folder. Raises SnapshotError."""
    try:
        with grpc.insecure_channel(serving.address, options=_CHANNEL_OPTIONS) as channel:
            operator = services_pb2_grpc.OperatorServiceStub(channel)
            # No limit of time: a fleet that was never judged takes as long as it takes.
            answer = operator.CreateSnapshot(services_pb2.CreateSnapshotRequest())
    except grpc.RpcError as error:
        raise SnapshotError(f"the server at {serving.address} made no snapshot: {_text(error)}") from error
    return Path(answer.folder)


def request_stats(serving: Serving) -> Stats:
    """Let the server count what its store holds. Raises StoreUnavailableError."""
    try:
        with grpc.insecure_channel(serving.address, options=_CHANNEL_OPTIONS) as channel:
            operator = services_pb2_grpc.OperatorServiceStub(channel)
            answer = operator.GetStats(services_pb2.GetStatsRequest(), timeout=_STATS_TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        raise StoreUnavailableError(f"the server at {serving.address} counted nothing: {_text(error)}") from error
    return _to_stats(answer)


def _text(error: grpc.RpcError) -> str | None:
    # Every error of a call is also the call; the types do not say so.
    return cast("grpc.Call", error).details()


def to_message(stats: Stats) -> services_pb2.GetStatsResponse:
    """Return counts as they travel."""
    message = services_pb2.GetStatsResponse(
        run_count=stats.runs,
        device_count=stats.devices,
        measurement_count=stats.measurements,
        failure_count=stats.failures,
    )
    if stats.last_receive_time is not None:
        message.last_receive_time.FromDatetime(stats.last_receive_time)
    return message


def _to_stats(message: services_pb2.GetStatsResponse) -> Stats:
    has_time = message.HasField("last_receive_time")
    return Stats(
        runs=message.run_count,
        devices=message.device_count,
        measurements=message.measurement_count,
        failures=message.failure_count,
        last_receive_time=message.last_receive_time.ToDatetime() if has_time else None,
    )
