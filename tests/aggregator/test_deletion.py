"""What is deleted is gone from every table, and its bytes from the disk once the store is compacted."""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from example_runs import DEVICE_ID, LAPTOP, OTHER_DEVICE_ID, SMALL_BOARD
from stored_runs import rows

from weighin_aggregator.errors import CopyOvertakenError
from weighin_aggregator.store.deletion import RUN_TABLES, delete_device, delete_received_before, is_erasure_due
from weighin_aggregator.store.store import Store

NOW = datetime(2026, 11, 22, 12)
PLANTED = b"planted bytes of a device that will be forgotten"


@pytest.fixture
def store(data: Path) -> Iterator[Store]:
    """A store with two runs of a laptop and one of another device, a small board."""
    with Store.open(data, create=True) as store:
        store.insert(rows(1, 2, device_id=DEVICE_ID, machine=LAPTOP, raw=PLANTED))
        store.insert(rows(3, device_id=OTHER_DEVICE_ID, machine=SMALL_BOARD))
        store.checkpoint()
        yield store


def tombstone(device_id: str) -> bytes:
    return hashlib.sha256(device_id.encode()).digest()


def ask(store: Store, sql: str) -> list[tuple[object, ...]]:
    return store.transact(lambda connection: connection.execute(sql).fetchall())


def forget(store: Store, device_id: str = DEVICE_ID) -> int:
    return store.transact(lambda connection: delete_device(connection, device_id, tombstone(device_id), NOW))


def delete_old(store: Store, oldest: datetime, run_limit: int = 100) -> int:
    return store.transact(lambda connection: delete_received_before(connection, oldest, run_limit, NOW))


def compact(store: Store, data: Path) -> None:
    copy = store.begin_copy(data / "compacted")
    copy.fill()
    store.adopt(copy)


def planted_bytes(folder: Path) -> int:
    return sum(path.read_bytes().count(PLANTED) for path in folder.rglob("*") if path.is_file())


def test_a_forgotten_device_is_gone_from_every_table_and_the_others_stay(store: Store) -> None:
    names = {name for (name,) in ask(store, "SELECT table_name FROM duckdb_tables() WHERE database_name = 'store'")}
    other = {
        table: ask(
            store,
            f"SELECT * FROM {table} WHERE run_id IN (SELECT run_id FROM run WHERE device_id = '{OTHER_DEVICE_ID}')",
        )
        for table in ("run", *RUN_TABLES)
    }
    ask(store, f"INSERT INTO device SELECT unnest(['{DEVICE_ID}', '{OTHER_DEVICE_ID}'])::UUID, 'lab', now(), ''::BLOB")
    ask(store, f"INSERT INTO device_event VALUES ('{DEVICE_ID}', now(), 'renewed')")
    ask(store, f"INSERT INTO enrollment_use VALUES ('token', uuid(), '{DEVICE_ID}', now())")
    assert forget(store) == 2
    for table in ("run", *RUN_TABLES):
        assert ask(store, f"FROM {table}") == other[table]
    assert ask(store, "SELECT count(*) FROM hardware") == [(1,)]
    with_device = ask(
        store, "SELECT table_name FROM duckdb_columns() WHERE database_name = 'store' AND column_name = 'device_id'"
    )
    assert len(with_device) == 4
    for (name,) in with_device:
        assert ask(store, f"SELECT count(*) FROM {name} WHERE device_id = '{DEVICE_ID}'") == [(0,)]
    assert ask(store, "SELECT device_id::VARCHAR FROM device") == [(OTHER_DEVICE_ID,)]
    assert names >= {"forgotten_device", "unerased"}


def test_a_token_that_a_forgotten_device_used_stays_used(store: Store) -> None:
    ask(store, f"INSERT INTO enrollment_use VALUES ('token', uuid(), '{DEVICE_ID}', now())")
    forget(store)
    assert ask(store, "SELECT count(*) FROM enrollment_use WHERE token_id = 'token'") == [(1,)]


def test_what_stays_of_a_device_is_the_hash_of_its_id_once(store: Store) -> None:
    forget(store)
    assert forget(store) == 0
    assert ask(store, "SELECT device_sha256 FROM forgotten_device") == [(tombstone(DEVICE_ID),)]


def test_hardware_that_another_device_has_too_stays(data: Path) -> None:
    with Store.open(data, create=True) as store:
        store.insert(rows(1, device_id=DEVICE_ID))
        store.insert(rows(2, device_id=OTHER_DEVICE_ID))
        forget(store)
        assert ask(store, "SELECT count(*) FROM hardware SEMI JOIN run USING (hardware_id)") == [(1,)]


