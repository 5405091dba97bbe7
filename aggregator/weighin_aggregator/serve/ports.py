"""Ports of the server: what each carries, and how it is bound."""

import socket
from dataclasses import dataclass

import grpc

from weighin_aggregator.errors import ListenError
from weighin_aggregator.identity.server_certificate import ServerCertificate
from weighin_aggregator.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An IP address of this machine, or of all its networks, and a port; 0 takes any free one."""

    host: str
    port: int


def run_server(limits: Limits) -> grpc.aio.Server:
    """Make a server for those who are known before they can say anything, or who are on this machine."""
    return _server(limits, limits.request_bytes, limits.metadata_bytes)


def enrollment_server(limits: Limits) -> grpc.aio.Server:
    """Make a server for anybody: smaller messages, and a bound on connections, over which new ones are closed."""
    connections = ("grpc.max_allowed_incoming_connections", limits.enrollment_connections)
    return _server(limits, limits.enrollment_bytes, limits.enrollment_metadata_bytes, connections)


def _server(limits: Limits, request_bytes: int, metadata_bytes: int, *more: tuple[str, int]) -> grpc.aio.Server:
    return grpc.aio.server(
        options=[
            # Without this a second server binds the same port and the kernel shares the connections out.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", request_bytes),
            # The length is compared after unpacking, whole and in memory: nothing packed is taken (1: identity only).
            ("grpc.compression_enabled_algorithms_bitset", 1),
            ("grpc.absolute_max_metadata_size", metadata_bytes),
            ("grpc.max_concurrent_streams", limits.streams_per_connection),
            ("grpc.max_connection_idle_ms", limits.idle_seconds * 1000),
            ("grpc.max_connection_age_ms", limits.age_seconds * 1000),
            ("grpc.max_connection_age_grace_ms", limits.age_grace_seconds * 1000),
            ("grpc.server_handshake_timeout_ms", limits.handshake_seconds * 1000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", limits.ping_interval_seconds * 1000),
            *more,
        ]
    )


def bind(server: grpc.aio.Server, endpoint: Endpoint, option: str, credentials: grpc.ServerCredentials | None) -> int:
    """Bind a port, in plain text without credentials; returns its number. Raises ListenError that names ``option``."""
    address = joined(endpoint.host, endpoint.port)
    try:
        _try(endpoint)
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else "gRPC could not bind it"
        raise ListenError(f"cannot listen on {address}: {why}; choose another with {option}") from error


def tls(certificate: ServerCertificate, authority_pem: bytes, *, for_devices: bool) -> grpc.ServerCredentials:
    """Make credentials that show what the certificate is at the time; ``for_devices`` lets in only who has one too."""
    shown = certificate.current()

    def configuration() -> grpc.ServerCertificateConfiguration:
        pair = (shown.key_pem, shown.chain_pem)
        return grpc.ssl_server_certificate_configuration([pair], authority_pem if for_devices else None)

    def replaced() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        now = certificate.current()
        if now is shown:
            return None
        shown = now
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        replaced,  # type: ignore[arg-type] # None for "the same as before", as gRPC documents
        require_client_authentication=for_devices,
    )


def joined(host: str, port: int) -> str:
    """Write HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _try(endpoint: Endpoint) -> None:
    """Bind the port for a moment: the system says what is wrong with it, gRPC only that something is."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As gRPC does: connections of an earlier server that linger are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((endpoint.host, endpoint.port))
        probe.listen(1)
