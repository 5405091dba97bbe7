"""Why no safe way leads to an aggregator: gRPC calls every such failure UNAVAILABLE, Python's ssl tells them apart.

Nothing of the device is sent: the handshake is made, one byte of the answer is awaited, and the connection is closed.
"""

import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from weighin_agent.fleet.address import split_address
from weighin_agent.fleet.credential import Credential

DIAGNOSIS_SECONDS = 5.0
# What an HTTP/2 client says first: a server that takes the client's certificate answers it.
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
# OpenSSL's numbers, X509_V_ERR_*.
_NOT_YET_VALID, _EXPIRED, _HOST_MISMATCH, _IP_MISMATCH = 9, 10, 62, 64


class Fault(StrEnum):
    """What is wrong with the way to an aggregator; CREDENTIAL_DAMAGED: with our own end of it."""

    TLS_EXPIRED = "TLS_EXPIRED"
    TLS_NOT_YET_VALID = "TLS_NOT_YET_VALID"
    TLS_UNTRUSTED = "TLS_UNTRUSTED"
    TLS_HOST_MISMATCH = "TLS_HOST_MISMATCH"
    TLS_CLIENT_CERT = "TLS_CLIENT_CERT"
    CREDENTIAL_DAMAGED = "CREDENTIAL_DAMAGED"
    PLAINTEXT = "PLAINTEXT"
    UNREACHABLE = "UNREACHABLE"
    NAME_NOT_RESOLVED = "NAME_NOT_RESOLVED"


class _FaultError(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


def diagnose(
    address: str, authority_pem: bytes, credential: Credential | None, timeout_seconds: float = DIAGNOSIS_SECONDS
) -> Fault | None:
    """Find what keeps a safe connection from being made; None where one can be made now.

    ``authority_pem`` is the only authority to trust; ``credential`` is shown where there is one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=authority_pem.decode("ascii"))
        if credential is not None:
            context.load_cert_chain(credential.certificate_path, credential.key_path)
    except (ssl.SSLError, OSError, ValueError):
        return Fault.CREDENTIAL_DAMAGED
    try:
        with _connected(address, context, timeout_seconds) as connection:
            _await_answer(connection)
    except _FaultError as error:
        return error.fault
    return None


def presented_chain(address: str, timeout_seconds: float = DIAGNOSIS_SECONDS) -> tuple[bytes, ...] | Fault:
    """Take the certificates that a server shows, DER, its own first, none of them verified; or why there are none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connected(address, context, timeout_seconds) as connection:
            return _unverified_chain(connection)
    except _FaultError as error:
        return error.fault


@contextmanager
def _connected(address: str, context: ssl.SSLContext, timeout_seconds: float) -> Iterator[ssl.SSLSocket]:
    host, port = split_address(address)
    context.set_alpn_protocols(["h2"])
    _resolve(host, port, timeout_seconds)
    try:
        plain = socket.create_connection((host, port), timeout=timeout_seconds)
    except OSError as error:
        raise _FaultError(Fault.UNREACHABLE) from error
    with plain:
        try:
            connection = context.wrap_socket(plain, server_hostname=host)
        except OSError as error:
            raise _FaultError(_handshake_fault(error)) from error
        with connection:
            yield connection


def _resolve(host: str, port: int, timeout_seconds: float) -> None:
    """Look a name up, beside this thread: no signal and no time limit interrupts the system's own look-up."""
    found: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found.put(False)
        else:
            found.put(True)

    threading.Thread(target=look_up, daemon=True).start()
    resolved = False
    with suppress(queue.Empty):
        resolved = found.get(timeout=timeout_seconds)
    if not resolved:
        raise _FaultError(Fault.NAME_NOT_RESOLVED)


def _handshake_fault(error: OSError) -> Fault:
    if isinstance(error, ssl.SSLCertVerificationError):
        return {
            _EXPIRED: Fault.TLS_EXPIRED,
            _NOT_YET_VALID: Fault.TLS_NOT_YET_VALID,
            _HOST_MISMATCH: Fault.TLS_HOST_MISMATCH,
            _IP_MISMATCH: Fault.TLS_HOST_MISMATCH,
        }.get(error.verify_code, Fault.TLS_UNTRUSTED)
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError):
        return Fault.UNREACHABLE  # hung up or silent, as a server that is going down
    # A server whose TLS ends at 1.2 refuses our certificate by an alert here; bytes that are no TLS are all the rest.
    return Fault.TLS_CLIENT_CERT if "ALERT" in (error.reason or "") else Fault.PLAINTEXT


def _await_answer(connection: ssl.SSLSocket) -> None:
    """Wait for a first word: a server that refuses the client's certificate hangs up instead.

    In TLS 1.3 it does so only when the client's side of the handshake is done, and gRPC servers send no alert.
    """
    try:
        connection.sendall(_HTTP2_PREFACE)
        answered = bool(connection.recv(1))
    except TimeoutError:
        return
    except OSError:
        answered = False
    if not answered:
        raise _FaultError(Fault.TLS_CLIENT_CERT)


def _unverified_chain(connection: ssl.SSLSocket) -> tuple[bytes, ...]:
    if hasattr(connection, "get_unverified_chain"):  # from Python 3.13 on
        return tuple(connection.get_unverified_chain())
    # Before, the method is there, but not in public.
    inner = connection._sslobj  # type: ignore[attr-defined]
    chain = inner.get_unverified_chain() or ()
    return tuple(ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain)
