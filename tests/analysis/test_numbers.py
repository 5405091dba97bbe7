"""One way to show a number, on the page and in the terminal: few digits, and still true."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.numbers import number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (13300, "13,300"),
        (5960, "5,960"),
        (1820.4, "1,820"),
        (107.2, "107"),
        (84.8, "84.8"),
        (35.44, "35.4"),
        (10, "10.0"),
        (9.6, "9.6"),
        (7, "7.0"),
        (1.2, "1.2"),
        (0.95, "0.95"),
        (0.0276, "0.028"),
        (99.96, "100"),
        (9.96, "10"),
        (0.0996, "0.10"),
        (999.6, "1,000"),
    ],
)
def test_a_number_has_three_digits_from_ten_up_and_two_below(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(1e-6, 1e9))
def test_the_number_shown_is_within_a_twentieth_of_the_value(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.05)
