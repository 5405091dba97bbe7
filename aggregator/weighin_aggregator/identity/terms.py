"""What an operator offers with a token, and the token that is made of it."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from weighin_aggregator.identity import token
from weighin_aggregator.identity.register import NewToken

_GROUP = re.compile(r"[A-Za-z0-9 ()@.+/_-]{1,64}", re.ASCII)
_MOST_USES = 1_000_000
_SHORTEST_SECONDS, _LONGEST_SECONDS = 60, 366 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Who may enrol: a name for the devices, how many of them, and for how many seconds from now."""

    group: str
    use_count: int
    lifetime_seconds: int

    def broken(self) -> str | None:
        """Name the first term that cannot be, and its rule; None if all are good."""
        if not _GROUP.fullmatch(self.group):
            return "group: must be 1 to 64 letters, digits, spaces and ( ) @ . + / _ -"
        if not 1 <= self.use_count <= _MOST_USES:
            return f"uses: must be 1 to {_MOST_USES:,}"
        if not _SHORTEST_SECONDS <= self.lifetime_seconds <= _LONGEST_SECONDS:
            return "ttl: must be 1 minute to 366 days"
        return None


def make_token(terms: Terms, address: str, authority_fingerprint: str, now: datetime) -> tuple[str, NewToken]:
    """Return the text that is shown once, and the token as it is stored. ``now`` is UTC without a zone."""
    text, proof = token.make(address, authority_fingerprint)
    return text, NewToken(
        proof=proof,
        group=terms.group,
        use_count=terms.use_count,
        create_time=now,
        expire_time=now + timedelta(seconds=terms.lifetime_seconds),
    )
