"""Keys, signing requests and certificates: the only module of the agent that knows ``cryptography``.

Importing it takes a tenth of a second, so only what enrols, renews or tells of a certificate does.
"""

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from weighin_agent.fleet.credential import Validity

# Renewal is due at two thirds of a certificate's life, give or take a tenth of that: devices that enrolled at one
# moment must not renew at one moment.
_RENEW_AT = 2 / 3
_RENEW_SPREAD = 0.1
_SERIAL_STEPS = 1 << 16


def new_key_pem() -> bytes:
    """Make a private key on the curve P-256."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def is_key(key_pem: bytes) -> bool:
    """Whether this is a key as ``new_key_pem`` makes them; false for one that was cut or altered."""
    try:
        return isinstance(serialization.load_pem_private_key(key_pem, None), ec.EllipticCurvePrivateKey)
    except (ValueError, TypeError):
        return False


def signing_request(key_pem: bytes) -> bytes:
    """Ask for a certificate for a key: PKCS #10, DER. It names nobody: the aggregator knows the device."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(_key(key_pem), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def signature(key_pem: bytes, data: bytes) -> bytes:
    """Sign ``data``: ECDSA with SHA-256, DER."""
    return _key(key_pem).sign(data, ec.ECDSA(hashes.SHA256()))


def certificate_of(chain_pem: bytes, key_pem: bytes, authority_pem: bytes, device_id: str) -> bytes:
    """Take the device's certificate out of an aggregator's answer, followed by that of the authority.

    Raises ValueError where it is not for this key and this device, or not signed by this authority.
    """
    certificate, *_others = x509.load_pem_x509_certificates(chain_pem)
    authority = x509.load_pem_x509_certificate(authority_pem)
    if certificate.public_key() != _key(key_pem).public_key():
        raise ValueError("the certificate is for another key")
    if _device_id(certificate) != device_id:
        raise ValueError("the certificate is for another device")
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError) as error:
        raise ValueError("the certificate is signed by another authority") from error
    return certificate.public_bytes(serialization.Encoding.PEM) + authority_pem


def validity(certificate_pem: bytes) -> Validity:
    """From when to when the device's certificate holds. Raises ValueError where it is damaged."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    issue = certificate.not_valid_before_utc.timestamp()
    expire = certificate.not_valid_after_utc.timestamp()
    # The serial number is random: drawn from it, the moment is the same whenever it is asked for.
    draw = (certificate.serial_number % _SERIAL_STEPS) / _SERIAL_STEPS
    share = _RENEW_AT * (1 - _RENEW_SPREAD + 2 * _RENEW_SPREAD * draw)
    return Validity(
        issue_time_seconds=issue, renew_time_seconds=issue + share * (expire - issue), expire_time_seconds=expire
    )


def _key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(key_pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key on an elliptic curve")
    return key


def _device_id(certificate: x509.Certificate) -> str | None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0].removeprefix("spiffe://weighin/device/") if len(uris) == 1 else None
