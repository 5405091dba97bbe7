import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from example_runs import example_run
from filled_run import FILLED
from google.protobuf.json_format import ParseDict
from scripted_aggregator import deaf_address, scripted_aggregator
from spooled import NOON_SECONDS, HandClock

from weighin.v1 import run_pb2
from weighin_agent.errors import DamagedRunError, DeliveryError, StateError, UsageError
from weighin_agent.fleet.actions import (
    deliver_runs,
    enroll_insecure,
    keep_run,
    newest_run,
    status,
    working,
)
from weighin_agent.fleet.preview import preview
from weighin_agent.fleet.sealed import seal
from weighin_agent.fleet.state import Enrolment, State
from weighin_agent.wire import run_to_message

FULL_DISK_AGENT = Path(__file__).parents[1] / "full_disk_agent.py"


def serialized_run(consent_version: int = 1) -> bytes:
    run = example_run()
    run.consent_version = consent_version
    return run.SerializeToString()


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def test_a_kept_run_is_delivered_where_the_device_is_enrolled(state: State) -> None:
    with scripted_aggregator() as aggregator, working(state) as spool:
        enrolment = enroll_insecure(state, spool, aggregator.address, 1)
        entry = keep_run(state, spool, serialized_run())
        report = deliver_runs(state, spool)
        assert enrolment == Enrolment(aggregator_address=aggregator.address, consent_version=1, insecure=True)
        assert (report.stored_count, report.kept_count) == (1, 0)
        envelope = aggregator.requests[0].envelopes[0]
        assert (envelope.run_id, envelope.run, envelope.sequence) == (entry.run_id, serialized_run(), 1)
        identity = state.identity()
        assert identity is not None
        assert aggregator.metadata[0]["weighin-device-id"] == identity.device_id


def test_each_run_of_a_device_gets_the_next_sequence_across_starts(state: State) -> None:
    sequences = []
    for _ in range(3):
        with working(state) as spool:
            entry = keep_run(state, spool, b"run")
            sequences.append(entry.sequence)
            spool.acknowledge(entry)
    assert sequences == [1, 2, 3]


def test_a_new_identity_after_damage_goes_on_above_the_sequences_that_wait(state: State) -> None:
    with working(state) as spool:
        keep_run(state, spool, b"one")
        keep_run(state, spool, b"two")
    (state.folder / "identity").write_bytes(b"")
    with working(state) as spool:
        assert keep_run(state, spool, b"three").sequence == 3


def test_the_newest_run_stays_on_the_device_once_it_was_delivered(state: State) -> None:
    with scripted_aggregator() as aggregator, working(state) as spool:
        enroll_insecure(state, spool, aggregator.address, 1)
        keep_run(state, spool, run_to_message(FILLED).SerializeToString())
        second = keep_run(state, spool, run_to_message(replace(FILLED, suite="another")).SerializeToString())
        assert deliver_runs(state, spool).stored_count == 2
    newest = newest_run(state)
    assert newest is not None
    assert (newest.run_id, newest.run) == (second.run_id, replace(FILLED, suite="another"))


@pytest.mark.parametrize("content", [b"", b"not sealed", seal(b"")[:-1], seal(b"no envelope"), seal(b"")])
def test_a_damaged_newest_run_is_refused_until_the_next_run_replaces_it(state: State, content: bytes) -> None:
    with working(state) as spool:
        assert newest_run(state) is None
        (state.folder / "newest_run").write_bytes(content)
        with pytest.raises(DamagedRunError, match="newest run"):
            newest_run(state)
        entry = keep_run(state, spool, run_to_message(FILLED).SerializeToString())
    newest = newest_run(state)
    assert newest is not None
    assert newest.run_id == entry.run_id


def test_a_newest_run_of_another_contract_is_refused(state: State) -> None:
    message = run_to_message(FILLED)
    message.schema_version += 1
    with working(state) as spool:
        keep_run(state, spool, message.SerializeToString())
    with pytest.raises(DamagedRunError, match="this version cannot read"):
        newest_run(state)


def test_without_an_enrolment_runs_wait_and_that_is_no_error(state: State) -> None:
    with working(state) as spool:
        keep_run(state, spool, b"run")
        report = deliver_runs(state, spool)
    assert (report.kept_count, report.kept_reason) == (1, "NOT_ENROLLED")


def test_enrolling_where_nobody_answers_names_the_address_and_what_to_do(state: State) -> None:
    address = deaf_address()
    with working(state) as spool, pytest.raises(DeliveryError) as refused:
        enroll_insecure(state, spool, address, 1)
    assert address in str(refused.value)
    assert "start" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert state.enrolment() is None


def test_enrolling_without_consent_or_in_plain_text_elsewhere_is_bad_usage(state: State) -> None:
    with working(state) as spool:
        for address, consent_version in (("127.0.0.1:50051", 0), ("192.0.2.1:50051", 1)):
            with pytest.raises(UsageError):
                enroll_insecure(state, spool, address, consent_version)
    assert state.enrolment() is None


