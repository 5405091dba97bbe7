"""What follows from the runs of a snapshot: every run is judged as its card is, and a bad one stops no other."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest
from example_runs import LAPTOP, SMALL_BOARD, example_run
from example_snapshots import device_id, make_snapshot, part_path, stored_runs
from hypothesis import given, settings
from hypothesis import strategies as st

from weighin.v1 import measurement_pb2
from weighin_analysis.card import Card, CardRow
from weighin_analysis.errors import SnapshotError
from weighin_analysis.fleet.judging.judge_run import estimate_rows, judge_run
from weighin_analysis.fleet.judging.judge_runs import judge_folder
from weighin_analysis.fleet.snapshot.folder import read_manifest
from weighin_analysis.fleet.snapshot.views import FACTS, VIEWS
from weighin_analysis.limits import current_limits
from weighin_analysis.verdict import STOPPED

TIME = datetime(2026, 3, 1, tzinfo=UTC)


def ask(folder: Path, table: str, what: str = "*") -> list[dict[str, Any]]:
    """Rows of a table, read by plain DuckDB."""
    with duckdb.connect() as connection:
        result = connection.execute(f"SELECT {what} FROM '{folder}/{table}/*.parquet' ORDER BY ALL")
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def judged_again(folder: Path, **changes: str) -> dict[str, str]:
    """Change facts by SQL, ``table__column=expression``, and judge anew; returns the runs that were refused."""
    for table in ("devices", "estimates", "verdicts", "tiers"):
        part_path(folder, table).unlink()
    for key, expression in changes.items():
        table, column = key.split("__")
        path = part_path(folder, table)
        with duckdb.connect() as connection:
            connection.execute(f"CREATE TABLE it AS FROM '{path}'")
            connection.execute(
                f"""COPY (SELECT * REPLACE ({expression} AS "{column}") FROM it) TO '{path}' (FORMAT parquet)"""
            )
    return judge_folder(folder, TIME).refused


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of a laptop and a small board."""
    pairs = [(device_id(1), example_run(1)), (device_id(2), example_run(2, SMALL_BOARD))]
    return make_snapshot(tmp_path_factory.mktemp("made"), pairs)


def test_every_table_has_the_columns_of_its_view_in_order(made: Path) -> None:
    for view in VIEWS:
        with duckdb.connect() as connection:
            found = connection.execute(f"DESCRIBE FROM '{made}/{view.name}/*.parquet'").fetchall()
        assert [(name, kind.split("(")[0]) for name, kind, *_ in found] == [(c.name, c.type) for c in view.columns]


def test_pandas_and_polars_read_the_views_as_they_are(made: Path) -> None:
    manifest = read_manifest(made)
    for table in (*(view.name for view in VIEWS), *FACTS):
        (path,) = (made / table).iterdir()
        assert len(pd.read_parquet(path)) == manifest.rows(table)
        assert pl.read_parquet(made / table / "*.parquet").height == manifest.rows(table)


def test_estimates_and_verdicts_are_those_of_the_card(made: Path) -> None:
    card = _card(made, 1)
    estimates = ask(made, "estimates", "*")
    verdicts = ask(made, "verdicts", "*")
    of_device = [row for row in estimates if row["device_id"] == device_id(1)]
    assert {_key(row) for row in of_device} == {_key_of(row) for row in card.rows}
    for row in card.rows:
        (estimate,) = [one for one in of_device if _key(one) == _key_of(row)]
        (verdict,) = [one for one in verdicts if _key(one) == _key_of(row) and one["device_id"] == device_id(1)]
        assert (verdict["verdict"], verdict["reasons"]) == (row.verdict, list(row.reasons))
        assert (estimate["basis"], estimate["counts"]) == (row.basis, row.counts)
        assert (estimate["memory_bytes"], estimate["download_bytes"]) == (row.memory_bytes, row.download_bytes)
        rate = row.decode_tokens_per_second
        if rate:
            told = [estimate[f"decode_tokens_per_second{end}"] for end in ("", "_low", "_high")]
            assert told == [rate.value, rate.low, rate.high]
            assert estimate["latency_seconds"] is None


