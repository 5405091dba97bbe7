from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spooled import NOON_SECONDS, HandClock, add_runs, open_spool, run_id_of

from weighin_agent import files
from weighin_agent.errors import DamagedRunError, SpoolError
from weighin_agent.fleet.entry import Caps, Entry, surplus_runs
from weighin_agent.fleet.ledger import Backoff
from weighin_agent.fleet.run_id import uuid7
from weighin_agent.fleet.spool import Spool

DAY = 86_400.0


def runs_of(spool: Spool) -> list[bytes]:
    return [spool.read(entry).run for entry in spool.pending()]


def test_a_run_is_on_disk_when_add_returns_and_reads_back_as_it_was(tmp_path: Path) -> None:
    entry = open_spool(tmp_path).add(b"facts", run_id=uuid7(), sequence=7)
    again = open_spool(tmp_path)
    assert again.pending() == (entry,)
    envelope = again.read(entry)
    assert (envelope.run, envelope.run_id, envelope.sequence, envelope.attempt_count) == (b"facts", entry.run_id, 7, 0)
    assert len(envelope.run_sha256) == 32


def test_the_size_of_a_spool_file_covers_its_envelope_in_a_request(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    (entry,) = add_runs(spool, 1)
    envelope = spool.read(entry)
    envelope.attempt_count = 2**31 - 1
    assert entry.size_bytes >= envelope.ByteSize() + 5


def test_runs_come_in_the_order_of_their_sequence_even_when_the_clock_was_put_back(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for sequence, moment in ((1, 2e9), (2, 1e9), (12, 1.5e9)):
        spool.add(b"run", run_id=run_id_of(moment), sequence=sequence)
    assert [entry.sequence for entry in open_spool(tmp_path).pending()] == [1, 2, 12]


def test_a_run_leaves_the_disk_when_it_is_acknowledged_and_once_is_enough(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    first, second = add_runs(spool, 2)
    spool.acknowledge(first)
    spool.acknowledge(first)
    assert open_spool(tmp_path).pending() == (second,)


def test_a_known_run_id_or_a_used_sequence_or_a_malformed_run_id_is_refused(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    (entry,) = add_runs(spool, 1)
    for run_id, sequence in ((entry.run_id, 2), (uuid7(), 1), ("../../x", 2), (uuid7(), 0)):
        with pytest.raises(SpoolError):
            spool.add(b"run", run_id=run_id, sequence=sequence)
    assert spool.pending() == (entry,)


def test_a_rejected_run_goes_to_the_quarantine_with_its_reason(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    first, second = add_runs(spool, 2)
    spool.quarantine(first, "FIELD_INVALID", "device.cpu: missing")
    again = open_spool(tmp_path)
    assert again.pending() == (second,)
    (aside,) = again.quarantined()
    assert (aside.run_id, aside.reason, aside.detail) == (first.run_id, "FIELD_INVALID", "device.cpu: missing")
    assert again.quarantined_count == 1


def test_a_lost_note_does_not_hide_a_quarantined_run(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    (entry,) = add_runs(spool, 1)
    spool.quarantine(entry, "FIELD_INVALID", "")
    for note in (tmp_path / "quarantine").glob("*.json"):
        note.write_bytes(b"\0" * 9)
    (aside,) = spool.quarantined()
    assert (aside.run_id, aside.reason) == (entry.run_id, None)


def test_past_the_cap_on_runs_the_oldest_goes_and_is_counted_across_restarts(tmp_path: Path) -> None:
    caps = Caps(run_count=3)
    spool = open_spool(tmp_path, caps=caps)
    add_runs(spool, 5)
    again = open_spool(tmp_path, caps=caps)
    assert [entry.sequence for entry in again.pending()] == [3, 4, 5]
    assert again.dropped_count == 2


def test_past_the_cap_on_bytes_the_oldest_goes_but_never_the_newest_however_large(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, caps=Caps(total_bytes=2_000))
    add_runs(spool, 4, run=b"x" * 500)
    assert len(spool.pending()) == 3
    (huge,) = add_runs(spool, 1, run=b"x" * 9_000)
    assert spool.pending() == (huge,)
    assert spool.dropped_count == 4


def test_after_30_days_a_run_goes_unless_it_is_the_newest(tmp_path: Path) -> None:
    clock = HandClock()
    spool = open_spool(tmp_path, clock=clock)
    add_runs(spool, 2, clock=clock)
    clock.seconds += 31 * DAY
    again = open_spool(tmp_path, clock=clock)
    assert ([entry.sequence for entry in again.pending()], again.dropped_count) == ([2], 1)


def test_runs_from_a_clock_that_was_never_set_are_not_taken_for_old(tmp_path: Path) -> None:
    """A board without a battery starts in 1970; its first runs must survive the moment the clock is set."""
    clock = HandClock(seconds=60.0)
    spool = open_spool(tmp_path, clock=clock)
    add_runs(spool, 3, clock=clock)
    clock.seconds = NOON_SECONDS
    assert len(open_spool(tmp_path, clock=clock).pending()) == 3


def test_the_quarantine_forgets_after_30_days_and_still_counts(tmp_path: Path) -> None:
    clock = HandClock()
    spool = open_spool(tmp_path, clock=clock)
    for entry in add_runs(spool, 2, clock=clock):
        spool.quarantine(entry, "FIELD_INVALID", "")
        clock.seconds += 20 * DAY
    again = open_spool(tmp_path, clock=clock)
    assert (len(again.quarantined()), again.quarantined_count) == (1, 2)
    assert len(list((tmp_path / "quarantine").iterdir())) == 2, "a run and its note"


def test_a_crash_between_counting_a_drop_and_removing_the_file_counts_it_once(tmp_path: Path) -> None:
    caps = Caps(run_count=2)
    spool = open_spool(tmp_path, caps=caps)
    first, second = add_runs(spool, 2)
    kept = (tmp_path / first.file_name).read_bytes()
    add_runs(spool, 1)
    (tmp_path / first.file_name).write_bytes(kept)  # as if the removal had not happened
    again = open_spool(tmp_path, caps=caps)
    assert again.pending()[0] == second
    assert again.dropped_count == 1


def test_what_a_crash_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    (entry,) = add_runs(spool, 1)
    (tmp_path / (entry.file_name + files.TEMPORARY_SUFFIX)).write_bytes(b"half")
    again = open_spool(tmp_path)
    assert again.pending() == (entry,)
    assert not list(tmp_path.glob("*" + files.TEMPORARY_SUFFIX))


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "000000000001-not-a-run-id.run").write_text("mine")
    spool = open_spool(tmp_path)
    assert spool.pending() == ()
    assert (tmp_path / "notes.txt").exists()


def test_tries_mismatches_and_the_backoff_survive_the_process_until_the_run_has_left(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    first, second = add_runs(spool, 2)
    spool.note_attempts([first.run_id, second.run_id])
    spool.note_attempts([first.run_id])
    spool.note_mismatch(first.run_id)
    backoff = Backoff(failure_count=3, next_attempt_time_seconds=5.5, asked_by_aggregator=True)
    spool.set_backoff(backoff)
    again = open_spool(tmp_path)
    assert [again.read(entry).attempt_count for entry in again.pending()] == [2, 1]
    assert again.ledger.backoff == backoff
    assert again.note_mismatch(first.run_id) == 2
    again.acknowledge(first)
    assert set(open_spool(tmp_path).ledger.attempt_counts) == {second.run_id}


@pytest.mark.parametrize("damage", [b"", b"\0" * 50, b"{}"])
def test_a_damaged_ledger_is_set_aside_and_no_run_with_it(tmp_path: Path, damage: bytes) -> None:
    spool = open_spool(tmp_path)
    add_runs(spool, 2)
    spool.note_attempts(entry.run_id for entry in spool.pending())
    (tmp_path / "ledger").write_bytes(damage)
    assert Spool(tmp_path).dropped_count == 0, "reading alone repairs nothing and fails on nothing"
    again = open_spool(tmp_path)
    assert runs_of(again) == [b"run1", b"run2"]
    assert [aside.file_name for aside in again.quarantined()] == ["ledger"]


def test_only_a_run_that_was_never_sent_can_be_rewritten(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    (entry,) = add_runs(spool, 1)
    entry = spool.rewrite(entry, b"other")
    assert runs_of(spool) == [b"other"]
    spool.note_attempts([entry.run_id])
    with pytest.raises(SpoolError):
        spool.rewrite(entry, b"third")


def test_a_spool_that_cannot_be_written_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    with pytest.raises(SpoolError, match="spool cannot be used") as refused:
        Spool(tmp_path / "spool").recover()
    assert "\n" not in str(refused.value)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), max_size=12),
    st.integers(1, 6),
    st.integers(1, 200),
)
def test_what_the_caps_leave_is_within_them_or_the_newest_alone(
    ages_and_sizes: list[tuple[int, int]], run_count: int, total_bytes: int
) -> None:
    caps = Caps(run_count=run_count, total_bytes=total_bytes)
    entries = [
        Entry(run_id=run_id_of(NOON_SECONDS - age * DAY), sequence=number, size_bytes=size)
        for number, (age, size) in enumerate(ages_and_sizes, start=1)
    ]
    kept = [entry for entry in entries if entry not in surplus_runs(entries, caps, NOON_SECONDS)]
    if entries:
        assert kept[-1] == entries[-1]
    assert len(kept) <= run_count
    assert len(kept) <= 1 or sum(entry.size_bytes for entry in kept) <= total_bytes


def test_a_file_under_another_runs_name_is_taken_for_damaged(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    first, second = add_runs(spool, 2)
    (tmp_path / first.file_name).write_bytes((tmp_path / second.file_name).read_bytes())
    with pytest.raises(DamagedRunError):
        spool.read(first)
