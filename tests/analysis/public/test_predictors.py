"""From one or two runs to the time of another model: what the law of sizes does with them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.errors import EstimateError
from weighin_analysis.measurement import Phase
from weighin_analysis.public.predictors import (
    Anchor,
    PrefillAnchor,
    SizeLaw,
    predict,
    predict_prefill,
    shipped_law,
)

LAW = SizeLaw(size_exponent=0.1, run_sd=0.05, walk_sd=0.3, line_beyond=5.0)
SMALL, LARGE = Anchor(bytes_read=1e9, seconds=0.02), Anchor(bytes_read=4e9, seconds=0.07)


def test_from_one_run_time_per_byte_falls_with_size_as_the_law_says() -> None:
    assert predict([SMALL], 8e9, LAW).seconds == pytest.approx(0.02 * 8**0.9)


def test_between_two_runs_the_prediction_lies_between_them() -> None:
    assert SMALL.seconds < predict([SMALL, LARGE], 2e9, LAW).seconds < LARGE.seconds


def test_two_equal_sizes_are_averaged() -> None:
    twin = Anchor(bytes_read=1e9, seconds=0.03)
    assert predict([SMALL, twin], 1e9, LAW).seconds == pytest.approx(math.sqrt(0.02 * 0.03))


def test_of_many_runs_the_nearest_two_count_in_any_order() -> None:
    far = Anchor(bytes_read=90e9, seconds=9.0)
    expected = predict([SMALL, LARGE], 2e9, LAW)
    assert predict([far, LARGE, SMALL], 2e9, LAW) == expected
    assert predict([SMALL, LARGE, far], 2e9, LAW) == expected


def test_a_second_run_never_makes_the_prediction_less_certain() -> None:
    assert predict([SMALL, LARGE], 2e9, LAW).log_sd < predict([SMALL], 2e9, LAW).log_sd


def test_certainty_falls_with_the_distance_but_never_below_the_noise_of_two_runs() -> None:
    sds = [predict([SMALL], size, LAW).log_sd for size in (1e9, 2e9, 8e9, 64e9)]
    assert sds == sorted(sds)
    assert sds[0] == pytest.approx(LAW.run_sd * math.sqrt(2))


def test_a_noisy_slope_between_near_runs_is_not_followed_far() -> None:
    near = Anchor(bytes_read=1.05e9, seconds=0.025)  # the line through both has a fixed cost far below 0
    predicted = predict([SMALL, near], 16e9, LAW).seconds
    line = 0.025 + (0.025 - 0.02) / 0.05 * (16 - 1.05)
    assert predicted < line / 2


def test_two_runs_far_apart_tell_what_a_step_costs_and_what_a_byte_takes() -> None:
    far = Anchor(bytes_read=10e9, seconds=0.12)
    assert predict([SMALL, far], 4e9, LAW).seconds == pytest.approx(0.02 + 3 * 0.1 / 9)
    assert predict([SMALL, far], 4e9, replace(LAW, line_beyond=math.inf)).seconds != pytest.approx(0.02 + 3 * 0.1 / 9)


@pytest.mark.parametrize("seconds", [0.01, 0.3], ids=["slope below 0", "cost below 0"])
def test_a_line_that_no_device_can_have_is_not_followed(seconds: float) -> None:
    runs = [SMALL, Anchor(bytes_read=10e9, seconds=seconds)]
    assert predict(runs, 4e9, LAW) == predict(runs, 4e9, replace(LAW, line_beyond=math.inf))


def test_without_a_run_nothing_is_predicted() -> None:
    with pytest.raises(EstimateError, match="without a run"):
        predict([], 1e9)


def test_a_prefill_is_as_its_parameters_and_less_certain_than_a_decode_step() -> None:
    prefill = predict_prefill([PrefillAnchor(parameters=1e9, seconds=1e-3)], 4e9)
    decode = predict([Anchor(bytes_read=1e9, seconds=1e-3)], 4e9)
    assert prefill.seconds == pytest.approx(4e-3)
    assert prefill.log_sd > 1.5 * decode.log_sd


sizes = st.floats(1e7, 1e12)
times = st.floats(1e-4, 100)


@given(sizes, times, sizes, times, sizes, st.floats(0.01, 100))
def test_a_clock_in_other_units_changes_nothing_but_the_unit(
    size: float, time: float, other: float, other_time: float, asked: float, factor: float
) -> None:
    plain = predict([Anchor(bytes_read=size, seconds=time), Anchor(bytes_read=other, seconds=other_time)], asked)
    scaled = predict(
        [Anchor(bytes_read=size, seconds=factor * time), Anchor(bytes_read=other, seconds=factor * other_time)], asked
    )
    assert scaled.seconds == pytest.approx(factor * plain.seconds)
    assert scaled.log_sd == pytest.approx(plain.log_sd)
    assert plain.log_sd > 0


def test_the_law_that_ships_is_a_plausible_one() -> None:
    for phase in (Phase.DECODE, Phase.PREFILL):
        law = shipped_law(phase)
        assert 0 <= law.size_exponent < 0.3
        assert np.isfinite([law.run_sd, law.walk_sd]).all()
        assert 0 < law.run_sd < law.walk_sd
        assert law.line_beyond > 1
