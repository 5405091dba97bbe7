"""A backup holds everything and opens; a restore puts it back, keeps what was there, and brings nobody back."""

import hashlib
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import store_holder
from aggregator_process import command
from example_runs import DEVICE_ID, OTHER_DEVICE_ID
from stored_runs import rows

from weighin_aggregator.errors import BackupError, StoreBusyError, StoreError, StoreVersionError
from weighin_aggregator.store.backup import Backup, checked_backup, take_backup, write_backup
from weighin_aggregator.store.copying import Copy
from weighin_aggregator.store.deletion import RUN_TABLES, delete_device
from weighin_aggregator.store.restore import restore
from weighin_aggregator.store.store import Store, utc_now

TABLES = ("run", "hardware", "device", "device_event", "enrollment_use", "forgotten_device", *RUN_TABLES)


def fill(data: Path, *seeds: int, device_id: str = DEVICE_ID) -> None:
    with Store.open(data, create=True) as store:
        store.insert(rows(*seeds, device_id=device_id))


def make_authority(data: Path, key: str = "key") -> None:
    (data / "authority").mkdir(mode=0o700)
    (data / "authority/ca.key").touch(mode=0o600)
    (data / "authority/ca.key").write_text(key)


def back_up(data: Path, target: Path) -> Backup:
    with Store.open(data) as store:
        return write_backup(data, target, store.begin_copy)


def ask(store: Store, sql: str) -> list[tuple[object, ...]]:
    return store.transact(lambda connection: connection.execute(sql).fetchall())


def forget(store: Store) -> None:
    digest = hashlib.sha256(DEVICE_ID.encode()).digest()
    store.transact(lambda connection: delete_device(connection, DEVICE_ID, digest, utc_now()))


def contents(data: Path) -> dict[str, list[tuple[object, ...]]]:
    with Store.open(data) as store:
        return {table: ask(store, f"FROM {table}") for table in TABLES}


@pytest.fixture
def backup(data: Path, tmp_path: Path) -> Path:
    """A backup of a store with two runs and of an authority, in a folder of its own."""
    fill(data, 1, 2)
    make_authority(data)
    back_up(data, tmp_path / "backups/monday")
    return tmp_path / "backups/monday"


