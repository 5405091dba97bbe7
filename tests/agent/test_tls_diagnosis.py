"""Whatever is wrong with the way to the aggregator is told by its name and with what to do, and loses no run."""

import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from made_certificates import DAY, Authority, key_pem, new_key
from scripted_aggregator import deaf_address, failure, scripted_aggregator, store_all
from scripted_fleet import ScriptedFleet, scripted_fleet
from spooled import NOON_SECONDS, HandClock, add_runs

from weighin_agent.fleet.actions import deliver_runs, enroll, keep_run, status, working
from weighin_agent.fleet.delivery import DeliveryReport
from weighin_agent.fleet.state import State
from weighin_agent.fleet.tls_diagnosis import Fault, diagnose, presented_chain
from weighin_agent.terminal_status import status_lines


@pytest.fixture
def fleet() -> Iterator[ScriptedFleet]:
    with scripted_fleet() as fleet:
        yield fleet


@pytest.fixture
def state(tmp_path: Path, fleet: ScriptedFleet) -> State:
    """A device that is enrolled and has a run to send."""
    state = State(tmp_path / "state")
    with working(state) as spool:
        enroll(state, spool, fleet.token(), 1)
        keep_run(state, spool, b"run")
    return state


def deliver(state: State, *, by_timer: bool = False, clock: HandClock | None = None) -> DeliveryReport:
    with working(state) as spool:
        pace = (clock or HandClock()).pace()
        return deliver_runs(state, spool, give_up_after_seconds=0, heed_own_backoff=by_timer, pace=pace)


def told(state: State, fleet: ScriptedFleet) -> str:
    """Deliver, check that nothing was lost or sent and that `submit` and `status` say so; returns the reason."""
    before = {path.name: path.read_bytes() for path in state.spool_folder.glob("*.run")}
    report = deliver(state)
    assert (report.stored_count, report.kept_count, fleet.requests) == (0, 1, [])
    assert {path.name: path.read_bytes() for path in state.spool_folder.glob("*.run")} == before
    assert report.kept_reason is not None
    assert report.kept_detail is not None
    assert "\n" not in report.kept_detail
    assert report.kept_detail in "\n".join(status_lines(status(state)))
    return report.kept_reason


def show_an_expired_certificate(fleet: ScriptedFleet) -> None:
    fleet.present(fleet.authority.server(begin=-90 * DAY, end=-DAY))


def show_a_certificate_of_the_future(fleet: ScriptedFleet) -> None:
    """To a device whose clock is ten years behind every certificate is of the future."""
    fleet.present(fleet.authority.server(begin=DAY, end=90 * DAY))


def show_a_certificate_of_another_authority(fleet: ScriptedFleet) -> None:
    fleet.present(Authority().server())


def show_a_certificate_for_another_name(fleet: ScriptedFleet) -> None:
    fleet.present(fleet.authority.server("fleet.example.org"))


@pytest.mark.parametrize(
    ("wrong", "reason", "next_step"),
    [
        (show_an_expired_certificate, "TLS_EXPIRED", "set the clock if it is wrong"),
        (show_a_certificate_of_the_future, "TLS_NOT_YET_VALID", "set the clock"),
        (show_a_certificate_of_another_authority, "TLS_UNTRUSTED", "ask its operator"),
        (show_a_certificate_for_another_name, "TLS_HOST_MISMATCH", "serve --name"),
    ],
)
def test_a_server_that_proves_nothing_is_told_nothing_until_it_does(
    wrong: Callable[[ScriptedFleet], None], reason: str, next_step: str, fleet: ScriptedFleet, state: State
) -> None:
    wrong(fleet)
    assert told(state, fleet) == reason
    assert next_step in (deliver(state).kept_detail or "")
    fleet.present(fleet.authority.server())
    assert deliver(state).stored_count == 1


def test_a_server_that_rotates_its_certificate_is_the_same_server(fleet: ScriptedFleet, state: State) -> None:
    fleet.present(fleet.authority.server())
    assert deliver(state).stored_count == 1


def certify_anew(state: State, certificate_pem: bytes) -> None:
    state.credential.save_certificate(certificate_pem + (state.credential.authority_pem() or b""))


