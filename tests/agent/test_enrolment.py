"""Enrolling with a token: the key stays on the device, and nothing is said to a server that is not the one named."""

import sys
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from example_runs import example_run
from made_certificates import Authority
from scripted_aggregator import deaf_address, failure, scripted_aggregator
from scripted_fleet import ScriptedFleet, requested_key, scripted_fleet

from weighin_agent.errors import DeliveryError, StateError, UsageError
from weighin_agent.fleet.actions import deliver_runs, enroll, enroll_insecure, keep_run, status, working
from weighin_agent.fleet.state import Enrolment, Forgetting, State
from weighin_agent.fleet.token import EnrollmentToken


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def enrolled(state: State, fleet: ScriptedFleet, token: EnrollmentToken | None = None) -> Enrolment:
    with working(state) as spool:
        return enroll(state, spool, token or fleet.token(), 1)


def refusal(state: State, token: EnrollmentToken) -> DeliveryError:
    with working(state) as spool, pytest.raises(DeliveryError) as refused:
        enroll(state, spool, token, 1)
    assert "\n" not in str(refused.value)
    assert token.address in str(refused.value)
    assert token.text[-43:] not in str(refused.value)
    assert state.enrolment() is None
    return refused.value


def test_a_token_enrols_a_device_whose_runs_then_arrive_under_its_certificate(state: State) -> None:
    with scripted_fleet() as fleet:
        enrolment = enrolled(state, fleet)
        with working(state) as spool:
            keep_run(state, spool, example_run().SerializeToString())
            report = deliver_runs(state, spool)
    assert enrolment == Enrolment(
        aggregator_address=fleet.address, consent_version=1, insecure=False, enroll_address=fleet.enroll_address
    )
    assert (report.stored_count, report.kept_count) == (1, 0)
    assert fleet.seen.devices == [state.device_id()]
    assert "weighin-device-id" not in fleet.metadata[0], "the certificate alone says who calls"
    (request,) = fleet.seen.enrolments
    assert (request.consent_version, request.device_id) == (1, state.device_id())
    assert request.agent_version


def test_a_token_that_names_the_port_for_runs_is_told_apart_from_a_bad_certificate(state: State) -> None:
    with scripted_fleet() as fleet:
        error = refusal(state, replace(fleet.token(), address=fleet.address))
    assert error.reason == "WRONG_PORT"
    assert "port for enrolment" in str(error)


def test_the_key_is_made_on_the_device_and_never_leaves_it(state: State) -> None:
    with scripted_fleet() as fleet:
        enrolled(state, fleet)
    key_pem = state.credential.key_pem()
    assert key_pem is not None
    key = serialization.load_pem_private_key(key_pem, None)
    numbers = key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    (request,) = fleet.seen.enrolments
    assert requested_key(request.csr_der) == key.public_key()
    assert len(x509.load_der_x509_csr(request.csr_der).subject) == 0, "it names nobody"
    assert numbers not in request.SerializeToString()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no POSIX modes")