def test_consent_given_at_enrolment_covers_the_runs_that_were_never_sent(state: State) -> None:
    """They were measured before anybody was asked, and preview shows them before they go."""
    with scripted_aggregator() as aggregator, working(state) as spool:
        keep_run(state, spool, serialized_run(consent_version=0))
        keep_run(state, spool, b"\xff not a run")
        enroll_insecure(state, spool, aggregator.address, 3)
        deliver_runs(state, spool)
        first, second = aggregator.requests[0].envelopes
    assert first.run == serialized_run(consent_version=3)
    assert second.run == b"\xff not a run"


def test_status_of_a_device_that_never_started_is_empty_and_makes_nothing(state: State) -> None:
    now = status(state)
    assert (now.device_id, now.enrolment, now.pending_count, now.oldest_pending_age_seconds) == (None, None, 0, None)
    assert (now.last_delivery, now.quarantine) == (None, ())
    assert preview(state, 1).envelopes == ()
    assert not state.folder.exists()


def test_status_tells_what_waits_what_was_set_aside_and_how_the_last_delivery_went(state: State) -> None:
    clock = HandClock()
    with working(state) as spool:
        state.save_enrolment(Enrolment(aggregator_address=deaf_address(), consent_version=1, insecure=True))
        rejected = keep_run(state, spool, b"one")
        waiting = keep_run(state, spool, b"two")
        spool.quarantine(rejected, "FIELD_INVALID", "device: missing")
        deliver_runs(state, spool, pace=clock.pace())
        now = status(state)  # beside an agent at work
    assert (now.pending_count, now.pending_bytes, now.quarantined_count) == (1, waiting.size_bytes, 1)
    assert now.oldest_pending_age_seconds is not None
    assert [(run.run_id, run.reason) for run in now.quarantine] == [(rejected.run_id, "FIELD_INVALID")]
    assert now.last_delivery is not None
    assert (now.last_delivery.kept_count, now.last_delivery.kept_reason) == (1, "UNAVAILABLE")
    assert now.last_delivery.time_seconds >= NOON_SECONDS
    assert asdict(now)["enrolment"]["insecure"] is True


def test_a_delivery_of_nothing_leaves_the_last_one_as_it_was(state: State) -> None:
    with working(state) as spool:
        with scripted_aggregator() as aggregator:
            enroll_insecure(state, spool, aggregator.address, 1)
            deliver_runs(state, spool)
            assert status(state).last_delivery is None
            keep_run(state, spool, serialized_run())
            deliver_runs(state, spool)
        last = status(state).last_delivery
        assert last is not None
        assert last.stored_count == 1
        deliver_runs(state, spool)
    assert status(state).last_delivery == last


def test_a_damaged_record_of_the_last_delivery_is_none(state: State) -> None:
    with working(state):
        pass
    (state.folder / "last_delivery.json").write_bytes(b'{"time_seconds": "noon"}')
    assert status(state).last_delivery is None


def test_preview_shows_every_waiting_run_whole_and_changes_nothing(state: State) -> None:
    with working(state) as spool:
        keep_run(state, spool, serialized_run())
        damaged = keep_run(state, spool, serialized_run())
        (spool.folder / damaged.file_name).write_bytes(b"")
    before = {path: path.stat().st_mtime_ns for path in state.folder.rglob("*")}
    first, second = preview(state, 1).envelopes
    assert first.run is not None
    assert "probeGaps" in first.run, "canonical protobuf JSON"
    assert ParseDict(first.run, run_pb2.Run()) == example_run()
    assert (second.run, second.run_id) == (None, damaged.run_id)
    assert second.problem is not None
    assert {path: path.stat().st_mtime_ns for path in state.folder.rglob("*")} == before


def test_two_agents_cannot_work_at_once(state: State) -> None:
    with working(state), pytest.raises(StateError, match="another weighin-agent"), working(state):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_on_a_full_disk_no_run_is_taken_but_what_waits_is_delivered(state: State) -> None:
    with scripted_aggregator() as aggregator:
        with working(state) as spool:
            enroll_insecure(state, spool, aggregator.address, 1)
            first, *_others = [keep_run(state, spool, b"run") for _ in range(3)]
            (spool.folder / first.file_name).write_bytes(b"damaged")
        agent = subprocess.run(
            [sys.executable, FULL_DISK_AGENT, state.folder], capture_output=True, text=True, timeout=60, check=False
        )
    refused, counts = agent.stdout.splitlines()
    assert (agent.returncode, agent.stderr) == (0, "")
    assert str(state.folder) in refused
    assert counts == "2 1"
    assert (status(state).pending_count, status(state).quarantined_count) == (0, 1)
    assert not list(state.folder.rglob("*.tmp"))
