"""Drawing: a dot chart as static SVG. The only user of altair and vl-convert.

Colours are the variables of the page, so one drawing serves light, dark and paper; there is no script and no font file.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

ROW_HEIGHT = 26
FLEET_ROW_HEIGHT = 64
TEXT_PIXELS = 62
LETTER_WIDTH = 7.5
NAME_HEIGHT = 15
_TICKS = tuple(digit * 10**power for power in range(-4, 8) for digit in (1, 2, 5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One estimate: the row of the chart it stands in, its place within that row, its mark, and the text beside it."""

    group: str
    place: int
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
    """Points over rows of size classes on a logarithmic axis. ``axis_format`` is a d3 number format."""

    axis_title: str
    axis_format: str
    groups: tuple[str, ...]
    zones: tuple[Zone, ...]
    points: tuple[Point, ...]


def draw(chart: DotChart, *, width: int) -> str:
    """Return the chart as one SVG element, ``width`` pixels of plot wide, that scales with its container."""
    low, high = _domain(chart, width)
    places = 1 + max(point.place for point in chart.points)
    labelled = any(point.text for point in chart.points)
    height = len(chart.groups) * (ROW_HEIGHT * places + 10 if labelled else FLEET_ROW_HEIGHT)
    x = alt.X(
        "value:Q",
        title=chart.axis_title,
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=_ticks(low, high, width), format=chart.axis_format),
    )
    layers = [
        *_zones(chart, x, low=low, high=high, width=width, height=height),
        *_points(chart, x, places, labelled=labelled),
    ]
    spec = alt.layer(*layers).properties(width=width, height=height).configure(**_THEME)
    svg: str = vl_convert.vegalite_to_svg(json.dumps(spec.to_dict()), allowed_base_urls=[])
    return svg


def _domain(chart: DotChart, width: int) -> tuple[float, float]:
    """Return an axis that holds all intervals and, on both sides of every limit, room for the name of its zone."""
    limits = [limit for zone in chart.zones for limit in (zone.low, zone.high) if limit is not None]
    low = min(*(point.low for point in chart.points), min(limits) / 2.5) / 1.15
    high = max(*(point.high for point in chart.points), max(limits) * 2.5)
    # Text stands right of the last point.
    reserved = TEXT_PIXELS / width
    return low, high * (high / low) ** (reserved / (1 - reserved))


def _ticks(low: float, high: float, width: int) -> list[float]:
    inside = [tick for tick in _TICKS if low <= tick <= high]
    return inside if len(inside) * 34 <= width else [tick for tick in inside if f"{tick:e}".startswith("1")]


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
        rows.append(
            {
                "value": start,
                "end": end,
                "middle": middle,
                "name": zone.name,
                "tone": f"var(--{zone.tone})",
                "y": -9 - lift,
            }
        )
    tone = alt.Color("tone:N", scale=None)
    base = alt.Chart(alt.InlineData(values=rows))
    bands = base.mark_rect(opacity=0.10).encode(x=x, x2="end:Q", color=tone)
    names = base.mark_text(fontSize=12, fontWeight=600, baseline="middle").encode(
        x=alt.X("middle:Q", title=chart.axis_title), y=alt.Y("y:Q", scale=None), text="name:N", color=tone
    )
    borders = [{"value": zone.low} for zone in chart.zones if zone.low]
    lines = alt.Chart(alt.InlineData(values=borders)).mark_rule(color="var(--ink)", strokeDash=[3, 3], opacity=0.7)
    return [bands, lines.encode(x=x, y=alt.value(0), y2=alt.value(height)), names]


def _points(chart: DotChart, x: alt.X, places: int, *, labelled: bool) -> list[alt.Chart]:
    """Return interval lines, dots and the texts beside them; many dots to a row stay without text."""
    rows: list[dict[str, Any]] = [
        {
            "group": point.group,
            "place": point.place,
            "value": point.value,
            "low": point.low,
            "high": point.high,
            "tone": f"var(--{point.tone})",
            "fill": "var(--paper)" if point.hollow else f"var(--{point.tone})",
            "shape": _SHAPES[point.tone],
            "text": point.text,
        }
        for point in chart.points
    ]
    y = alt.Y("group:N", sort=list(chart.groups), title=None, scale=alt.Scale(domain=list(chart.groups)))
    offset = alt.YOffset("place:O", scale=alt.Scale(domain=list(range(places)), paddingOuter=0.4))
    tone = alt.Color("tone:N", scale=None)
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=y, yOffset=offset)
    size = 70 if labelled else 34
    lines = base.mark_rule(strokeWidth=2.5 if labelled else 1.2, opacity=0.55).encode(
        x=alt.X("low:Q", title=chart.axis_title), x2="high:Q", color=tone
    )
    dots = base.mark_point(size=size, opacity=1, strokeWidth=1.5).encode(
        x=x,
        stroke=alt.Stroke("tone:N", scale=None),
        fill=alt.Fill("fill:N", scale=None),
        shape=alt.Shape("shape:N", scale=None),
    )
    if not labelled:
        return [lines, dots]
    texts = base.mark_text(align="left", dx=8, fontSize=12, color="var(--ink)").encode(
        x=alt.X("high:Q", title=chart.axis_title), text="text:N"
    )
    return [lines, dots, texts]


# A verdict is told by shape as well as by colour.
_SHAPES = {"comfortable": "circle", "usable": "diamond", "too-slow": "triangle-down", "does-not-fit": "cross"}
_FONT = "system-ui, sans-serif"
_THEME: dict[str, Any] = {
    "aria": False,  # the figure carries one text alternative instead of a label per mark
    "background": "transparent",
    "font": _FONT,
    "padding": {"left": 2, "right": 6, "top": 4, "bottom": 2},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 12,
        "titlePadding": 10,
        "domain": False,
        "ticks": False,
        "gridColor": "var(--line)",
        "labelPadding": 8,
    },
    "axisY": {"minExtent": 46, "grid": False, "labelFontWeight": 600, "labelFontSize": 13},
}
