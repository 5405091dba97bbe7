"""What size classes need in memory, over what devices have: rows of classes on a logarithmic axis of GiB."""

from dataclasses import dataclass

import altair as alt

from weighin_analysis.report.charts.theme import ROW_HEIGHT, log_ticks, rows_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The memory that one class needs, in GiB: in the scheme that takes least and in the one that takes most.

    ``text`` is the least, and stands beside its dot.
    """

    size_class: str
    least: float
    most: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """An amount in GiB that a share of the devices has; ``text`` tells the share."""

    value: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryChart:
    """Needs by class and what devices have, the least first."""

    axis_title: str
    needs: tuple[Need, ...]
    stocks: tuple[Stock, ...]


def draw_memory(chart: MemoryChart, *, width: int) -> alt.LayerChart | alt.FacetChart:
    """Return the chart; what most and what few devices have is a tinted band with a line per share."""
    numbers = [*(one.value for one in chart.stocks), *(value for one in chart.needs for value in (one.least, one.most))]
    low, high = min(numbers) / 1.4, max(numbers) * 1.4
    low /= (high / low) ** (80 / width)  # text stands left of the first dot
    height = len(chart.needs) * ROW_HEIGHT
    x = alt.X(
        "value:Q",
        title=chart.axis_title,
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=log_ticks(low, high, width), format=",~r"),
    )
    layers = [*_stocks(chart, x, height), *_needs(chart, x)]
    return alt.layer(*layers).properties(width=width, height=height)


def _stocks(chart: MemoryChart, x: alt.X, height: int) -> list[alt.Chart]:
    if not chart.stocks:
        return []
    rows = [
        {"value": one.value, "text": one.text, "y": -9 - 14 * (place % 2)} for place, one in enumerate(chart.stocks)
    ]
    base = rows_of(rows)
    lines = base.mark_rule(color="var(--comfortable)", strokeDash=[4, 3], strokeWidth=1.4)
    texts = base.mark_text(color="var(--comfortable)", fontSize=12, fontWeight=600)
    band = rows_of([{"value": chart.stocks[0].value, "end": chart.stocks[-1].value}])
    return [
        band.mark_rect(color="var(--comfortable)", opacity=0.1).encode(x=x, x2="end:Q"),
        lines.encode(x=x, y=alt.value(0), y2=alt.value(height)),
        texts.encode(x=x, y=alt.Y("y:Q", scale=None), text="text:N"),
    ]


def _needs(chart: MemoryChart, x: alt.X) -> list[alt.Chart]:
    classes = [one.size_class for one in chart.needs]
    rows = [
        {"size_class": one.size_class, "value": one.least, "most": one.most, "text": one.text} for one in chart.needs
    ]
    y = alt.Y("size_class:N", sort=classes, title=None, scale=alt.Scale(type="band", domain=classes))
    base = rows_of(rows).encode(y=y)
    return [
        base.mark_rule(strokeWidth=3, opacity=0.5, color="var(--ink)").encode(x=x, x2="most:Q"),
        base.mark_point(filled=True, size=70, opacity=1, color="var(--ink)").encode(x=x),
        base.mark_text(align="right", dx=-8, fontSize=12, color="var(--ink)").encode(x=x, text="text:N"),
    ]
