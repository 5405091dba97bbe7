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
from example_snapshots import edit_manifest
from killed_publisher import publish

from weighin_analysis.errors import SnapshotError
from weighin_analysis.fleet.snapshot import folder as folder_module
from weighin_analysis.fleet.snapshot.folder import checked_files, publishing, read_manifest

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


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A snapshot that a test may damage."""
    publish(tmp_path / "out", OLD)
    return tmp_path / "out"


def refusal(folder: Path) -> str:
    with pytest.raises(SnapshotError) as caught:
        time_of(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    text = refusal(tmp_path / "nothing")
    assert str(tmp_path / "nothing") in text
    assert "weighin-aggregator snapshot" in text


def test_a_folder_without_manifest_is_no_snapshot(tmp_path: Path) -> None:
    assert "not a snapshot" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["{", "\xff", "", "[" * 100_000, '{"schema_version": ' + "[" * 100_000])
def test_a_manifest_that_is_no_json_is_refused(made: Path, text: str) -> None:
    (made / "manifest.json").write_bytes(text.encode("latin-1"))
    assert "cannot be read as JSON" in refusal(made)


def test_a_manifest_that_is_no_object_is_refused(made: Path) -> None:
    (made / "manifest.json").write_text("[]")
    assert "is no manifest; take a new one" in refusal(made)


@pytest.mark.parametrize("text", ["{}", '{"schema_version": 2}'])
def test_a_manifest_of_another_version_is_refused(made: Path, text: str) -> None:
    (made / "manifest.json").write_text(text)
    assert "this program reads 3" in refusal(made)


@pytest.mark.parametrize(
    "change",
    [
        {"snapshot_time": None},
        {"snapshot_time": "yesterday"},
        {"snapshot_time": "0001-01-01T00:00+23:00"},
        {"formula_version": 2},
        {"limits_version": None},
        {"views_version": None},
        {"tables": {}},
        {"tables": []},
    ],
    ids=str,
)
def test_a_manifest_without_what_it_must_tell_is_refused(made: Path, change: dict[str, object]) -> None:
    edit_manifest(made, lambda manifest: manifest.update(change))
    assert "names no usable files" in refusal(made)


@pytest.mark.parametrize("entry", [None, "runs.parquet", {"files": []}, {"files": [{"file": "runs/1.parquet"}]}])
def test_a_table_without_a_usable_file_is_refused(made: Path, entry: object) -> None:
    edit_manifest(made, lambda manifest: manifest["tables"].update(runs=entry))
    assert "names no usable files" in refusal(made)


@pytest.mark.parametrize("name", ["../out/runs/1.parquet", "/etc/hostname", "runs/../../1.parquet", "..", "..\\1"])
def test_a_manifest_cannot_name_a_file_outside_the_snapshot(made: Path, name: str) -> None:
    edit_manifest(made, lambda manifest: manifest["tables"]["runs"]["files"][0].update(file=name))
    assert "names no usable files" in refusal(made)


def test_a_missing_file_is_named(made: Path) -> None:
    (made / "hardware" / "1.parquet").unlink()
    assert str(made / "hardware" / "1.parquet") in refusal(made)


@pytest.mark.parametrize("data", [b"x", b"PAR1"])
def test_a_file_of_other_bytes_is_named_as_damaged(made: Path, data: bytes) -> None:
    (made / "series" / "1.parquet").write_bytes(data)
    text = refusal(made)
    assert "damaged" in text
    assert str(made / "series" / "1.parquet") in text
    assert "take a new one" in text
