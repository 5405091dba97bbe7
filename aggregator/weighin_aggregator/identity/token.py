"""The text of an enrolment token: where to enrol, whom to trust there, and a secret that may be used a few times.

``wt1.HOST:PORT.FINGERPRINT.ID.SECRET``: the fingerprint is the SHA-256 of the authority's certificate (DER) in
hexadecimal digits, so that a device trusts nobody that the operator did not name. Only the host may hold dots.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

_SECRET_BYTES = 32
_ID_BYTES = 8
# What a server needs of the text: the last two parts. 43 characters of base64url are 32 bytes.
_PROOF = re.compile(r"wt1\.[^\s]{1,300}\.[0-9a-f]{64}\.(?P<id>[0-9a-f]{16})\.(?P<secret>[A-Za-z0-9_-]{43})", re.ASCII)
_NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a device shows of a token: which one, and the SHA-256 of the secret (32 bytes)."""

    token_id: str
    secret_sha256: bytes

    def matches(self, stored_sha256: bytes | None) -> bool:
        """Compare in constant time, also where no such token is stored."""
        same = hmac.compare_digest(self.secret_sha256, stored_sha256 or _NO_HASH)
        return same and stored_sha256 is not None


def make(address: str, authority_fingerprint: str) -> tuple[str, Proof]:
    """Make a token; the text is the only place of its secret. ``address`` is HOST:PORT of the enrolment port."""
    token_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_bytes(_SECRET_BYTES)
    text = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    return f"wt1.{address}.{authority_fingerprint}.{token_id}.{text}", _proof(token_id, text)


def read(text: str) -> Proof | None:
    """Read what a device shows; None where it is no token at all."""
    found = _PROOF.fullmatch(text)
    return None if found is None else _proof(found["id"], found["secret"])


def _proof(token_id: str, secret: str) -> Proof:
    return Proof(token_id=token_id, secret_sha256=hashlib.sha256(secret.encode()).digest())
