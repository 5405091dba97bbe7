"""Which points stand where: one absurd device does not squeeze all others into a corner of the chart."""

import pytest
from made_measurements import DEVICE, a_card, card_row

from weighin_analysis.limits import current_limits
from weighin_analysis.report.fleet import DeviceResult
from weighin_analysis.report.plots import Plot, plots

WORDS = "A value more than 1,000 times beyond the limits is drawn at the edge."


def decode_plot(*rates: float) -> Plot:
    cards = [a_card(card_row("1B", decode_tokens_per_second=rate)) for rate in rates]
    return plots([DeviceResult(device=DEVICE, card=card) for card in cards], current_limits())[0]


@pytest.mark.parametrize(("absurd", "edge"), [(1e45, 10_000.0), (1e-45, 0.005)])
def test_an_absurd_value_is_drawn_at_the_edge_and_the_caption_says_so(absurd: float, edge: float) -> None:
    plot = decode_plot(20, 30, absurd)
    assert sorted(point.value for point in plot.chart.points) == sorted([20, 30, edge])
    assert all(0.005 <= point.low <= point.high <= 10_000 for point in plot.chart.points)
    assert WORDS in plot.caption


def test_the_label_of_a_value_at_the_edge_does_not_claim_to_be_there() -> None:
    (point,) = decode_plot(1e45).chart.points
    assert point.text == "off axis"


def test_a_chart_without_absurd_values_shows_all_and_says_nothing() -> None:
    plot = decode_plot(0.01, 30, 9000)
    assert [point.value for point in plot.chart.points] == [0.01, 30, 9000]
    assert WORDS not in plot.caption
