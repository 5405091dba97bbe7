"""An authority of a test's own: certificates for servers and devices, of any age and for any name."""

import hashlib
import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DEVICE_URI = "spiffe://weighin/device/"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(frozen=True, slots=True)
class ServerCredential:
    """A server's key and its chain, PEM."""

    key_pem: bytes
    chain_pem: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """``begin`` and ``end`` below are told from now: negative is past."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def certificate(self) -> x509.Certificate:
        return self._signed(self.key.public_key(), "authority", [], -100 * DAY, 100 * DAY, is_authority=True)

    def pem(self) -> bytes:
        return self.certificate().public_bytes(serialization.Encoding.PEM)

    def server(self, name: str = "127.0.0.1", begin: timedelta = -HOUR, end: timedelta = 90 * DAY) -> ServerCredential:
        key = new_key()
        try:
            names: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            names = x509.DNSName(name)
        chain = self._signed(key.public_key(), "server", [names], begin, end)
        return ServerCredential(key_pem(key), chain.public_bytes(serialization.Encoding.PEM))

    def device(
        self, key: ec.EllipticCurvePublicKey, device_id: str, begin: timedelta = -HOUR, end: timedelta = 30 * DAY
    ) -> bytes:
        """A device's certificate, PEM."""
        uri = x509.UniformResourceIdentifier(DEVICE_URI + device_id)
        return self._signed(key, "device", [uri], begin, end).public_bytes(serialization.Encoding.PEM)

    def _signed(
        self,
        key: ec.EllipticCurvePublicKey,
        subject: str,
        names: list[x509.GeneralName],
        begin: timedelta,
        end: timedelta,
        *,
        is_authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(serial_number=x509.random_serial_number())
            .subject_name(_name(subject))
            .issuer_name(_name("authority"))
            .public_key(key)
            .not_valid_before(now + begin)
            .not_valid_after(now + end)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate's DER, in hexadecimal."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
