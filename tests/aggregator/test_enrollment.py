"""How a device gets its certificate, over real TLS on loopback: by a token, once; and never in another's name."""

import asyncio
import gc
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import cast

import duckdb
import enrolling
import grpc
import pytest
from aggregator_process import refusal
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from enrolling import Device, enroll
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from secure_server import UNHURRIED, SecureServer, secure_server

from weighin.v1 import services_pb2, services_pb2_grpc
from weighin_aggregator.errors import ServerError
from weighin_aggregator.identity import register
from weighin_aggregator.identity.authority import Authority
from weighin_aggregator.identity.certificates import key_sha256
from weighin_aggregator.identity.register import Applicant
from weighin_aggregator.identity.roster import tombstone
from weighin_aggregator.identity.terms import Terms, make_token
from weighin_aggregator.identity.token import make as make_text
from weighin_aggregator.identity.token import read as read_token
from weighin_aggregator.limits import Limits
from weighin_aggregator.refusal import Refusal
from weighin_aggregator.serve.serving import SECRET_METADATA
from weighin_aggregator.store.deletion import delete_device
from weighin_aggregator.store.store import Store, utc_now

ENROLL = "/weighin.v1.EnrollmentService/Enroll"
TOKEN_INVALID = (grpc.StatusCode.UNAUTHENTICATED, "ENROLLMENT_TOKEN_INVALID", None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServer]:
    with secure_server(tmp_path_factory.mktemp("secure") / "data") as server:
        yield server


def ask(server: SecureServer, request: services_pb2.EnrollRequest) -> services_pb2.EnrollResponse:
    return enroll(server.enroll_address, server.authority_pem, request)


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str, float | None]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return refusal(caught.value)


def test_a_token_gives_a_certificate_for_the_device_and_its_key(server: SecureServer) -> None:
    device = Device()
    answer = device.enroll(server.enroll_address, server.authority_pem, server.token())
    own, authority = x509.load_pem_x509_certificates(answer.certificate_chain_pem)
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [f"spiffe://weighin/device/{device.device_id}"]
    assert own.public_key() == device.key.public_key()
    own.verify_directly_issued_by(authority)
    assert authority == x509.load_pem_x509_certificate(server.authority_pem)
    assert own.not_valid_after_utc.replace(tzinfo=None) == answer.expire_time.ToDatetime()
    assert (answer.device_id, answer.run_address) == (device.device_id, server.run_address)


def test_a_device_is_named_by_its_id_whatever_its_request_for_a_certificate_says(server: SecureServer) -> None:
    device, victim = Device(), server.enrolled()
    request = device.request(server.token())
    request.csr_der = enrolling.request_certificate(device.key, f"spiffe://weighin/device/{victim.device_id}")
    assert victim.device_id.encode() not in ask(server, request).certificate_chain_pem
    own = x509.load_pem_x509_certificates(ask(server, request).certificate_chain_pem)[0]
    assert victim.device_id not in own.subject.rfc4514_string()


def test_a_token_names_the_address_and_the_authority_and_holds_its_secret_nowhere_else(server: SecureServer) -> None:
    token = server.token()
    address, fingerprint, _, secret = token.removeprefix("wt1.").rsplit(".", 3)
    authority = x509.load_pem_x509_certificate(server.authority_pem)
    assert address == server.enroll_address
    assert fingerprint == authority.fingerprint(hashes.SHA256()).hex()
    kept = b"".join(path.read_bytes() for path in server.data.rglob("*") if path.is_file())
    assert token.rsplit(".", 2)[1].encode() in kept, "the control: its id is kept"
    assert secret.encode() not in kept


def test_the_same_request_again_uses_the_token_once(server: SecureServer) -> None:
    device = Device()
    request = device.request(server.token())
    first, second = ask(server, request), ask(server, request)
    keys = [x509.load_pem_x509_certificates(one.certificate_chain_pem)[0].public_key() for one in (first, second)]
    assert keys == [device.key.public_key()] * 2
    assert refused(lambda: ask(server, Device().request(request.enrollment_token))) == TOKEN_INVALID


def test_the_same_request_id_from_another_device_is_another_use(server: SecureServer) -> None:
    request = Device().request(server.token())
    ask(server, request)
    other = Device().request(request.enrollment_token, request.request_id)
    assert refused(lambda: ask(server, other)) == TOKEN_INVALID


def test_a_token_admits_as_many_devices_as_it_says(server: SecureServer) -> None:
    token = server.token(uses=3)
    for _ in range(3):
        ask(server, Device().request(token))
    assert refused(lambda: ask(server, Device().request(token))) == TOKEN_INVALID


