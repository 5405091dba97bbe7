"""A device and a real aggregator with mutual TLS: from the token to being forgotten."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aggregator_process as aggregator
import pytest
from example_runs import example_run
from made_certificates import Authority, fingerprint

from weighin_agent.errors import DeliveryError, UnsafeChannelError
from weighin_agent.fleet import certificates
from weighin_agent.fleet.actions import deliver_runs, enroll, keep_run, working
from weighin_agent.fleet.enrolment import certify, prove_key
from weighin_agent.fleet.forget import forget
from weighin_agent.fleet.renewal import RenewingLine
from weighin_agent.fleet.state import Enrolment, State
from weighin_agent.fleet.token import EnrollmentToken, parse_token

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "data"
    assert aggregator.command("init", "--data", folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[aggregator.Server]:
    with aggregator.serving(data, data.parent / "log", mode=()) as server:
        yield server


@pytest.fixture
def token(data: Path, server: aggregator.Server) -> EnrollmentToken:
    made = aggregator.command("token", "create", "--data", data, "--group", "lab", "--uses", "3")
    assert made.returncode == 0, made.stderr
    token = parse_token(made.stdout)
    assert token.address == server.enroll_address
    return token


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def enrolled(state: State, token: EnrollmentToken) -> Enrolment:
    with working(state) as spool:
        return enroll(state, spool, token, 1)


def sent_count(state: State) -> int:
    with working(state) as spool:
        keep_run(state, spool, example_run().SerializeToString())
        report = deliver_runs(state, spool)
    assert (report.kept_count, report.kept_detail, report.quarantined) == (0, None, ())
    return report.stored_count


def test_a_device_enrols_and_delivers(state: State, token: EnrollmentToken, server: aggregator.Server) -> None:
    assert enrolled(state, token).aggregator_address == server.address
    assert sent_count(state) == 1


def test_a_token_with_another_fingerprint_is_refused_before_anything_is_sent(
    state: State, token: EnrollmentToken, server: aggregator.Server
) -> None:
    before = server.log.read_text()
    other = bytes.fromhex(fingerprint(Authority().certificate()))
    with working(state), pytest.raises(UnsafeChannelError, match="nothing was sent"):
        certify(state, replace(token, authority_sha256=other), 1)
    assert server.log.read_text() == before


def test_a_repeat_of_an_enrolment_uses_the_token_once(state: State, data: Path, server: aggregator.Server) -> None:
    """As after an answer that was lost: the device does not know that it is enrolled."""
    made = aggregator.command("token", "create", "--data", data, "--group", "lab", "--uses", "1")
    one_use = parse_token(made.stdout)
    with working(state):
        certify(state, one_use, 1)
    enrolled(state, one_use)
    assert sent_count(state) == 1
    with pytest.raises(DeliveryError, match="ENROLLMENT_TOKEN_INVALID"):
        enrolled(State(state.folder.with_name("other")), one_use)


def test_a_certificate_is_renewed_over_the_line_and_by_proof(state: State, token: EnrollmentToken) -> None:
    enrolment = enrolled(state, token)
    first = state.credential.certificate_pem()
    due = certificates.validity(first or b"").renew_time_seconds
    with RenewingLine(enrolment, state.credential, device_id=state.device_id(), now_seconds=lambda: due) as line:
        line.keep_fresh()
    second = state.credential.certificate_pem()
    prove_key(enrolment, state.credential, state.device_id())
    third = state.credential.certificate_pem()
    assert len({first, second, third}) == 3
    assert sent_count(state) == 1


def test_a_device_that_is_revoked_keeps_its_runs_and_comes_back_as_another(
    state: State, token: EnrollmentToken, data: Path
) -> None:
    enrolled(state, token)
    assert sent_count(state) == 1
    assert aggregator.command("revoke", "--data", data, state.device_id()).returncode == 0
    with working(state) as spool:
        keep_run(state, spool, example_run().SerializeToString())
        report = deliver_runs(state, spool)
    assert (report.kept_count, report.kept_reason) == (1, "DEVICE_REVOKED")
    before = state.device_id()
    enrolled(state, token)
    assert state.device_id() != before
    with working(state) as spool:
        assert deliver_runs(state, spool).stored_count == 1


def test_a_device_is_forgotten_and_what_it_sends_late_is_refused(state: State, token: EnrollmentToken) -> None:
    enrolled(state, token)
    assert sent_count(state) == 1
    kept = {path.name: path.read_bytes() for path in state.credential.folder.iterdir()}
    identity, enrolment = (state.folder / "identity").read_bytes(), (state.folder / "enrolment.json").read_bytes()
    assert forget(state).forgotten

    (state.folder / "identity").write_bytes(identity)
    (state.folder / "enrolment.json").write_bytes(enrolment)
    state.credential.folder.mkdir()
    for name, content in kept.items():
        (state.credential.folder / name).write_bytes(content)
    with working(state) as spool:
        keep_run(state, spool, example_run().SerializeToString())
        assert deliver_runs(state, spool).kept_reason == "DEVICE_FORGOTTEN"
    assert forget(state).forgotten, "a second time is the same"
