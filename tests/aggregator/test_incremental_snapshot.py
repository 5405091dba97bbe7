"""A snapshot takes over what an earlier one holds, judges only what is new, and says the same as one from scratch."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from example_runs import LAPTOP, SMALL_BOARD, Machine, envelope, example_run, run_id
from example_snapshots import RECEIVE_TIME, device_id, edit_manifest, replace_table

from weighin_aggregator.intake.examine import Accepted, examine
from weighin_aggregator.intake.records import to_batch
from weighin_aggregator.limits import Limits
from weighin_aggregator.store import export as export_module
from weighin_aggregator.store.schema import PUBLIC_QUERIES
from weighin_aggregator.store.store import Store
from weighin_analysis.fleet.judging.judge_runs import Judged, judge_folder
from weighin_analysis.fleet.snapshot import draft as draft_module
from weighin_analysis.fleet.snapshot.earlier import take_over
from weighin_analysis.fleet.snapshot.folder import checked_files, publishing, read_manifest
from weighin_analysis.fleet.snapshot.views import FACTS, JUDGEMENTS, TABLES, VIEWS


def add(store: Store, number: int, device: int, *, sequence: int | None = None, machine: Machine = LAPTOP) -> None:
    """Store a run of a device."""
    accepted = examine(envelope(example_run(number, machine), run_id(number), sequence or number), Limits())
    assert isinstance(accepted, Accepted)
    store.insert(to_batch([accepted], device_id(device), RECEIVE_TIME + timedelta(minutes=number)).tables)


def snapshot(store: Store, target: Path, *earlier: Path) -> Judged:
    """Write a snapshot as the aggregator does, in this process."""
    with publishing(target) as folder:
        take_over(folder, [target, *earlier])
        return judge_folder(folder, store.export(folder))


def rows(folder: Path, table: str) -> list[tuple[object, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(f"FROM '{folder}/{table}/*.parquet' ORDER BY ALL").fetchall()


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")}


def assert_as_from_scratch(store: Store, found: Path) -> None:
    """A snapshot holds what one from scratch holds, row for row, and its files are as its manifest says."""
    scratch = found.with_name("scratch")
    snapshot(store, scratch)
    checked_files(found, read_manifest(found))
    for table in TABLES:
        assert rows(found, table) == rows(scratch, table), table


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with two runs of two devices."""
    with Store.open(tmp_path / "data", create=True) as store:
        add(store, 1, device=1)
        add(store, 2, device=2, machine=SMALL_BOARD)
        yield store


