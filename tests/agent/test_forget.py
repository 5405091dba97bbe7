"""A device that wants to be forgotten: on the aggregator first, then here, however often it is cut short."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from example_runs import example_run
from scripted_aggregator import deaf_address, failure, scripted_aggregator
from scripted_fleet import ScriptedFleet, scripted_fleet

from weighin_agent.errors import StateError
from weighin_agent.fleet.actions import deliver_runs, enroll, enroll_insecure, keep_run, newest_run, status, working
from weighin_agent.fleet.forget import forget
from weighin_agent.fleet.run_id import uuid7
from weighin_agent.fleet.state import Enrolment, Membership, State
from weighin_agent.terminal_status import status_lines

AWAY = failure(grpc.StatusCode.UNAVAILABLE, "OVERLOADED", 5)


@pytest.fixture
def fleet() -> Iterator[ScriptedFleet]:
    with scripted_fleet() as fleet:
        yield fleet


@pytest.fixture
def state(tmp_path: Path, fleet: ScriptedFleet) -> State:
    """A device that is enrolled, has a run to send and one set aside."""
    state = State(tmp_path / "state")
    with working(state) as spool:
        enroll(state, spool, fleet.token(), 1)
        keep_run(state, spool, example_run().SerializeToString())
        spool.quarantine(keep_run(state, spool, example_run().SerializeToString()), "FIELD_INVALID", "no")
    return state


def left_behind(state: State) -> list[str]:
    return sorted(path.name for path in state.folder.iterdir())


def test_what_was_sent_is_deleted_there_and_then_all_that_is_here(fleet: ScriptedFleet, state: State) -> None:
    device_id = state.device_id()
    report = forget(state)
    assert (report.forgotten, report.aggregator_address) == (True, fleet.address)
    assert fleet.seen.devices == [device_id]
    assert left_behind(state) == ["lock"]
    assert fleet.requests == [], "what waited was not sent first"


def test_while_the_aggregator_is_away_the_deletion_waits_and_nothing_is_measured_for_sending(
    fleet: ScriptedFleet, state: State
) -> None:
    fleet.answers = replace(fleet.answers, delete=AWAY)
    report = forget(state)
    assert (report.forgotten, report.reason) == (False, "OVERLOADED")
    assert not state.spool_folder.exists()
    assert state.credential.key_pem(), "the key proves who asks for it"
    lines = "\n".join(status_lines(status(state)))
    assert "to be forgotten since" in lines
    with working(state) as spool, pytest.raises(StateError, match="being forgotten"):
        keep_run(state, spool, b"run")


def test_the_deletion_goes_on_in_another_process_under_the_same_name(fleet: ScriptedFleet, state: State) -> None:
    fleet.answers = replace(fleet.answers, delete=AWAY)
    forget(state)
    fleet.answers = replace(fleet.answers, delete=None)
    assert forget(State(state.folder)).forgotten
    first, second = fleet.seen.deletions
    assert first.request_id == second.request_id
    assert left_behind(state) == ["lock"]


def test_a_deletion_cut_short_after_its_acknowledgement_asks_nobody_again(
    fleet: ScriptedFleet, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(_state: State) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(State, "erase", power_cut)
        with pytest.raises(KeyboardInterrupt):
            forget(state)
    assert forget(State(state.folder)).forgotten
    assert len(fleet.seen.deletions) == 1
    assert left_behind(state) == ["lock"]


def test_an_erasure_cut_short_halfway_is_finished_by_the_next_start(
    fleet: ScriptedFleet, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(state: State) -> None:
        for name in ("enrolment.json", "identity"):
            (state.folder / name).unlink()
        state.credential.erase()
        raise KeyboardInterrupt

    earlier = Membership(device_id="earlier", aggregator_address="127.0.0.1:1")
    state.save_memberships((earlier, *state.memberships()))
    with monkeypatch.context() as patched:
        patched.setattr(State, "erase", power_cut)
        with pytest.raises(KeyboardInterrupt):
            forget(state)
    report = forget(state)
    assert (report.forgotten, report.elsewhere) == (True, (earlier,))
    assert len(fleet.seen.deletions) == 1
    assert left_behind(state) == ["lock"]


@pytest.mark.parametrize("record", [b"\0", b"", b"[]", b"[" * 200_000])
def test_a_record_of_the_wish_that_is_damaged_still_holds(fleet: ScriptedFleet, state: State, record: bytes) -> None:
    fleet.answers = replace(fleet.answers, delete=AWAY)
    forget(state)
    (state.folder / "forgetting.json").write_bytes(record)
    assert status(state).forgetting is not None
    with working(state) as spool:
        with pytest.raises(StateError, match="being forgotten"):
            keep_run(state, spool, b"run")
        spool.add(b"run", run_id=uuid7(), sequence=1)
        with pytest.raises(StateError, match="being forgotten"):
            deliver_runs(state, spool)
    fleet.answers = replace(fleet.answers, delete=None)
    assert forget(state).forgotten


def test_an_aggregator_that_has_forgotten_the_device_already_is_content(fleet: ScriptedFleet, state: State) -> None:
    already = failure(grpc.StatusCode.FAILED_PRECONDITION, "DEVICE_FORGOTTEN")
    fleet.answers = replace(fleet.answers, delete=already)
    assert forget(state).forgotten


def test_a_revoked_device_is_told_whom_to_ask_and_by_which_name(fleet: ScriptedFleet, state: State) -> None:
    fleet.answers = replace(fleet.answers, delete=failure(grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED"))
    report = forget(state)
    assert (report.forgotten, report.reason) == (False, "DEVICE_REVOKED")
    assert state.device_id() in (report.detail or "")


def test_a_device_that_was_forgotten_may_come_back_as_another(fleet: ScriptedFleet, state: State) -> None:
    before = state.device_id()
    forget(state)
    with working(state) as spool:
        enroll(state, spool, fleet.token(), 1)
        assert keep_run(state, spool, b"run").sequence == 1
    assert state.device_id() != before


def test_what_it_sent_under_an_earlier_name_is_not_said_to_be_deleted(fleet: ScriptedFleet, state: State) -> None:
    before = state.device_id()
    revoked = failure(grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED")
    fleet.answers = replace(fleet.answers, enroll=revoked, only_device=before)
    for _ in range(2):
        with working(state) as spool:
            enroll(state, spool, fleet.token(), 1)
    assert state.device_id() != before
    report = forget(state)
    assert report.forgotten
    assert report.elsewhere == (Membership(device_id=before, aggregator_address=fleet.address),)
    assert fleet.seen.devices == [fleet.seen.enrolments[-1].device_id], "nobody was asked under the earlier name"
    assert left_behind(state) == ["lock"]


def test_what_it_sent_to_an_earlier_aggregator_is_not_said_to_be_deleted(fleet: ScriptedFleet, state: State) -> None:
    with scripted_fleet() as other:
        with working(state) as spool:
            enroll(state, spool, other.token(), 1)
        expected = (Membership(device_id=state.device_id(), aggregator_address=fleet.address),)
        other.answers = replace(other.answers, delete=AWAY)
        assert forget(state).elsewhere == expected
        other.answers = replace(other.answers, delete=None)
        assert forget(state).elsewhere == expected, "said again, for whoever was not there the first time"
    assert forget(state).elsewhere == ()


@pytest.mark.parametrize("record", [b"\0", b"{}", b'[{"device_id": 1}]'])
def test_a_damaged_record_of_earlier_names_is_set_aside(fleet: ScriptedFleet, state: State, record: bytes) -> None:
    (state.folder / "memberships.json").write_bytes(record)
    with working(state) as spool:
        enroll(state, spool, fleet.token(), 1)
    assert state.memberships() == (Membership(device_id=state.device_id(), aggregator_address=fleet.address),)
    assert state.damaged() == ("memberships.json.damaged",)


def test_a_device_that_never_enrolled_asks_nobody(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    with working(state) as spool:
        keep_run(state, spool, b"run")
    report = forget(state)
    assert (report.forgotten, report.aggregator_address) == (True, None)
    assert left_behind(state) == ["lock"]
    assert newest_run(state) is None


def test_a_folder_that_is_not_there_is_no_device_that_was_forgotten(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="nothing was forgotten; name the right one"):
        forget(State(tmp_path / "mistyped"))
    assert not (tmp_path / "mistyped").exists()


def test_a_device_that_does_not_know_any_more_where_it_enrolled_does_not_pretend(
    fleet: ScriptedFleet, state: State
) -> None:
    (state.folder / "enrolment.json").write_bytes(b"\0")
    report = forget(state)
    assert (report.forgotten, report.reason) == (False, "ENROLMENT_DAMAGED")
    with working(state) as spool:
        enroll(state, spool, fleet.token(), 1)
    assert forget(state).forgotten
    assert len(fleet.seen.deletions) == 1


def test_a_device_without_encryption_is_forgotten_by_its_name(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    with scripted_aggregator() as aggregator, working(state) as spool:
        enroll_insecure(state, spool, aggregator.address, 1)
    with working(state):
        state.save_enrolment(Enrolment(aggregator_address=deaf_address(), consent_version=1, insecure=True))
    assert forget(state).reason == "UNAVAILABLE"
