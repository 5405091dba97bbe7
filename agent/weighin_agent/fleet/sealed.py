"""Bytes that tell whether they are whole: one header line with a version and a SHA-256, then the content."""

import hashlib

_PREFIX = b"weighin-sealed 1 "
_HEADER_LENGTH = len(_PREFIX) + 64 + 1


def seal(content: bytes) -> bytes:
    """Put ``content`` behind its header."""
    return _PREFIX + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def unseal(data: bytes) -> bytes:
    """Take the content out of sealed bytes. Raises ValueError, whose text is the reason."""
    if not data.startswith(_PREFIX):
        raise ValueError("empty" if not data else "not a sealed file")
    content = data[_HEADER_LENGTH:]
    if data != seal(content):
        raise ValueError("cut or altered")
    return content
