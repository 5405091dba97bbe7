"""`weighin-analysis import`: others' rows are a snapshot that anybody reads, alone or beside native devices."""

import csv
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest
from example_snapshots import replace_table
from made_fleet import make_fleet

from weighin_aggregator.store.schema import MIGRATIONS
from weighin_analysis.cli import main
from weighin_analysis.fleet.external.published import FORM_FACTORS
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.fleet.snapshot.column_types import column_types
from weighin_analysis.fleet.snapshot.folder import read_manifest
from weighin_analysis.fleet.snapshot.views import FACTS, TABLES
from weighin_analysis.public.rows import COLUMNS

PHONE = {
    "device": "a phone",
    "device_class": "phone",
    "compute_unit": "cpu",
    "memory_gb": "8",
    "mem_bandwidth_gbps": "67.2",
    "runtime": "llama.cpp",
    "backend": "CPU",
    "model": "Llama-3.2-1B",
    "parameters": "1235814400",
    "is_moe": "0",
    "quantization": "Q4_0",
    "model_size_bytes": "773025920",
    "phase": "decode",
    "test": "tg128",
    "tokens_per_s": "30.2",
    "confidence": "high",
    "source": "https://example.org",
}
PROMPT = PHONE | {"phase": "prefill", "test": "pp512", "tokens_per_s": "200"}
FAILED = PHONE | {"phase": "oom", "tokens_per_s": ""}
CARD = {"device": "a card", "device_class": "desktop-gpu", "compute_unit": "gpu", "memory_gb": "24", "backend": "CUDA"}


def written(folder: Path, *rows: dict[str, str]) -> Path:
    path = folder / "throughput.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["import", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def ask(folder: Path, query: str) -> Sequence[tuple[object, ...]]:
    with Fleet(folder) as fleet:
        return fleet.sql(query).rows()


def test_others_rows_become_a_snapshot_with_verdicts_and_tiers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run(capsys, written(tmp_path, PHONE, PROMPT, FAILED), "--out", tmp_path / "out")

    assert "3 rows of 1 external device" in printed
    assert "1  the model did not load" in printed
    assert ask(tmp_path / "out", "SELECT name, source, run_count FROM devices") == [("a phone", "external", 1)]
    assert ask(tmp_path / "out", "SELECT count(*) FROM measurements") == [(3,)]
    assert ask(tmp_path / "out", "SELECT DISTINCT verdict IS NULL FROM verdicts") == [(False,)]
    assert ask(tmp_path / "out", "SELECT tier, execution_provider, scheme FROM tiers") == [("1B", "CPU", "Q4_0")]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="the system gives a pipe no path")
def test_rows_that_come_through_a_pipe_are_read_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = written(tmp_path, PHONE, PROMPT).read_bytes()
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    assert "2 rows of 1 external device" in run(capsys, f"/dev/fd/{reading}", "--out", tmp_path / "out")
    os.close(reading)
    run(capsys, written(tmp_path, PHONE, PROMPT), "--out", tmp_path / "file")
    hashes = "SELECT DISTINCT run_sha256 FROM runs"
    assert ask(tmp_path / "out", hashes) == ask(tmp_path / "file", hashes)


def test_a_device_that_comes_again_is_replaced_and_the_rest_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run(capsys, written(tmp_path, PHONE, PROMPT, PHONE | CARD, PROMPT | CARD), "--out", first)

    printed = run(capsys, written(tmp_path, PHONE), "--out", second, "--snapshot", first)

    assert "1 of them was there before and is replaced" in printed
    assert ask(second, "SELECT name FROM devices ORDER BY name") == [("a card",), ("a phone",)]
    assert ask(second, "SELECT count(*), count(DISTINCT run_id) FROM measurements") == [(3, 2)]
    assert ask(second, "SELECT DISTINCT name FROM estimates JOIN devices USING (device_id)") == [("a card",)]
    assert ask(second, "SELECT count(*) FROM tiers") == [(2,)]


def test_runs_are_numbered_on_from_those_that_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run(capsys, written(tmp_path, PHONE, PROMPT, PHONE | CARD, PROMPT | CARD), "--out", first)
    numbers = "SELECT name, run_number FROM devices ORDER BY name DESC"
    assert ask(first, numbers) == [("a phone", 1), ("a card", 2)]

    run(capsys, written(tmp_path, PHONE, PROMPT), "--out", second, "--snapshot", first)

    assert ask(second, numbers) == [("a phone", 3), ("a card", 2)]
    for view in ("runs", "measurements", "estimates", "verdicts", "tiers"):
        found = ask(second, f"SELECT DISTINCT name, run_number FROM {view} JOIN devices USING (run_id, run_number)")
        assert sorted(found) == [("a card", 2), ("a phone", 3)], view


