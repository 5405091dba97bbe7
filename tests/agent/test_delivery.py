from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_aggregator import (
    Script,
    ScriptedAggregator,
    deaf_address,
    failure,
    outcomes,
    scripted_aggregator,
    store_all,
)
from spooled import NOON_SECONDS, HandClock, add_runs, open_spool, run_id_of

from weighin.v1 import services_pb2
from weighin_agent.fleet.client import AggregatorClient
from weighin_agent.fleet.delivery import DeliveryReport, backoff_seconds, batches, deliver, standing_seconds
from weighin_agent.fleet.entry import Entry
from weighin_agent.fleet.ledger import Backoff
from weighin_agent.fleet.spool import Spool

DEVICE_ID = "0b6f1c1e-6a51-4d0c-9d7e-2f4f5a7c9b10"
MISMATCH = "CHECKSUM_MISMATCH"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return open_spool(tmp_path)


@contextmanager
def peers(script: Script = store_all, **options: int) -> Iterator[tuple[ScriptedAggregator, AggregatorClient]]:
    with (
        scripted_aggregator(script, **options) as aggregator,
        AggregatorClient(aggregator.address, device_id=DEVICE_ID) as client,
    ):
        yield aggregator, client


def deliver_to(script: Script, spool: Spool, clock: HandClock) -> DeliveryReport:
    with peers(script) as (_aggregator, client):
        return deliver(spool, client, pace=clock.pace())


def sent(aggregator: ScriptedAggregator) -> list[list[int]]:
    """The sequences in each call."""
    return [[envelope.sequence for envelope in request.envelopes] for request in aggregator.requests]


def test_stored_runs_leave_the_spool(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 3)
    with peers() as (aggregator, client):
        report = deliver(spool, client, pace=clock.pace())
    assert (report.stored_count, report.duplicate_count, report.quarantined, report.kept_count) == (3, 0, (), 0)
    assert (report.kept_reason, report.kept_detail) == (None, None)
    assert spool.pending() == ()
    assert sent(aggregator) == [[1, 2, 3]]


def test_a_duplicate_is_a_success(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 2)
    report = deliver_to(lambda request: outcomes(request, services_pb2.OUTCOME_DUPLICATE), spool, clock)
    assert (report.stored_count, report.duplicate_count, report.kept_count) == (0, 2, 0)


def test_an_empty_spool_calls_nobody(spool: Spool, clock: HandClock) -> None:
    with peers() as (aggregator, client):
        report = deliver(spool, client, pace=clock.pace())
    assert (report.kept_count, aggregator.requests) == (0, [])


def test_each_run_of_a_call_goes_by_its_own_answer_whatever_the_order(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 4)

    def mixed(request: services_pb2.SubmitRunsRequest) -> services_pb2.SubmitRunsResponse:
        response = store_all(request)
        response.results[0].outcome = services_pb2.OUTCOME_REJECTED
        response.results[0].reason = "FIELD_INVALID"
        response.results[0].field_violations.append("device.cpu: missing")
        response.results[2].outcome = services_pb2.OUTCOME_RETRY
        response.results[2].reason = "SCHEMA_TOO_NEW"
        return services_pb2.SubmitRunsResponse(results=reversed(response.results))

    report = deliver_to(mixed, spool, clock)
    assert (report.stored_count, report.kept_count, report.kept_reason) == (2, 1, "SCHEMA_TOO_NEW")
    assert [(run.reason, run.detail) for run in report.quarantined] == [("FIELD_INVALID", "device.cpu: missing")]
    assert [entry.sequence for entry in spool.pending()] == [3]
    assert report.quarantined == spool.quarantined()


def test_a_run_without_an_answer_or_with_an_unknown_outcome_is_kept(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 2)

    def sloppy(request: services_pb2.SubmitRunsRequest) -> services_pb2.SubmitRunsResponse:
        return services_pb2.SubmitRunsResponse(
            results=[
                services_pb2.RunResult(run_id=request.envelopes[0].run_id),
                services_pb2.RunResult(run_id=run_id_of(1.0), outcome=services_pb2.OUTCOME_STORED),
            ]
        )

    report = deliver_to(sloppy, spool, clock)
    assert (report.stored_count, report.kept_count, report.kept_reason) == (0, 2, "NO_ANSWER")


def test_a_run_that_arrives_altered_three_times_is_set_aside(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 1)

    def mismatch(request: services_pb2.SubmitRunsRequest) -> services_pb2.SubmitRunsResponse:
        return outcomes(request, services_pb2.OUTCOME_RETRY, MISMATCH)

    assert deliver_to(mismatch, spool, clock).kept_reason == MISMATCH
    assert deliver_to(mismatch, open_spool(spool.folder), clock).kept_count == 1
    report = deliver_to(mismatch, open_spool(spool.folder), clock)
    assert [run.reason for run in report.quarantined] == [MISMATCH]
    assert report.kept_count == 0


