"""A data directory has one owner at a time, whatever is put in its place meanwhile, and is closed to everybody else."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import aggregator_process
import pytest
import store_holder
from aggregator_process import command
from example_runs import DEVICE_ID
from old_store import make_store_of_the_first_version
from stored_runs import rows

from weighin_aggregator.commands.upkeep import alone
from weighin_aggregator.errors import StoreBusyError, StoreError, StoreMissingError
from weighin_aggregator.identity.roster import tombstone
from weighin_aggregator.store.backup import write_backup
from weighin_aggregator.store.deletion import delete_device
from weighin_aggregator.store.directory import owned
from weighin_aggregator.store.restore import restore
from weighin_aggregator.store.store import Store, utc_now
from weighin_aggregator.store.upkeep import compact

LOCK = "weighin.duckdb.lock"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_who_comes_second_is_told_who_works_there_until_the_first_is_done(data: Path) -> None:
    with Store.open(data, create=True):
        with pytest.raises(StoreBusyError, match=f"in use by process {os.getpid()};") as error:
            Store.open(data)
        assert error.value.pid == os.getpid()
    Store.open(data).close()


def test_a_killed_owner_owns_nothing_and_the_lock_file_stays(data: Path) -> None:
    Store.open(data, create=True).close()
    inode = (data / LOCK).stat().st_ino
    line = [sys.executable, store_holder.__file__, str(data)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreBusyError) as error:
            Store.open(data)
        assert error.value.pid == holder.pid
        holder.kill()
    Store.open(data).close()
    assert (data / LOCK).stat().st_ino == inode


def test_a_store_that_failed_to_open_is_owned_by_nobody(data: Path) -> None:
    data.mkdir()
    (data / "weighin.duckdb").write_bytes(b"not a database")
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot open"):
            Store.open(data)


def test_a_file_that_another_program_has_open_is_busy_too(data: Path) -> None:
    Store.open(data, create=True).close()
    program = f"import duckdb, sys; c = duckdb.connect({str(data / 'weighin.duckdb')!r}); print(); sys.stdin.read()"
    line = [sys.executable, "-c", program]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "\n"
        with pytest.raises(StoreBusyError, match=rf"open elsewhere.*PID {holder.pid}"):
            Store.open(data)


def try_around_every_step(monkeypatch: pytest.MonkeyPatch, data: Path) -> list[str]:
    """Let somebody try to open the store before and after every step that moves a file; return what was moved."""
    moved: list[str] = []

    def try_to_open() -> None:
        with pytest.raises(StoreBusyError) as error:
            Store.open(data, create=True)
        assert error.value.pid == os.getpid()

    def around(step: Callable[..., Any], path: Path, *rest: Any) -> Any:
        try_to_open()
        done = step(path, *rest)
        try_to_open()
        moved.append(path.name)
        return done

    for name in ("rename", "replace", "rmdir"):
        step = getattr(Path, name)
        monkeypatch.setattr(Path, name, lambda path, *rest, step=step: around(step, path, *rest))
    return moved


def test_nobody_opens_the_store_while_its_compacted_copy_takes_its_place(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget = partial(delete_device, device_id=DEVICE_ID, digest=tombstone(DEVICE_ID), moment=utc_now())
    with Store.open(data, create=True) as store:
        store.insert(rows(1))
        store.transact(forget)
        moved = try_around_every_step(monkeypatch, data)
        assert compact(data, alone(store))
        with pytest.raises(StoreBusyError):
            Store.open(data)
    assert "weighin.duckdb.compacted" in moved


def test_nobody_opens_the_store_while_a_backup_takes_its_place(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(data, create=True) as store:
        store.insert(rows(1))
        write_backup(data, tmp_path / "backup", store.begin_copy)
    moved = try_around_every_step(monkeypatch, data)
    restore(data, tmp_path / "backup")
    assert {"restore.unfinished", "weighin.duckdb", "restoring"} <= set(moved)
    monkeypatch.undo()
    Store.open(data).close()


def test_a_folder_without_a_store_is_left_as_it_is(data: Path) -> None:
    data.mkdir(mode=0o755)
    with pytest.raises(StoreMissingError):
        Store.open(data)
    assert (mode(data), list(data.iterdir())) == (0o755, [])


def test_a_backup_or_a_snapshot_is_no_data_directory_and_stays_as_it_is(data: Path) -> None:
    data.mkdir(mode=0o700)
    (data / "manifest.json").touch()
    with pytest.raises(StoreError, match="no data directory"):
        Store.open(data, create=True)
    assert [path.name for path in data.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("left", ["weighin.duckdb.wal", "weighin.duckdb.journal", "authority/ca.key"])
def test_no_empty_store_is_begun_beside_what_is_left_of_one(data: Path, left: str) -> None:
    (data / left).parent.mkdir(mode=0o700, parents=True)
    (data / left).write_bytes(b"of before")
    with pytest.raises(StoreError, match=f"is gone, and .*{left} of it is there"):
        Store.open(data, create=True)
    assert (data / left).read_bytes() == b"of before"
    assert not (data / "weighin.duckdb").exists()


def test_an_empty_folder_is_closed_to_other_users(data: Path) -> None:
    data.mkdir(mode=0o755)
    (data / "lost+found").mkdir()
    done = command("init", "--data", data)
    assert done.returncode == 0
    assert json.loads(done.stderr)["event"] == "data_directory_closed"
    assert mode(data) == 0o700
    assert mode(data / LOCK) == 0o600
    assert command("init", "--data", data).stderr == "", "said once"


def test_a_folder_that_others_may_use_for_more_is_refused_in_one_line(data: Path) -> None:
    data.mkdir(mode=0o755)
    (data / "thesis.txt").touch()
    done = command("init", "--data", data)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"weighin-aggregator: {data} is open to other users and holds what is not weighin's, as thesis.txt; close it "
        f"with `chmod 700 {data}`, or name a folder of its own\n"
    )
    assert (mode(data), [path.name for path in data.iterdir()]) == (0o755, ["thesis.txt"])
    data.chmod(0o700)
    assert command("init", "--data", data).returncode == 0


def test_whatever_the_program_leaves_in_its_folder_is_known_as_its_own(data: Path, tmp_path: Path) -> None:
    make_store_of_the_first_version(data, rows(1))
    server = aggregator_process.start(data, tmp_path / "log", mode=())
    command("snapshot", "--data", data, "--out", tmp_path / "snapshot")
    command("backup", "--data", data, "--out", tmp_path / "backup")
    server.kill()
    assert command("restore", "--data", data, tmp_path / "backup").returncode == 0
    (data / "restoring").mkdir()
    expected = {"weighin.duckdb", LOCK, "authority", "serving.json", "snapshots", "backups", "restoring"}
    assert {path.name for path in data.iterdir()} > expected
    data.chmod(0o755)
    with pytest.raises(StoreError, match="run it again"):
        Store.open(data)
    assert mode(data) == 0o700


def test_root_gives_the_lock_to_whose_folder_it_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(data, 12_345, 12_345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    with owned(data):
        assert (data / LOCK).stat().st_uid == data.stat().st_uid
