"""A checkpoint that is cut off anywhere leaves a store that opens with everything that was committed."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from example_runs import run_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_runs import rows

from weighin_aggregator.errors import StoreError, StoreUnavailableError
from weighin_aggregator.store.engine import log_of
from weighin_aggregator.store.journal import Journal, journal_of
from weighin_aggregator.store.store import FILE_NAME, Store

HEADERS_BYTES, BLOCK_BYTES = 3 * 4096, 262_144
RUNS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A store before a checkpoint and after it; its log before, and with the mark of that checkpoint; the journal."""

    before: bytes
    after: bytes
    log: bytes
    marked_log: bytes
    journal: bytes

    def overwritten(self) -> list[int]:
        """Positions of the blocks that are named by the old header and differ now."""
        return [
            position
            for position in range(HEADERS_BYTES, len(self.before), BLOCK_BYTES)
            if self.before[position : position + BLOCK_BYTES] != self.after[position : position + BLOCK_BYTES]
            and self.before[position : position + BLOCK_BYTES] in self.journal
        ]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint of a store that has had some."""
    path = tmp_path_factory.mktemp("checkpointed") / FILE_NAME
    with pytest.MonkeyPatch.context() as patched, Store.open(path.parent, create=True) as store:
        for number in range(1, RUNS + 1):
            store.insert(rows(number))
            if number < RUNS - 1:
                store.checkpoint()
        before, log = path.read_bytes(), log_of(path).read_bytes()
        marked = path.with_name("marked")
        marked.hardlink_to(log_of(path))  # A checkpoint marks its log, and removes it in the end.
        patched.setattr(Journal, "end", lambda _: None)
        store.checkpoint()
        assert not log_of(path).exists()
        return Checkpoint(
            before=before,
            after=path.read_bytes(),
            log=log,
            marked_log=marked.read_bytes(),
            journal=journal_of(path).read_bytes(),
        )


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., set[str]]:
    """Give a store these files, and read twice what it holds: also after a checkpoint of its own."""

    def read(file: bytes, *, log: bytes | None, journal: bytes | None) -> set[str]:
        data = tmp_path / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        path = data / FILE_NAME
        for target, content in ((path, file), (log_of(path), log), (journal_of(path), journal)):
            if content is not None:
                target.write_bytes(content)
        found = []
        for _ in range(2):
            with Store.open(data) as store:
                assert not journal_of(path).exists()
                assert not list(data.glob("*.before-*")), "no log is kept that says nothing new"
                run_ids = store.transact(lambda c: c.execute("SELECT run_id FROM run").fetchall())
                found.append({str(run_id) for (run_id,) in run_ids})
                store.checkpoint()
        assert found[0] == found[1]
        return found[0]

    return read


ALL = {run_id(number) for number in range(1, RUNS + 1)}


def cut(checkpoint: Checkpoint, position: int, written: int) -> bytes:
    """The file when all blocks were written but the one at a position, of which only the first bytes were."""
    end = position + written
    return (
        checkpoint.before[:HEADERS_BYTES]
        + checkpoint.after[HEADERS_BYTES:end]
        + checkpoint.before[end : position + BLOCK_BYTES]
        + checkpoint.after[position + BLOCK_BYTES :]
    )


@given(written=st.integers(0, BLOCK_BYTES // 4096).map(lambda pages: pages * 4096), data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_block_that_is_neither_old_nor_new_is_put_back(
    checkpoint: Checkpoint, opened: Callable[..., set[str]], written: int, data: st.DataObject
) -> None:
    position = data.draw(st.sampled_from(checkpoint.overwritten()))
    assert opened(cut(checkpoint, position, written), log=checkpoint.marked_log, journal=checkpoint.journal) == ALL


def test_without_the_journal_nobody_could_open_it(checkpoint: Checkpoint, opened: Callable[..., set[str]]) -> None:
    """If this fails, DuckDB overwrites no block in place any more, and the journal can go."""
    (position, *_) = checkpoint.overwritten()
    with pytest.raises(StoreError, match="checksum"):
        opened(cut(checkpoint, position, 4096), log=checkpoint.marked_log, journal=None)


def test_a_checkpoint_that_was_cut_off_before_its_header_is_done_again(
    checkpoint: Checkpoint, opened: Callable[..., set[str]]
) -> None:
    file = checkpoint.before[:HEADERS_BYTES] + checkpoint.after[HEADERS_BYTES:]
    assert opened(file, log=checkpoint.marked_log, journal=checkpoint.journal) == ALL


@pytest.mark.parametrize("log_is_gone", [False, True])
def test_a_checkpoint_that_wrote_its_header_stays(
    checkpoint: Checkpoint, opened: Callable[..., set[str]], log_is_gone: bool
) -> None:
    log = None if log_is_gone else checkpoint.marked_log
    assert opened(checkpoint.after, log=log, journal=checkpoint.journal) == ALL


@pytest.mark.parametrize("kept", [0, 31, 32, 5_000, -1])
def test_a_journal_that_was_cut_off_is_of_no_checkpoint(
    checkpoint: Checkpoint, opened: Callable[..., set[str]], kept: int
) -> None:
    assert opened(checkpoint.before, log=checkpoint.log, journal=checkpoint.journal[:kept]) == ALL


def test_a_checkpoint_without_its_journal_does_not_begin_and_the_store_recovers(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data", create=True) as store:
        path = tmp_path / "data" / FILE_NAME
        store.insert(rows(1))
        before = path.read_bytes()
        journal_of(path).mkdir()
        with pytest.raises(StoreUnavailableError, match="journal"):
            store.checkpoint()
        assert path.read_bytes() == before
        with pytest.raises(StoreUnavailableError, match="not open"):
            store.insert(rows(2))
        journal_of(path).rmdir()
        store.recover()
        store.insert(rows(2))
        store.checkpoint()
        assert store.stats().runs == 2


def test_a_journal_that_was_not_rolled_back_is_never_replaced(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with Store.open(tmp_path, create=True) as store:
        store.insert(rows(1))
        journal_of(tmp_path / FILE_NAME).write_bytes(checkpoint.journal)
        with pytest.raises(StoreUnavailableError, match="journal"):
            store.checkpoint()
        assert journal_of(tmp_path / FILE_NAME).read_bytes() == checkpoint.journal


def test_a_file_that_cannot_be_opened_keeps_its_journal(
    checkpoint: Checkpoint, opened: Callable[..., set[str]], tmp_path: Path
) -> None:
    spoiled = checkpoint.after[:HEADERS_BYTES] + bytes(len(checkpoint.after) - HEADERS_BYTES)
    with pytest.raises(StoreError, match="checksum"):
        opened(spoiled, log=None, journal=checkpoint.journal)
    assert journal_of(tmp_path / "data" / FILE_NAME).read_bytes() == checkpoint.journal