def test_a_device_whose_certificate_is_of_another_authority_is_told_to_enrol(
    fleet: ScriptedFleet, state: State
) -> None:
    key = new_key()
    state.credential.save_key(key_pem(key))
    certify_anew(state, Authority().device(key.public_key(), state.device_id()))
    fleet.answers = replace(fleet.answers, enroll=failure(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID"))
    assert told(state, fleet) == "CREDENTIAL_INVALID"
    assert "weighin-agent enroll" in (deliver(state).kept_detail or "")


@pytest.mark.parametrize("name", ["key.pem", "certificate.pem", "authority.pem"])
@pytest.mark.parametrize("damage", [b"", b"-----BEGIN nothing", None])
def test_a_device_whose_credential_is_damaged_or_gone_is_told_to_enrol(
    name: str, damage: bytes | None, fleet: ScriptedFleet, state: State
) -> None:
    path = state.credential.folder / name
    path.unlink() if damage is None else path.write_bytes(damage)
    assert told(state, fleet) == "CREDENTIAL_DAMAGED"
    assert "weighin-agent enroll" in (deliver(state).kept_detail or "")


def test_a_device_that_is_revoked_while_it_is_connected_stops_at_once_and_keeps_its_runs(
    fleet: ScriptedFleet, state: State
) -> None:
    with working(state) as spool:
        add_runs(spool, 100, clock=HandClock(seconds=time.time()))
    answers = iter([None, failure(grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED")])
    fleet.script = lambda request: next(answers) or store_all(request)
    report = deliver(state)
    assert (report.stored_count, report.kept_count, report.kept_reason) == (100, 1, "DEVICE_REVOKED")
    assert "ask its operator" in (report.kept_detail or "")
    assert len(fleet.requests) == 2


@pytest.mark.parametrize(
    ("reason", "next_step"),
    [
        ("DEVICE_FORGOTTEN", "new token"),
        ("CLONE_SUSPECTED", "new token"),
        ("CONSENT_REQUIRED", "weighin-agent enroll"),
        ("AGENT_TOO_OLD", "newer weighin-agent"),
    ],
)
def test_each_refusal_says_what_to_do(reason: str, next_step: str, fleet: ScriptedFleet, state: State) -> None:
    fleet.script = lambda _request: failure(grpc.StatusCode.FAILED_PRECONDITION, reason)
    report = deliver(state)
    assert (report.kept_count, report.kept_reason) == (1, reason)
    assert next_step in (report.kept_detail or "")


def test_a_server_that_speaks_plain_text_is_told_nothing(fleet: ScriptedFleet, state: State) -> None:
    enrolment = state.enrolment()
    assert enrolment is not None
    with scripted_aggregator() as plain:
        state.save_enrolment(replace(enrolment, aggregator_address=plain.address))
        assert told(state, fleet) == "PLAINTEXT"
        assert plain.requests == []


def test_a_server_that_is_away_or_not_found_says_which(fleet: ScriptedFleet, state: State) -> None:
    enrolment = state.enrolment()
    assert enrolment is not None
    for address, reason in ((deaf_address(), "UNREACHABLE"), ("nowhere.invalid:50051", "NAME_NOT_RESOLVED")):
        state.save_enrolment(replace(enrolment, aggregator_address=address))
        assert told(state, fleet) == reason


def test_a_timer_looks_again_after_a_quarter_of_an_hour_and_a_person_at_once(
    fleet: ScriptedFleet, state: State
) -> None:
    clock = HandClock()
    show_an_expired_certificate(fleet)
    assert deliver(state, by_timer=True, clock=clock).kept_reason == "TLS_EXPIRED"
    fleet.present(fleet.authority.server())
    clock.seconds = NOON_SECONDS + 14 * 60
    assert deliver(state, by_timer=True, clock=clock).kept_reason == "BACKING_OFF"
    clock.seconds = NOON_SECONDS + 15 * 60
    assert deliver(state, by_timer=True, clock=clock).stored_count == 1
    with working(state) as spool:
        keep_run(state, spool, b"run")
    show_an_expired_certificate(fleet)
    deliver(state, by_timer=True, clock=clock)
    fleet.present(fleet.authority.server())
    assert deliver(state, clock=clock).stored_count == 1


def test_nothing_is_wrong_with_a_sound_connection(fleet: ScriptedFleet, state: State) -> None:
    assert diagnose(fleet.address, fleet.authority_pem, state.credential) is None
    assert diagnose(fleet.enroll_address, fleet.authority_pem, None) is None
    assert diagnose(fleet.address, fleet.authority_pem, None) is Fault.TLS_CLIENT_CERT


def test_the_chain_of_a_server_is_taken_whole_and_unverified(fleet: ScriptedFleet) -> None:
    server = Authority().server()
    fleet.present(server)
    chain = presented_chain(fleet.enroll_address)
    assert chain == (
        ssl.PEM_cert_to_DER_cert(server.chain_pem.decode()),
        ssl.PEM_cert_to_DER_cert(fleet.authority_pem.decode()),
    )
