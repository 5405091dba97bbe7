"""The folder of a snapshot is whole or not there, whatever ends the process that writes it."""

import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import killed_publisher
import pytest
from killed_publisher import publish

from weighin_analysis.errors import SnapshotError
from weighin_analysis.fleet import folder as folder_module
from weighin_analysis.fleet.folder import checked_files, publishing, read_manifest

OLD, NEW, NEXT = (datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3))


def time_of(target: Path) -> datetime:
    """The time of a snapshot whose files are all as its manifest says."""
    manifest = read_manifest(target)
    checked_files(target, manifest)
    return manifest.time


def run_until_step(target: Path, step: int) -> int:
    """Publish in another process that is killed before a step of it; returns how it ended."""
    line = [sys.executable, killed_publisher.__file__, str(target), NEW.isoformat(), str(step)]
    return subprocess.run(line, check=False).returncode


@pytest.mark.slow
def test_a_process_killed_at_any_step_leaves_the_old_snapshot_or_the_new_one_and_the_next_clears_up(
    tmp_path: Path,
) -> None:
    target = tmp_path / "out"
    found = set()
    for step in count(1, 5):
        publish(target, OLD)
        ended = run_until_step(target, step)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        found.add(time_of(target))
        publish(target, NEXT)
        assert list(tmp_path.iterdir()) == [target]
    assert found == {OLD, NEW}


def test_a_killed_process_leaves_a_folder_that_the_next_one_removes(tmp_path: Path) -> None:
    target = tmp_path / "out"
    publish(target, OLD)
    assert run_until_step(target, 60) == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    publish(tmp_path / "another", NEXT)
    assert set(tmp_path.iterdir()) == {target, tmp_path / "another"}


def test_what_another_process_is_still_writing_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with ExitStack() as other:
        theirs = other.enter_context(publishing(target))
        publish(target, OLD)
        assert theirs.is_dir()
        shutil.copytree(target, theirs, dirs_exist_ok=True)
    assert time_of(target) == OLD
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_of_somebody_with_a_similar_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".out.backup").mkdir()
    publish(tmp_path / "out", OLD)
    assert (tmp_path / ".out.backup").is_dir()


@pytest.fixture
def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot swap two folders."""
    monkeypatch.setattr(folder_module, "_exchanged", lambda *_: False)


@pytest.mark.usefixtures("without_exchange")
def test_a_snapshot_is_replaced_also_where_two_folders_cannot_be_swapped(tmp_path: Path) -> None:
    target = tmp_path / "out"
    publish(target, OLD)
    publish(target, NEW)
    assert time_of(target) == NEW
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.usefixtures("without_exchange")
def test_the_old_snapshot_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    publish(target, OLD)
    rename = Path.rename

    def fail_on_the_new_one(self: Path, to: Path) -> Path:
        if to == target and self.suffix != ".old":
            raise OSError("planted")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail_on_the_new_one)
    with pytest.raises(SnapshotError, match="planted"):
        publish(target, NEW)
    assert time_of(target) == OLD
    assert list(tmp_path.iterdir()) == [target]


def test_an_old_snapshot_that_a_killed_process_put_aside_comes_back_with_the_next(tmp_path: Path) -> None:
    """Where two folders cannot be swapped, it lies aside between two renames."""
    target = tmp_path / "out"
    publish(target, OLD)
    target.rename(tmp_path / ".out.weighin-abcdefgh.old")
    with pytest.raises(KeyboardInterrupt), publishing(target):
        raise KeyboardInterrupt
    assert time_of(target) == OLD
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), publishing(tmp_path / "out") as folder:
        (folder / "half").rename(folder / "whole")
    assert list(tmp_path.iterdir()) == []
