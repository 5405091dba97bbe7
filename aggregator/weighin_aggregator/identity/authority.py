"""The authority of one fleet: the key that vouches for its server and its devices.

Who holds its folder can admit devices: it is as secret as the store.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from weighin_aggregator.errors import AuthorityError
from weighin_aggregator.identity import certificates
from weighin_aggregator.identity.certificates import Credential, Peer
from weighin_aggregator.identity.private_file import write_private

FOLDER = "authority"
_KEY, _CERTIFICATE = "ca.key", "ca.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate for a device: PEM of it and of the authority, and when it expires (UTC with zone)."""

    chain_pem: bytes
    expire_time: datetime


def utc_clock() -> datetime:
    """Read the clock that certificates are dated by: UTC with its zone."""
    return datetime.now(UTC)


class Authority:
    """Signs, and recognises what it signed. ``clock`` gives UTC with its zone."""

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, clock: Callable[[], datetime] = utc_clock
    ) -> None:
        self._key = key
        self._certificate = certificate
        self.clock = clock
        self.certificate_pem = certificates.to_pem(certificate)
        self.fingerprint = certificate.fingerprint(hashes.SHA256()).hex()

    @classmethod
    def open(cls, data: Path, clock: Callable[[], datetime] = utc_clock, *, is_trusted: bool = False) -> Self:
        """Read the authority of a data directory, made where there is none. Raises AuthorityError.

        Call it by who holds the store, so that no two processes make one. ``is_trusted`` says that devices or
        tokens name it: they would trust no other, so none is made.
        """
        folder = data / FOLDER
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            # Written last: a key without it has signed nothing that anybody holds.
            if not (folder / _CERTIFICATE).exists():
                if is_trusted:
                    raise AuthorityError(
                        f"{folder / _CERTIFICATE} is gone, by which devices and tokens know this server; bring "
                        f"{folder} back from a backup"
                    )
                key, certificate = certificates.make_authority(clock())
                write_private(folder / _KEY, certificates.key_pem(key))
                write_private(folder / _CERTIFICATE, certificates.to_pem(certificate))
            return cls(*_read(folder), clock)
        except OSError as error:
            raise AuthorityError(
                f"cannot use the authority in {folder}: {error.strerror or error}: {error.filename}; if it is lost, "
                "bring it back from a backup"
            ) from error

    def serve(self, name: str) -> Credential:
        """Issue a certificate by which a server answers to ``name`` (a DNS name or an IP address)."""
        return certificates.make_server(self._key, self._certificate, name, self.clock())

    def admit(self, public_key: ec.EllipticCurvePublicKey, device_id: str) -> Issued:
        """Issue a certificate by which the holder of a key is ``device_id``."""
        certificate = certificates.make_device(self._key, self._certificate, public_key, device_id, self.clock())
        return Issued(
            chain_pem=certificates.to_pem(certificate) + self.certificate_pem,
            expire_time=certificate.not_valid_after_utc,
        )

    def vouched(self, certificate_pem: bytes) -> Peer | None:
        """Tell whose certificate this is, however old; None unless this authority signed it for a device."""
        return certificates.read_device(certificate_pem, self._certificate)


def _read(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key, certificate = (folder / _KEY).read_bytes(), (folder / _CERTIFICATE).read_bytes()
    pair = certificates.read_authority(key, certificate)
    if pair is None:
        raise AuthorityError(
            f"{folder / _KEY} and {folder / _CERTIFICATE} are no key and its certificate; bring them back from a backup"
        )
    return pair