@pytest.mark.slow
def test_of_200_clients_that_race_for_one_use_exactly_one_enrols(server: SecureServer) -> None:
    token, authority = server.token(), server.authority_pem

    async def race() -> Counter[str]:
        begin = asyncio.Event()
        waiting = [asyncio.create_task(one(begin)) for _ in range(200)]
        await asyncio.sleep(0)
        begin.set()
        return Counter(await asyncio.gather(*waiting))

    async def one(begin: asyncio.Event) -> str:
        request = Device().request(token)
        credentials = grpc.ssl_channel_credentials(authority)
        options = (("grpc.use_local_subchannel_pool", 1),)
        await begin.wait()
        async with grpc.aio.secure_channel(server.enroll_address, credentials, options=options) as channel:
            try:
                await services_pb2_grpc.EnrollmentServiceStub(channel).Enroll(request, timeout=60)
            except grpc.RpcError as error:
                return refusal(error)[1]
        return "enrolled"

    assert asyncio.run(race()) == {"enrolled": 1, "ENROLLMENT_TOKEN_INVALID": 199}
    with server.operator() as operator:
        assert operator.devices()[-1].group == "lab-a"


def of_unknown_id(token: str) -> str:
    head, _, secret = token.rsplit(".", 2)
    return f"{head}.{'0' * 16}.{secret}"


def of_wrong_secret(token: str) -> str:
    return token.rpartition(".")[0] + "." + "A" * 43


@pytest.mark.parametrize(
    "spoil", [of_unknown_id, of_wrong_secret, lambda token: token + "A", lambda _: "", lambda _: "x"]
)
def test_what_is_no_token_of_this_server_has_one_answer(server: SecureServer, spoil: Callable[[str], str]) -> None:
    request = Device().request(spoil(server.token()))
    assert refused(lambda: ask(server, request)) == TOKEN_INVALID


def test_unknown_used_up_and_wrong_tokens_are_answered_word_for_word_the_same(server: SecureServer) -> None:
    used = server.token()
    ask(server, Device().request(used))
    answers = set()
    for token in (used, of_unknown_id(used), of_wrong_secret(server.token()), "no token"):
        with pytest.raises(grpc.RpcError) as caught:
            ask(server, Device().request(token))
        call = cast("grpc.Call", caught.value)  # every error of a call is also the call
        answers.add((call.code(), call.details(), tuple(call.trailing_metadata() or ())))
    assert len(answers) == 1


def test_an_expired_token_has_the_same_answer_and_one_that_is_about_to_expire_is_taken(tmp_path: Path) -> None:
    data, tokens = tmp_path / "data", []
    with Store.open(data, create=True) as store:
        fingerprint = Authority.open(data).fingerprint
        for seconds in (3599, 3700):
            made = utc_now() - timedelta(hours=1)
            terms = Terms(group="lab-a", use_count=1, lifetime_seconds=seconds)
            text, token = make_token(terms, "127.0.0.1:50052", fingerprint, made)
            store.transact(partial(register.add_token, token=token))
            tokens.append(text)
    with secure_server(data) as server:
        assert refused(lambda: ask(server, Device().request(tokens[0]))) == TOKEN_INVALID
        ask(server, Device().request(tokens[1]))


def test_a_device_id_is_never_taken_over_by_another_key(server: SecureServer) -> None:
    device, token = server.enrolled(), server.token()
    thief = Device(device_id=device.device_id)
    answer = refused(lambda: ask(server, thief.request(token)))
    assert answer == (grpc.StatusCode.PERMISSION_DENIED, "DEVICE_ID_TAKEN", None)
    ask(server, Device().request(token))  # which is still unused


def test_a_device_may_enrol_again_with_its_own_key(server: SecureServer) -> None:
    device = server.enrolled()
    device.enroll(server.enroll_address, server.authority_pem, server.token())
    with server.client(device) as client:
        assert client.submit(device_id=None) == []


