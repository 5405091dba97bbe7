"""How a device comes by its certificate: with a token, over the line that it already has, or by proof of its key."""

import hashlib
import ssl
import uuid
from importlib.metadata import version

from weighin.v1 import services_pb2
from weighin_agent.errors import (
    CredentialRefusedError,
    DeliveryError,
    DeviceRefusedError,
    UnsafeChannelError,
    UsageError,
)
from weighin_agent.fleet import certificates
from weighin_agent.fleet.address import parse_address
from weighin_agent.fleet.call_errors import fault_error
from weighin_agent.fleet.client import AggregatorClient, EnrollmentClient
from weighin_agent.fleet.consent import require_consent
from weighin_agent.fleet.credential import Credential, Validity
from weighin_agent.fleet.state import Enrolment, State
from weighin_agent.fleet.tls_diagnosis import Fault, presented_chain
from weighin_agent.fleet.token import EnrollmentToken

# With these an aggregator refuses a device for good: who brings a new token comes as another device.
_REFUSED_FOR_GOOD = frozenset({"DEVICE_REVOKED", "DEVICE_FORGOTTEN", "DEVICE_ID_TAKEN", "CLONE_SUSPECTED"})


def certify(state: State, token: EnrollmentToken, consent_version: int) -> Enrolment:
    """Enrol this device with a token; on return its credential is kept. The caller notes consent and enrolment.

    The key is made here. A repeat with the same token after a lost answer is the same enrolment. Raises UsageError
    without consent, UnsafeChannelError where the server does not prove to be the one that the token names (then nothing
    was sent), DeliveryError, StateError.
    """
    require_consent(consent_version)
    authority_pem = _authority_pem(token)
    try:
        return _certify(state, token, authority_pem, consent_version)
    except DeviceRefusedError as error:
        # Who is being forgotten must stay who it is until then.
        if error.reason not in _REFUSED_FOR_GOOD or state.forgetting() is not None:
            raise
    state.become_another()
    return _certify(state, token, authority_pem, consent_version)


def renew_certificate(client: AggregatorClient, credential: Credential, device_id: str) -> None:
    """Renew the certificate over the line that it opened. Raises DeliveryError, StateError."""
    key_pem = _key_pem(credential, client.address)
    chain_pem = client.renew(certificates.signing_request(key_pem))
    authority_pem = credential.authority_pem() or b""
    credential.save_certificate(_checked(chain_pem, key_pem, authority_pem, device_id, client.address))


def prove_key(enrolment: Enrolment, credential: Credential, device_id: str) -> None:
    """Renew a certificate that opens no line any more, by proof of its key. Raises DeliveryError, StateError."""
    address = enrolment.enroll_address or enrolment.aggregator_address
    key_pem, authority_pem = _key_pem(credential, address), credential.authority_pem()
    expired_pem = credential.certificate_pem()
    if not (authority_pem and expired_pem):
        raise fault_error(Fault.CREDENTIAL_DAMAGED, address)
    csr_der = certificates.signing_request(key_pem)
    request = _request(device_id, csr_der, enrolment.consent_version)
    request.request_id = str(uuid.uuid4())
    request.renewal.expired_certificate_pem = expired_pem
    request.renewal.signature = certificates.signature(key_pem, csr_der)
    with EnrollmentClient(address, authority_pem=authority_pem) as client:
        response = client.enroll(request)
    credential.save_certificate(_checked(response.certificate_chain_pem, key_pem, authority_pem, device_id, address))


def validity_of(credential: Credential, address: str) -> Validity:
    """From when to when the certificate holds. Raises DeviceRefusedError where it is damaged or gone."""
    try:
        return certificates.validity(credential.certificate_pem() or b"")
    except ValueError as error:
        raise fault_error(Fault.CREDENTIAL_DAMAGED, address) from error


def _authority_pem(token: EnrollmentToken) -> bytes:
    """Take the one certificate that the token names from the server's chain: it alone is then trusted."""
    chain = presented_chain(token.address)
    if isinstance(chain, Fault):
        raise fault_error(chain, token.address)
    for certificate_der in chain:
        if hashlib.sha256(certificate_der).digest() == token.authority_sha256:
            return ssl.DER_cert_to_PEM_cert(certificate_der).encode()
    raise UnsafeChannelError(
        f"the server at {token.address} is not the one that the token names: its certificates come from another "
        "authority; nothing was sent. Check the token with its operator",
        reason=Fault.TLS_UNTRUSTED.value,
    )


def _certify(state: State, token: EnrollmentToken, authority_pem: bytes, consent_version: int) -> Enrolment:
    device_id, key_pem = _own_key(state)
    request = _request(device_id, certificates.signing_request(key_pem), consent_version)
    request.request_id = state.enrolment_request_id(token.token_id)
    request.enrollment_token = token.text
    try:
        with EnrollmentClient(token.address, authority_pem=authority_pem) as client:
            response = client.enroll(request)
    except CredentialRefusedError as error:
        if error.reason != Fault.TLS_CLIENT_CERT.value:
            raise
        raise DeviceRefusedError(
            f"the aggregator at {token.address} asks for a certificate there, so that is its port for runs; ask its "
            "operator for a token with the port for enrolment (`weighin-aggregator token create --address`)",
            reason="WRONG_PORT",
        ) from error
    certificate_pem = _checked(response.certificate_chain_pem, key_pem, authority_pem, device_id, token.address)
    try:
        run_address = parse_address(response.run_address)
    except UsageError as error:
        raise _useless(token.address) from error
    state.credential.save_authority(authority_pem)
    state.credential.save_certificate(certificate_pem)
    return Enrolment(
        aggregator_address=run_address,
        consent_version=consent_version,
        insecure=False,
        enroll_address=token.address,
    )


def _own_key(state: State) -> tuple[str, bytes]:
    """Return the device's id and key. A device without a usable key becomes another: the old one cannot be proved."""
    key_pem = state.credential.key_pem()
    if key_pem is not None and certificates.is_key(key_pem):
        return state.device_id(), key_pem
    if key_pem is not None or state.credential.certificate_pem() is not None:
        state.become_another()
    key_pem = certificates.new_key_pem()
    state.credential.save_key(key_pem)
    return state.device_id(), key_pem


def _request(device_id: str, csr_der: bytes, consent_version: int) -> services_pb2.EnrollRequest:
    return services_pb2.EnrollRequest(
        device_id=device_id,
        csr_der=csr_der,
        agent_version=version("weighin-agent"),
        consent_version=consent_version,
    )


def _key_pem(credential: Credential, address: str) -> bytes:
    key_pem = credential.key_pem()
    if key_pem is None or not certificates.is_key(key_pem):
        raise fault_error(Fault.CREDENTIAL_DAMAGED, address)
    return key_pem


def _checked(chain_pem: bytes, key_pem: bytes, authority_pem: bytes, device_id: str, address: str) -> bytes:
    try:
        return certificates.certificate_of(chain_pem, key_pem, authority_pem, device_id)
    except ValueError as error:
        raise _useless(address) from error


def _useless(address: str) -> DeliveryError:
    return DeliveryError(
        f"the aggregator at {address} answered with a certificate that this device cannot use; tell its operator",
        reason="CERTIFICATE_UNUSABLE",
    )
