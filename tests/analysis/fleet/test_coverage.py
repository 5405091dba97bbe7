"""A share of devices: what noise does to it, what its interval counts, and what weights change."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from weighin_analysis.fleet.coverage.shares import (
    COMMON_SDS,
    COMMON_VARIANCE,
    Cells,
    Reached,
    effective_device_count,
    reached,
    remainder,
    share_of,
    weighted_median,
    weighted_quantiles,
)
from weighin_analysis.fleet.coverage.values import Share
from weighin_analysis.fleet.grading.grade import normal_cdf

FloatArray = NDArray[np.float64]


def added(margin_sds: Sequence[float] | FloatArray) -> Reached:
    """What devices add that must keep one limit only."""
    margins = np.array(margin_sds)
    return reached(margins, normal_cdf(margins))


def share(margin_sds: Sequence[float] | FloatArray, cells: Cells | None = None) -> Share:
    found = share_of(added(margin_sds), cells or Cells.one(len(margin_sds)))
    assert found is not None
    return found


def everyone(count: int) -> NDArray[np.bool_]:
    return np.ones(count, dtype=np.bool_)


def sure(reaching: int, total: int, cells: Cells | None = None) -> Share:
    return share([math.inf if place < reaching else -math.inf for place in range(total)], cells)


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
    noisy = truth + 0.2 * math.sqrt(1 - COMMON_VARIANCE) * random.standard_normal(len(truth))  # the common error is 0
    plain, true = float((noisy > 0).mean()), float((truth > 0).mean())
    devices = added(noisy / 0.2)
    # The share alone, without what the common error may do to it.
    found = share_of(replace(devices, worse=devices.point, better=devices.point), Cells.one(len(truth)))
    around_plain = sure(round(plain * len(truth)), len(truth))
    assert found is not None
    assert found.value == around_plain.value == pytest.approx(plain)
    assert found.low < true < found.high
    assert true > around_plain.high


def test_doubt_about_single_devices_widens_the_interval() -> None:
    certain = sure(50, 100)
    doubtful = share([0.5] * 50 + [-0.5] * 50)
    assert doubtful.high - doubtful.low > 1.5 * (certain.high - certain.low)


def test_the_low_end_has_who_misses_if_all_estimates_were_worse_and_the_high_end_who_then_reaches_it() -> None:
    nearly, barely, sure_of_it = COMMON_SDS - 0.1, -COMMON_SDS + 0.1, 10.0
    count = 1_000_000  # nothing else is left of the interval
    found = share([nearly, barely, barely, sure_of_it] * (count // 4))
    assert found.value == pytest.approx(0.5)
    assert [found.low, found.high] == pytest.approx([0.25, 1.0], abs=0.05)
    assert share([COMMON_SDS + 0.1, -COMMON_SDS - 0.1] * (count // 2)).low > 0.45


def test_an_error_that_all_devices_share_is_not_averaged_out_by_more_of_them() -> None:
    widths = []
    for count in (1000, 100_000):
        found = share(np.linspace(-3, 3, count))
        widths.append(found.high - found.low)
    assert widths[1] > 0.9 * widths[0] > 0


@given(st.lists(st.tuples(st.floats(-50, 50), st.integers(0, 2)), min_size=1, max_size=40))
def test_a_share_lies_within_its_interval_and_both_between_none_and_all(rows: list[tuple[float, int]]) -> None:
    cells = Cells(cell=np.array([cell for _, cell in rows]), shares=np.array([0.5, 0.3, 0.2]))
    found = share([margin for margin, _ in rows], cells)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_devices_that_stand_for_many_weigh_more() -> None:
    # Nine devices stand for a tenth of the population, one for the rest.
    cells = Cells(cell=np.array([0] * 9 + [1]), shares=np.array([0.1, 0.9]))
    found = sure(9, 10, cells)
    assert found.value == pytest.approx(0.1)
    assert found.high > 0.5  # the rest is known from a single device


def test_weights_cost_as_many_devices_as_kish_says() -> None:
    cells = Cells(cell=np.array([0] * 9 + [1]), shares=np.array([0.1, 0.9]))
    weights = [0.1 / 9] * 9 + [0.9]
    assert effective_device_count(cells, everyone(10)) == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    assert effective_device_count(Cells.one(7), everyone(7)) == pytest.approx(7)
    assert effective_device_count(Cells.one(0), everyone(0)) == 0


def test_devices_that_do_not_count_are_worth_nothing_and_leave_their_part_to_others_of_their_cell() -> None:
    cells = Cells(cell=np.array([0] * 9 + [1, 1]), shares=np.array([0.5, 0.5]))
    judged = np.array([True] * 2 + [False] * 7 + [True, True])
    assert list(cells.weights(judged)) == [0.25] * 2 + [0.0] * 7 + [0.25] * 2
    assert effective_device_count(cells, judged) == pytest.approx(4)
    assert list(cells.without(judged)) == [False, False]
    assert list(cells.without(np.array([True] * 9 + [False] * 2))) == [False, True]


def test_a_cell_without_a_device_leaves_its_share_to_the_others() -> None:
    cells = Cells(cell=np.array([0, 0, 1, 1]), shares=np.array([0.2, 0.2, 0.6]))
    assert sure(2, 4, cells).value == pytest.approx(0.5)


def test_without_devices_there_is_no_share() -> None:
    assert share_of(added([]), Cells.one(0)) is None


def test_the_share_of_exactly_one_tier_is_the_difference_of_two_reaches() -> None:
    wide, narrow = added([1.3, 0.8, -1.0]), added([0.5, -0.8, -3.0])
    cells = Cells.one(3)
    shares = [share_of(one, cells) for one in (wide, narrow, wide - narrow)]
    values = [one.value for one in shares if one]
    assert values[2] == pytest.approx(values[0] - values[1])


def test_the_share_of_one_tier_may_get_smaller_when_all_estimates_get_better() -> None:
    count = 100_000
    wide, narrow = added([5.0] * count), added([-0.5] * count)  # all are of this tier, and nearly of the next one
    found = share_of(wide - narrow, Cells.one(count))
    assert found is not None
    assert (found.value, found.high) == (1, 1)
    assert found.low < 0.1


def test_what_is_left_has_the_mirrored_interval() -> None:
    left = remainder(Share(value=0.7, low=0.6, high=0.9))
    assert [left.value, left.low, left.high] == pytest.approx([0.3, 0.1, 0.4])


@given(st.integers(1, 60), st.integers(1, 60))
def test_the_half_of_the_people_that_one_cell_is_ends_at_its_last_device(phones: int, desktops: int) -> None:
    cells = Cells(cell=np.array([0] * phones + [1] * desktops), shares=np.array([0.5, 0.5]))
    count = phones + desktops
    values = np.arange(float(count))  # every phone is slower than any desktop
    assert weighted_median(values, cells.weights(everyone(count))) == phones - 1


def test_a_quantile_is_a_value_that_a_device_has_and_follows_the_weights() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, np.nan])
    assert weighted_quantiles(values, np.ones(5), (0.25, 0.5, 0.75)) == [1.0, 2.0, 3.0]
    assert weighted_median(values, np.array([1.0, 1.0, 1.0, 9.0, 9.0])) == 4.0
    assert weighted_median(np.array([np.nan]), np.ones(1)) is None
