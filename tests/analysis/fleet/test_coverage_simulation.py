"""How often an interval of 95 % holds the true share, in 2,000 made fleets of each kind; docs/coverage.md has more."""

from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_snapshots import replace_table
from made_fleet import SCHEMES, make_fleet
from simulate_coverage import CELLS, MOST_RUNS, Runs, Scenario, draw, shares, simulate, speeds

from weighin_analysis.fleet.coverage.cover import coverage_of
from weighin_analysis.fleet.coverage.population import parse_population
from weighin_analysis.fleet.coverage.values import Level
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.limits import current_limits

# Standard deviation of ln(estimate): one of a shape that was run, of one that was computed from others, of a guess.
MEASURED, COMPUTED, GUESSED = 0.12, 0.25, 0.5
FORM_FACTORS = ("phone", "laptop", "desktop")
USUAL = Scenario(device_count=100, share=0.5, log_sd=COMPUTED, weighted=False)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("device_count", "log_sd"), [(100, MEASURED), (100, GUESSED), (300, COMPUTED)], ids=["few", "vague", "more"]
)
@pytest.mark.parametrize("share", [0.2, 0.8])
def test_the_interval_holds_the_true_share_in_93_to_97_percent_of_fleets(
    share: float, device_count: int, log_sd: float, weighted: bool
) -> None:
    """Of devices that run once to three times, slow ones more often, each in the better of two schemes."""
    outcome = simulate(Scenario(device_count=device_count, share=share, log_sd=log_sd, weighted=weighted))
    assert 0.93 <= outcome.held <= 0.97


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_fleets_of_thirty_devices_are_told_at_least_as_carefully_as_promised(share: float) -> None:
    assert simulate(replace(USUAL, share=share, device_count=30)).held >= 0.93


def test_the_best_of_four_schemes_is_held_as_often_as_a_single_one() -> None:
    for schemes in (1, 4):
        assert 0.93 <= simulate(replace(USUAL, scheme_count=schemes), fleets=1000).held <= 0.97


def test_without_the_common_part_of_errors_the_interval_is_too_wide_and_with_more_of_it_too_narrow() -> None:
    usual = replace(USUAL, device_count=300)
    none, all_of_it = (replace(usual, true_common_variance=part) for part in (0.0, 1.0))
    assert simulate(none, fleets=500).held > 0.97
    assert simulate(all_of_it, fleets=500).held < 0.93


def test_to_count_every_run_would_hold_the_truth_less_often() -> None:
    mistaken = Scenario(device_count=300, share=0.5, log_sd=MEASURED, weighted=False, counts_runs=True)
    assert simulate(mistaken, fleets=500).held < 0.8


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_a_simulated_fleet_has_the_share_that_its_snapshot_has(tmp_path: Path, weighted: bool) -> None:
    scenario = Scenario(device_count=150, share=0.4, log_sd=COMPUTED, weighted=weighted)
    runs = draw(np.random.default_rng(5), scenario, 1)
    (simulated,) = shares(runs, scenario)
    (of_runs,) = shares(runs, replace(scenario, counts_runs=True))
    folder = snapshot_of(runs, tmp_path)
    lines = (f"{name},{cell[0]}" for name, cell in zip(FORM_FACTORS, CELLS, strict=True))
    population = parse_population("\n".join(["form_factor,share", *lines])) if weighted else None
    with Fleet(folder) as fleet:
        found = coverage_of(fleet, [current_limits()], population=population)
    (row,) = [row for row in found.rows if row.scheme is None and row.level is Level.COMFORTABLE]
    assert row.judged_count == scenario.device_count
    assert row.share is not None
    values = [row.share.value, row.share.low, row.share.high]
    assert values == pytest.approx([simulated.value, simulated.low, simulated.high], abs=1e-6)
    assert abs(of_runs.value - simulated.value) > 0.02


def snapshot_of(runs: Runs, folder: Path) -> Path:
    """Write the snapshot of a drawn fleet: a made one with the estimates of these runs for one class."""
    device = np.cumsum(np.roll(runs.newest, 1)) - 1  # a device begins behind the newest run of the one before
    age = np.concatenate([np.arange(count)[::-1] for count in np.bincount(device)])
    rate, first = speeds(runs)
    drawn = pa.table(
        {
            "device": np.repeat(device, len(SCHEMES)),
            "age": np.repeat(age, len(SCHEMES)),
            "cell": np.repeat(np.array(FORM_FACTORS)[runs.cell], len(SCHEMES)),
            "scheme": [str(scheme) for scheme in SCHEMES] * len(device),
            "rate": rate.ravel(),
            "seconds": first.ravel(),
            "factor": np.repeat(np.exp(NormalDist().inv_cdf(0.9) * runs.log_sd), len(SCHEMES)),
        }
    )
    pq.write_table(drawn, folder / "drawn.parquet")
    snapshot = make_fleet(folder / "snapshot", devices=int(device[-1]) + 1, seed=1, runs_per_device=MOST_RUNS)
    ranked = f"""SELECT run_id, dense_rank() OVER (ORDER BY device_id) - 1 AS device,
        row_number() OVER (PARTITION BY device_id ORDER BY receive_time DESC) - 1 AS age
        FROM '{snapshot}/runs/*.parquet'"""
    estimates = ", ".join(
        f"{value} AS {name}, {value} / factor AS {name}_low, {value} * factor AS {name}_high"
        for name, value in (("decode_tokens_per_second", "rate"), ("time_to_first_token_seconds", "seconds"))
    )
    replace_table(
        snapshot,
        "estimates",
        f"""SELECT it.* REPLACE ({estimates}, NULL::BIGINT AS memory_available_bytes)
        FROM it JOIN ({ranked}) USING (run_id) JOIN '{folder}/drawn.parquet' USING (device, age, scheme)
        WHERE size_class = '2B'""",
    )
    replace_table(
        snapshot,
        "devices",
        f"""SELECT it.* REPLACE (cell AS form_factor) FROM it JOIN ({ranked}) USING (run_id)
        JOIN (SELECT DISTINCT device, age, cell FROM '{folder}/drawn.parquet') USING (device, age)""",
    )
    return snapshot