def test_estimates_say_for_which_workload_and_by_which_formula_they_are_made(made: Path) -> None:
    limits, card = current_limits(), _card(made, 1)
    workload = "prompt_tokens, decode_context_depth, memory_context_tokens, encoder_tokens, interval_probability"
    (row,) = ask(made, "estimates", f"DISTINCT {workload}, formula_version, runtime")
    assert row == {
        **{name: getattr(limits, name) for name in workload.split(", ")},
        "formula_version": card.formula_version,
        "runtime": "onnxruntime",
    }


def test_a_device_has_the_tier_of_its_card(made: Path) -> None:
    card = _card(made, 1)
    row, board = ask(made, "tiers")
    assert (row["tier"], row["limited_by"]) == (card.tier, card.limited_by)
    (verdict,) = [
        one
        for one in ask(made, "verdicts")
        if (one["device_id"], one["size_class"], one["scheme"]) == (device_id(1), row["tier"], row["scheme"])
        and one["architecture_kind"] == "decoder"
    ]
    assert row["tier_probability"] == verdict["comfortable_probability"] > 0.5
    assert board["device_id"] == device_id(2)


def test_a_device_is_described_by_its_newest_run_and_its_hardware(tmp_path: Path) -> None:
    pairs = [(device_id(1), example_run(1)), (device_id(1), example_run(2, replace(LAPTOP, memory_available_bytes=7)))]
    folder = make_snapshot(tmp_path, pairs)
    (device,) = ask(folder, "devices")
    (hardware,) = ask(folder, "hardware")
    (newest, *_) = sorted(ask(folder, "runs"), key=lambda run: -run["sequence"])
    assert (device["run_id"], device["run_count"]) == (newest["run_id"], 2)
    assert device["last_receive_time"] == newest["receive_time"]
    assert device["memory_available_bytes"] == 7
    assert (device["name"], device["hardware_id"]) == (hardware["cpu_model"], hardware["hardware_id"])
    assert (device["accelerator_kind"], device["accelerator_memory_bytes"]) == ("integrated_gpu", None)
    assert device["disturbed"] is False
    assert len(ask(folder, "tiers")) == 1
    assert len({row["run_id"] for row in ask(folder, "estimates")}) == 2


def test_no_accelerator_is_told_apart_from_not_knowing_of_any(made: Path, tmp_path: Path) -> None:
    assert ask(made, "devices", "device_id, accelerator_kind")[1]["accelerator_kind"] == "none"
    run = example_run(1, SMALL_BOARD)
    run.probe_gaps.add(fact="accelerators", reason=4, detail="the reader took too long")
    (device,) = ask(make_snapshot(tmp_path, [(device_id(1), run)]), "devices")
    assert device["accelerator_kind"] is None


def test_a_model_that_the_memory_gate_stopped_does_not_fit_and_has_no_times(tmp_path: Path) -> None:
    run = example_run(1)
    run.failures[0].reason = measurement_pb2.CASE_FAILURE_REASON_MEMORY_GATE
    folder = make_snapshot(tmp_path, [(device_id(1), run)])
    (estimate,) = [one for one in ask(folder, "estimates") if STOPPED in one["notes"]]
    (verdict,) = [one for one in ask(folder, "verdicts") if STOPPED in one["reasons"]]
    assert estimate["architecture"] == verdict["architecture"] == "Llama-3.2-1B"
    assert (estimate["decode_tokens_per_second"], estimate["memory_bytes"] > 0) == (None, True)
    assert (verdict["verdict"], verdict["usable_probability"]) == ("does_not_fit", 0)


def test_a_run_of_which_every_case_failed_has_no_estimates_and_its_device_no_tier(tmp_path: Path) -> None:
    run = example_run(1)
    del run.measurements[:]
    folder = make_snapshot(tmp_path, [(device_id(1), run)])
    assert ask(folder, "estimates") == ask(folder, "verdicts") == []
    assert [row["tier"] for row in ask(folder, "tiers")] == [None]
    assert [row["run_count"] for row in ask(folder, "devices")] == [1]