def test_a_damaged_file_is_set_aside_and_the_others_are_delivered(spool: Spool, clock: HandClock) -> None:
    entries = add_runs(spool, 3)
    (spool.folder / entries[1].file_name).write_bytes(b"")
    with peers() as (aggregator, client):
        report = deliver(spool, client, pace=clock.pace())
    assert report.stored_count == 2
    assert [(run.run_id, run.reason) for run in report.quarantined] == [(entries[1].run_id, "DAMAGED")]
    assert aggregator.requests[0].spool_quarantined_count == 1, "the loss is told in the very call"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read even by root")
def test_a_file_that_cannot_be_read_stays_is_named_and_the_others_are_delivered(spool: Spool, clock: HandClock) -> None:
    entries = add_runs(spool, 3)
    unreadable = spool.folder / entries[1].file_name
    unreadable.unlink()
    unreadable.symlink_to("/proc/self/mem")  # a file, as stat has it, whose reading fails
    with peers() as (_, client):
        report = deliver(spool, client, pace=clock.pace())
    assert (report.stored_count, report.kept_count, report.kept_reason) == (2, 1, "UNREADABLE")
    assert unreadable.name in (report.kept_detail or "")


def test_a_folder_with_the_name_of_a_run_is_left_alone(spool: Spool, clock: HandClock) -> None:
    (entry,) = add_runs(spool, 1)
    (spool.folder / f"{entry.sequence + 1:012d}-{run_id_of(1.0)}.run").mkdir()
    assert spool.pending() == (entry,)
    with peers() as (_, client):
        assert deliver(spool, client, pace=clock.pace()).kept_count == 0


def test_a_call_tells_how_often_each_run_was_sent_before(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 1)
    deliver_to(lambda request: outcomes(request, services_pb2.OUTCOME_RETRY, "LATER"), spool, clock)
    add_runs(spool, 1)
    with peers() as (aggregator, client):
        deliver(open_spool(spool.folder), client, pace=clock.pace())
    assert [envelope.attempt_count for envelope in aggregator.requests[0].envelopes] == [1, 0]


def test_many_runs_go_in_calls_of_a_hundred(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 205)
    with peers() as (aggregator, client):
        report = deliver(spool, client, pace=clock.pace())
    assert report.stored_count == 205
    assert [len(call) for call in sent(aggregator)] == [100, 100, 5]


def test_an_oversized_call_is_halved_and_only_the_run_that_is_too_large_is_set_aside(
    spool: Spool, clock: HandClock
) -> None:
    add_runs(spool, 3)
    (huge,) = add_runs(spool, 1, run=b"x" * 3_000)
    add_runs(spool, 3)
    with peers(max_request_bytes=2_000) as (_aggregator, client):
        report = deliver(spool, client, pace=clock.pace())
    assert (report.stored_count, report.kept_count) == (6, 0)
    assert [(run.run_id, run.reason) for run in report.quarantined] == [(huge.run_id, "RESOURCE_EXHAUSTED")]


def test_a_malformed_call_is_halved_until_the_culprit_is_alone(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 5)

    def chokes_on_the_fourth(request: services_pb2.SubmitRunsRequest) -> services_pb2.SubmitRunsResponse | grpc.Status:
        if any(envelope.sequence == 4 for envelope in request.envelopes):
            return failure(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
        return store_all(request)

    report = deliver_to(chokes_on_the_fourth, spool, clock)
    assert report.stored_count == 4
    assert [run.reason for run in report.quarantined] == ["MALFORMED_REQUEST"]


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    ],
)
def test_a_failed_call_is_tried_again_after_a_growing_pause(
    code: grpc.StatusCode, spool: Spool, clock: HandClock
) -> None:
    add_runs(spool, 2)
    answers = iter([failure(code), failure(code)])
    report = deliver_to(lambda request: next(answers, None) or store_all(request), spool, clock)
    assert (report.stored_count, report.kept_count) == (2, 0)
    assert clock.waits == [1.0, 2.0], "half of 2 s, half of 4 s"
    assert spool.ledger.backoff == Backoff(), "an answered call ends the backoff"


def test_an_aggregator_that_stays_away_is_a_normal_outcome_within_the_time_allowed(
    spool: Spool, clock: HandClock
) -> None:
    add_runs(spool, 2)
    address = deaf_address()
    with AggregatorClient(address, device_id=DEVICE_ID) as client:
        report = deliver(spool, client, give_up_after_seconds=20.0, pace=clock.pace())
    assert (report.stored_count, report.kept_count, report.kept_reason) == (0, 2, "UNAVAILABLE")
    assert address in (report.kept_detail or "")
    assert 0 < clock.seconds - NOON_SECONDS <= 20.0
    assert spool.ledger.backoff.failure_count == len(clock.waits) + 1


def test_no_time_at_all_still_means_one_try(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 1)
    with peers() as (_aggregator, client):
        assert deliver(spool, client, give_up_after_seconds=0.0, pace=clock.pace()).stored_count == 1