def test_a_snapshot_of_before_runs_had_numbers_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, rows = tmp_path / "old", written(tmp_path, PHONE, PROMPT)
    run(capsys, rows, "--out", old)
    replace_table(old, "runs", "SELECT * EXCLUDE (run_number) FROM it")

    assert main(["import", str(rows), "--out", str(tmp_path / "out"), "--snapshot", str(old)]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert "column run_number is missing, not BIGINT; take a new one with" in line
    assert not (tmp_path / "out").exists()


def test_the_same_import_twice_over_its_own_snapshot_changes_nothing_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, rows = tmp_path / "out", written(tmp_path, PHONE, PROMPT)
    run(capsys, rows, "--out", folder)
    before = ask(folder, "SELECT * FROM verdicts ORDER BY ALL")

    run(capsys, rows, "--out", folder, "--snapshot", folder)

    assert ask(folder, "SELECT * FROM verdicts ORDER BY ALL") == before


def test_native_devices_stay_beside_external_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    native = make_fleet(tmp_path / "native", devices=20, seed=1)

    printed = run(capsys, written(tmp_path, PHONE, PROMPT), "--out", tmp_path / "both", "--snapshot", native)

    assert "beside 20 devices of the snapshot" in printed
    counts = ask(tmp_path / "both", "SELECT source, count(*) FROM devices GROUP BY source ORDER BY source")
    assert counts == [("external", 1), ("native", 20)]
    numbers = ask(tmp_path / "both", "SELECT source, run_number FROM runs ORDER BY run_number")
    assert numbers == [*(("native", number) for number in range(1, 21)), ("external", 21)]
    kept = {part.sha256 for parts in read_manifest(native).tables.values() for part in parts}
    now = {part.sha256 for parts in read_manifest(tmp_path / "both").tables.values() for part in parts}
    assert kept <= now


def test_a_class_that_is_not_known_is_told_with_those_that_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing error would take the device out of the cells of a population without a word."""
    mac, typo = {"device": "a mac", "device_class": "mac"}, {"device": "b", "device_class": "lapptop"}
    printed = run(capsys, written(tmp_path, PHONE, PHONE | mac, PHONE | typo, PROMPT | typo), "--out", tmp_path / "out")
    assert "no form factor is known for devices of the class 'lapptop' (1); known classes: phone, tablet" in printed
    assert "no form factor" not in run(capsys, written(tmp_path, PHONE, PHONE | mac), "--out", tmp_path / "out")


def test_the_known_classes_are_those_of_the_docs() -> None:
    text = (Path(__file__).parents[3] / "docs" / "external.md").read_text(encoding="utf-8")
    (listed,) = re.findall("The classes are (.*), which tells no form factor", text)
    assert listed.replace(" and ", ", ").split(", ") == list(FORM_FACTORS)


def test_one_row_that_says_nothing_of_other_models_is_one_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run(capsys, written(tmp_path, PHONE, PROMPT, FAILED), "--out", tmp_path / "out")
    assert "1 row is a measurement only, and says nothing of other models:" in printed


def test_without_an_estimate_no_formula_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A snapshot of devices of which nothing could be estimated rests on none."""
    run(capsys, written(tmp_path, FAILED), "--out", tmp_path / "out")
    assert main(["tiers", "--snapshot", str(tmp_path / "out")]) == 0
    assert "Limits 2026.1.\n" in capsys.readouterr().out
    assert main(["report", "--snapshot", str(tmp_path / "out"), "--out", str(tmp_path / "report")]) == 0
    assert "Formula" not in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_what_was_done_is_told_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(run(capsys, written(tmp_path, PHONE, PROMPT), "--out", tmp_path / "out", "--json"))

    assert (told["row_count"], told["device_count"], told["estimated_device_count"]) == (2, 1, 1)
    assert told["left_out"] == {}


def test_a_damaged_file_names_its_line_and_leaves_no_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, PHONE, PROMPT | {"tokens_per_s": "nan"})

    assert main(["import", str(path), "--out", str(tmp_path / "out")]) == 1

    assert "line 3, column tokens_per_s" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_snapshot_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, PHONE)

    assert main(["import", str(path), "--out", str(tmp_path)]) == 1

    assert "holds something that is no snapshot" in capsys.readouterr().err
    assert path.exists()


def test_an_empty_table_has_the_columns_of_the_store() -> None:
    names = {"hardware": "hardware", "series": "series", "case_failures": "case_failure", "probe_gaps": "probe_gap"}
    assert set(names) == set(FACTS)
    with duckdb.connect() as connection:
        for migration in MIGRATIONS:
            connection.execute(migration)
        for table, stored in names.items():
            columns = ", ".join(f'"{name}" {kind}' for name, kind in column_types(table).items())
            connection.execute(f"CREATE TABLE made_{table} ({columns})")
            assert types(connection, f"made_{table}") == {
                name: "VARCHAR" if kind == "UUID" else kind for name, kind in types(connection, stored).items()
            }


def types(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {table}").fetchall()}


def test_every_table_of_a_snapshot_can_be_made() -> None:
    assert all(column_types(table) for table in TABLES)