def test_a_revoked_device_does_not_come_back_by_a_token(server: SecureServer) -> None:
    device, token = server.enrolled(), server.token()
    with server.operator() as operator:
        operator.revoke(device.device_id)
    answer = refused(lambda: ask(server, device.request(token)))
    assert answer == (grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED", None)
    ask(server, Device().request(token))


def forget(server: SecureServer, device: Device) -> None:
    with enrolling.secure_channel(server.run_address, device.credentials(server.authority_pem)) as channel:
        request = services_pb2.DeleteDeviceDataRequest(request_id=str(uuid.uuid4()))
        services_pb2_grpc.RunServiceStub(channel).DeleteDeviceData(request, timeout=enrolling.CALL_SECONDS)


def test_a_token_that_a_forgotten_device_used_up_admits_nobody_by_the_same_request_id(server: SecureServer) -> None:
    device = Device()
    request = device.request(server.token())
    device.chain_pem = ask(server, request).certificate_chain_pem
    forget(server, device)
    other = Device().request(request.enrollment_token, request.request_id)
    assert refused(lambda: ask(server, other)) == TOKEN_INVALID
    nobody = Device(device_id=str(uuid.UUID(int=0))).request(request.enrollment_token, request.request_id)
    assert refused(lambda: ask(server, nobody))[1] == "FIELD_INVALID"


def applicant_of(text: str, device: Device, request_id: str) -> Applicant:
    proof = read_token(text)
    assert proof is not None
    key = key_sha256(device.key.public_key())
    return Applicant(request_id=request_id, device_id=device.device_id, key_sha256=key, proof=proof)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[Callable[[Applicant], None], str, Store]]:
    """What enrols in a store, a token of one use, and the store."""
    with Store.open(tmp_path / "data", create=True) as store:
        terms = Terms(group="lab-a", use_count=1, lifetime_seconds=3600)
        text, new = make_token(terms, "127.0.0.1:50052", "0" * 64, utc_now())
        store.transact(partial(register.add_token, token=new))
        yield (
            lambda applicant: store.transact(partial(register.enroll, applicant=applicant, now=utc_now())),
            text,
            store,
        )


def test_a_use_counts_as_a_repeat_only_of_a_device_that_is_there_by_the_same_key(
    registry: tuple[Callable[[Applicant], None], str, Store],
) -> None:
    enrol, text, store = registry
    nobody, request_id = Device(device_id=str(uuid.UUID(int=0))), str(uuid.uuid4())
    device = Device()
    enrol(applicant_of(text, device, request_id))
    enrol(applicant_of(text, device, request_id))
    with pytest.raises(Refusal, match="ENROLLMENT_TOKEN_INVALID"):
        enrol(applicant_of(text, Device(device_id=device.device_id), request_id))
    store.transact(lambda c: delete_device(c, device.device_id, tombstone(device.device_id), utc_now()))
    with pytest.raises(Refusal, match="ENROLLMENT_TOKEN_INVALID"):
        enrol(applicant_of(text, nobody, request_id))
    assert store.transact(register.read_roster).enrolled == set()


def test_a_device_that_was_forgotten_while_it_enrolled_is_told_so_and_leaves_nothing(
    registry: tuple[Callable[[Applicant], None], str, Store],
) -> None:
    enrol, text, store = registry
    device = Device()
    store.transact(lambda c: delete_device(c, device.device_id, tombstone(device.device_id), utc_now()))
    with pytest.raises(Refusal, match="DEVICE_FORGOTTEN"):
        enrol(applicant_of(text, device, str(uuid.uuid4())))
    assert store.transact(register.read_roster).enrolled == set()


def broken(change: Callable[[services_pb2.EnrollRequest], object]) -> Callable[[str], services_pb2.EnrollRequest]:
    def build(token: str) -> services_pb2.EnrollRequest:
        request = Device().request(token)
        change(request)
        return request

    return build


