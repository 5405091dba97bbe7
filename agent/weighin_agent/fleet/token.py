"""The token with which an operator lets devices in: where to go, whom to trust there, and a secret to show."""

import re
from dataclasses import dataclass, field

from weighin_agent.errors import UsageError
from weighin_agent.fleet.address import parse_address

# Read from the right: a host name has dots too.
_TOKEN = re.compile(
    r"wt1\.(?P<address>.{3,260})\.(?P<sha256>[0-9a-f]{64})\.(?P<id>[A-Za-z0-9_-]{1,64})\.[A-Za-z0-9_-]{43}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentToken:
    """An enrolment token.

    ``address`` is the HOST:PORT where devices enrol, ``authority_sha256`` the hash of the DER certificate of the
    authority that the server there must prove to be signed by. ``text`` is the whole token and secret.
    """

    address: str
    authority_sha256: bytes
    token_id: str
    text: str = field(repr=False)


def parse_token(text: str) -> EnrollmentToken:
    """Read a token as ``weighin-aggregator token create`` prints it.

    Raises UsageError, whose text never repeats what was given: it may be most of a secret.
    """
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            "that is not an enrolment token; give the whole line that `weighin-aggregator token create` printed, "
            "which begins with wt1."
        )
    try:
        address = parse_address(match["address"])
    except UsageError as error:
        raise UsageError("the enrolment token names no address that can be used; ask for a new one") from error
    return EnrollmentToken(
        address=address,
        authority_sha256=bytes.fromhex(match["sha256"]),
        token_id=match["id"],
        text=match[0],
    )
