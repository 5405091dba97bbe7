"""The store by itself: opening, versions, and what a wrong file gets."""

from pathlib import Path

import duckdb
import example_runs
import pyarrow as pa
import pytest
from old_store import FIRST_COLUMNS, make_store_of_the_first_version

from weighin_aggregator.errors import StoreError, StoreMissingError, StoreRefusedError, StoreVersionError
from weighin_aggregator.intake import columns
from weighin_aggregator.intake.examine import Accepted, examine
from weighin_aggregator.intake.records import Batch, to_batch
from weighin_aggregator.limits import DEFAULT_LIMITS
from weighin_aggregator.store import engine
from weighin_aggregator.store import store as store_module
from weighin_aggregator.store.schema import MIGRATIONS
from weighin_aggregator.store.store import Known, Store, utc_now


def batch(*seeds: int) -> Batch:
    accepted = [examine(example_runs.example_envelope(seed), DEFAULT_LIMITS) for seed in seeds]
    return to_batch([item for item in accepted if isinstance(item, Accepted)], example_runs.DEVICE_ID, utc_now())


def ask(data: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(data / "weighin.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_opening_what_is_not_there_says_so_and_makes_nothing(data: Path) -> None:
    with pytest.raises(StoreMissingError):
        Store.open(data)
    assert not data.exists()


def test_a_path_may_hold_quotes_and_spaces(tmp_path: Path) -> None:
    with Store.open(tmp_path / "it's a store", create=True) as store:
        assert store.stats().runs == 0


def test_every_migration_is_recorded_once_however_often_the_store_is_opened(data: Path) -> None:
    for _ in range(2):
        Store.open(data, create=True).close()
    assert ask(data, "SELECT version FROM migration") == [(number + 1,) for number in range(len(MIGRATIONS))]


@pytest.mark.parametrize("table", FIRST_COLUMNS)
def test_a_store_of_the_first_version_keeps_its_rows(data: Path, tmp_path: Path, table: str) -> None:
    rows = batch(1, 2)
    make_store_of_the_first_version(data, rows.tables)
    Store.open(data).close()
    with Store.open(tmp_path / "fresh", create=True) as store:
        store.insert(rows.tables)
    what = (
        "*"
        if table != "hardware"
        # What the first version did not ask for is not known.
        else (
            "* EXCLUDE (form_factor, accelerators), "
            "list_transform(accelerators, lambda one: struct_update(one, shares_main_memory := NULL::BOOLEAN))"
        )
    )
    kept, fresh = (ask(folder, f"SELECT {what} FROM {table} ORDER BY ALL") for folder in (data, tmp_path / "fresh"))
    assert kept == fresh
    assert kept


def test_what_the_first_version_did_not_ask_is_null(data: Path) -> None:
    make_store_of_the_first_version(data, batch(1).tables)
    Store.open(data).close()
    asked = "SELECT form_factor, accelerators[1].shares_main_memory, execution_providers[1].adapter FROM hardware"
    assert ask(data, asked) == [(None, None, None)]
    assert ask(data, "SELECT DISTINCT output_correlation, output_relative_rms FROM measurement") == [(None, None)]


def test_a_store_of_the_first_version_takes_runs_again(data: Path) -> None:
    make_store_of_the_first_version(data, batch(1).tables)
    with Store.open(data) as store:
        assert set(store.insert(batch(1, 2).tables)) == {example_runs.run_id(1)}
        assert store.stats().runs == 2
    versions = [(number,) for number in range(1, len(MIGRATIONS) + 1)]
    assert ask(data, "SELECT version FROM migration ORDER BY version") == versions


def test_a_migration_that_fails_leaves_the_store_to_the_aggregator_of_before(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(data, create=True) as store:
        store.insert(batch(1).tables)
    monkeypatch.setattr(
        store_module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE extra(one INTEGER)", "SELECT error('!')")
    )
    with pytest.raises(StoreError):
        Store.open(data)
    monkeypatch.undo()
    with Store.open(data) as store:
        assert set(store.insert(batch(1, 2).tables)) == {example_runs.run_id(1)}
    assert ask(data, "SELECT max(version) FROM migration") == [(len(MIGRATIONS),)]
    assert ask(data, "FROM duckdb_tables() WHERE table_name = 'extra'") == []


def test_a_store_that_cannot_be_copied_is_not_migrated(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_source: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    make_store_of_the_first_version(data, batch(1).tables)
    monkeypatch.setattr(store_module, "copy_file", fail)
    with pytest.raises(StoreError, match="No space left on device"):
        Store.open(data)
    assert ask(data, "SELECT max(version) FROM migration") == [(1,)]
    monkeypatch.undo()
    with Store.open(data) as store:
        assert store.stats().runs == 1


def test_a_store_without_runs_is_migrated_without_a_copy(data: Path) -> None:
    make_store_of_the_first_version(data, {name: table.slice(0, 0) for name, table in batch(1).tables.items()})
    Store.open(data).close()
    assert sorted(path.name for path in data.iterdir()) == ["weighin.duckdb", "weighin.duckdb.lock"]


def test_a_store_of_a_newer_aggregator_is_refused_and_left_alone(data: Path) -> None:
    Store.open(data, create=True).close()
    with duckdb.connect(str(data / "weighin.duckdb")) as connection:
        connection.execute("INSERT INTO migration VALUES (99, now()::TIMESTAMP)")
    with pytest.raises(StoreVersionError, match="schema version 99"):
        Store.open(data)


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("run", columns.RUN),
        ("hardware", columns.HARDWARE),
        ("measurement", columns.MEASUREMENT),
        ("series", columns.SERIES),
        ("case_failure", columns.CASE_FAILURE),
        ("probe_gap", columns.PROBE_GAP),
    ],
)
def test_rows_have_the_columns_of_their_table_in_its_order(data: Path, name: str, schema: pa.Schema) -> None:
    Store.open(data, create=True).close()
    assert [row[0] for row in ask(data, f"SELECT column_name FROM (DESCRIBE {name})")] == schema.names


def test_the_bytes_of_a_run_are_kept_as_they_came(data: Path) -> None:
    with Store.open(data, create=True) as store:
        assert store.insert(batch(1).tables) == {}
    assert ask(data, "SELECT raw FROM run") == [(example_runs.example_envelope(1).run,)]


def test_what_is_known_is_told_and_only_the_rest_is_stored(data: Path) -> None:
    with Store.open(data, create=True) as store:
        store.insert(batch(1, 2).tables)
        known = store.insert(batch(2, 3).tables)
        assert store.stats().runs == 3
    old = example_runs.example_envelope(2)
    assert known == {old.run_id: Known(device_id=example_runs.DEVICE_ID, sha256=old.run_sha256)}
    for table in ("measurement", "series", "case_failure", "probe_gap"):
        assert ask(data, f"SELECT count(DISTINCT run_id) FROM {table}") == [(3,)]
        assert ask(data, f"SELECT count(DISTINCT n) FROM (SELECT count(*) AS n FROM {table} GROUP BY run_id)") == [(1,)]


def test_a_run_that_is_known_brings_no_hardware(data: Path) -> None:
    old = example_runs.example_envelope(1)
    other = example_runs.envelope(example_runs.example_run(1, example_runs.SMALL_BOARD), old.run_id)
    claimed = examine(other, DEFAULT_LIMITS)
    assert isinstance(claimed, Accepted)
    with Store.open(data, create=True) as store:
        store.insert(batch(1).tables)
        assert list(store.insert(to_batch([claimed], example_runs.OTHER_DEVICE_ID, utc_now()).tables)) == [old.run_id]
    assert ask(data, "SELECT hardware_id FROM hardware") == ask(data, "SELECT hardware_id FROM run")


def test_rows_that_fit_no_table_leave_nothing_behind(data: Path) -> None:
    with Store.open(data, create=True) as store:
        tables = dict(batch(1).tables)
        tables["probe_gap"] = tables["probe_gap"].set_column(0, "run_id", pa.array(["no UUID"]))
        with pytest.raises(StoreRefusedError):
            store.insert(tables)
        assert store.stats().runs == 0
        assert store.insert(batch(1).tables) == {}


def test_a_store_that_was_reopened_in_place_knows_everything(data: Path) -> None:
    with Store.open(data, create=True) as store:
        store.insert(batch(1).tables)
        store.recover()
        assert store.stats().runs == 1
        assert len(store.insert(batch(1, 2).tables)) == 1


def test_what_was_written_does_not_stay_in_memory(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_CACHED", "1MB")
    with Store.open(data, create=True) as store:
        limit = store.transact(engine.memory_limit)
        for first in range(0, 3_000, 1_000):
            store.insert(batch(*range(first, first + 1_000)).tables)
        store.checkpoint()
        assert store.transact(cached_bytes) <= 1_000_000 < store.file_bytes()
        assert store.transact(engine.memory_limit) == limit


def cached_bytes(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()[0][0])


def test_what_did_not_fit_into_memory_lies_in_the_data_directory_until_the_next_start(data: Path) -> None:
    spill = data / ".weighin.duckdb.spill"
    with Store.open(data, create=True) as store:
        assert store.transact(
            lambda connection: connection.execute("SELECT current_setting('temp_directory')").fetchall()
        ) == [(str(spill),)]
    spill.mkdir()
    (spill / "duckdb_temp_storage_DEFAULT-0.tmp").write_bytes(b"left by a killed process")
    with Store.open(data):
        assert not spill.exists()