DAMAGED = [
    {"runs__memory_available_bytes": "-1"},
    {"runs__read_bandwidth_bytes_per_second": "'nan'::DOUBLE"},
    {"runs__before": "struct_update(before, canary_matrix_flops := 'nan'::DOUBLE)"},
    {"runs__hardware_id": "'0'"},
    {"measurements__architecture": "struct_update(architecture, layers := 0)"},
    {"measurements__architecture": "NULL"},
    {"measurements__scheme": "'int2_block8'"},
    {"measurements__token_count": "0"},
    {"hardware__memory_total_bytes": "-1"},
    {"hardware__caches": "[NULL]"},
    {"series__round": "-1"},
    {"series__sample_seconds": "[NULL::FLOAT]"},
]


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: "-".join((*damage, *damage.values())))
def test_a_run_with_a_number_that_cannot_be_is_told_and_stops_no_other(tmp_path: Path, damage: dict[str, str]) -> None:
    """Only the small board's rows are damaged: they are the second run's, on hardware of its own."""
    pairs = [(device_id(1), example_run(1)), (device_id(2), example_run(2, SMALL_BOARD))]
    folder = make_snapshot(tmp_path, pairs)
    (good, bad) = [row["run_id"] for row in ask(folder, "runs")]
    (board,) = [row["hardware_id"] for row in ask(folder, "hardware") if row["form_factor"] == "single_board"]
    only = {
        key: f"CASE WHEN {_is_of(key, bad, board)} THEN {value} ELSE {key.split('__')[1]} END"
        for key, value in damage.items()
    }
    assert set(judged_again(folder, **only)) == {bad}
    assert {row["run_id"] for row in ask(folder, "estimates")} == {good}
    assert [row["tier"] is None for row in ask(folder, "tiers")] == [False, True]
    assert len(ask(folder, "devices")) == 2


def _is_of(key: str, run_id: str, hardware_id: str) -> str:
    return f"hardware_id = '{hardware_id}'" if key.startswith("hardware") else f"run_id = '{run_id}'"


@pytest.mark.parametrize("sample", ["'nan'::FLOAT", "-1::FLOAT", "0::FLOAT", "'inf'::FLOAT"])
def test_samples_that_are_no_times_give_no_estimates_and_no_median(tmp_path: Path, sample: str) -> None:
    folder = make_snapshot(tmp_path, [(device_id(1), example_run(1))])
    assert judged_again(folder, series__sample_seconds=f"[{sample}, {sample}]") == {}
    assert ask(folder, "estimates") == []
    assert [row["tier"] for row in ask(folder, "tiers")] == [None]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=20)
@given(samples=st.lists(st.floats(width=32), min_size=1, max_size=3))
def test_whatever_samples_say_a_run_is_judged_and_every_number_of_it_can_be_one(
    made: Path, samples: list[float]
) -> None:
    (stored, _) = stored_runs(made)
    measurements = tuple(
        replace(one, series=tuple(replace(series, sample_seconds=tuple(samples)) for series in one.series))
        for one in stored.run.measurements
    )
    judged = judge_run(stored.device_id, replace(stored.run, measurements=measurements), stored.hardware)
    for row in estimate_rows(judged, current_limits()):
        assert all(0 < one < float("inf") for one in row.values() if isinstance(one, float))


def test_a_table_that_cannot_be_read_ends_in_one_line(tmp_path: Path) -> None:
    folder = make_snapshot(tmp_path, [(device_id(1), example_run(1))])
    part_path(folder, "series").write_bytes(b"PAR1 or not")
    with pytest.raises(SnapshotError, match="cannot be judged") as caught:
        judged_again(folder)
    assert "\n" not in str(caught.value)


def test_judging_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    """It waits for a file that never ends; only the end of its standard input can stop it."""
    (tmp_path / "runs").mkdir()
    os.mkfifo(tmp_path / "runs" / "000001.parquet")
    line = [sys.executable, "-m", "weighin_analysis.fleet.judging.judge_runs", str(tmp_path), TIME.isoformat()]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 1
        assert process.stderr.read() == b""


def _card(folder: Path, device: int) -> Card:
    """The card of the one run of a device, from its rows."""
    (stored,) = [one for one in stored_runs(folder) if one.device_id == device_id(device)]
    return judge_run(stored.device_id, stored.run, stored.hardware).card


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["architecture"], row["scheme"], row["execution_provider"]


def _key_of(row: CardRow) -> tuple[str, ...]:
    return row.architecture, row.scheme, row.execution_provider