def test_only_the_owner_can_read_the_credential(state: State) -> None:
    with scripted_fleet() as fleet:
        enrolled(state, fleet)
    folder = state.credential.folder
    assert sorted(path.name for path in folder.iterdir()) == ["authority.pem", "certificate.pem", "key.pem"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_repeat_with_the_same_token_is_the_same_enrolment_with_the_same_key(state: State) -> None:
    with scripted_fleet() as fleet:
        fleet.answers = replace(fleet.answers, lose_answer=True)
        refusal(state, fleet.token())
        enrolled(State(state.folder), fleet)
        enrolled(state, fleet)
    first, second, third = fleet.seen.enrolments
    assert first.request_id == second.request_id == third.request_id
    assert requested_key(first.csr_der) == requested_key(second.csr_der) == requested_key(third.csr_der)


def test_another_token_is_another_enrolment(state: State) -> None:
    with scripted_fleet() as fleet:
        fleet.answers = replace(fleet.answers, lose_answer=True)
        refusal(state, fleet.token())
        enrolled(state, fleet, fleet.token(token_id="fedcba9876543210"))
    first, second = fleet.seen.enrolments
    assert first.request_id != second.request_id


def test_a_server_that_the_token_does_not_name_is_told_nothing(state: State) -> None:
    with scripted_fleet() as fleet:
        error = refusal(state, fleet.token(authority=Authority().certificate()))
    assert error.reason == "TLS_UNTRUSTED"
    assert "nothing was sent" in str(error)
    assert fleet.seen.enrolments == []
    assert not state.credential.folder.exists()


def test_a_server_that_shows_the_named_authority_without_being_signed_by_it_is_told_nothing(state: State) -> None:
    """The certificate of an authority is public: showing it proves nothing."""
    with scripted_fleet() as fleet:
        fleet.present(Authority().server())
        error = refusal(state, fleet.token())
    assert error.reason == "TLS_UNTRUSTED"
    assert fleet.seen.enrolments == []


def test_a_server_of_another_name_is_told_nothing(state: State) -> None:
    with scripted_fleet() as fleet:
        fleet.present(fleet.authority.server("fleet.example.org"))
        assert refusal(state, fleet.token()).reason == "TLS_HOST_MISMATCH"
    assert fleet.seen.enrolments == []


def test_a_token_for_an_address_where_nobody_or_somebody_else_listens_says_which(state: State) -> None:
    with scripted_fleet() as fleet, scripted_aggregator() as plain:
        assert refusal(state, replace(fleet.token(), address=deaf_address())).reason == "UNREACHABLE"
        assert refusal(state, replace(fleet.token(), address=plain.address)).reason == "PLAINTEXT"
        unknown = replace(fleet.token(), address="nowhere.invalid:50052")
        assert refusal(state, unknown).reason == "NAME_NOT_RESOLVED"


def test_a_token_that_is_not_taken_says_where_to_get_another(state: State) -> None:
    with scripted_fleet() as fleet:
        no = failure(grpc.StatusCode.UNAUTHENTICATED, "ENROLLMENT_TOKEN_INVALID")
        fleet.answers = replace(fleet.answers, enroll=no)
        assert "weighin-aggregator token create" in str(refusal(state, fleet.token()))


def test_nothing_is_asked_for_without_consent(state: State) -> None:
    with scripted_fleet() as fleet, working(state) as spool, pytest.raises(UsageError, match="consent"):
        enroll(state, spool, fleet.token(), 0)
    assert fleet.seen.enrolments == []


def test_a_certificate_for_another_device_or_of_another_authority_is_not_taken(state: State) -> None:
    with scripted_fleet() as fleet:
        fleet.authority = Authority()
        assert refusal(state, fleet.token()).reason == "CERTIFICATE_UNUSABLE"
    assert state.credential.certificate_pem() is None


@pytest.mark.parametrize("reason", ["DEVICE_REVOKED", "DEVICE_FORGOTTEN", "CLONE_SUSPECTED", "DEVICE_ID_TAKEN"])
def test_a_device_that_was_refused_for_good_comes_back_as_another_with_a_new_token(state: State, reason: str) -> None:
    with scripted_fleet() as fleet:
        enrolled(state, fleet)
        before, key_before = state.device_id(), state.credential.key_pem()
        no = failure(grpc.StatusCode.PERMISSION_DENIED, reason)
        fleet.answers = replace(fleet.answers, enroll=no, only_device=before)
        enrolled(state, fleet)
    assert state.device_id() != before
    assert state.credential.key_pem() != key_before
    assert fleet.seen.enrolments[-1].device_id == state.device_id()


def test_a_device_that_is_to_be_forgotten_stays_who_it_is(state: State) -> None:
    with scripted_fleet() as fleet:
        enrolled(state, fleet)
        before = state.device_id()
        with working(state):
            state.save_forgetting(Forgetting(request_id="r", request_time_seconds=1.0, acknowledged=False))
        fleet.answers = replace(fleet.answers, enroll=failure(grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED"))
        with working(state) as spool, pytest.raises(DeliveryError):
            enroll(state, spool, fleet.token(), 1)
        with working(state) as spool, pytest.raises(StateError, match="being forgotten"):
            keep_run(state, spool, b"run")
    assert state.device_id() == before


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN PRIVATE KEY-----\n", None])
def test_a_device_whose_key_is_lost_says_so_and_enrols_as_another(state: State, damage: bytes | None) -> None:
    with scripted_fleet() as fleet:
        enrolled(state, fleet)
        before = state.device_id()
        if damage is None:
            state.credential.key_path.unlink()
        else:
            state.credential.key_path.write_bytes(damage)
        with working(state) as spool:
            keep_run(state, spool, example_run().SerializeToString())
            report = deliver_runs(state, spool)
        assert (report.kept_count, report.kept_reason) == (1, "CREDENTIAL_DAMAGED")
        assert "weighin-agent enroll" in (report.kept_detail or "")
        enrolled(state, fleet)
        with working(state) as spool:
            assert deliver_runs(state, spool).stored_count == 1
    assert state.device_id() != before


def test_a_device_whose_identity_is_lost_does_not_go_on_under_the_old_certificate(state: State) -> None:
    with scripted_fleet() as fleet:
        enrolled(state, fleet)
        (state.folder / "identity").write_bytes(b"")
        with working(state) as spool:
            keep_run(state, spool, example_run().SerializeToString())
            report = deliver_runs(state, spool)
    assert (report.kept_count, report.kept_reason) == (1, "CREDENTIAL_DAMAGED")
    assert fleet.requests == []


def test_a_device_may_move_from_a_plain_aggregator_to_one_with_tls_and_keep_its_name(state: State) -> None:
    with scripted_aggregator() as plain, scripted_fleet() as fleet:
        with working(state) as spool:
            enroll_insecure(state, spool, plain.address, 1)
            before = state.device_id()
        assert enrolled(state, fleet).insecure is False
    assert state.device_id() == before


def test_status_tells_where_a_device_is_enrolled_and_until_when_its_certificate_holds(state: State) -> None:
    with scripted_fleet() as fleet:
        enrolled(state, fleet)
    now = status(state)
    assert now.enrolment is not None
    assert now.enrolment.enroll_address == fleet.enroll_address
    assert now.certificate is not None
    life = now.certificate.expire_time_seconds - now.certificate.issue_time_seconds
    assert 30 * 86_400 <= life <= 30 * 86_400 + 7_200
    assert 0.6 <= (now.certificate.renew_time_seconds - now.certificate.issue_time_seconds) / life <= 0.7334
