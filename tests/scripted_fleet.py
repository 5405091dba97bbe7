"""An aggregator with mutual TLS on free loopback ports: remembers what reaches it, answers as a test tells it to."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NoReturn, cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2_grpc
from made_certificates import DAY, DEVICE_URI, HOUR, Authority, ServerCredential, fingerprint
from scripted_aggregator import Script, ScriptedAggregator, store_all

from weighin.v1 import services_pb2, services_pb2_grpc
from weighin_agent.fleet.token import EnrollmentToken, parse_token

SECRET = "A" * 43
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Answers:
    """What the next calls are told; None: what an aggregator at its best says.

    ``enroll`` goes to every device, or to ``only_device`` alone. ``lose_answer``: the answer to the next enrolment does
    not arrive. ``begin`` and ``end`` of certificates are told from now.
    """

    enroll: grpc.Status | None = None
    only_device: str | None = None
    renew: grpc.Status | None = None
    delete: grpc.Status | None = None
    lose_answer: bool = False
    begin: timedelta = -HOUR
    end: timedelta = 30 * DAY


@dataclass(slots=True)
class Seen:
    """What reached the server, in order; ``devices`` are who called, by their certificates."""

    enrolments: list[services_pb2.EnrollRequest] = field(default_factory=list)
    renewals: list[services_pb2.RenewCredentialRequest] = field(default_factory=list)
    deletions: list[services_pb2.DeleteDeviceDataRequest] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)


class ScriptedFleet(ScriptedAggregator, services_pb2_grpc.EnrollmentServiceServicer):
    """Both ports. ``present`` swaps the certificate of the server for every connection from then on."""

    def __init__(self, script: Script, authority: Authority, server: ServerCredential) -> None:
        super().__init__(script)
        self.authority = authority
        self.authority_certificate = authority.certificate()
        self.authority_pem = self.authority_certificate.public_bytes(_PEM)
        self.answers = Answers()
        self.seen = Seen()
        self.enroll_address = ""
        self._server = server

    def present(self, server: ServerCredential) -> None:
        self._server = server

    def token(
        self, *, authority: x509.Certificate | None = None, token_id: str = "0123456789abcdef"
    ) -> EnrollmentToken:
        digest = fingerprint(authority or self.authority_certificate)
        return parse_token(f"wt1.{self.enroll_address}.{digest}.{token_id}.{SECRET}")

    def credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        def configuration() -> grpc.ServerCertificateConfiguration:
            chain_pem = self._server.chain_pem + self.authority_pem
            return grpc.ssl_server_certificate_configuration(
                [(self._server.key_pem, chain_pem)], root_certificates=self.authority_pem if mutual else None
            )

        return grpc.dynamic_ssl_server_credentials(configuration(), configuration, require_client_authentication=mutual)

    def SubmitRuns(  # noqa: N802 - gRPC's name
        self, request: services_pb2.SubmitRunsRequest, context: grpc.ServicerContext
    ) -> services_pb2.SubmitRunsResponse:
        self._note_device(context)
        return super().SubmitRuns(request, context)

    def RenewCredential(  # noqa: N802 - gRPC's name
        self, request: services_pb2.RenewCredentialRequest, context: grpc.ServicerContext
    ) -> services_pb2.RenewCredentialResponse:
        device_id = self._note_device(context)
        self.seen.renewals.append(request)
        if self.answers.renew is not None:
            _abort(context, self.answers.renew)
        return services_pb2.RenewCredentialResponse(certificate_chain_pem=self._chain(request.csr_der, device_id))

    def DeleteDeviceData(  # noqa: N802 - gRPC's name
        self, request: services_pb2.DeleteDeviceDataRequest, context: grpc.ServicerContext
    ) -> services_pb2.DeleteDeviceDataResponse:
        self._note_device(context)
        self.seen.deletions.append(request)
        if self.answers.delete is not None:
            _abort(context, self.answers.delete)
        return services_pb2.DeleteDeviceDataResponse()

    def Enroll(  # noqa: N802 - gRPC's name
        self, request: services_pb2.EnrollRequest, context: grpc.ServicerContext
    ) -> services_pb2.EnrollResponse:
        self.seen.enrolments.append(request)
        if self.answers.enroll is not None and self.answers.only_device in (None, request.device_id):
            _abort(context, self.answers.enroll)
        if self.answers.lose_answer:
            self.answers = Answers()
            context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
        return services_pb2.EnrollResponse(
            device_id=request.device_id,
            certificate_chain_pem=self._chain(request.csr_der, request.device_id),
            run_address=self.address,
        )

    def _chain(self, csr_der: bytes, device_id: str) -> bytes:
        key = requested_key(csr_der)
        return self.authority.device(key, device_id, self.answers.begin, self.answers.end) + self.authority_pem

    def _note_device(self, context: grpc.ServicerContext) -> str:
        # The type stubs miss that each key has several values.
        (pem,) = cast("Sequence[bytes]", context.auth_context()["x509_pem_cert"])
        device_id = device_of(pem)
        self.seen.devices.append(device_id)
        return device_id


def requested_key(csr_der: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a signing request, which must have signed it."""
    request = x509.load_der_x509_csr(csr_der)
    assert request.is_signature_valid
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def device_of(certificate_pem: bytes) -> str:
    """The device that a certificate names."""
    names = x509.load_pem_x509_certificate(certificate_pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    (uri,) = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return uri.removeprefix(DEVICE_URI)


def _abort(context: grpc.ServicerContext, status: grpc.Status) -> NoReturn:
    context.abort_with_status(status)
    raise AssertionError("abort_with_status raises")


@contextmanager
def scripted_fleet(
    script: Script = store_all, *, authority: Authority | None = None, server: ServerCredential | None = None
) -> Iterator[ScriptedFleet]:
    """Serve both ports until the block ends."""
    authority = authority or Authority()
    fleet = ScriptedFleet(script, authority, server or authority.server())
    with ThreadPoolExecutor(max_workers=4) as pool:
        options = [("grpc.so_reuseport", 0)]
        runs, enrolment = grpc.server(pool, options=options), grpc.server(pool, options=options)
        services_pb2_grpc.add_RunServiceServicer_to_server(fleet, runs)
        health_pb2_grpc.add_HealthServicer_to_server(fleet.health, runs)
        services_pb2_grpc.add_EnrollmentServiceServicer_to_server(fleet, enrolment)
        fleet.address = f"127.0.0.1:{runs.add_secure_port('127.0.0.1:0', fleet.credentials(mutual=True))}"
        fleet.enroll_address = f"127.0.0.1:{enrolment.add_secure_port('127.0.0.1:0', fleet.credentials(mutual=False))}"
        runs.start()
        enrolment.start()
        try:
            yield fleet
        finally:
            for one in (runs, enrolment):
                one.stop(grace=None).wait()
