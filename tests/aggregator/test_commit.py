"""Group commit with a real store: who is told what, and who waits for whom."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import example_runs
import pytest

from weighin_aggregator.errors import NoRoomError, StoreRefusedError, StoreUnavailableError
from weighin_aggregator.intake.examine import Accepted, examine
from weighin_aggregator.intake.records import Batch, to_batch
from weighin_aggregator.limits import DEFAULT_LIMITS, Limits
from weighin_aggregator.refusal import Reason, Refusal
from weighin_aggregator.store.commit import Committer, Decision
from weighin_aggregator.store.store import Store, utc_now

SECONDS = 30


def batch(*seeds: int, device_id: str = example_runs.DEVICE_ID, run_id: str | None = None) -> Batch:
    accepted = []
    for seed in seeds:
        item = examine(example_runs.example_envelope(seed), DEFAULT_LIMITS)
        assert isinstance(item, Accepted)
        accepted.append(replace(item, run_id=run_id or item.run_id))
    return to_batch(accepted, device_id, utc_now())


@pytest.fixture
def store(data: Path) -> Iterator[Store]:
    with Store.open(data, create=True) as store:
        yield store


@contextmanager
def committing(store: Store, limits: Limits = DEFAULT_LIMITS) -> Iterator[Committer]:
    committer = Committer(store, limits, on_writable=lambda writable: None)
    committer.start()
    try:
        yield committer
    finally:
        assert committer.stop(SECONDS)


@contextmanager
def held(committer: Committer) -> Iterator[None]:
    """Keep the committer busy for the block, so that what is submitted in it waits together."""
    entered, leave = threading.Event(), threading.Event()

    def hold(_: Store) -> None:
        entered.set()
        assert leave.wait(SECONDS)

    done = committer.between_commits(hold)
    assert entered.wait(SECONDS)
    try:
        yield
    finally:
        leave.set()
        done.result(SECONDS)


def test_calls_that_wait_are_committed_together_and_each_is_told_about_its_own_runs(store: Store) -> None:
    with committing(store) as committer:
        with held(committer):
            futures = [committer.submit(batch(seed)) for seed in (1, 2, 3)]
        answers = [future.result(SECONDS) for future in futures]
        assert answers == [{example_runs.run_id(seed): Decision.STORED} for seed in (1, 2, 3)]
        assert store.stats().runs == 3


def test_one_run_id_in_two_waiting_calls_is_stored_once(store: Store) -> None:
    run_id = example_runs.run_id(1)
    with committing(store) as committer:
        with held(committer):
            first = committer.submit(batch(1))
            again = committer.submit(batch(1))
            other_bytes = committer.submit(batch(2, run_id=run_id))
            other_device = committer.submit(batch(1, device_id=example_runs.OTHER_DEVICE_ID))
        answers = [future.result(SECONDS)[run_id] for future in (first, again, other_bytes, other_device)]
    assert answers == [Decision.STORED, Decision.DUPLICATE, Decision.RUN_ID_REUSED, Decision.RUN_ID_REUSED]
    assert store.stats().runs == 1


def test_a_full_queue_refuses_more_and_takes_them_once_there_is_room(store: Store) -> None:
    with committing(store, Limits(queued_runs=2)) as committer:
        with held(committer):
            waiting = committer.submit(batch(1, 2))
            with pytest.raises(Refusal) as refused:
                committer.submit(batch(3))
        assert refused.value.reason == Reason.OVERLOADED
        waiting.result(SECONDS)
        assert committer.submit(batch(3)).result(SECONDS) == {example_runs.run_id(3): Decision.STORED}


def test_groups_are_no_larger_than_allowed_and_nobody_is_left_out(store: Store) -> None:
    with committing(store, Limits(group_runs=2)) as committer:
        with held(committer):
            futures = [committer.submit(batch(seed, seed + 100)) for seed in range(1, 6)]
        assert all(len(future.result(SECONDS)) == 2 for future in futures)
        assert store.stats().runs == 10


def test_a_caller_who_left_before_its_turn_is_dropped(store: Store) -> None:
    with committing(store) as committer:
        with held(committer):
            gone = committer.submit(batch(1))
            stays = committer.submit(batch(2))
            assert gone.cancel()
        stays.result(SECONDS)
        assert store.stats().runs == 1


def test_rows_that_the_store_refuses_sink_only_the_call_that_brought_them(store: Store) -> None:
    poisoned = batch(2)
    tables = dict(poisoned.tables)
    tables["run"] = tables["run"].set_column(1, "device_id", tables["run"]["suite"])
    with committing(store) as committer:
        with held(committer):
            before = committer.submit(batch(1))
            bad = committer.submit(replace(poisoned, tables=tables))
            after = committer.submit(batch(3))
        assert before.result(SECONDS) == {example_runs.run_id(1): Decision.STORED}
        assert after.result(SECONDS) == {example_runs.run_id(3): Decision.STORED}
        with pytest.raises(StoreRefusedError):
            bad.result(SECONDS)
    assert store.stats().runs == 2


def test_a_disk_that_is_nearly_full_refuses_writes_before_it_is_full(store: Store) -> None:
    told: list[bool] = []
    committer = Committer(store, Limits(free_disk_bytes=1 << 62), told.append)
    committer.start()
    future = committer.submit(batch(1))
    assert future.exception(SECONDS) is not None
    assert committer.stop(SECONDS)
    assert told == [False]
    assert store.stats().runs == 0


def test_a_disk_that_is_nearly_full_does_not_reopen_the_store_at_every_call(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovered: list[None] = []
    monkeypatch.setattr(store, "recover", lambda: recovered.append(None))
    with committing(store, Limits(free_disk_bytes=1 << 62)) as committer:
        assert isinstance(committer.submit(batch(1)).exception(SECONDS), NoRoomError)
    assert recovered == []


def test_a_chore_that_writes_needs_room_and_one_that_reads_does_not(store: Store) -> None:
    done: list[str] = []
    with committing(store, Limits(free_disk_bytes=1 << 62)) as committer:
        writing = committer.between_commits(lambda _: done.append("written"), needs_room=True)
        assert isinstance(writing.exception(SECONDS), NoRoomError)
        committer.between_commits(lambda _: done.append("read")).result(SECONDS)
    assert done == ["read"]


def test_what_fails_between_commits_is_told_to_its_caller_and_work_goes_on(store: Store) -> None:
    def fail(_: Store) -> None:
        raise RuntimeError("planted")

    with committing(store) as committer:
        with pytest.raises(RuntimeError, match="planted"):
            committer.between_commits(fail).result(SECONDS)
        assert committer.submit(batch(1)).result(SECONDS) == {example_runs.run_id(1): Decision.STORED}


def test_stopping_finishes_what_waits(store: Store) -> None:
    committer = Committer(store, DEFAULT_LIMITS, on_writable=lambda writable: None)
    futures = [committer.submit(batch(seed)) for seed in (1, 2)]
    committer.start()
    assert committer.stop(SECONDS)
    assert [future.done() for future in futures] == [True, True]
    assert store.stats().runs == 2


def test_a_chore_that_cannot_write_tells_it_and_opens_the_store_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a server to which devices only enrol would stay sick for ever after a full disk."""
    states: list[bool] = []
    reopened = threading.Event()
    recover = store.recover

    def reopen() -> None:
        recover()
        reopened.set()

    def write(_: Store) -> None:
        raise StoreUnavailableError("no space left")

    monkeypatch.setattr(store, "recover", reopen)
    committer = Committer(store, DEFAULT_LIMITS, on_writable=states.append)
    committer.start()
    try:
        with pytest.raises(StoreUnavailableError):
            committer.between_commits(write, needs_room=True).result(SECONDS)
        assert reopened.wait(SECONDS)
        assert committer.submit(batch(1)).result(SECONDS) == {example_runs.run_id(1): Decision.STORED}
    finally:
        assert committer.stop(SECONDS)
    assert states == [False, True]


def test_runs_that_waited_while_their_device_was_forgotten_are_not_stored(store: Store) -> None:
    forgotten: set[str] = set()

    def require_welcome(device_id: str) -> None:
        if device_id in forgotten:
            raise Refusal(Reason.DEVICE_FORGOTTEN)

    committer = Committer(store, DEFAULT_LIMITS, lambda _: None, require_welcome)
    committer.start()
    with held(committer):
        late = committer.submit(batch(1))
        other = committer.submit(batch(2, device_id=example_runs.OTHER_DEVICE_ID))
        forgotten.add(example_runs.DEVICE_ID)
    with pytest.raises(Refusal) as refused:
        late.result(SECONDS)
    assert refused.value.reason == Reason.DEVICE_FORGOTTEN
    assert other.result(SECONDS) == {example_runs.run_id(2): Decision.STORED}
    assert committer.stop(SECONDS)
    assert store.stats().runs == 1


def test_a_committer_that_stops_takes_no_more_work(store: Store) -> None:
    with committing(store) as committer:
        pass
    with pytest.raises(StoreUnavailableError):
        committer.between_commits(Store.stats)
