"""A log whose last transaction a loss of power tore: the store opens with everything that was acknowledged."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from example_runs import run_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_runs import rows

from weighin_aggregator.errors import DamagedLogError, StoreError
from weighin_aggregator.store.engine import log_of
from weighin_aggregator.store.store import FILE_NAME, Store

PAGE_BYTES = 4096
RUNS = 6


class Torn:
    """A store that lost power: its file, its log, and how long the log was after each run."""

    def __init__(self, folder: Path) -> None:
        self.lengths = []
        path = folder / FILE_NAME
        with Store.open(folder, create=True) as store:
            for number in range(1, RUNS + 1):
                store.insert(rows(number))
                self.lengths.append(log_of(path).stat().st_size)
            # Not closed: what lies on disk in this moment is all there is.
            self.file, self.log = path.read_bytes(), log_of(path).read_bytes()

    @property
    def synced_bytes(self) -> int:
        """Length of the log when the last run began."""
        return self.lengths[-2]


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Torn:
    return Torn(tmp_path_factory.mktemp("torn"))


@pytest.fixture
def opened(torn: Torn, tmp_path: Path) -> Callable[[bytes], set[str]]:
    """Open the store with this log; what it holds, twice: a run that is stored then is there at the next opening."""

    def read(log: bytes) -> set[str]:
        data = tmp_path / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        (data / FILE_NAME).write_bytes(torn.file)
        log_of(data / FILE_NAME).write_bytes(log)
        with Store.open(data) as store:
            found = _run_ids(store)
            store.insert(rows(RUNS + 1))
        with Store.open(data) as store:
            assert _run_ids(store) == found | {run_id(RUNS + 1)}
        return found

    return read


def _run_ids(store: Store) -> set[str]:
    found = store.transact(lambda connection: connection.execute("SELECT run_id FROM run").fetchall())
    return {str(one) for (one,) in found}


ACKNOWLEDGED = {run_id(number) for number in range(1, RUNS)}


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_of_the_last_transaction_that_never_reached_the_disk_take_nothing_else_with_them(
    torn: Torn, opened: Callable[[bytes], set[str]], data: st.DataObject
) -> None:
    first = torn.synced_bytes // PAGE_BYTES
    pages = data.draw(st.sets(st.integers(first, (len(torn.log) - 1) // PAGE_BYTES), min_size=1), label="lost pages")
    log = bytearray(torn.log)
    for page in pages:
        start, end = max(page * PAGE_BYTES, torn.synced_bytes), min((page + 1) * PAGE_BYTES, len(log))
        log[start:end] = bytes(end - start)
    assert opened(bytes(log)) == ACKNOWLEDGED


def test_a_log_is_kept_before_its_last_transaction_is_cut_off(
    torn: Torn, opened: Callable[[bytes], set[str]], kept: Callable[[], list[bytes]]
) -> None:
    log = torn.log[:-100] + bytes([torn.log[-100] ^ 1]) + torn.log[-99:]
    assert opened(log) == ACKNOWLEDGED
    assert kept() == [log]


@given(kept=st.integers(0, 10_000), zeros=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_log_that_was_made_longer_before_it_was_written_ends_where_the_writing_ended(
    torn: Torn, opened: Callable[[bytes], set[str]], kept: int, zeros: int
) -> None:
    written = torn.log[: torn.synced_bytes + kept]
    found = opened(written + bytes(zeros))
    assert found == ACKNOWLEDGED | ({run_id(RUNS)} if len(written) == len(torn.log) else set())


@pytest.mark.parametrize("number", range(1, RUNS))
def test_damage_before_a_run_that_was_acknowledged_is_told_and_nothing_is_cut(
    torn: Torn, opened: Callable[[bytes], set[str]], tmp_path: Path, number: int
) -> None:
    middle = (torn.lengths[number - 1] + (torn.lengths[number - 2] if number > 1 else 100)) // 2
    log = torn.log[:middle] + bytes(8) + torn.log[middle + 8 :]
    with pytest.raises(DamagedLogError, match="restore a backup"):
        opened(log)
    assert log_of(tmp_path / "data" / FILE_NAME).read_bytes() == log


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[], list[bytes]]:
    """The logs that were kept for an operator to look at."""
    return lambda: [path.read_bytes() for path in (tmp_path / "data").glob(f"{FILE_NAME}.before-*.wal")]


@pytest.mark.parametrize("position", [0, 4, 7])
def test_a_log_that_is_not_read_though_runs_were_acknowledged_is_kept(
    torn: Torn, opened: Callable[[bytes], set[str]], kept: Callable[[], list[bytes]], position: int
) -> None:
    log = bytearray(torn.log)
    log[position] ^= 0xFF
    assert opened(bytes(log)) == set()
    assert kept() == [bytes(log)]


def test_a_log_of_another_store_is_told_and_stays(
    torn: Torn, opened: Callable[[bytes], set[str]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    another = Torn(tmp_path_factory.mktemp("another"))
    with pytest.raises(StoreError, match="nothing was changed: restore a backup"):
        opened(another.log)
    assert log_of(tmp_path / "data" / FILE_NAME).read_bytes() == another.log


@pytest.mark.parametrize("number", [2, 4, RUNS])
def test_a_log_whose_reading_ends_early_at_a_damaged_size_is_kept(
    torn: Torn, opened: Callable[[bytes], set[str]], kept: Callable[[], list[bytes]], number: int
) -> None:
    log = bytearray(torn.log)
    log[torn.lengths[number - 2] + 6] = 0x7F  # the size of the first entry of that run
    assert opened(bytes(log)) == {run_id(before) for before in range(1, number)}
    assert kept() == [bytes(log)]


@pytest.mark.parametrize("garbage", [bytes(1_000), b"\xee" * 1_000])
def test_a_log_that_is_none_is_kept_once_however_often_it_is_opened(
    torn: Torn, tmp_path: Path, kept: Callable[[], list[bytes]], garbage: bytes
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / FILE_NAME).write_bytes(torn.file)
    log_of(data / FILE_NAME).write_bytes(garbage)
    for _ in range(3):
        Store.open(data).close()
    assert kept() == [garbage]


@pytest.mark.parametrize("cut_bytes", [0, 1, 100, 1_000])
def test_a_log_of_which_nothing_is_missing_that_was_acknowledged_is_not_kept(
    torn: Torn, opened: Callable[[bytes], set[str]], kept: Callable[[], list[bytes]], cut_bytes: int
) -> None:
    opened(torn.log[: len(torn.log) - cut_bytes])
    assert kept() == []