def test_hardware_that_was_deleted_is_stored_again_with_the_next_run_of_its_kind(store: Store) -> None:
    forget(store)
    store.insert(rows(4, device_id=OTHER_DEVICE_ID, machine=LAPTOP))
    assert ask(store, "SELECT count(*) FROM run ANTI JOIN hardware USING (hardware_id)") == [(0,)]


def test_runs_are_deleted_by_when_the_server_received_them_the_oldest_first_a_few_at_a_time(data: Path) -> None:
    with Store.open(data, create=True) as store:
        for seed in (1, 2, 3, 4):
            store.insert(rows(seed, receive_time=NOW - timedelta(days=10 - seed)))
        assert delete_old(store, NOW - timedelta(days=7), run_limit=1) == 1
        assert ask(store, "SELECT min(receive_time) FROM run") == [(NOW - timedelta(days=8),)]
        assert delete_old(store, NOW - timedelta(days=7)) == 1
        assert delete_old(store, NOW - timedelta(days=7)) == 0
        assert ask(store, "SELECT min(receive_time), count(*) FROM run") == [(NOW - timedelta(days=7), 2)]


def test_deleting_nothing_leaves_nothing_to_erase(store: Store) -> None:
    assert delete_old(store, NOW - timedelta(days=36500)) == 0
    assert not store.transact(is_erasure_due)


def test_compaction_leaves_no_byte_of_a_forgotten_device(store: Store, data: Path) -> None:
    assert planted_bytes(data) >= 2
    forget(store)
    store.checkpoint()
    assert planted_bytes(data) >= 2, "deleting is not erasing"
    assert store.transact(is_erasure_due)
    compact(store, data)
    assert planted_bytes(data) == 0
    assert not store.transact(is_erasure_due)


def test_a_compacted_store_goes_on_with_what_it_held(store: Store, data: Path) -> None:
    forget(store)
    before = {table: ask(store, f"FROM {table}") for table in ("run", "hardware", "migration", *RUN_TABLES)}
    compact(store, data)
    assert before == {table: ask(store, f"FROM {table}") for table in before}
    assert set(store.insert(rows(3, 4, device_id=OTHER_DEVICE_ID))) == set(rows(3)["run"]["run_id"].to_pylist())
    assert ask(
        store,
        "SELECT DISTINCT compression FROM pragma_storage_info('run') "
        "WHERE column_name = 'raw' AND segment_type = 'BLOB'",
    ) == [("Uncompressed",)]
    assert sorted(path.name for path in data.iterdir()) in (
        ["weighin.duckdb", "weighin.duckdb.lock"],
        ["weighin.duckdb", "weighin.duckdb.lock", "weighin.duckdb.wal"],
    )


def test_what_is_committed_while_a_copy_is_filled_is_in_it_in_the_order_of_arrival(store: Store, data: Path) -> None:
    copy = store.begin_copy(data / "compacted")
    copy.fill()
    for seed in (9, 5, 7):
        store.insert(rows(seed, device_id=OTHER_DEVICE_ID))
    arrived = ask(store, "SELECT run_id FROM run ORDER BY rowid")
    store.adopt(copy)
    assert ask(store, "SELECT run_id FROM run ORDER BY rowid") == arrived
    assert len(arrived) == 6


def test_a_copy_of_runs_that_were_deleted_meanwhile_is_not_taken(store: Store, data: Path) -> None:
    copy = store.begin_copy(data / "compacted")
    copy.fill()
    forget(store)
    with pytest.raises(CopyOvertakenError):
        store.adopt(copy)
    copy.discard()
    assert not (data / "compacted").exists()
    assert ask(store, "SELECT count(*) FROM run") == [(1,)]
    compact(store, data)
    assert planted_bytes(data) == 0


def test_a_deleted_run_whose_id_another_device_took_meanwhile_is_not_in_the_copy(store: Store, data: Path) -> None:
    copy = store.begin_copy(data / "compacted")
    copy.fill()
    forget(store)
    assert store.insert(rows(1, 2, device_id=OTHER_DEVICE_ID)) == {}
    with pytest.raises(CopyOvertakenError):
        store.adopt(copy)
    copy.discard()
    compact(store, data)
    assert ask(store, "SELECT DISTINCT device_id::VARCHAR FROM run") == [(OTHER_DEVICE_ID,)]
    assert planted_bytes(data) == 0


def test_a_store_that_is_recovered_ends_the_copy_that_is_made_of_it(store: Store, data: Path) -> None:
    copy = store.begin_copy(data / "compacted")
    copy.fill()
    store.recover()
    with pytest.raises(Exception, match="was given up"):
        copy.catch_up()
    compact(store, data)
    assert ask(store, "SELECT count(*) FROM run") == [(3,)]
