"""A device for tests of identity: it makes a key, asks for a certificate, and calls with what it got."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from weighin.v1 import services_pb2, services_pb2_grpc

CALL_SECONDS = 30.0


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def request_certificate(key: ec.EllipticCurvePrivateKey, name: str = "ignored") -> bytes:
    """A PKCS #10 request in DER."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(slots=True, kw_only=True)
class Device:
    """A device of a test; ``chain_pem`` is its certificate once it is enrolled."""

    device_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    chain_pem: bytes = b""

    def request(self, token: str, request_id: str | None = None) -> services_pb2.EnrollRequest:
        """Ask to be enrolled by a token."""
        return services_pb2.EnrollRequest(
            request_id=request_id or str(uuid.uuid4()),
            enrollment_token=token,
            csr_der=request_certificate(self.key),
            agent_version="0.1.0",
            consent_version=1,
            device_id=self.device_id,
        )

    def enroll(self, address: str, authority_pem: bytes, token: str) -> services_pb2.EnrollResponse:
        """Enrol and keep the certificate. Raises grpc.RpcError."""
        answer = enroll(address, authority_pem, self.request(token))
        self.chain_pem = answer.certificate_chain_pem
        return answer

    def credentials(self, authority_pem: bytes) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(authority_pem, key_pem(self.key), self.chain_pem)


def enroll(address: str, authority_pem: bytes, request: services_pb2.EnrollRequest) -> services_pb2.EnrollResponse:
    """Enrol once. Raises grpc.RpcError."""
    with secure_channel(address, grpc.ssl_channel_credentials(authority_pem)) as channel:
        return services_pb2_grpc.EnrollmentServiceStub(channel).Enroll(request, timeout=CALL_SECONDS)


@contextmanager
def secure_channel(address: str, credentials: grpc.ChannelCredentials) -> Iterator[grpc.Channel]:
    """A connection of its own: channels of equal settings would share one."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
    with grpc.secure_channel(address, credentials, options=options) as channel:
        yield channel