def test_only_new_runs_are_judged_and_the_parts_of_before_stay_as_they_are(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert snapshot(store, out).judged_run_count == 2
    before = files(out)
    add(store, 3, device=1, machine=replace(LAPTOP, memory_available_bytes=2 << 30))
    add(store, 4, device=3)
    assert snapshot(store, out) == Judged(run_count=4, device_count=3, judged_run_count=2, refused={})
    after = files(out)
    for table in ("runs", "measurements", "estimates", "verdicts", *FACTS):
        assert after[f"{table}/000001.parquet"] == before[f"{table}/000001.parquet"]
        assert f"{table}/000002.parquet" in after
    assert_as_from_scratch(store, out)


def test_a_snapshot_without_new_runs_adds_no_part(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    snapshot(store, out)
    before = files(out)
    assert snapshot(store, out).judged_run_count == 0
    assert files(out) == before


def test_a_run_that_arrives_late_does_not_represent_its_device(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    add(store, 9, device=1, sequence=9)
    snapshot(store, out)
    add(store, 10, device=1, sequence=5)
    assert snapshot(store, out).judged_run_count == 1
    with duckdb.connect() as connection:
        newest = connection.execute(
            f"SELECT run_id, run_count FROM '{out}/devices/*.parquet' WHERE run_count > 1"
        ).fetchall()
    assert newest == [(run_id(9), 3)]
    assert_as_from_scratch(store, out)


def test_the_newest_of_the_earlier_snapshots_is_taken_over(store: Store, tmp_path: Path) -> None:
    snapshot(store, tmp_path / "one")
    add(store, 3, device=3)
    snapshot(store, tmp_path / "two")
    add(store, 4, device=4)
    assert snapshot(store, tmp_path / "three", tmp_path / "one", tmp_path / "two").judged_run_count == 1


def test_what_is_new_is_known_by_its_id_and_by_no_time(store: Store, tmp_path: Path) -> None:
    """The clock of the server may be set back between two snapshots."""
    out = tmp_path / "out"
    add(store, 50, device=5)
    snapshot(store, out)
    add(store, 3, device=3)
    assert snapshot(store, out).judged_run_count == 1
    assert_as_from_scratch(store, out)


@pytest.mark.parametrize("version", ["formula_version", "limits_version", "views_version"])
def test_another_version_of_the_judgements_judges_all_runs_again(store: Store, tmp_path: Path, version: str) -> None:
    out = tmp_path / "out"
    snapshot(store, out)
    facts = {name: data for name, data in files(out).items() if name.split("/")[0] not in JUDGEMENTS}
    edit_manifest(out, lambda manifest: manifest.update({version: 0 if version == "views_version" else "of before"}))
    assert snapshot(store, out).judged_run_count == 2
    assert facts.items() <= files(out).items()
    assert_as_from_scratch(store, out)


def test_other_rules_of_the_gates_describe_all_devices_again_and_judge_none(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    snapshot(store, out)
    replace_table(out, "devices", "SELECT * REPLACE ('of before' AS gates_version, true AS chrome_built_in_ai) FROM it")
    assert snapshot(store, out).judged_run_count == 0
    assert_as_from_scratch(store, out)


@pytest.mark.parametrize("table", ["runs", "series", "estimates", "tiers"])
def test_a_damaged_snapshot_is_not_taken_over(store: Store, tmp_path: Path, table: str) -> None:
    out = tmp_path / "out"
    snapshot(store, out)
    (path,) = (out / table).iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert snapshot(store, out).judged_run_count == 2
    assert_as_from_scratch(store, out)


def test_a_snapshot_of_another_store_is_not_taken_over(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Store.open(tmp_path / "other", create=True) as other:
        add(other, 1, device=7)
        add(other, 8, device=8)
        snapshot(other, out)
    assert snapshot(store, out).judged_run_count == 2
    assert_as_from_scratch(store, out)


def test_a_snapshot_with_other_columns_is_not_taken_over(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a migration: the parts of an aggregator of before lack what is kept now."""
    out = tmp_path / "out"
    with monkeypatch.context() as before:
        before.setitem(PUBLIC_QUERIES, "probe_gaps", PUBLIC_QUERIES["probe_gaps"].replace("*", "* EXCLUDE (detail)", 1))
        snapshot(store, out)
    assert snapshot(store, out).judged_run_count == 2
    assert_as_from_scratch(store, out)


def test_many_parts_become_one(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft_module, "MOST_PARTS", 2)
    out = tmp_path / "out"
    for number in (3, 4, 5):
        snapshot(store, out)
        add(store, number, device=number % 2)
    assert len(list((out / "runs").iterdir())) == 1
    assert run_numbers(out) == {run_id(number): number for number in (1, 2, 3, 4)}
    assert snapshot(store, out).judged_run_count == 1
    assert len(list((out / "runs").iterdir())) == 2
    assert run_numbers(out)[run_id(5)] == 5
    assert_as_from_scratch(store, out)


def test_many_new_runs_are_written_in_parts(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "_PART_RUNS", 2)
    out = tmp_path / "out"
    for number in (3, 4, 5):
        add(store, number, device=number, machine=SMALL_BOARD)
    assert snapshot(store, out).judged_run_count == 5
    assert [len(list((out / table).iterdir())) for table in PUBLIC_QUERIES] == [3] * len(PUBLIC_QUERIES)
    assert run_numbers(out) == {run_id(number): number for number in (1, 2, 3, 4, 5)}
    monkeypatch.undo()
    assert_as_from_scratch(store, out)


def run_numbers(folder: Path) -> dict[str, int]:
    """{run_id: number}, which every view with runs says alike."""
    with duckdb.connect() as connection:
        found = {}
        for view in VIEWS:
            numbers = connection.execute(f"SELECT DISTINCT run_id, run_number FROM '{folder}/{view.name}/*.parquet'")
            pairs = numbers.fetchall()
            found[view.name] = dict(pairs)
            assert len(pairs) == len(found[view.name]), view.name
    for name, numbers_of_view in found.items():
        assert numbers_of_view.items() <= found["runs"].items(), name
    return found["runs"]


def test_runs_keep_their_numbers_and_new_ones_get_the_following_in_the_order_of_arrival(
    store: Store, tmp_path: Path
) -> None:
    """Not in that of their identifiers or of the clock: the run that comes last has the smallest."""
    out, arrived = tmp_path / "out", [1, 2]
    snapshot(store, out)
    for numbers in ([9, 8, 7], [30, 6], [5, 4, 3]):
        for number in numbers:
            add(store, number, device=number % 3)
        arrived += numbers
        snapshot(store, out)
        assert run_numbers(out) == {run_id(number): place for place, number in enumerate(arrived, start=1)}
    assert len(list((out / "runs").iterdir())) == 4
    assert_as_from_scratch(store, out)


def test_a_snapshot_of_before_runs_had_numbers_is_not_taken_over(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    snapshot(store, out)
    for view in VIEWS:
        replace_table(out, view.name, "SELECT * EXCLUDE (run_number) FROM it")
    assert snapshot(store, out).judged_run_count == 2
    assert_as_from_scratch(store, out)


def test_an_empty_store_gives_a_snapshot_without_rows_that_the_first_runs_add_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Store.open(tmp_path / "data", create=True) as store:
        assert snapshot(store, out) == Judged(run_count=0, device_count=0, judged_run_count=0, refused={})
        assert {table: rows(out, table) for table in TABLES} == {table: [] for table in TABLES}
        add(store, 1, device=1)
        assert snapshot(store, out).judged_run_count == 1
        assert_as_from_scratch(store, out)
