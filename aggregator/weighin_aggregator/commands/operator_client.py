"""What an operator's command asks the server that owns the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import cast

import grpc

from weighin.v1 import services_pb2, services_pb2_grpc
from weighin_aggregator.errors import BackupError, DeviceUnknownError, ServerError, SnapshotError, StoreUnavailableError
from weighin_aggregator.identity.register import KnownDevice
from weighin_aggregator.identity.terms import Terms
from weighin_aggregator.serve.operator_messages import from_devices_message, from_stats_message
from weighin_aggregator.serve.serving import SECRET_METADATA, Serving
from weighin_aggregator.store.store import Stats

_TIMEOUT_SECONDS = 60.0
_CHANNEL_OPTIONS = (
    # The server is on this machine: gRPC would send even that through the proxy that the environment names.
    ("grpc.enable_http_proxy", 0),
    # A list of all devices may be long.
    ("grpc.max_receive_message_length", -1),
)


class Operator:
    """The server, as a command of the operator asks it."""

    def __init__(self, serving: Serving, stub: "services_pb2_grpc.OperatorServiceStub") -> None:
        self._address = serving.run_address
        self._secret = ((SECRET_METADATA, serving.operator_secret),)
        self._stub = stub

    def make_snapshot(self) -> Path:
        """Let the server write a snapshot and return its folder. Raises SnapshotError."""
        try:
            # No limit of time: a fleet that was never judged takes as long as it takes.
            answer = self._stub.CreateSnapshot(services_pb2.CreateSnapshotRequest(), metadata=self._secret)
        except grpc.RpcError as error:
            raise SnapshotError(f"the server at {self._address} made no snapshot: {_text(error)}") from error
        return Path(answer.folder)

    def make_backup(self) -> Path:
        """Let the server write a backup and return its folder. Raises BackupError."""
        try:
            # No limit of time: a large store takes as long as it takes.
            answer = self._stub.CreateBackup(services_pb2.CreateBackupRequest(), metadata=self._secret)
        except grpc.RpcError as error:
            raise BackupError(f"the server at {self._address} wrote no backup: {_text(error)}") from error
        return Path(answer.file)

    def stats(self) -> Stats:
        """Let the server count what its store holds. Raises StoreUnavailableError."""
        try:
            answer = self._stub.GetStats(
                services_pb2.GetStatsRequest(), metadata=self._secret, timeout=_TIMEOUT_SECONDS
            )
        except grpc.RpcError as error:
            raise StoreUnavailableError(f"the server at {self._address} counted nothing: {_text(error)}") from error
        return from_stats_message(answer)

    def make_token(self, terms: Terms) -> tuple[str, datetime]:
        """Let the server make a token; returns its text and when it expires (UTC). Raises ServerError."""
        request = services_pb2.CreateTokenRequest(
            group=terms.group, use_count=terms.use_count, lifetime_seconds=terms.lifetime_seconds
        )
        try:
            answer = self._stub.CreateToken(request, metadata=self._secret, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise ServerError(f"the server at {self._address} made no token: {_text(error)}") from error
        return answer.token, answer.expire_time.ToDatetime()

    def revoke(self, device_id: str) -> None:
        """Let the server take nothing more from a device. Raises DeviceUnknownError, ServerError."""
        request = services_pb2.RevokeDeviceRequest(device_id=device_id)
        try:
            self._stub.RevokeDevice(request, metadata=self._secret, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            if cast("grpc.Call", error).code() is grpc.StatusCode.NOT_FOUND:
                raise DeviceUnknownError(f"no device {device_id} is enrolled; list them with: devices") from error
            raise ServerError(f"the server at {self._address} revoked nothing: {_text(error)}") from error

    def devices(self) -> list[KnownDevice]:
        """Let the server list the devices that enrolled. Raises ServerError."""
        try:
            answer = self._stub.ListDevices(
                services_pb2.ListDevicesRequest(), metadata=self._secret, timeout=_TIMEOUT_SECONDS
            )
        except grpc.RpcError as error:
            raise ServerError(f"the server at {self._address} listed nothing: {_text(error)}") from error
        return from_devices_message(answer)


@contextmanager
def operating(serving: Serving) -> Iterator[Operator]:
    """Ask a server inside the block."""
    with grpc.insecure_channel(serving.operator_address, options=_CHANNEL_OPTIONS) as channel:
        yield Operator(serving, services_pb2_grpc.OperatorServiceStub(channel))


def _text(error: grpc.RpcError) -> str | None:
    # Every error of a call is also the call; the types do not say so.
    return cast("grpc.Call", error).details()
