"""Who gets in at the run port, over real mutual TLS on loopback: enrolled devices, as themselves, while they may."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aggregator_process
import enrolling
import example_runs
import grpc
import pytest
from aggregator_process import Client, new_run_id, outcomes, refusal
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from enrolling import Device, enroll
from grpc_health.v1 import health_pb2, health_pb2_grpc
from secure_server import UNHURRIED, SecureServer, secure_server

from weighin.v1 import services_pb2, services_pb2_grpc
from weighin_aggregator.identity.authority import Authority
from weighin_aggregator.identity.peer import by_certificate
from weighin_aggregator.identity.private_file import write_private
from weighin_aggregator.refusal import Refusal

CREDENTIAL_INVALID = (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID", None)
REUSED = ("REJECTED", "RUN_ID_REUSED")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServer]:
    with secure_server(tmp_path_factory.mktemp("secure") / "data") as server:
        yield server


def envelope(seed: int = 1, run_id: str | None = None) -> services_pb2.RunEnvelope:
    return example_runs.envelope(example_runs.example_run(seed), run_id or new_run_id())


def submit(client: Client, *envelopes: services_pb2.RunEnvelope) -> list[tuple[str, str]]:
    return outcomes(client.submit(*envelopes, device_id=None))


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str, float | None]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return refusal(caught.value)


def is_let_in(server: SecureServer, credentials: grpc.ChannelCredentials) -> bool:
    """Tell whether the handshake succeeds, whatever the call is then answered."""
    with server.connected(credentials) as client:
        try:
            client.submit(device_id=None)
        except grpc.RpcError as error:
            code, reason, _ = refusal(error)
            assert reason or code is grpc.StatusCode.UNAVAILABLE
            return bool(reason)
        return True


def run_count(server: SecureServer) -> int:
    with server.operator() as operator:
        return operator.stats().runs


def signed(authority: Authority, device: Device) -> Device:
    """The device with a certificate that an authority signs without asking anybody."""
    chain = authority.admit(device.key.public_key(), device.device_id).chain_pem
    return Device(device_id=device.device_id, key=device.key, chain_pem=chain)


def days_ago(days: float) -> Callable[[], datetime]:
    return lambda: datetime.now(UTC) - timedelta(days=days)


def test_an_enrolled_device_stores_runs_under_its_own_id(server: SecureServer) -> None:
    device = server.enrolled()
    with server.client(device) as client:
        assert submit(client, envelope()) == [("STORED", "")]
    with server.operator() as operator:
        (known,) = [one for one in operator.devices() if one.device_id == device.device_id]
    assert known.last_receive_time is not None
    assert known.revoke_time is None


def test_nobody_gets_in_without_a_certificate(server: SecureServer) -> None:
    assert is_let_in(server, server.enrolled().credentials(server.authority_pem)), "the control"
    assert not is_let_in(server, grpc.ssl_channel_credentials(server.authority_pem))


def test_nobody_gets_in_with_a_certificate_of_another_authority(server: SecureServer, tmp_path: Path) -> None:
    device = server.enrolled()
    assert is_let_in(server, signed(Authority.open(server.data), device).credentials(server.authority_pem))
    assert not is_let_in(server, signed(Authority.open(tmp_path), device).credentials(server.authority_pem))


def test_nobody_gets_in_with_an_expired_certificate(server: SecureServer) -> None:
    device = server.enrolled()
    stored = run_count(server)
    for days, let_in in ((29.9, True), (30.1, False)):
        old = signed(Authority.open(server.data, days_ago(days)), device)
        assert is_let_in(server, old.credentials(server.authority_pem)) is let_in
    assert run_count(server) == stored


def test_a_certificate_that_expires_while_the_connection_stays_is_refused(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    chain = authority.admit(enrolling.new_key().public_key(), example_runs.DEVICE_ID).chain_pem
    later = Authority.open(tmp_path, lambda: datetime.now(UTC) + timedelta(days=31))
    shown = {"x509_pem_cert": [chain]}
    assert by_certificate(authority)(shown).device_id == example_runs.DEVICE_ID
    with pytest.raises(Refusal, match="CREDENTIAL_INVALID"):
        by_certificate(later)(shown)


def test_the_certificate_of_the_server_opens_nothing(server: SecureServer) -> None:
    own = (server.data / "authority" / "server.pem").read_bytes()
    assert not is_let_in(server, grpc.ssl_channel_credentials(server.authority_pem, own, own))


def test_a_device_that_the_store_does_not_know_must_enrol(server: SecureServer) -> None:
    """As after a store was restored from a backup of before its enrolment."""
    stranger = signed(Authority.open(server.data), Device())
    with server.client(stranger) as client:
        assert refused(lambda: client.submit(device_id=None)) == CREDENTIAL_INVALID
    stranger.enroll(server.enroll_address, server.authority_pem, server.token())
    with server.client(stranger) as client:
        assert submit(client, envelope()) == [("STORED", "")]


def test_the_metadata_of_a_plain_device_says_nothing_over_tls(server: SecureServer) -> None:
    victim, device, sent = server.enrolled(), server.enrolled(), envelope()
    with server.client(device) as client:
        client.submit(sent, device_id=victim.device_id)
    with server.client(victim) as client:
        assert submit(client, sent) == [REUSED], "the run belongs to the device of the certificate"


def test_plain_text_reaches_neither_port(server: SecureServer) -> None:
    for address in (server.run_address, server.enroll_address):
        with aggregator_process.client(address) as client:
            assert refused(client.submit)[:2] == (grpc.StatusCode.UNAVAILABLE, "")


def test_runs_are_taken_at_the_run_port_only_and_enrolments_at_theirs_only(server: SecureServer) -> None:
    device = server.enrolled()
    credentials = device.credentials(server.authority_pem)
    with enrolling.secure_channel(server.enroll_address, credentials) as channel:
        assert refused(lambda: Client(channel).submit(device_id=None))[0] is grpc.StatusCode.UNIMPLEMENTED
    with server.client(device) as client:
        enrollment = services_pb2_grpc.EnrollmentServiceStub(client.channel)
        operator = services_pb2_grpc.OperatorServiceStub(client.channel)
        for call in (
            lambda: enrollment.Enroll(device.request(server.token())),
            lambda: operator.CreateToken(services_pb2.CreateTokenRequest(group="a", use_count=1)),
        ):
            assert refused(call)[0] is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("secret", [None, "", "wrong"])
def test_the_operator_is_who_knows_the_secret_of_the_data_directory(server: SecureServer, secret: str | None) -> None:
    metadata = () if secret is None else (("weighin-operator-secret", secret),)
    with grpc.insecure_channel(server.serving.operator_address) as channel:
        stub = services_pb2_grpc.OperatorServiceStub(channel)
        for call in (
            lambda: stub.GetStats(services_pb2.GetStatsRequest(), metadata=metadata),
            lambda: stub.CreateSnapshot(services_pb2.CreateSnapshotRequest(), metadata=metadata),
            lambda: stub.CreateToken(services_pb2.CreateTokenRequest(), metadata=metadata),
            lambda: stub.RevokeDevice(services_pb2.RevokeDeviceRequest(), metadata=metadata),
            lambda: stub.ListDevices(services_pb2.ListDevicesRequest(), metadata=metadata),
        ):
            assert refused(call) == (grpc.StatusCode.PERMISSION_DENIED, "OPERATOR_ONLY", None)


def test_keys_and_the_secret_are_readable_by_their_owner_alone(server: SecureServer) -> None:
    private = [server.data / name for name in ("serving.json", "authority/ca.key", "authority/server.pem")]
    assert [oct(path.stat().st_mode & 0o777) for path in private] == ["0o600"] * 3
    assert oct((server.data / "authority").stat().st_mode & 0o777) == "0o700"


def test_who_connects_and_says_nothing_is_sent_away(tmp_path: Path) -> None:
    with secure_server(tmp_path / "data", replace(UNHURRIED, handshake_seconds=1)) as server:
        for address in (server.run_address, server.enroll_address):
            host, port = address.rsplit(":", 1)
            with socket.create_connection((host, int(port)), timeout=60) as silent:
                assert silent.recv(1) == b"", "gRPC's own limit is two minutes"


def test_every_port_tells_its_health(server: SecureServer) -> None:
    device = server.enrolled()
    ports = {
        server.run_address: device.credentials(server.authority_pem),
        server.enroll_address: grpc.ssl_channel_credentials(server.authority_pem),
    }
    for address, credentials in ports.items():
        with enrolling.secure_channel(address, credentials) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(server.serving.operator_address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_nobody_watches_the_health_for_as_long_as_it_likes(server: SecureServer) -> None:
    credentials = grpc.ssl_channel_credentials(server.authority_pem)
    with enrolling.secure_channel(server.enroll_address, credentials) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
    assert refusal(caught.value)[0] is grpc.StatusCode.UNIMPLEMENTED


def test_who_connects_to_enrol_says_little_beside_the_message(server: SecureServer) -> None:
    credentials = grpc.ssl_channel_credentials(server.authority_pem)
    with enrolling.secure_channel(server.enroll_address, credentials) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        check(health_pb2.HealthCheckRequest(), timeout=30, metadata=(("x", "x" * 2_000),))
        code = refused(lambda: check(health_pb2.HealthCheckRequest(), timeout=30, metadata=(("x", "x" * 5_000),)))[0]
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_strangers_hold_only_so_many_connections_and_none_of_the_devices(tmp_path: Path) -> None:
    with secure_server(tmp_path / "data", replace(UNHURRIED, enrollment_connections=5)) as server, ExitStack() as held:
        device = server.enrolled()
        trusted = ssl.create_default_context(cadata=server.authority_pem.decode())
        trusted.set_alpn_protocols(["h2"])
        host, port = server.enroll_address.rsplit(":", 1)

        def is_taken() -> bool:
            """Connect, and tell whether the server begins to speak HTTP/2."""
            try:
                plain = held.enter_context(socket.create_connection((host, int(port)), timeout=60))
                line = held.enter_context(trusted.wrap_socket(plain, server_hostname=host))
                return bool(line.recv(1))
            except OSError:
                return False

        taken = sum(is_taken() for _ in range(12))
        assert 3 <= taken <= 5, "one that just left may count for a moment"
        assert is_let_in(server, device.credentials(server.authority_pem))


def test_a_run_that_another_device_sent_first_cannot_be_replaced_or_claimed(server: SecureServer) -> None:
    owner, other, sent = server.enrolled(), server.enrolled(), envelope(1)
    altered = envelope(2, sent.run_id)
    with server.client(owner) as mine, server.client(other) as theirs:
        assert submit(mine, sent) == [("STORED", "")]
        stored = run_count(server)
        for again in (sent, altered):
            assert submit(theirs, again) == [REUSED]
        assert submit(mine, altered) == [REUSED]
        assert submit(mine, sent) == [("DUPLICATE", "")]
        assert run_count(server) == stored


def test_a_message_that_was_altered_on_its_way_is_asked_for_again(server: SecureServer) -> None:
    sent = envelope()
    damaged = services_pb2.RunEnvelope()
    damaged.CopyFrom(sent)
    damaged.run = sent.run[:-1] + bytes([sent.run[-1] ^ 1])
    with server.client(server.enrolled()) as client:
        assert submit(client, damaged) == [("RETRY", "CHECKSUM_MISMATCH")]
        assert submit(client, sent) == [("STORED", "")]


def test_a_renewed_certificate_is_for_the_same_key_and_lives_longer(server: SecureServer) -> None:
    device = server.enrolled()
    aged = signed(Authority.open(server.data, days_ago(20)), device)
    with server.client(aged) as client:
        renewed = renew(client, device.key)
    before, after = (x509.load_pem_x509_certificates(one) for one in (aged.chain_pem, renewed.certificate_chain_pem))
    assert after[0].public_key() == before[0].public_key()
    assert after[0].not_valid_after_utc - before[0].not_valid_after_utc > timedelta(days=19)
    fresh = Device(device_id=device.device_id, key=device.key, chain_pem=renewed.certificate_chain_pem)
    with server.client(fresh) as client:
        assert submit(client, envelope()) == [("STORED", "")]


def renew(client: Client, key: ec.EllipticCurvePrivateKey) -> services_pb2.RenewCredentialResponse:
    request = services_pb2.RenewCredentialRequest(csr_der=enrolling.request_certificate(key))
    return services_pb2_grpc.RunServiceStub(client.channel).RenewCredential(request, timeout=30)


def test_a_certificate_is_not_renewed_for_another_key_nor_for_a_revoked_device(server: SecureServer) -> None:
    device = server.enrolled()
    with server.client(device) as client, server.operator() as operator:
        answer = refused(lambda: renew(client, enrolling.new_key()))
        assert answer == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID", None)
        operator.revoke(device.device_id)
        answer = refused(lambda: renew(client, device.key))
    assert answer == (grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED", None)


def proof(old: Device, device: Device) -> services_pb2.EnrollRequest:
    """Ask for a certificate by an expired one."""
    request = device.request("")
    signature = old.key.sign(request.csr_der, ec.ECDSA(hashes.SHA256()))
    request.renewal.CopyFrom(services_pb2.RenewalProof(expired_certificate_pem=old.chain_pem, signature=signature))
    return request


def test_a_certificate_that_expired_a_week_ago_is_renewed_by_its_key_and_an_older_one_is_not(
    server: SecureServer,
) -> None:
    device = server.enrolled()
    late = signed(Authority.open(server.data, days_ago(36.9)), device)
    answer = enroll(server.enroll_address, server.authority_pem, proof(late, device))
    assert answer.expire_time.ToDatetime(UTC) > datetime.now(UTC) + timedelta(days=29)
    too_late = signed(Authority.open(server.data, days_ago(37.1)), device)
    request = proof(too_late, device)
    assert refused(lambda: enroll(server.enroll_address, server.authority_pem, request)) == CREDENTIAL_INVALID


def test_an_expired_certificate_is_renewed_for_nobody_else(server: SecureServer, tmp_path: Path) -> None:
    device, other = server.enrolled(), server.enrolled()
    authority = Authority.open(server.data, days_ago(31))
    late = signed(authority, device)
    forged = signed(Authority.open(tmp_path, days_ago(31)), device)
    stolen = Device(device_id=device.device_id, key=other.key, chain_pem=late.chain_pem)
    garbage = Device(device_id=device.device_id, key=device.key, chain_pem=b"-----BEGIN CERTIFICATE-----\nAAAA")
    for request in (
        proof(late, other),  # in another's name
        proof(forged, device),  # of another authority
        proof(stolen, device),  # signed by a key that is not the certificate's
        proof(late, Device(device_id=device.device_id)),  # for a new key
        proof(garbage, device),
        proof(signed(authority, stranger := Device()), stranger),  # of a device that never enrolled
    ):
        answer = refused(lambda request=request: enroll(server.enroll_address, server.authority_pem, request))  # type: ignore[misc]
        assert answer == CREDENTIAL_INVALID


def shown_certificate(address: str, authority_pem: bytes) -> x509.Certificate:
    context = ssl.create_default_context(cadata=authority_pem.decode())
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


@pytest.mark.parametrize("way", ["replaced", "removed"])
def test_a_new_server_certificate_is_shown_without_a_restart_and_open_connections_stay(
    server: SecureServer, way: str
) -> None:
    path = server.data / "authority" / "server.pem"
    before = shown_certificate(server.enroll_address, server.authority_pem)
    device = server.enrolled()
    with server.client(device) as client:
        assert submit(client, envelope()) == [("STORED", "")]
        if way == "removed":
            path.unlink()
        else:
            fresh = Authority.open(server.data).serve("127.0.0.1")
            write_private(path, fresh.key_pem + fresh.chain_pem)
        after = shown_certificate(server.enroll_address, server.authority_pem)
        assert after.serial_number != before.serial_number
        assert after == shown_certificate(server.enroll_address, server.authority_pem)
        assert submit(client, envelope()) == [("STORED", "")]
        with server.client(device) as another:
            assert submit(another, envelope()) == [("STORED", "")]


def test_a_spoilt_server_certificate_changes_nothing(server: SecureServer, tmp_path: Path) -> None:
    path = server.data / "authority" / "server.pem"
    before, good = shown_certificate(server.enroll_address, server.authority_pem), path.read_bytes()
    foreign = Authority.open(tmp_path).serve("127.0.0.1")
    other_name = Authority.open(server.data).serve("192.0.2.1")
    for content in (
        b"",
        b"no certificate",
        foreign.key_pem + foreign.chain_pem,
        other_name.key_pem + other_name.chain_pem,
        foreign.key_pem + other_name.chain_pem,
    ):
        write_private(path, content)
        assert shown_certificate(server.enroll_address, server.authority_pem) == before
    write_private(path, good)
    assert shown_certificate(server.enroll_address, server.authority_pem) == before


def test_a_device_that_calls_or_stores_too_much_is_told_when_to_come_back(tmp_path: Path) -> None:
    limits = replace(UNHURRIED, calls_per_minute=4, runs_per_day=2)
    with secure_server(tmp_path / "data", limits) as server:
        device, other = server.enrolled(), server.enrolled()
        with server.client(device) as client, server.client(other) as another:
            assert submit(client, envelope(), envelope(), envelope()) == [("STORED", "")] * 3
            code, reason, seconds = refused(lambda: submit(client, envelope()))
            assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
            assert seconds is not None
            assert 86_300 < seconds <= 86_400
            renew(client, device.key)  # which is no run
            refused(lambda: submit(client))
            _, reason, seconds = refused(lambda: submit(client))
            assert reason == "QUOTA_EXCEEDED"
            assert seconds is not None
            assert 0 < seconds <= 60
            assert submit(another, envelope()) == [("STORED", "")]


def test_calls_that_run_at_once_store_no_more_than_a_device_may(tmp_path: Path) -> None:
    with ExitStack() as opened:
        server = opened.enter_context(secure_server(tmp_path / "data", replace(UNHURRIED, runs_per_day=10)))
        device = server.enrolled()
        calls: list[grpc.Future[bytes]] = []
        requests = [example_runs.request([envelope() for _ in range(5)]).SerializeToString() for _ in range(12)]
        for first in range(0, len(requests), 4):
            channel = opened.enter_context(
                enrolling.secure_channel(server.run_address, device.credentials(server.authority_pem))
            )
            submits: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(aggregator_process.SUBMIT_RUNS)
            calls += [submits.future(one, timeout=60) for one in requests[first : first + 4]]
        errors = [call.exception() for call in calls]
        assert run_count(server) == 10
    reasons = [refusal(error)[1] for error in errors if isinstance(error, grpc.RpcError)]
    assert reasons == ["QUOTA_EXCEEDED"] * 10


def test_runs_that_were_known_already_count_for_nothing(tmp_path: Path) -> None:
    quota = replace(UNHURRIED, runs_per_day=2)
    with secure_server(tmp_path / "data", quota) as server, server.client(server.enrolled()) as client:
        one = envelope()
        assert submit(client, one) == [("STORED", "")]
        for _ in range(3):
            assert submit(client, one) == [("DUPLICATE", "")]
        assert submit(client, envelope()) == [("STORED", "")]
        assert refused(lambda: submit(client, envelope()))[1] == "QUOTA_EXCEEDED"


def test_calls_of_a_revoked_device_are_counted_too(tmp_path: Path) -> None:
    with secure_server(tmp_path / "data", replace(UNHURRIED, calls_per_minute=3)) as server:
        device = server.enrolled()
        with server.client(device) as client, server.operator() as operator:
            operator.revoke(device.device_id)
            reasons = [refused(lambda: submit(client))[1] for _ in range(5)]
    assert reasons == ["DEVICE_REVOKED"] * 3 + ["QUOTA_EXCEEDED"] * 2


def test_who_is_revoked_stays_so_after_a_restart(tmp_path: Path) -> None:
    with secure_server(tmp_path / "data") as server:
        revoked, other = server.enrolled(), server.enrolled()
        with server.operator() as operator:
            operator.revoke(revoked.device_id)
    with secure_server(tmp_path / "data") as server:
        with server.client(other) as client:
            assert submit(client, envelope()) == [("STORED", "")]
        with server.client(revoked) as client:
            answer = refused(lambda: submit(client, envelope()))
    assert answer == (grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED", None)
