"""What a snapshot makes of measurements that cannot be true: they stay, are named, and tell nothing of the device."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from example_runs import example_run
from example_snapshots import RECEIVE_TIME, device_id, edit_manifest, make_snapshot

from weighin.v1 import run_pb2
from weighin_analysis.fleet.coverage.cover import coverage_of
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.fleet.snapshot.earlier import take_over

HONEST, DOUBTED = device_id(1), device_id(2)


def ask(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with Fleet(folder) as fleet:
        return fleet.sql(query).rows()


def beside_an_honest_device(folder: Path, run: run_pb2.Run) -> Path:
    return make_snapshot(folder, [(HONEST, example_run(1)), (DOUBTED, run)])


def too_fast(times: float) -> run_pb2.Run:
    """A run that reads weights so many times as fast as memory delivers them."""
    run = example_run(2)
    run.device.memory.read_bandwidth_bytes_per_second /= times
    return run


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot with a device that claims five times what its memory allows."""
    return beside_an_honest_device(tmp_path_factory.mktemp("claimed"), too_fast(5))


def test_a_device_that_claims_five_times_what_its_memory_allows_reaches_no_tier(claimed: Path) -> None:
    tiers = dict(ask(claimed, "SELECT device_id, tier FROM tiers"))
    assert tiers[HONEST] is not None
    assert tiers[DOUBTED] is None
    decoders = "SELECT count(*) FROM estimates WHERE decode_tokens_per_second IS NOT NULL"
    assert ask(claimed, f"{decoders} AND device_id = '{DOUBTED}'") == [(0,)]
    with Fleet(claimed) as fleet:
        sample = coverage_of(fleet, fleet.limits()).sample
    assert (sample.device_count, sample.unjudged_device_count) == (2, 1)


def test_what_cannot_be_true_stays_in_the_snapshot_and_is_named(claimed: Path) -> None:
    counts = "SELECT device_id, count(*) FROM measurements GROUP BY ALL ORDER BY ALL"
    (_, honest), (_, doubted) = ask(claimed, counts)
    assert honest == doubted
    named = ask(
        claimed,
        "SELECT DISTINCT device_id, phase, plausibility, counts FROM plausibility JOIN measurements "
        "USING (run_id, ord, device_id)",
    )
    assert named == [(DOUBTED, "decode", "exceeds_bandwidth", False)]


def test_an_honest_device_has_nothing_to_be_named(claimed: Path) -> None:
    assert ask(claimed, f"SELECT count(*) FROM plausibility WHERE device_id = '{HONEST}'") == [(0,)]


def test_a_processor_without_a_bandwidth_reaches_no_tier(tmp_path: Path) -> None:
    run = example_run(2)
    run.device.memory.ClearField("read_bandwidth_bytes_per_second")
    folder = beside_an_honest_device(tmp_path, run)
    assert ask(folder, f"SELECT tier FROM tiers WHERE device_id = '{DOUBTED}'") == [(None,)]
    assert ask(folder, "SELECT DISTINCT device_id, plausibility FROM plausibility") == [(DOUBTED, "bandwidth_missing")]


def test_a_run_from_the_future_reaches_no_tier(tmp_path: Path) -> None:
    run = example_run(2)
    run.observe_time.FromDatetime(RECEIVE_TIME + timedelta(days=2))
    folder = beside_an_honest_device(tmp_path, run)
    assert ask(folder, f"SELECT tier FROM tiers WHERE device_id = '{DOUBTED}'") == [(None,)]
    assert ask(folder, "SELECT DISTINCT device_id, plausibility FROM plausibility") == [(DOUBTED, "clock_suspect")]


def test_other_rules_of_plausibility_judge_old_runs_again(claimed: Path, tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    for folder in (same, other):
        folder.mkdir()
    take_over(same, [claimed])
    assert (same / "tiers").exists()
    edit_manifest(claimed, lambda manifest: manifest.update(plausibility_version="of before"))
    take_over(other, [claimed])
    assert {path.name for path in other.iterdir()} == {
        *("runs", "measurements", "hardware", "series", "case_failures", "probe_gaps")
    }


def test_the_rows_that_are_named_can_be_read_by_anything(claimed: Path) -> None:
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT count(*) FROM '{claimed}/plausibility/*.parquet'").fetchone()
    assert found is not None
    assert found[0] > 0
