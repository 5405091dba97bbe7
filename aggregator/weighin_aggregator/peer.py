"""Who is calling.

On the plain loopback channel a device names itself in the call metadata. With mutual TLS the verified client
certificate will say it instead; only this module changes then.
"""

import uuid
from collections.abc import Iterable

from weighin_aggregator.refusal import Reason, Refusal

DEVICE_ID_METADATA = "weighin-device-id"


def is_lower_case_uuid(text: str) -> bool:
    """Tell the canonical form (36 characters, lower case, with hyphens) from everything else."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def device_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the device that is calling. Raises Refusal when the call names none, or not exactly one."""
    named = [value for key, value in metadata if key == DEVICE_ID_METADATA]
    if len(named) != 1 or not isinstance(named[0], str) or not is_lower_case_uuid(named[0]):
        raise Refusal(Reason.CREDENTIAL_INVALID)
    return named[0]


def require_loopback(peer: str) -> None:
    """Pass only callers on the server's own machine. ``peer`` is gRPC's, for example ``ipv4:127.0.0.1:5000``."""
    # gRPC percent-encodes the brackets of an IPv6 peer.
    if not peer.startswith(("ipv4:127.", "ipv6:[::1]:", "ipv6:%5B::1%5D:")):
        raise Refusal(Reason.LOOPBACK_ONLY)