def test_a_restored_store_holds_what_was_backed_up_and_the_keys_too(data: Path, backup: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    assert restore(elsewhere, backup).kept is None
    assert contents(elsewhere) == contents(data)
    assert (elsewhere / "authority/ca.key").read_text() == "key"
    assert sorted(path.name for path in elsewhere.iterdir()) == [
        "authority",
        "weighin.duckdb",
        "weighin.duckdb.lock",
    ]


def test_a_backup_is_for_its_owner_only(backup: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o700
    assert stat.S_IMODE((backup / "authority/ca.key").stat().st_mode) == 0o600


def test_a_backup_is_for_its_owner_only_while_it_is_taken_away(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = shutil.move
    modes: list[int] = []

    def watched_move(source: Path, target: Path) -> None:
        modes.append(stat.S_IMODE(target.stat().st_mode))
        move(source, target)

    monkeypatch.setattr(shutil, "move", watched_move)
    assert take_backup(backup, tmp_path / "taken").rows["run"] == 2
    assert set(modes) == {0o700}


def after_filling(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Let something happen once, when the first copy is filled and before it catches up."""
    fill_alone = Copy.fill

    def fill(copy: Copy) -> None:
        fill_alone(copy)
        monkeypatch.setattr(Copy, "fill", fill_alone)
        then()

    monkeypatch.setattr(Copy, "fill", fill)


def test_a_backup_holds_what_was_committed_while_it_was_made(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(data, 1)
    with Store.open(data) as store:
        after_filling(monkeypatch, lambda: store.insert(rows(2)))
        assert write_backup(data, tmp_path / "backup", store.begin_copy).rows["run"] == 2


def test_a_backup_is_made_again_when_a_device_is_forgotten_meanwhile(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(data, 1)
    fill(data, 2, device_id=OTHER_DEVICE_ID)
    with Store.open(data) as store:
        after_filling(monkeypatch, lambda: forget(store))
        backup = write_backup(data, tmp_path / "backup", store.begin_copy)
    assert (backup.rows["run"], backup.rows["forgotten_device"]) == (1, 1)


def test_a_backup_never_replaces_anything(data: Path, backup: Path) -> None:
    before = checked_backup(backup)
    with pytest.raises(BackupError, match="is there already"):
        back_up(data, backup)
    assert checked_backup(backup) == before


@pytest.mark.parametrize("name", ["bk", "authority/bk", "."])
def test_no_backup_goes_into_the_data_directory_itself(data: Path, backup: Path, name: str) -> None:
    before = sorted(data.rglob("*"))
    done = command("backup", "--data", data, "--out", data / name)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert sorted(data.rglob("*")) == before


def test_what_an_operator_keeps_beside_the_keys_is_restored_with_them(data: Path, tmp_path: Path) -> None:
    fill(data, 1)
    make_authority(data)
    (data / "authority/old/2026").mkdir(parents=True)
    (data / "authority/old/2026/ca.key").write_text("old")
    back_up(data, tmp_path / "bk")
    restore(tmp_path / "new", tmp_path / "bk")
    assert (tmp_path / "new/authority/old/2026/ca.key").read_text() == "old"


def test_a_backup_that_could_not_be_written_leaves_nothing(data: Path, tmp_path: Path) -> None:
    fill(data, 1)

    def fail(path: Path) -> Copy:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    with pytest.raises(BackupError, match="No space left"):
        write_backup(data, tmp_path / "backups/one", fail)
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_backup_that_a_server_wrote_is_moved_and_checked(backup: Path, tmp_path: Path) -> None:
    expected = checked_backup(backup)
    assert take_backup(backup, tmp_path / "taken") == expected
    assert not backup.exists()
    assert checked_backup(tmp_path / "taken") == expected


def cut_the_store(folder: Path) -> None:
    with (folder / "weighin.duckdb").open("r+b") as file:
        file.truncate(4096)


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "weighin.duckdb").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "weighin.duckdb").write_bytes(content)


def lead_outside(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    document["files"]["authority/../../outside"] = {"bytes": 0, "sha256": ""}
    (folder / "manifest.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (cut_the_store, "is damaged: weighin.duckdb"),
        (flip_a_bit, "is damaged: weighin.duckdb"),
        (lead_outside, "does not name its files"),
        (lambda folder: (folder / "authority/ca.key").unlink(), "is not whole: authority/ca.key"),
        (lambda folder: (folder / "manifest.json").unlink(), "is no finished backup"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "backup of version None"),
        (lambda folder: (folder / "manifest.json").write_text('{"backup_version": 1}'), "does not name its files"),
    ],
)
def test_what_is_no_whole_backup_is_refused_and_changes_nothing(
    data: Path, backup: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    before = contents(data)
    damage(backup)
    with pytest.raises(BackupError, match=complaint):
        restore(data, backup)
    assert contents(data) == before


def test_a_backup_of_a_newer_aggregator_is_refused(data: Path, backup: Path) -> None:
    document = json.loads((backup / "manifest.json").read_text())
    document["schema_version"] = 99
    (backup / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(StoreVersionError, match="schema version 99"):
        restore(data, backup)


def test_a_restore_keeps_what_was_there(data: Path, backup: Path) -> None:
    fill(data, 3)
    (data / "authority/ca.key").write_text("another key")
    before = contents(data)
    kept = restore(data, backup).kept
    assert kept is not None
    assert kept.parent == data
    assert contents(kept) == before
    assert (kept / "authority/ca.key").read_text() == "another key"
    assert (data / "authority/ca.key").read_text() == "key"
    assert len(contents(data)["run"]) == 2


def test_a_restore_replaces_a_store_that_cannot_be_opened(data: Path, backup: Path) -> None:
    (data / "weighin.duckdb").write_bytes(b"not a database")
    kept = restore(data, backup).kept
    assert kept is not None
    assert (kept / "weighin.duckdb").read_bytes() == b"not a database"
    assert len(contents(data)["run"]) == 2


def test_nothing_is_restored_under_a_running_server(data: Path, backup: Path) -> None:
    line = [sys.executable, store_holder.__file__, str(data)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreBusyError) as error:
            restore(data, backup)
        assert error.value.pid == holder.pid
    assert len(contents(data)["run"]) == 2


def test_what_was_refused_since_the_backup_stays_refused(data: Path, backup: Path) -> None:
    with Store.open(data) as store:
        ask(store, f"INSERT INTO device_event VALUES ('{OTHER_DEVICE_ID}', '2026-01-01', 'revoked')")
        ask(store, "INSERT INTO enrollment_use VALUES ('token', uuid(), uuid(), '2026-01-01')")
        forget(store)
    expected = contents(data)
    restore(data, backup)
    found = contents(data)
    assert found["run"] == []
    for table in ("forgotten_device", "device_event", "enrollment_use"):
        assert found[table] == expected[table]
        assert len(found[table]) == 1


def test_a_restore_that_was_interrupted_refuses_to_serve_until_it_is_run_again(
    data: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weighin_aggregator.store.restore._finish", lambda data: None)
    restore(data, backup)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="run it again"):
        Store.open(data, create=True)
    restore(data, backup)
    assert len(contents(data)["run"]) == 2
