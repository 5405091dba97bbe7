"""Who is calling: by the verified client certificate, or, on the plain loopback channel, by the call metadata."""

import ipaddress
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from weighin_aggregator.identity.authority import Authority
from weighin_aggregator.identity.certificates import Peer
from weighin_aggregator.refusal import Reason, Refusal

DEVICE_ID_METADATA = "weighin-device-id"
# What gRPC says about a connection, by name; empty where it is plain text.
AuthContext = Mapping[str, Iterable[bytes]]
_REMEMBERED_CERTIFICATES = 4_096


def is_lower_case_uuid(text: str) -> bool:
    """Tell the canonical form (36 characters, lower case, with hyphens) from everything else."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def is_device_id(text: str) -> bool:
    """Tell a lower-case UUID that may name a device: the nil UUID stands for nobody in the store."""
    return is_lower_case_uuid(text) and uuid.UUID(text).int != 0


def device_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the device that is calling. Raises Refusal when the call names none, or not exactly one."""
    named = [value for key, value in metadata if key == DEVICE_ID_METADATA]
    if len(named) != 1 or not isinstance(named[0], str) or not is_device_id(named[0]):
        raise Refusal(Reason.CREDENTIAL_INVALID)
    return named[0]


def by_certificate(authority: Authority) -> Callable[[AuthContext], Peer]:
    """Make the function that reads who is calling from what gRPC verified. It raises Refusal.

    gRPC checks a certificate when the connection is made; one that expires later is refused here.
    """
    vouched = lru_cache(_REMEMBERED_CERTIFICATES)(authority.vouched)

    def identify(verified: AuthContext) -> Peer:
        shown = list(verified.get("x509_pem_cert", ()))
        peer = vouched(shown[0]) if len(shown) == 1 else None
        if peer is None or not is_device_id(peer.device_id) or authority.clock() >= peer.expire_time:
            raise Refusal(Reason.CREDENTIAL_INVALID)
        return peer

    return identify


def address(peer: str) -> str:
    """Return what a rate limit counts a caller by: an IPv4 address, or the /64 network of an IPv6 one.

    ``peer`` is gRPC's, for example ``ipv4:127.0.0.1:5000``. Whoever has one IPv6 address has 2^64 of them.
    """
    # gRPC percent-encodes the brackets of an IPv6 peer.
    kind, _, rest = peer.replace("%5B", "[").replace("%5D", "]").partition(":")
    host = rest.rpartition(":")[0].strip("[]")
    if kind != "ipv6":
        return host
    one = ipaddress.IPv6Address(host.partition("%")[0])
    # A port of both families sees IPv4 callers so: their /64 would be all of them.
    return str(one.ipv4_mapped or ipaddress.IPv6Network((one, 64), strict=False))
