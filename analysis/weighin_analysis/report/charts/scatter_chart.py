"""Two speeds against each other on logarithmic axes, with the limits as lines."""

from dataclasses import dataclass
from typing import Any

import altair as alt

from weighin_analysis.report.charts.theme import PHONE_PIXELS, SHAPES, colour, log_ticks, rows_of

_HEIGHT = 340
_MOST_TEXTS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A device, or a class on one device, with its verdict as tone; ``text`` stands beside it."""

    x: float
    y: float
    tone: str
    text: str
    hollow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLine:
    """A limit of one axis, with the tone of what begins there."""

    value: float
    tone: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatterChart:
    """Marks and limits of both axes; all values are above 0."""

    x_title: str
    y_title: str
    x_limits: tuple[LimitLine, ...]
    y_limits: tuple[LimitLine, ...]
    marks: tuple[Mark, ...]


def draw_scatter(chart: ScatterChart, *, width: int) -> alt.LayerChart | alt.FacetChart:
    """Return the chart; a few marks have their texts beside them."""
    height = _HEIGHT if width >= PHONE_PIXELS else width
    x = _axis(alt.X, "x:Q", chart.x_title, [one.x for one in chart.marks], chart.x_limits, width)
    y = _axis(alt.Y, "y:Q", chart.y_title, [one.y for one in chart.marks], chart.y_limits, height)
    base = rows_of(
        [
            {
                "x": mark.x,
                "y": mark.y,
                "tone": colour(mark.tone),
                "fill": "var(--paper)" if mark.hollow else colour(mark.tone),
                "shape": SHAPES[mark.tone],
                "text": mark.text,
            }
            for mark in chart.marks
        ]
    ).encode(x=x, y=y)
    few = len(chart.marks) <= _MOST_TEXTS
    marks = base.mark_point(size=70 if few else 36, opacity=1 if few else 0.75, strokeWidth=1.4).encode(
        stroke=alt.Stroke("tone:N", scale=None),
        fill=alt.Fill("fill:N", scale=None),
        shape=alt.Shape("shape:N", scale=None),
    )
    layers = [*_lines(chart, x, y), marks]
    if few and any(mark.text for mark in chart.marks):
        layers.append(base.mark_text(align="left", dx=9, fontSize=12, color="var(--ink)").encode(text="text:N"))
    return alt.layer(*layers).properties(width=width, height=height)


def _axis(
    kind: type[alt.X] | type[alt.Y],
    field: str,
    title: str,
    values: list[float],
    limits: tuple[LimitLine, ...],
    pixels: int,
) -> Any:
    """Return an axis that holds all values and limits with some room around them."""
    numbers = [*values, *(limit.value for limit in limits)]
    low, high = min(numbers) / 1.6, max(numbers) * 1.6
    return kind(
        field,
        title=title,
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=log_ticks(low, high, pixels), format=",~r"),
    )


def _lines(chart: ScatterChart, x: Any, y: Any) -> list[alt.Chart]:
    """Return the limits: upright ones named above the plot, level ones at its left edge."""
    tone = alt.Color("tone:N", scale=None)
    layers = []
    for upright, limits in ((True, chart.x_limits), (False, chart.y_limits)):
        field = "x" if upright else "y"
        rows = [{field: one.value, "tone": colour(one.tone), "text": one.text} for one in limits]
        base = rows_of(rows).encode(color=tone, **{field: x if upright else y})
        text = base.mark_text(
            fontSize=12, fontWeight=600, dx=0 if upright else 4, dy=-8, align="center" if upright else "left"
        )
        edge = {"y" if upright else "x": alt.value(0)}
        layers += [base.mark_rule(strokeDash=[4, 3], strokeWidth=1.4), text.encode(text="text:N", **edge)]
    return layers