def test_somebody_who_wants_to_stop_ends_the_pause_at_once(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 1)
    clock.stop_asked = True
    report = deliver_to(lambda _request: failure(grpc.StatusCode.UNAVAILABLE), spool, clock)
    assert (len(clock.waits), report.kept_count, report.kept_reason) == (1, 1, "UNAVAILABLE")


def test_a_delay_that_the_aggregator_asks_for_is_kept_even_by_the_next_process(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 1)
    report = deliver_to(lambda _request: failure(grpc.StatusCode.UNAVAILABLE, "OVERLOADED", 60), spool, clock)
    assert (report.kept_reason, clock.waits) == ("OVERLOADED", [])
    again = open_spool(spool.folder)
    with peers() as (aggregator, client):
        early = deliver(again, client, pace=clock.pace())
        assert (early.kept_reason, aggregator.requests) == ("BACKING_OFF", [])
        clock.seconds += 60 * 1.25
        assert deliver(again, client, pace=clock.pace()).stored_count == 1


def test_a_short_delay_that_the_aggregator_asks_for_is_waited_out(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 1)
    answers = iter([failure(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", 5)])
    report = deliver_to(lambda request: next(answers, None) or store_all(request), spool, clock)
    assert report.stored_count == 1
    assert clock.waits == [pytest.approx(5 * 1.125)]


def test_a_person_gets_one_try_at_once_where_a_timer_keeps_to_our_own_backoff(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 1)
    spool.set_backoff(Backoff(failure_count=9, next_attempt_time_seconds=clock.seconds + 500))
    with peers() as (aggregator, client):
        timer = deliver(spool, client, heed_own_backoff=True, pace=clock.pace())
        assert (timer.kept_reason, aggregator.requests) == ("BACKING_OFF", [])
        assert deliver(spool, client, pace=clock.pace()).stored_count == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED"),
        (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID"),
        (grpc.StatusCode.FAILED_PRECONDITION, "CONSENT_REQUIRED"),
    ],
)
def test_a_refused_device_stops_at_once_and_keeps_its_runs(
    code: grpc.StatusCode, reason: str, spool: Spool, clock: HandClock
) -> None:
    add_runs(spool, 2)
    with peers(lambda _request: failure(code, reason)) as (aggregator, client):
        report = deliver(spool, client, pace=clock.pace())
    assert (report.kept_count, report.kept_reason, len(aggregator.requests)) == (2, reason, 1)


def test_a_lost_answer_leads_to_a_second_sending_of_the_same_bytes(spool: Spool, clock: HandClock) -> None:
    add_runs(spool, 1)
    answers = iter([failure(grpc.StatusCode.UNAVAILABLE)])
    with peers(lambda request: next(answers, None) or store_all(request)) as (aggregator, client):
        deliver(spool, client, pace=clock.pace())
    first, second = (request.envelopes[0] for request in aggregator.requests)
    assert (first.run_id, first.run, first.run_sha256) == (second.run_id, second.run, second.run_sha256)
    assert (first.attempt_count, second.attempt_count) == (0, 1)


@given(st.lists(st.integers(1, 5 << 20), max_size=250))
def test_batches_keep_the_order_and_the_limits_of_the_contract(sizes: list[int]) -> None:
    entries = [
        Entry(run_id=run_id_of(1.0), sequence=number, size_bytes=size) for number, size in enumerate(sizes, start=1)
    ]
    cut = batches(entries)
    assert [entry for batch in cut for entry in batch] == entries
    for batch in cut:
        assert 1 <= len(batch) <= 100
        assert len(batch) == 1 or sum(entry.size_bytes for entry in batch) < 4 << 20


@given(st.integers(1, 10_000), st.floats(0, 1), st.none() | st.floats(0, 1e9))
def test_a_pause_is_within_its_bounds_however_many_calls_failed(
    failure_count: int, share: float, asked_seconds: float | None
) -> None:
    pause = backoff_seconds(failure_count, asked_seconds, lambda low, high: low + share * (high - low))
    longest = min(900.0, 2.0 * 2.0 ** min(failure_count - 1, 20))
    if asked_seconds is None:
        assert 0 <= pause <= longest
    else:
        assert min(asked_seconds, 86_400.0) <= pause <= max(longest, min(asked_seconds, 86_400.0)) * 1.25


def test_a_clock_that_was_put_back_does_not_hold_the_agent_for_years() -> None:
    own = Backoff(failure_count=1, next_attempt_time_seconds=NOON_SECONDS)
    asked = Backoff(failure_count=1, next_attempt_time_seconds=NOON_SECONDS, asked_by_aggregator=True)
    ten_years = 10 * 365 * 86_400
    for backoff in (own, asked):
        assert standing_seconds(backoff, NOON_SECONDS - 30, heed_own_backoff=True) == 30
        assert standing_seconds(backoff, NOON_SECONDS + 1, heed_own_backoff=True) == 0
        assert standing_seconds(backoff, NOON_SECONDS - ten_years, heed_own_backoff=True) == 0
