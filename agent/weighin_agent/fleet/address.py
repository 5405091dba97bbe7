"""Where an aggregator listens: HOST:PORT as people write it and as gRPC wants it."""

import ipaddress
import re

from weighin_agent.errors import UsageError

_HOST_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def split_address(address: str) -> tuple[str, int]:
    """Take HOST:PORT apart, an IPv6 address without its brackets. Raises UsageError where it is none."""
    host, colon, port = address.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    ip = _ip(host)
    named = bool(_HOST_NAME.fullmatch(host)) if ip is None else (ip.version == 6) == bracketed
    if not (colon and named and port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise UsageError(f"{address!r} is not an address; give HOST:PORT, for example 127.0.0.1:50051")
    return host, int(port)


def parse_address(address: str) -> str:
    """Check an address and write it as gRPC wants it, for example "[::1]:50051". Raises UsageError."""
    host, port = split_address(address)
    ip = _ip(host)
    return f"{host if ip is None else ip}:{port}" if ip is None or ip.version == 4 else f"[{ip}]:{port}"


def parse_loopback_address(address: str) -> str:
    """Check a plain-text address, as ``parse_address`` does.

    Raises UsageError also where the host is not this machine: plain text goes nowhere else.
    """
    host, port = split_address(address)
    # Not looked up: a hosts file could send it elsewhere.
    ip = _ip("127.0.0.1" if host == "localhost" else host)
    if ip is None or not ip.is_loopback:
        raise UsageError(
            f"{address!r} is not on this machine; without encryption only 127.0.0.1, ::1 and localhost are allowed"
        )
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
