"""X.509 as weighin uses it: P-256 keys, one authority, certificates of servers and of devices.

A device is named by one URI (SPIFFE) and by nothing else; what a request for a certificate says of itself is ignored.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DEVICE_URI = "spiffe://weighin/device/"
AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=90)
DEVICE_LIFE = timedelta(days=30)
# A device whose clock runs behind must not take a fresh certificate for one of the future.
_BACKDATED = timedelta(hours=1)
_SERVER_NAMES = ("localhost", "127.0.0.1")
# All that bytes from outside make the readers raise.
_UNREADABLE = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A server's key and chain as PEM, the name it answers to, and when it is valid (UTC with zone)."""

    key_pem: bytes
    chain_pem: bytes
    name: str
    begin_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The device that a certificate names, its public key, and when the certificate expires (UTC with zone)."""

    device_id: str
    public_key: ec.EllipticCurvePublicKey
    expire_time: datetime


def make_authority(now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Make a key and the certificate that it signs for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("weighin authority")
    certificate = (
        _dated(now, AUTHORITY_LIFE)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        # Signs leaves only.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def make_server(
    authority_key: ec.EllipticCurvePrivateKey, authority: x509.Certificate, name: str, now: datetime
) -> Credential:
    """Make a key and its certificate for a server that is reached by ``name``, and from its own machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([_general_name(one) for one in dict.fromkeys((name, *_SERVER_NAMES))])
    builder = _leaf(
        now, SERVER_LIFE, authority, key.public_key(), "weighin aggregator", ExtendedKeyUsageOID.SERVER_AUTH
    )
    certificate = builder.add_extension(names, critical=False).sign(authority_key, hashes.SHA256())
    return _credential(key_pem(key), to_pem(certificate) + to_pem(authority), certificate)


def make_device(
    authority_key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    public_key: ec.EllipticCurvePublicKey,
    device_id: str,
    now: datetime,
) -> x509.Certificate:
    """Certify that the holder of a key is ``device_id``."""
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(DEVICE_URI + device_id)])
    builder = _leaf(now, DEVICE_LIFE, authority, public_key, "weighin device", ExtendedKeyUsageOID.CLIENT_AUTH)
    return builder.add_extension(uri, critical=False).sign(authority_key, hashes.SHA256())


def read_authority(key: bytes, certificate: bytes) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
    """Read an authority from PEM; None unless it is a P-256 key and the certificate of that key."""
    try:
        private = serialization.load_pem_private_key(key, password=None)
        own = x509.load_pem_x509_certificate(certificate)
    except _UNREADABLE:
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or own.public_key() != private.public_key():
        return None
    return private, own


def read_server(pem: bytes, authority_pem: bytes) -> Credential | None:
    """Read a key and its chain from one PEM text; None unless they belong together and to this authority."""
    try:
        private = serialization.load_pem_private_key(pem, password=None)
        chain = x509.load_pem_x509_certificates(pem)
        chain[0].verify_directly_issued_by(x509.load_pem_x509_certificate(authority_pem))
    except _UNREADABLE:
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or chain[0].public_key() != private.public_key():
        return None
    return _credential(key_pem(private), b"".join(map(to_pem, chain)), chain[0])


def read_device(pem: bytes, authority: x509.Certificate) -> Peer | None:
    """Tell whose certificate this is, however old; None unless the authority signed it for a device."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except _UNREADABLE:
        return None
    key, uris = certificate.public_key(), names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not uris[0].startswith(DEVICE_URI) or not isinstance(key, ec.EllipticCurvePublicKey):
        return None
    return Peer(device_id=uris[0].removeprefix(DEVICE_URI), public_key=key, expire_time=certificate.not_valid_after_utc)


def requested_key(csr_der: bytes) -> ec.EllipticCurvePublicKey | None:
    """Return the key of a request for a certificate; None unless it is a P-256 key and has signed the request."""
    try:
        request = x509.load_der_x509_csr(csr_der)
        key = request.public_key()
        if not request.is_signature_valid:
            return None
    except _UNREADABLE:
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1) else None


def has_signed(key: ec.EllipticCurvePublicKey, signature: bytes, content: bytes) -> bool:
    """Tell whether the holder of a key has signed something (ECDSA, SHA-256)."""
    try:
        key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def key_sha256(key: ec.EllipticCurvePublicKey) -> bytes:
    """SHA-256 of a public key (its SubjectPublicKeyInfo in DER): the 32 bytes by which the store knows it."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize()


def to_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, not encrypted: the mode of its file guards it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _credential(key: bytes, chain: bytes, certificate: x509.Certificate) -> Credential:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return Credential(
        key_pem=key,
        chain_pem=chain,
        name=str(names[0].value),
        begin_time=certificate.not_valid_before_utc,
        expire_time=certificate.not_valid_after_utc,
    )


def _dated(now: datetime, life: timedelta) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _BACKDATED).not_valid_after(now + life)


def _leaf(
    now: datetime,
    life: timedelta,
    authority: x509.Certificate,
    public_key: ec.EllipticCurvePublicKey,
    subject: str,
    purpose: x509.ObjectIdentifier,
) -> x509.CertificateBuilder:
    # Never valid longer than who signs it.
    life = min(life, authority.not_valid_after_utc - now)
    return (
        _dated(now, life)
        .subject_name(_name(subject))
        .issuer_name(authority.subject)
        .public_key(public_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_authority_key_identifier(authority), critical=False)
    )


def _authority_key_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
