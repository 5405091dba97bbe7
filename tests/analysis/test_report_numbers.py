"""Numbers are shown with the digits that their interval supports, in units that people use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.card import Estimate
from weighin_analysis.report import numbers


@pytest.mark.parametrize(
    ("estimate", "scale", "value", "interval"),
    [
        (Estimate(value=40.0536, low=34.49, high=46.51), 1, "40", "34 to 47"),
        (Estimate(value=365.48, low=314.7, high=424.4), 1, "370", "310 to 420"),
        (Estimate(value=2.5530, low=2.198, high=2.9651), 1, "2.55", "2.20 to 2.97"),
        (Estimate(value=4644.5, low=4062.2, high=5310.2), 1, "4,600", "4,100 to 5,300"),
        (Estimate(value=0.0275594, low=0.0241045, high=0.0315096), 1000, "27.6", "24.1 to 31.5"),
        (Estimate(value=7.0, low=7.0, high=7.0), 1, "7.00", "7.00 to 7.00"),
        (Estimate(value=0.0, low=0.0, high=0.0), 1, "0", "0 to 0"),
    ],
)
def test_an_estimate_keeps_two_digits_of_its_interval(
    estimate: Estimate, scale: float, value: str, interval: str
) -> None:
    assert numbers.estimate_text(estimate, scale) == (value, interval)


@given(st.floats(1e-6, 1e7), st.floats(1.001, 100))
def test_rounding_moves_no_number_by_more_than_a_twentieth_of_its_interval(value: float, spread: float) -> None:
    estimate = Estimate(value=value, low=value / spread, high=value * spread)
    text, _ = numbers.estimate_text(estimate)
    width = estimate.high - estimate.low
    assert abs(float(text.replace(",", "")) - value) <= width / 20 * 1.000001


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (numbers.gib(1_401_206_016), "1.3 GiB"),
        (numbers.gib(20 << 30), "20 GiB"),
        (numbers.gib(172_986_112), "0.16 GiB"),
        (numbers.gib(512 << 30), "512 GiB"),
        (numbers.gib(0), "0 GiB"),
        (numbers.gb(772_341_760), "0.77 GB"),
        (numbers.gb_per_second(41.26e9), "41 GB/s"),
        (numbers.gb_per_second(9.04e9), "9.0 GB/s"),
        (numbers.cache_size(32 << 10), "32 KiB"),
        (numbers.cache_size(1280 << 10), "1.25 MiB"),
        (numbers.cache_size(100), "100 bytes"),
        (numbers.percent(0.0), "0 %"),
        (numbers.percent(0.001), "under 1 %"),
        (numbers.percent(0.8), "80 %"),
        (numbers.signed_percent(0.0), "±0 %"),
        (numbers.signed_percent(-0.183), "−18.3 %"),
        (numbers.signed_percent(0.02), "+2.0 %"),
    ],
)
def test_a_quantity_is_shown_in_its_unit(text: str, wanted: str) -> None:
    assert text == wanted
