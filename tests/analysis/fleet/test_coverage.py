"""A share of devices: what noise does to it, what its interval counts, and what weights change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.fleet.coverage import (
    COMMON_VARIANCE,
    Cells,
    effective_device_count,
    reached,
    remainder,
    share_of,
    weighted_median,
    weighted_quantiles,
)
from weighin_analysis.fleet.values import Share


def share(point: list[bool], probability: list[float], cells: Cells | None = None) -> Share:
    found = share_of(reached(np.array(point), np.array(probability)), cells or Cells.one(len(point)))
    assert found is not None
    return found


def sure(reaching: int, total: int) -> Share:
    point = [place < reaching for place in range(total)]
    return share(point, [float(one) for one in point])


@pytest.mark.parametrize(
    ("reaching", "total", "low", "high"),
    # Wilson's interval of 95 %, by its formula.
    [(0, 10, 0.0, 0.2775), (5, 5, 0.5655, 1.0), (8, 10, 0.4902, 0.9433), (500, 1000, 0.4691, 0.5309)],
)
def test_without_noise_the_interval_is_wilsons(reaching: int, total: int, low: float, high: float) -> None:
    found = sure(reaching, total)
    assert found.value == pytest.approx(reaching / total)
    assert found.low == pytest.approx(low, abs=1e-4)
    assert found.high == pytest.approx(high, abs=1e-4)


def test_a_few_devices_that_all_reach_a_level_do_not_prove_that_all_do() -> None:
    assert sure(5, 5).low < 0.6


def test_noise_that_smooths_the_border_is_taken_out_of_the_interval() -> None:
    random = np.random.default_rng(3)
    truth = 0.4 + 0.5 * random.standard_normal(200_000)  # 79 % are above 0
    noisy = truth + 0.2 * random.standard_normal(len(truth))
    probability = np.vectorize(lambda z: 0.5 * (1 + np.tanh(0.8 * z)))(noisy / 0.2)  # nearly the normal distribution
    plain, true = float((noisy > 0).mean()), float((truth > 0).mean())
    found = share(list(noisy > 0), list(probability))
    around_plain = share(list(noisy > 0), [float(one) for one in noisy > 0])
    assert found.value == around_plain.value == pytest.approx(plain)
    assert (found.low + found.high) / 2 > (around_plain.low + around_plain.high) / 2
    assert found.low < true < found.high
    assert not around_plain.low < true < around_plain.high


def test_doubt_about_single_devices_widens_the_interval() -> None:
    certain = sure(50, 100)
    doubtful = share([True] * 50 + [False] * 50, [0.7] * 50 + [0.3] * 50)
    assert doubtful.high - doubtful.low > 1.5 * (certain.high - certain.low)


def test_an_error_that_all_devices_share_is_not_averaged_out_by_more_of_them() -> None:
    widths = []
    for count in (1000, 100_000):
        probability = np.linspace(0.001, 0.999, count)
        found = share(list(probability > 0.5), list(probability))
        widths.append(found.high - found.low)
    assert widths[1] > 0.9 * widths[0]
    assert COMMON_VARIANCE > 0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.integers(0, 2)), min_size=1, max_size=40))
def test_a_share_lies_within_its_interval_and_both_between_none_and_all(rows: list[tuple[bool, float, int]]) -> None:
    cells = Cells(cell=np.array([cell for _, _, cell in rows]), shares=np.array([0.5, 0.3, 0.2]))
    found = share([point for point, _, _ in rows], [probability for _, probability, _ in rows], cells)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_devices_that_stand_for_many_weigh_more() -> None:
    # Nine devices stand for a tenth of the population, one for the rest.
    cells = Cells(cell=np.array([0] * 9 + [1]), shares=np.array([0.1, 0.9]))
    found = share([True] * 9 + [False], [1.0] * 9 + [0.0], cells)
    assert found.value == pytest.approx(0.1)
    assert found.high > 0.5  # the rest is known from a single device


def test_weights_cost_as_many_devices_as_kish_says() -> None:
    cells = Cells(cell=np.array([0] * 9 + [1]), shares=np.array([0.1, 0.9]))
    weights = [0.1 / 9] * 9 + [0.9]
    assert effective_device_count(cells) == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    assert effective_device_count(Cells.one(7)) == pytest.approx(7)
    assert effective_device_count(Cells.one(0)) == 0


def test_a_cell_without_a_device_leaves_its_share_to_the_others() -> None:
    cells = Cells(cell=np.array([0, 0, 1, 1]), shares=np.array([0.2, 0.2, 0.6]))
    assert share([True, True, False, False], [1.0, 1.0, 0.0, 0.0], cells).value == pytest.approx(0.5)


def test_without_devices_there_is_no_share() -> None:
    assert share_of(reached(np.zeros(0, dtype=np.bool_), np.zeros(0)), Cells.one(0)) is None


def test_the_share_of_exactly_one_tier_is_the_difference_of_two_reaches() -> None:
    wide = reached(np.array([True, True, False]), np.array([0.9, 0.8, 0.1]))
    narrow = reached(np.array([True, False, False]), np.array([0.7, 0.2, 0.0]))
    cells = Cells.one(3)
    shares = [share_of(one, cells) for one in (wide, narrow, wide - narrow)]
    values = [one.value for one in shares if one]
    assert values[2] == pytest.approx(values[0] - values[1])


def test_what_is_left_has_the_mirrored_interval() -> None:
    left = remainder(Share(value=0.7, low=0.6, high=0.9))
    assert [left.value, left.low, left.high] == pytest.approx([0.3, 0.1, 0.4])


def test_a_quantile_is_a_value_that_a_device_has_and_follows_the_weights() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, np.nan])
    assert weighted_quantiles(values, np.ones(5), (0.25, 0.5, 0.75)) == [1.0, 2.0, 3.0]
    assert weighted_median(values, np.array([1.0, 1.0, 1.0, 9.0, 9.0])) == 4.0
    assert weighted_median(np.array([np.nan]), np.ones(1)) is None
