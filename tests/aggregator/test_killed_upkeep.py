"""Killed at any step of its upkeep, a store opens, holds everything that was acknowledged, and can do it again."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import killed_keeper
import pytest
from example_runs import DEVICE_ID, OTHER_DEVICE_ID, run_id
from old_store import make_store_of_the_first_version
from stored_runs import rows

from weighin_aggregator.errors import StoreError
from weighin_aggregator.store.backup import checked_backup
from weighin_aggregator.store.restore import restore
from weighin_aggregator.store.store import Store

PLANTED = b"planted bytes of a device that will be forgotten"
# Of the base of every test: two runs of a device, and one of another.
ALL, OTHERS = {run_id(1), run_id(2), run_id(3)}, {run_id(3)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a data directory, of which everything is in the file."""
    with Store.open(tmp_path / "base/data", create=True) as store:
        store.insert(rows(1, 2, device_id=DEVICE_ID, raw=PLANTED))
        store.insert(rows(3, device_id=OTHER_DEVICE_ID))
    return tmp_path / "base"


def killed(what: str, base: Path) -> Iterator[Path]:
    """Give every copy of the base in which a piece of upkeep was killed, and the last in which it was not."""
    work = base.with_name("work")
    line = [sys.executable, killed_keeper.__file__, what, str(base), str(work)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    folders = sorted(work.iterdir(), key=lambda folder: int(folder.name))
    assert len(folders) > 3
    for folder in folders:
        yield folder
        shutil.rmtree(folder)


def held(data: Path) -> set[str]:
    """The runs of a store that opens, takes a run that it holds as one that it knows, and has all rows of each."""
    with Store.open(data) as store:
        run_ids = {str(one) for (one,) in store.transact(lambda c: c.execute("SELECT run_id FROM run").fetchall())}
        for table in ("measurement", "series", "case_failure", "probe_gap"):
            found = store.transact(lambda c, t=table: c.execute(f"SELECT DISTINCT run_id FROM {t}").fetchall())  # type: ignore[misc]
            assert {str(one) for (one,) in found} == run_ids
        again = store.insert(rows(3, device_id=OTHER_DEVICE_ID))
        assert set(again) == OTHERS
    return run_ids


def test_a_backup_is_whole_or_not_there(base: Path) -> None:
    found = []
    for folder in killed("back_up", base):
        assert held(folder / "data") == ALL
        found.append((folder / "backup").exists())
        if found[-1]:
            assert checked_backup(folder / "backup").rows["run"] == 3
        else:
            killed_keeper.back_up(folder)
            assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert found[-1]
    assert not found[0]


def test_compaction_leaves_the_old_file_or_the_new_one_and_what_was_deleted_goes_in_the_end(base: Path) -> None:
    killed_keeper.forget(base)
    for folder in killed("compact", base):
        assert held(folder / "data") == OTHERS
        killed_keeper.compact(folder)
        assert held(folder / "data") == OTHERS
        for path in (folder / "data").iterdir():
            assert PLANTED not in path.read_bytes(), path.name


def test_a_device_is_forgotten_with_all_its_runs_or_not_at_all(base: Path) -> None:
    seen = set()
    for folder in killed("forget", base):
        run_ids = held(folder / "data")
        with Store.open(folder / "data") as store:
            stones = store.transact(lambda c: c.execute("FROM forgotten_device").fetchall())
        assert (run_ids, len(stones)) in ((ALL, 0), (OTHERS, 1))
        seen.add(len(stones))
    assert seen == {0, 1}


def test_a_migration_is_done_or_done_again_and_the_file_of_before_is_kept(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    make_store_of_the_first_version(base / "data", rows(1, 2, 3))
    for folder in killed("migrate", base):
        killed_keeper.migrate(folder)
        with Store.open(folder / "data") as store:
            assert store.stats().runs == 3
        (kept,) = (folder / "data").glob("weighin.duckdb.before-*")
        with duckdb.connect(str(kept), read_only=True) as connection:
            assert connection.execute("SELECT count(*) FROM run").fetchall() == [(3,)]
            assert connection.execute("SELECT max(version) FROM migration").fetchall() == [(1,)]


def test_a_restore_that_was_killed_leaves_what_was_there_or_is_finished_by_the_next(base: Path) -> None:
    killed_keeper.back_up(base)
    with Store.open(base / "data") as store:
        store.insert(rows(4, device_id=OTHER_DEVICE_ID))
    later = {*ALL, run_id(4)}
    refused = 0
    for folder in killed("put_back", base):
        if (folder / "data/restoring").exists():
            refused += 1
            with pytest.raises(StoreError, match="run it again"):
                Store.open(folder / "data")
        else:
            assert held(folder / "data") in (later, ALL)
        restore(folder / "data", folder / "backup")
        assert held(folder / "data") == ALL
        copies = [path for path in (folder / "data").rglob("weighin.duckdb") if path.parent != folder / "data"]
        assert later in [held(path.parent) for path in copies], "what was there is kept"
    assert refused > 0
