"""`make demo`, as a new user runs it: twice, in a folder of its own."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from weighin_analysis.suite import Processor, load_suite

ROOT = Path(__file__).resolve().parents[2]
SUITE = load_suite("standard")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo folder after two demos."""
    folder = tmp_path_factory.mktemp("demo")
    for _ in range(2):
        done = make_demo(folder)
        assert done.returncode == 0, done.stderr
        assert "This device" in done.stdout
        assert f"The report: {folder / 'report' / 'index.html'}" in done.stdout
    return folder


def make_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "WEIGHIN"))}
    return subprocess.run(
        ["make", "demo", f"DEMO={folder}"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def store(demo: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The aggregator's own file, opened after it has stopped."""
    with duckdb.connect(str(demo / "aggregator" / "weighin.duckdb"), read_only=True) as connection:
        yield connection


def rows(store: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = store.execute(sql).fetchall()
    return found


def test_two_demos_leave_two_runs_of_one_device(store: duckdb.DuckDBPyConnection) -> None:
    assert rows(store, "SELECT count(*), count(DISTINCT run_id), count(DISTINCT device_id) FROM run") == [(2, 2, 1)]


def test_no_case_failed_and_every_case_was_measured(store: duckdb.DuckDBPyConnection) -> None:
    assert rows(store, "SELECT * FROM case_failure") == []
    measured = rows(store, "SELECT DISTINCT architecture.name, scheme FROM measurement ORDER BY ALL")
    planned = {(case.architecture.name, case.scheme.value) for case in SUITE.cases_on(Processor.CPU)}
    assert measured == sorted(planned)


def test_all_series_are_stored_with_all_their_samples(store: duckdb.DuckDBPyConnection) -> None:
    """Each measurement has samples of layers or of a full model; and of a head where there is one that ran apart."""
    missing = """
        SELECT m.run_id, m.ord FROM measurement m
        LEFT JOIN series s ON s.run_id = m.run_id AND s.measurement_ord = m.ord
        GROUP BY ALL HAVING
          count(*) FILTER (s.part IN ('layers', 'short_layers', 'full_model') AND len(s.sample_seconds) > 0) = 0
          OR (any_value(m.head_columns) > 0 AND count(*) FILTER (s.part = 'full_model') = 0)
            <> (count(*) FILTER (s.part = 'head') > 0)
    """
    assert rows(store, missing) == []
    decode = "SELECT DISTINCT len(sample_seconds) FROM series WHERE part = 'layers' AND phase = 'decode'"
    assert rows(store, decode) == [(SUITE.rounds.decode_samples,)]


def test_the_stored_rows_are_what_the_stored_message_says(store: duckdb.DuckDBPyConnection) -> None:
    """Nothing is lost between the bytes that were submitted and the tables made of them."""
    from weighin.v1 import run_pb2  # noqa: PLC0415 - only this test reads the message

    for run_id, raw in rows(store, "SELECT run_id, raw FROM run"):
        assert isinstance(raw, bytes)
        sent = [
            list(series.sample_seconds)
            for measurement in run_pb2.Run.FromString(raw).measurements
            for series in measurement.series
        ]
        stored = store.execute(
            "SELECT sample_seconds FROM series WHERE run_id = ? ORDER BY measurement_ord, ord", [run_id]
        ).fetchall()
        assert [list(samples) for (samples,) in stored] == sent


def test_the_snapshot_and_the_page_are_there(demo: Path) -> None:
    manifest = json.loads((demo / "snapshot" / "manifest.json").read_text())
    assert {name: manifest["tables"][name]["rows"] for name in ("devices", "runs", "tiers")} == {
        "devices": 1,
        "runs": 2,
        "tiers": 1,
    }
    page = (demo / "report" / "index.html").read_text()
    assert "Qwen2.5-0.5B" in page
    assert "<script src" not in page
