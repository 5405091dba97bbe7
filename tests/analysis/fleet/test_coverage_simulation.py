"""How often an interval of 95 % holds the true share, in 2,000 made fleets of each kind; docs/coverage.md has more."""

from dataclasses import replace

import pytest
from simulate_coverage import Scenario, simulate

# Standard deviation of ln(estimate): one of a shape that was run, and one of a shape that was computed from others.
MEASURED, COMPUTED = 0.12, 0.25


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("device_count", [100, 300, 1000])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.8])
def test_the_interval_holds_the_true_share_in_93_to_97_percent_of_fleets(
    share: float, device_count: int, weighted: bool
) -> None:
    outcome = simulate(Scenario(device_count=device_count, share=share, log_sd=MEASURED, weighted=weighted))
    assert 0.93 <= outcome.held <= 0.97


def test_fleets_of_thirty_devices_are_told_at_least_as_carefully_as_promised() -> None:
    for share in (0.05, 0.5, 0.95):
        outcome = simulate(Scenario(device_count=30, share=share, log_sd=COMPUTED, weighted=False))
        assert outcome.held >= 0.93


def test_without_the_common_part_of_errors_the_interval_is_too_wide_and_with_more_of_it_too_narrow() -> None:
    usual = Scenario(device_count=300, share=0.5, log_sd=COMPUTED, weighted=False)
    none, all_of_it = (replace(usual, true_common_variance=part) for part in (0.0, 1.0))
    assert simulate(none, fleets=500).held > 0.97
    assert simulate(all_of_it, fleets=500).held < 0.93
