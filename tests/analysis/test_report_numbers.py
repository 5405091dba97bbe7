"""Numbers are shown with few digits that are true, in units that people use."""

import pytest

from weighin_analysis.card import Estimate
from weighin_analysis.fleet.coverage.values import Share
from weighin_analysis.report import numbers


@pytest.mark.parametrize(
    ("estimate", "scale", "value", "interval"),
    [
        (Estimate(value=40.0536, low=34.49, high=46.51), 1, "40.1", "34.5 to 46.5"),
        (Estimate(value=0.0275594, low=0.0241045, high=0.0315096), 1000, "27.6", "24.1 to 31.5"),
        (Estimate(value=7.0, low=7.0, high=7.0), 1, "7.0", "7.0 to 7.0"),
        (Estimate(value=1820, low=249, high=13300), 1, "1,820", "249 to 13,300"),
        (Estimate(value=35.4, low=8.6, high=146), 1, "35.4", "8.6 to 146"),
        (Estimate(value=9.6, low=1.2, high=77), 1, "9.6", "1.2 to 77.0"),
    ],
)
def test_a_wide_interval_takes_no_digits_from_value_and_low_end(
    estimate: Estimate, scale: float, value: str, interval: str
) -> None:
    assert numbers.estimate_text(estimate, scale) == (value, interval)


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
        (numbers.percent(0.999), "over 99 %"),
        (numbers.percent(0.995), "over 99 %"),
        (numbers.percent(0.005), "under 1 %"),
        (numbers.percent(1.0), "100 %"),
        (numbers.signed_percent(0.0), "±0 %"),
        (numbers.signed_percent(-0.183), "−18.3 %"),
        (numbers.signed_percent(0.02), "+2.0 %"),
    ],
)
def test_a_quantity_is_shown_in_its_unit(text: str, wanted: str) -> None:
    assert text == wanted


def test_a_share_stands_with_its_interval_unless_it_has_none() -> None:
    assert numbers.share_text(Share(value=0.62, low=0.551, high=0.69)) == ("62 %", "55 to 69 %")
    assert numbers.share_text(Share(value=1, low=1, high=1)) == ("100 %", "")


def test_counts_have_their_thousands_apart() -> None:
    assert [numbers.counted(count, "device") for count in (1, 2, 12_345)] == ["1 device", "2 devices", "12,345 devices"]