@pytest.mark.parametrize(
    ("change", "reason", "code"),
    [
        (lambda r: setattr(r, "consent_version", 0), "CONSENT_REQUIRED", grpc.StatusCode.FAILED_PRECONDITION),
        (lambda r: setattr(r, "consent_version", -1), "CONSENT_REQUIRED", grpc.StatusCode.FAILED_PRECONDITION),
        (lambda r: setattr(r, "device_id", ""), "FIELD_INVALID", grpc.StatusCode.INVALID_ARGUMENT),
        (
            lambda r: setattr(r, "device_id", str(uuid.uuid4()).upper()),
            "FIELD_INVALID",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            lambda r: setattr(r, "device_id", str(uuid.UUID(int=0))),
            "FIELD_INVALID",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (lambda r: setattr(r, "request_id", "1"), "FIELD_INVALID", grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: setattr(r, "csr_der", b""), "FIELD_INVALID", grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: setattr(r, "csr_der", bytes(5000)), "FIELD_INVALID", grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: setattr(r, "csr_der", r.csr_der[:-1] + b"\0"), "FIELD_INVALID", grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: r.ClearField("proof"), "ENROLLMENT_TOKEN_INVALID", grpc.StatusCode.UNAUTHENTICATED),
    ],
)
def test_a_request_that_breaks_a_rule_is_refused_and_uses_no_token(
    server: SecureServer,
    change: Callable[[services_pb2.EnrollRequest], object],
    reason: str,
    code: grpc.StatusCode,
) -> None:
    token = server.token()
    assert refused(lambda: ask(server, broken(change)(token))) == (code, reason, None)
    ask(server, Device().request(token))


def test_the_tenth_failure_of_a_minute_ends_the_attempts_of_an_address(tmp_path: Path) -> None:
    with secure_server(tmp_path / "data", Limits()) as server:
        good = server.token(uses=2)
        ask(server, Device().request(good))
        for _ in range(10):
            assert refused(lambda: ask(server, Device().request(of_wrong_secret(good)))) == TOKEN_INVALID
        code, reason, seconds = refused(lambda: ask(server, Device().request(good)))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_FAILURES")
    assert seconds is not None
    assert 0 < seconds <= 60


def outcomes_at_once(server: SecureServer, requests: list[bytes]) -> Counter[str]:
    """What calls come to that are all under way before the first is answered, over connections of 5 calls each."""
    credentials = grpc.ssl_channel_credentials(server.authority_pem)
    with ExitStack() as opened:
        calls: list[grpc.Future[bytes]] = []
        for first in range(0, len(requests), 5):
            channel = opened.enter_context(enrolling.secure_channel(server.enroll_address, credentials))
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(ENROLL)
            calls += [call.future(one, timeout=enrolling.CALL_SECONDS) for one in requests[first : first + 5]]
        return Counter(outcome(call) for call in calls)


def outcome(call: "grpc.Future[bytes]") -> str:
    try:
        call.result()
    except grpc.RpcError as error:
        return refusal(error)[1]
    return "enrolled"


def test_attempts_that_are_made_at_once_are_counted_as_if_made_one_after_another(tmp_path: Path) -> None:
    with secure_server(tmp_path / "data", Limits()) as server:
        wrong = Device().request(of_wrong_secret(server.token())).SerializeToString()
        assert outcomes_at_once(server, [wrong] * 20) == {"ENROLLMENT_TOKEN_INVALID": 10, "TOO_MANY_FAILURES": 10}


def test_many_devices_behind_one_address_enrol_at_once(tmp_path: Path) -> None:
    with secure_server(tmp_path / "data", Limits()) as server:
        token = server.token(uses=20)
        requests = [Device().request(token).SerializeToString() for _ in range(20)]
        assert outcomes_at_once(server, requests) == {"enrolled": 20}


def test_a_device_that_asks_again_and_again_for_what_it_has_is_sent_away(tmp_path: Path) -> None:
    with secure_server(tmp_path / "data", Limits()) as server:
        request = Device().request(server.token())
        outcomes = outcomes_at_once(server, [request.SerializeToString()] * 15)
    assert outcomes == {"enrolled": 11, "TOO_MANY_FAILURES": 4}


def test_an_accident_of_the_server_counts_as_a_failed_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def accident(_: bytes) -> None:
        raise RuntimeError

    with secure_server(tmp_path / "data", Limits()) as server:
        request = Device().request(server.token()).SerializeToString()
        monkeypatch.setattr("weighin_aggregator.serve.enrollment_service.requested_key", accident)
        assert outcomes_at_once(server, [request] * 12) == {"INTERNAL_ERROR": 10, "TOO_MANY_FAILURES": 2}


def test_a_request_is_taken_up_to_64_kib_and_no_larger(server: SecureServer) -> None:
    device = Device()
    request = device.request(server.token())
    request.agent_version = "x" * 60_000
    request.agent_version += "x" * ((64 << 10) - request.ByteSize() + 1)
    assert refused(lambda: ask(server, request)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "", None)
    request.agent_version = request.agent_version[1:]
    assert request.ByteSize() == 64 << 10
    assert ask(server, request).device_id == device.device_id


@pytest.mark.parametrize(
    ("limits", "answer"),
    [
        (UNHURRIED, TOKEN_INVALID),
        (replace(UNHURRIED, free_disk_bytes=1 << 62), (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", 60.0)),
    ],
    ids=["by a strange token", "on a full disk"],
)
def test_a_refused_call_is_let_go_at_once_so_that_its_connection_can_make_more(
    tmp_path: Path, limits: Limits, answer: tuple[grpc.StatusCode, str, float | None]
) -> None:
    gc.disable()
    try:
        with secure_server(tmp_path / "data", limits) as server:
            strange, _ = make_text(server.enroll_address, "ab" * 32)
            request = Device().request(strange).SerializeToString()
            credentials = grpc.ssl_channel_credentials(server.authority_pem)
            with enrolling.secure_channel(server.enroll_address, credentials) as channel:
                call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(ENROLL)
                for _ in range(5 * limits.streams_per_connection):
                    assert refused(lambda: call(request, timeout=enrolling.CALL_SECONDS)) == answer
    finally:
        gc.enable()


METHODS = [
    *(f"RunService/{name}" for name in ("SubmitRuns", "RenewCredential", "DeleteDeviceData")),
    "EnrollmentService/Enroll",
    *(f"OperatorService/{name}" for name in ("CreateToken", "RevokeDevice")),
]


DOCUMENTED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.NOT_FOUND,
)


def channel_of(server: SecureServer, service: str, device: Device) -> AbstractContextManager[grpc.Channel]:
    if service == "OperatorService":
        return grpc.insecure_channel(server.serving.operator_address)
    address = server.run_address if service == "RunService" else server.enroll_address
    return enrolling.secure_channel(address, device.credentials(server.authority_pem))


@pytest.mark.parametrize("method", METHODS)
def test_whatever_bytes_a_call_is_made_of_it_is_answered_by_the_contract(server: SecureServer, method: str) -> None:
    device = server.enrolled()
    sample = device.request(server.token()).SerializeToString()
    metadata = (("weighin-operator-secret", server.serving.operator_secret),)
    with channel_of(server, method.partition("/")[0], device) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/weighin.v1.{method}")

        @settings(max_examples=60, deadline=None)
        @given(st.one_of(st.binary(max_size=400), mutations(sample)))
        def never_breaks(data: bytes) -> None:
            try:
                call(data, metadata=metadata, timeout=enrolling.CALL_SECONDS)
            except grpc.RpcError as error:
                code, reason, _ = refusal(error)
                assert code in DOCUMENTED
                assert reason

        never_breaks()


def mutations(sample: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with one of them changed, and cut or not."""

    def mutate(place: int, value: int, end: int) -> bytes:
        changed = bytearray(sample)
        changed[place % len(sample)] = value
        return bytes(changed[: len(sample) - end % 8])

    return st.builds(mutate, st.integers(0, len(sample) - 1), st.integers(0, 255), st.integers(0, 30))


def test_the_operator_cannot_offer_what_cannot_be(server: SecureServer) -> None:
    with server.operator() as operator, pytest.raises(ServerError, match="made no token: a field of the request"):
        operator.make_token(Terms(group="lab a\n", use_count=1, lifetime_seconds=3600))


def test_a_revoked_device_is_told_so_on_an_open_connection_and_the_others_are_not(server: SecureServer) -> None:
    device, other = server.enrolled(), server.enrolled()
    with server.client(device) as client, server.client(other) as another, server.operator() as operator:
        assert client.submit(device_id=None) == []
        operator.revoke(device.device_id)
        answer = refused(lambda: client.submit(device_id=None))
        assert another.submit(device_id=None) == []
    assert answer == (grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED", None)


def test_a_device_is_revoked_at_once_although_the_operator_has_hung_up(
    server: SecureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = server.enrolled()
    revoke, begun, may_go_on = register.revoke, threading.Event(), threading.Event()

    def when_told(connection: duckdb.DuckDBPyConnection, device_id: str, now: datetime) -> bool:
        begun.set()
        assert may_go_on.wait(30)
        return revoke(connection, device_id, now)

    monkeypatch.setattr(register, "revoke", when_told)
    with grpc.insecure_channel(server.serving.operator_address) as channel, server.operator() as operator:
        call = services_pb2_grpc.OperatorServiceStub(channel).RevokeDevice.future(
            services_pb2.RevokeDeviceRequest(device_id=device.device_id),
            metadata=((SECRET_METADATA, server.serving.operator_secret),),
        )
        assert begun.wait(30)
        call.cancel()
        # Over the same connection, so the server knows of the end of the first.
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        may_go_on.set()
        (known,) = (known for known in operator.devices() if known.device_id == device.device_id)
    assert known.revoke_time is not None
    with server.client(device) as client:
        answer = refused(lambda: client.submit(device_id=None))
    assert answer == (grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED", None)
