"""Certificates are renewed before they expire, or soon after; what goes wrong meanwhile loses nothing."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from made_certificates import DAY, Authority, new_key
from scripted_aggregator import failure, store_all
from scripted_fleet import ScriptedFleet, requested_key, scripted_fleet

from weighin_agent.fleet.actions import deliver_runs, enroll, keep_run, working
from weighin_agent.fleet.certificates import validity
from weighin_agent.fleet.delivery import DeliveryReport
from weighin_agent.fleet.state import State

KEY = new_key()
INVALID = failure(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def fleet() -> Iterator[ScriptedFleet]:
    with scripted_fleet() as fleet:
        yield fleet


def enrol_for(fleet: ScriptedFleet, state: State, begin: timedelta, end: timedelta) -> bytes:
    """Enrol with a certificate of this age, and let the next ones be new; returns the certificate."""
    usual = fleet.answers
    fleet.answers = replace(usual, begin=begin, end=end)
    with working(state) as spool:
        enroll(state, spool, fleet.token(), 1)
    fleet.answers = usual
    fleet.seen.enrolments.clear()
    certificate_pem = state.credential.certificate_pem()
    assert certificate_pem is not None
    return certificate_pem


def deliver_one(state: State) -> DeliveryReport:
    with working(state) as spool:
        keep_run(state, spool, b"run")
        return deliver_runs(state, spool, give_up_after_seconds=0)


def test_a_young_certificate_is_left_alone(fleet: ScriptedFleet, state: State) -> None:
    before = enrol_for(fleet, state, -17 * DAY, 13 * DAY)
    assert deliver_one(state).stored_count == 1
    assert (fleet.seen.renewals, state.credential.certificate_pem()) == ([], before)


def test_past_two_thirds_of_its_life_a_certificate_is_renewed_by_the_next_delivery_for_the_same_key(
    fleet: ScriptedFleet, state: State
) -> None:
    before, key = enrol_for(fleet, state, -23 * DAY, 7 * DAY), state.credential.key_pem()
    assert deliver_one(state).stored_count == 1
    assert deliver_one(state).stored_count == 1
    (request,) = fleet.seen.renewals
    after = x509.load_pem_x509_certificate(state.credential.certificate_pem() or b"")
    assert requested_key(request.csr_der) == after.public_key()
    assert state.credential.key_pem() == key
    assert state.credential.certificate_pem() != before
    assert fleet.seen.enrolments == []


def test_a_delivery_of_nothing_renews_too(fleet: ScriptedFleet, state: State) -> None:
    enrol_for(fleet, state, -23 * DAY, 7 * DAY)
    with working(state) as spool:
        deliver_runs(state, spool)
    assert len(fleet.seen.renewals) == 1


@pytest.mark.parametrize(
    "answer",
    [
        failure(grpc.StatusCode.UNAVAILABLE, "OVERLOADED", 60),
        failure(grpc.StatusCode.INTERNAL, "INTERNAL_ERROR"),
        failure(grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_a_renewal_that_fails_keeps_no_run_from_being_delivered(
    answer: grpc.Status, fleet: ScriptedFleet, state: State
) -> None:
    before = enrol_for(fleet, state, -23 * DAY, 7 * DAY)
    fleet.answers = replace(fleet.answers, renew=answer)
    assert deliver_one(state).stored_count == 1
    assert state.credential.certificate_pem() == before


def test_a_renewed_certificate_that_cannot_be_used_does_not_replace_the_one_that_can(
    fleet: ScriptedFleet, state: State
) -> None:
    before = enrol_for(fleet, state, -23 * DAY, 7 * DAY)
    fleet.authority = Authority()
    assert deliver_one(state).stored_count == 1
    assert state.credential.certificate_pem() == before


def test_an_expired_certificate_is_renewed_by_proof_of_its_key_and_the_runs_then_go(
    fleet: ScriptedFleet, state: State
) -> None:
    before = enrol_for(fleet, state, -32 * DAY, -2 * DAY)
    assert deliver_one(state).stored_count == 1
    (request,) = fleet.seen.enrolments
    assert request.WhichOneof("proof") == "renewal"
    assert request.renewal.expired_certificate_pem == before
    assert uuid.UUID(request.request_id).version == 4
    old_key = x509.load_pem_x509_certificate(before).public_key()
    assert isinstance(old_key, ec.EllipticCurvePublicKey)
    old_key.verify(request.renewal.signature, request.csr_der, ec.ECDSA(hashes.SHA256()))
    assert fleet.seen.devices == [state.device_id()]


def test_an_expired_certificate_that_is_not_renewed_any_more_asks_for_a_new_token_and_loses_nothing(
    fleet: ScriptedFleet, state: State
) -> None:
    enrol_for(fleet, state, -60 * DAY, -30 * DAY)
    fleet.answers = replace(fleet.answers, enroll=INVALID)
    report = deliver_one(state)
    assert (report.kept_count, report.kept_reason) == (1, "CREDENTIAL_INVALID")
    assert "new token" in (report.kept_detail or "")
    fleet.answers = replace(fleet.answers, enroll=None)
    device_id = state.device_id()
    with working(state) as spool:
        enroll(state, spool, fleet.token(), 1)
        assert deliver_runs(state, spool).stored_count == 1
    assert state.device_id() == device_id, "the key proves the old name to a new token"


def test_a_certificate_that_the_aggregator_does_not_know_is_renewed_once(fleet: ScriptedFleet, state: State) -> None:
    enrol_for(fleet, state, -DAY, 29 * DAY)
    answers = iter([INVALID])
    fleet.script = lambda request: next(answers, None) or store_all(request)
    assert deliver_one(state).stored_count == 1
    assert len(fleet.seen.enrolments) == 1


def test_where_the_aggregators_clock_says_expired_and_ours_does_not_yet_the_key_is_proved(
    fleet: ScriptedFleet, state: State
) -> None:
    """The renewal over the line is refused as the delivery is."""
    enrol_for(fleet, state, -23 * DAY, 7 * DAY)
    fleet.answers = replace(fleet.answers, renew=INVALID)
    answers = iter([INVALID])
    fleet.script = lambda request: next(answers, None) or store_all(request)
    assert deliver_one(state).stored_count == 1
    assert len(fleet.seen.enrolments) == 1


def test_a_certificate_that_stays_unknown_after_one_renewal_is_told_to_the_user(
    fleet: ScriptedFleet, state: State
) -> None:
    enrol_for(fleet, state, -DAY, 29 * DAY)
    fleet.script = lambda _request: INVALID
    report = deliver_one(state)
    assert (report.kept_count, report.kept_reason) == (1, "CREDENTIAL_INVALID")
    assert (len(fleet.seen.enrolments), len(fleet.requests)) == (1, 2)


@given(st.integers(1, 2**159), st.integers(1, 400))
def test_the_moment_of_renewal_lies_around_two_thirds_and_is_the_same_whenever_asked(serial: int, days: int) -> None:
    name, begin = x509.Name([]), datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, KEY.public_key(), serial, begin, begin + timedelta(days=days))
        .sign(KEY, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    held = validity(certificate)
    share = (held.renew_time_seconds - held.issue_time_seconds) / (held.expire_time_seconds - held.issue_time_seconds)
    assert 2 / 3 * 0.9 - 1e-6 <= share <= 2 / 3 * 1.1 + 1e-6
    assert validity(certificate) == held


def test_devices_that_enrolled_at_one_moment_do_not_renew_at_one_moment() -> None:
    authority = Authority()
    moments = {validity(authority.device(KEY.public_key(), "a")).renew_time_seconds for _ in range(5)}
    assert len(moments) > 1
