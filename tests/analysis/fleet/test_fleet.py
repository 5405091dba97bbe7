"""An open snapshot: what it is opened from, what it refuses to be opened from, and what it answers."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from made_fleet import make_fleet

import weighin_analysis
from weighin_analysis.cli import main
from weighin_analysis.errors import LimitsError, QueryError, SnapshotError
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.fleet.snapshot.views import TABLES, VIEWS
from weighin_analysis.limits import CURRENT_VERSION, shipped_text

DEVICES = 30


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fleet(tmp_path_factory.mktemp("made") / "snapshot", devices=DEVICES, seed=7, measurements_per_run=4)


@pytest.fixture
def snapshot(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "snapshot"))


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def rewrite(folder: Path, table: str, select: str) -> None:
    """Write the only part of a table anew from a query on itself, and its hash into the manifest."""
    path = folder / table / "0001.parquet"
    new = folder / "new.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW it AS FROM read_parquet('{path}')")
        (rows,) = connection.execute(f"COPY ({select}) TO '{new}' (FORMAT parquet)").fetchone() or (0,)
    new.replace(path)
    entry = {
        "file": f"{table}/0001.parquet",
        "rows": rows,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    edit_manifest(folder, lambda document: document["tables"][table].update(rows=rows, files=[entry]))


def refusal(folder: Path) -> str:
    with pytest.raises(SnapshotError) as caught:
        weighin_analysis.open(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


def test_every_table_of_a_snapshot_is_a_view_of_its_name(made: Path) -> None:
    with weighin_analysis.open(made) as fleet:
        counts = {table: fleet.sql(f"SELECT count(*) FROM {table}").rows()[0][0] for table in TABLES}
    assert counts["devices"] == counts["runs"] == counts["tiers"] == DEVICES
    assert counts["measurements"] == 4 * DEVICES
    assert counts["verdicts"] == counts["estimates"] == 20 * DEVICES


def test_an_open_snapshot_knows_its_time_and_versions(made: Path) -> None:
    with weighin_analysis.open(str(made)) as fleet:
        assert fleet.time.isoformat() == "2026-03-01T00:00:00+00:00"
        assert [fleet.limits_version] == [*fleet.sql("SELECT DISTINCT limits_version FROM tiers").rows()[0]]
        assert [fleet.formula_version] == [*fleet.sql("SELECT DISTINCT formula_version FROM tiers").rows()[0]]


def test_an_answer_is_the_same_as_rows_arrow_pandas_and_polars(made: Path) -> None:
    with weighin_analysis.open(made) as fleet:
        answer = fleet.sql("SELECT device_id, memory_total_bytes, last_receive_time FROM devices ORDER BY device_id")
        rows = answer.rows()
        assert len(rows) == DEVICES
        assert answer.columns == ("device_id", "memory_total_bytes", "last_receive_time")
        assert [tuple(row.values()) for row in answer.arrow().to_pylist()] == rows
        assert list(answer.pandas().itertuples(index=False, name=None)) == rows
        assert answer.polars().rows() == rows


def test_an_answer_in_batches_holds_all_rows_once(made: Path) -> None:
    with weighin_analysis.open(made) as fleet:
        answer = fleet.sql("SELECT range AS number FROM range(10000)")
        found = [number for batch in answer.batches(3000) for number in batch["number"].to_pylist()]
    assert found == list(range(10000))


@pytest.mark.parametrize(
    "query",
    [
        "COPY tiers TO '{folder}/stolen.parquet'",
        "COPY tiers TO '/tmp/stolen.csv'",
        "ATTACH '{folder}/new.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 1",
        "SET VARIABLE one = 1",
        "PRAGMA threads = 1",
        "RESET threads",
        "CREATE TABLE mine AS FROM tiers",
        "CREATE VIEW mine AS FROM tiers",
        "CREATE MACRO mine() AS 1",
        "DROP VIEW tiers",
        "INSERT INTO tiers VALUES (1)",
        "DELETE FROM tiers",
        "UPDATE tiers SET tier = '70B'",
        "ALTER VIEW tiers RENAME TO theirs",
        "EXPORT DATABASE '{folder}/all'",
        "CALL pragma_version()",
        "CHECKPOINT",
        "BEGIN",
        "USE memory",
        "PREPARE mine AS SELECT 1",
        "EXPLAIN ANALYZE COPY tiers TO '{folder}/stolen.parquet'",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW tiers",
        "",
        "-- nothing",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "FROM '/etc/passwd.parquet'",
        "FROM 'https://example.org/a.parquet'",
        "SELECT nonsense FROM tiers",
        "SELECT '\ud800'",
    ],
)
def test_what_does_not_only_ask_is_refused_in_one_line_and_changes_nothing(made: Path, query: str) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in made.rglob("*"))
    with weighin_analysis.open(made) as fleet:
        with pytest.raises(QueryError) as caught:
            fleet.sql(query.format(folder=made)).rows()
        assert "\n" not in str(caught.value)
        assert fleet.sql("SELECT count(*) FROM tiers").rows() == [(DEVICES,)]
    assert sorted((path, path.stat().st_mtime_ns) for path in made.rglob("*")) == before


@pytest.mark.parametrize(
    "query",
    ["FROM tiers", "WITH one AS (SELECT 1) FROM one", "VALUES (1)", "DESCRIBE tiers", "SUMMARIZE tiers", "SHOW TABLES"],
)
def test_every_way_to_ask_is_answered(made: Path, query: str) -> None:
    with weighin_analysis.open(made) as fleet:
        assert fleet.sql(query).rows()


def test_a_wrong_query_tells_where_it_is_wrong(made: Path) -> None:
    with weighin_analysis.open(made) as fleet, pytest.raises(QueryError, match=r"nonsense.*\(line 2, column 3\)$"):
        fleet.sql("SELECT tier,\n  nonsense FROM tiers")


def test_an_error_while_rows_are_read_is_an_error_of_the_query(made: Path) -> None:
    query = "SELECT CAST(CASE WHEN range = 500000 THEN 'x' ELSE '1' END AS INTEGER) FROM range(1000000)"
    with weighin_analysis.open(made) as fleet, pytest.raises(QueryError, match="Could not convert"):
        list(fleet.sql(query).batches(1000))


def test_a_missing_package_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with weighin_analysis.open(made) as fleet, pytest.raises(QueryError, match="polars is not installed"):
        fleet.sql("FROM tiers").polars()


def test_importing_the_package_loads_nothing_that_the_light_core_does_not_need() -> None:
    code = "import sys, weighin_analysis; sys.exit(str({'duckdb', 'pyarrow', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "set()\n"


def test_a_folder_that_is_missing_says_how_to_make_one(tmp_path: Path) -> None:
    assert "weighin-aggregator snapshot" in refusal(tmp_path / "nowhere")


def test_a_folder_without_a_manifest_is_no_snapshot(snapshot: Path) -> None:
    (snapshot / "manifest.json").unlink()
    assert "not a snapshot" in refusal(snapshot)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"schema_version": 3}', "\x00"])
def test_a_damaged_manifest_is_one_line(snapshot: Path, text: str) -> None:
    (snapshot / "manifest.json").write_text(text)
    refusal(snapshot)


@pytest.mark.parametrize("version", [2, 4, "3", None])
def test_another_version_of_the_folder_is_told(snapshot: Path, version: object) -> None:
    edit_manifest(snapshot, lambda document: document.update(schema_version=version))
    assert "schema version" in refusal(snapshot)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["../secret.parquet", "/etc/passwd", "a\\b.parquet"])
def test_a_manifest_cannot_lead_out_of_the_folder(snapshot: Path, file: str) -> None:
    edit_manifest(snapshot, lambda document: document["tables"]["tiers"]["files"][0].update(file=file))
    refusal(snapshot)


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_file_is_named(snapshot: Path, table: str) -> None:
    (snapshot / table / "0001.parquet").unlink()
    assert f"{table}/0001.parquet" in refusal(snapshot)


def test_a_truncated_file_is_named(snapshot: Path) -> None:
    path = snapshot / "estimates" / "0001.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert "estimates/0001.parquet: damaged" in refusal(snapshot)


def test_of_a_part_of_the_tables_only_their_bytes_are_read_and_nothing_else_can_be_asked(snapshot: Path) -> None:
    flip_a_bit(snapshot / "estimates" / "0001.parquet")
    with Fleet(snapshot, tables=("devices", "tiers")) as fleet:
        assert fleet.sql("SELECT count(*) FROM tiers JOIN devices USING (run_number)").rows() == [(DEVICES,)]
        with pytest.raises(QueryError, match="estimates"):
            fleet.sql("FROM estimates")
    flip_a_bit(snapshot / "tiers" / "0001.parquet")
    with pytest.raises(SnapshotError, match=r"tiers/0001\.parquet"):
        Fleet(snapshot, tables=("devices", "tiers"))


def test_a_file_of_a_table_that_is_not_read_must_be_there_too(snapshot: Path) -> None:
    (snapshot / "estimates" / "0001.parquet").unlink()
    with pytest.raises(SnapshotError, match=r"estimates/0001\.parquet: cannot be opened"):
        Fleet(snapshot, tables=("devices", "tiers"))


def test_one_flipped_bit_is_found(snapshot: Path) -> None:
    flip_a_bit(snapshot / "devices" / "0001.parquet")
    assert "devices/0001.parquet: damaged" in refusal(snapshot)


def test_a_file_that_is_no_parquet_is_one_line_though_its_hash_is_right(snapshot: Path) -> None:
    path = snapshot / "tiers" / "0001.parquet"
    path.write_bytes(b"not Parquet at all")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_manifest(
        snapshot,
        lambda document: document["tables"]["tiers"]["files"][0].update(
            sha256=digest, bytes=len(b"not Parquet at all")
        ),
    )
    assert "cannot be read" in refusal(snapshot)


def test_a_view_without_one_of_its_columns_is_refused(snapshot: Path) -> None:
    rewrite(snapshot, "tiers", "SELECT * EXCLUDE (tier_probability) FROM it")
    assert "column tier_probability is missing, not DOUBLE" in refusal(snapshot)


def test_a_column_of_another_type_is_refused(snapshot: Path) -> None:
    rewrite(snapshot, "devices", "SELECT * REPLACE ('much' AS memory_total_bytes) FROM it")
    assert "column memory_total_bytes is VARCHAR, not BIGINT" in refusal(snapshot)


def test_a_view_may_have_columns_of_a_later_version(snapshot: Path) -> None:
    rewrite(snapshot, "tiers", "SELECT *, 1 AS later FROM it")
    with weighin_analysis.open(snapshot) as fleet:
        assert fleet.sql("SELECT DISTINCT later FROM tiers").rows() == [(1,)]


@pytest.mark.parametrize("name", ["it's", "50% [a-b]*?", "a b", "ä"])
def test_a_folder_may_have_any_name(made: Path, tmp_path: Path, name: str) -> None:
    with weighin_analysis.open(shutil.copytree(made, tmp_path / name)) as fleet:
        assert fleet.sql("SELECT count(*) FROM tiers").rows() == [(DEVICES,)]


def test_an_empty_fleet_opens_and_has_every_column(tmp_path: Path) -> None:
    with weighin_analysis.open(make_fleet(tmp_path / "snapshot", devices=0, seed=1)) as fleet:
        for view in VIEWS:
            answer = fleet.sql(f"FROM {view.name}")
            assert answer.rows() == []
            assert answer.columns == tuple(column.name for column in view.columns)


def test_one_device_is_a_fleet(tmp_path: Path) -> None:
    folder = make_fleet(tmp_path / "snapshot", devices=1, seed=1, runs_per_device=3)
    with weighin_analysis.open(folder) as fleet:
        assert fleet.sql("SELECT run_count FROM devices").rows() == [(3,)]
        newest = fleet.sql("SELECT run_id FROM runs ORDER BY sequence DESC LIMIT 1").rows()
        assert fleet.sql("SELECT run_id FROM devices").rows() == newest == fleet.sql("SELECT run_id FROM tiers").rows()


def test_a_join_by_the_number_of_a_run_is_one_by_its_identifier(tmp_path: Path) -> None:
    folder = make_fleet(tmp_path / "snapshot", devices=30, seed=1, runs_per_device=3, measurements_per_run=4)
    with weighin_analysis.open(folder) as fleet:
        for view in ("measurements", "estimates", "verdicts"):
            query = (
                f"SELECT v.*, tier, form_factor, suite FROM {view} v JOIN devices d USING (key) "
                "JOIN tiers t USING (key) JOIN runs r USING (key) ORDER BY ALL"
            )
            found = fleet.sql(query.replace("key", "run_number")).rows()
            assert found == fleet.sql(query.replace("key", "run_id")).rows()
            assert len({row[0] for row in found}) == 30


def test_the_same_seed_makes_the_same_fleet(made: Path, tmp_path: Path) -> None:
    again = make_fleet(tmp_path / "again", devices=DEVICES, seed=7, measurements_per_run=4)
    other = make_fleet(tmp_path / "other", devices=DEVICES, seed=8, measurements_per_run=4)
    found = []
    for folder in (made, again, other):
        with weighin_analysis.open(folder) as fleet:
            found.append(fleet.sql("FROM estimates ORDER BY ALL").rows())
    assert found[0] == found[1] != found[2]


def test_judgements_come_as_values(made: Path) -> None:
    with weighin_analysis.open(made) as fleet:
        assert sum(one.device_count for one in fleet.tiers().counts) == DEVICES
        assert fleet.coverage().sample.device_count == DEVICES
        assert fleet.check("Gemma-2B").limits_version == fleet.limits_version


def with_share(path: Path, share: float) -> Path:
    text = shipped_text(CURRENT_VERSION).replace(f'"{CURRENT_VERSION}"', '"mine"')
    path.write_text(text.replace("share_of_available = 0.8", f"share_of_available = {share}"))
    return path


def test_the_same_limits_twice_count_once(made: Path) -> None:
    with weighin_analysis.open(made) as fleet:
        assert fleet.coverage(limits=[CURRENT_VERSION, CURRENT_VERSION]) == fleet.coverage()


@pytest.mark.parametrize("command", ["coverage", "report"])
def test_two_limits_with_other_numbers_and_one_version_are_refused_by_all(
    made: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = [with_share(tmp_path / f"{share}.toml", share) for share in (0.7, 0.6)]
    with weighin_analysis.open(made) as fleet:
        asked = partial(fleet.report, tmp_path / "out") if command == "report" else fleet.coverage
        with pytest.raises(LimitsError, match="both called 'mine'"):
            asked(limits=limits)
    arguments = [command, "--snapshot", str(made), *(f"--limits={one}" for one in limits)]
    assert main([*arguments, f"--out={tmp_path / 'out'}"] if command == "report" else arguments) == 1
    assert "both called 'mine'" in capsys.readouterr().err


def test_no_file_can_take_the_version_that_a_snapshot_was_judged_by(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_manifest(snapshot, lambda document: document.update(limits_version="mine"))
    limits = with_share(tmp_path / "mine.toml", 0.7)
    with weighin_analysis.open(snapshot) as fleet:
        for asked in (fleet.tiers, partial(fleet.check, "Qwen2.5-1.5B")):
            with pytest.raises(LimitsError, match="'mine' are those that the snapshot was judged by"):
                asked(limits=limits)
        with pytest.raises(LimitsError, match="'mine' are those that the snapshot was judged by"):
            fleet.coverage(limits=[limits])
    for command in (["tiers"], ["coverage"], ["check", "Qwen2.5-1.5B"]):
        assert main([*command, "--snapshot", str(snapshot), "--limits", str(limits)]) == 1
        assert "give yours another version" in capsys.readouterr().err


def test_a_snapshot_whose_files_go_while_it_is_open_is_told_in_one_line(snapshot: Path, tmp_path: Path) -> None:
    with weighin_analysis.open(snapshot) as fleet:
        for table in ("estimates", "tiers"):
            shutil.rmtree(snapshot / table)
        for asked in (
            fleet.tiers,
            fleet.coverage,
            partial(fleet.check, "Qwen2.5-1.5B"),
            partial(fleet.report, tmp_path / "out"),
        ):
            with pytest.raises((SnapshotError, QueryError)) as refusal:
                asked()
            assert "\n" not in str(refusal.value)
