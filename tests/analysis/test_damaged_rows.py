"""A row that holds what cannot be stops no command: the report tells of it and shows the rest."""

import sys
from pathlib import Path

import pytest
from example_runs import SMALL_BOARD, example_run, run_id
from example_snapshots import device_id, make_snapshot, replace_table

from weighin_analysis.cli import main
from weighin_analysis.fleet.query.fleet import Fleet


@pytest.mark.parametrize(
    ("table", "column", "value", "told"),
    [
        ("hardware", "physical_core_count", "-1", "physical_core_count is -1"),
        ("hardware", "caches", "[NULL]", "hardware: a row holds what cannot be"),
        ("runs", "read_bandwidth_bytes_per_second", "'nan'::DOUBLE", "read_bandwidth_bytes_per_second is nan"),
        ("runs", "before", "struct_update(before, canary_matrix_flops := 'nan'::DOUBLE)", "canary_matrix_flops is nan"),
        ("estimates", "download_bytes", "-5", "download_bytes is -5"),
    ],
)
def test_a_damaged_row_is_told_and_no_command_falls(
    table: str, column: str, value: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [(device_id(1), example_run(1)), (device_id(2), example_run(2, SMALL_BOARD))]
    folder = make_snapshot(tmp_path, pairs)
    same_type = f'CASE WHEN true THEN {value} ELSE "{column}" END'
    replace_table(folder, table, f'SELECT * REPLACE ({same_type} AS "{column}") FROM it')
    for line in (["report", "--out", str(tmp_path / "out")], ["tiers"], ["coverage"], ["check", "Qwen2.5-0.5B"]):
        monkeypatch.setattr(sys, "argv", ["weighin-analysis", line[0], "--snapshot", str(folder), *line[1:]])
        assert main() == 0, line
    assert told in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    with Fleet(folder) as fleet:
        assert fleet.sql("SELECT run_id FROM runs ORDER BY 1").rows() == [(run_id(1),), (run_id(2),)]
