"""A dot with its interval per size class, over the zones that the limits make."""

import math
from dataclasses import dataclass
from typing import Any

import altair as alt

from weighin_analysis.report.charts.theme import ROW_HEIGHT, SHAPES, colour, log_ticks, rows_of

TEXT_PIXELS = 62
LETTER_WIDTH = 7.5
NAME_HEIGHT = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One estimate: the row of the chart that it stands in, its mark, and the text beside it."""

    group: str
    value: float
    low: float
    high: float
    tone: str
    text: str
    hollow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A band of the axis with its name above it; None is the open end."""

    name: str
    low: float | None
    high: float | None
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DotChart:
    """Points over rows of size classes on a logarithmic axis."""

    axis_title: str
    groups: tuple[str, ...]
    zones: tuple[Zone, ...]
    points: tuple[Point, ...]


def draw_dots(chart: DotChart, *, width: int) -> alt.LayerChart | alt.FacetChart:
    """Return the chart."""
    low, high = _domain(chart, width)
    height = len(chart.groups) * (ROW_HEIGHT + 10)
    x = alt.X(
        "value:Q",
        title=chart.axis_title,
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=log_ticks(low, high, width), format=",~r"),
    )
    layers = [*_zones(chart, x, low=low, high=high, width=width, height=height), *_points(chart, x)]
    return alt.layer(*layers).properties(width=width, height=height)


def _domain(chart: DotChart, width: int) -> tuple[float, float]:
    """Return an axis that holds all intervals and, on both sides of every limit, room for the name of its zone."""
    limits = [limit for zone in chart.zones for limit in (zone.low, zone.high) if limit is not None]
    low = min(*(point.low for point in chart.points), min(limits) / 2.5) / 1.15
    high = max(*(point.high for point in chart.points), max(limits) * 2.5)
    # Text stands right of the last point.
    reserved = TEXT_PIXELS / width
    return low, high * (high / low) ** (reserved / (1 - reserved))


def _zones(chart: DotChart, x: alt.X, *, low: float, high: float, width: int, height: int) -> list[alt.Chart]:
    """Return a tinted band per zone, its name above it, and a line at each limit."""
    rows: list[dict[str, Any]] = []
    lift = 0
    for zone in chart.zones:
        start, end = zone.low or low, zone.high or high
        middle = (start * end) ** 0.5  # on a logarithmic axis
        pixels = width * math.log(end / start) / math.log(high / low)
        # A name wider than its zone moves up, out of the way of its neighbours, unless the one before has moved.
        crowded = len(zone.name) * LETTER_WIDTH > pixels
        lift = NAME_HEIGHT if crowded and not lift else 0
        row = {"value": start, "end": end, "middle": middle, "name": zone.name, "tone": colour(zone.tone)}
        rows.append({**row, "y": -9 - lift})
    tone = alt.Color("tone:N", scale=None)
    base = rows_of(rows)
    bands = base.mark_rect(opacity=0.10).encode(x=x, x2="end:Q", color=tone)
    names = base.mark_text(fontSize=12, fontWeight=600, baseline="middle").encode(
        x=alt.X("middle:Q", title=chart.axis_title), y=alt.Y("y:Q", scale=None), text="name:N", color=tone
    )
    lines = rows_of([{"value": zone.low} for zone in chart.zones if zone.low]).mark_rule(
        color="var(--ink)", strokeDash=[3, 3], opacity=0.7
    )
    return [bands, lines.encode(x=x, y=alt.value(0), y2=alt.value(height)), names]


def _points(chart: DotChart, x: alt.X) -> list[alt.Chart]:
    """Return interval lines, dots and the texts beside them."""
    rows: list[dict[str, Any]] = [
        {
            "group": point.group,
            "value": point.value,
            "low": point.low,
            "high": point.high,
            "tone": colour(point.tone),
            "fill": "var(--paper)" if point.hollow else colour(point.tone),
            "shape": SHAPES[point.tone],
            "text": point.text,
        }
        for point in chart.points
    ]
    y = alt.Y("group:N", sort=list(chart.groups), title=None, scale=alt.Scale(type="band", domain=list(chart.groups)))
    base = rows_of(rows).encode(y=y)
    lines = base.mark_rule(strokeWidth=2.5, opacity=0.55).encode(
        x=alt.X("low:Q", title=chart.axis_title), x2="high:Q", color=alt.Color("tone:N", scale=None)
    )
    dots = base.mark_point(size=70, opacity=1, strokeWidth=1.5).encode(
        x=x,
        stroke=alt.Stroke("tone:N", scale=None),
        fill=alt.Fill("fill:N", scale=None),
        shape=alt.Shape("shape:N", scale=None),
    )
    texts = base.mark_text(align="left", dx=8, fontSize=12, color="var(--ink)").encode(
        x=alt.X("high:Q", title=chart.axis_title), text="text:N"
    )
    return [lines, dots, texts]
