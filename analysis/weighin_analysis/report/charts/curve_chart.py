"""A curve of shares over size classes, each with the band that its interval spans."""

from dataclasses import dataclass
from typing import Any

import altair as alt

from weighin_analysis.report.charts.theme import PHONE_PIXELS, ROW_HEIGHT, SHAPES, colour, rows_of

_HEIGHT = 300
_LABELLED_CURVES = 2
_NEAR_AXIS = 0.12


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A share of 0 to 1 with its interval, at one size class; ``text`` stands beside it."""

    size_class: str
    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points that belong together; ``name`` stands in the legend."""

    name: str
    tone: str
    dashed: bool
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveChart:
    """Curves over size classes, the smallest class first."""

    axis_title: str
    classes: tuple[str, ...]
    curves: tuple[Curve, ...]


def draw_curves(chart: CurveChart, *, width: int) -> alt.LayerChart | alt.FacetChart:
    """Return the chart: classes from left to right, on a phone from top to bottom."""
    upright = width < PHONE_PIXELS
    size_class: dict[str, Any] = {
        "sort": list(chart.classes),
        "scale": alt.Scale(type="band", domain=list(chart.classes)),
    }
    share: dict[str, Any] = {
        "title": chart.axis_title,
        "scale": alt.Scale(domain=[0, 1]),
        "axis": alt.Axis(format="%", tickCount=5),
    }
    if upright:
        place: dict[str, Any] = {"y": alt.Y("size_class:N", title=None, **size_class)}
        band: dict[str, Any] = {"x": alt.X("low:Q", stack=None, **share), "x2": "high:Q"}
        line: dict[str, Any] = {"x": alt.X("value:Q", **share)}
        height = len(chart.classes) * ROW_HEIGHT
    else:
        place = {"x": alt.X("size_class:N", title="size class", axis=alt.Axis(labelAngle=0), **size_class)}
        band = {"y": alt.Y("low:Q", stack=None, **share), "y2": "high:Q"}
        line = {"y": alt.Y("value:Q", **share)}
        height = _HEIGHT
    layers = _curves(chart, place, band, line, upright=upright)
    return alt.layer(*layers).properties(width=width, height=height)


def _curves(
    chart: CurveChart, place: dict[str, Any], band: dict[str, Any], line: dict[str, Any], *, upright: bool
) -> list[alt.Chart]:
    names = [curve.name for curve in chart.curves]
    tones = alt.Scale(domain=names, range=[colour(curve.tone) for curve in chart.curves])
    shapes = alt.Scale(domain=names, range=[SHAPES[curve.tone] for curve in chart.curves])
    dashes = alt.Scale(domain=names, range=[[5, 4] if curve.dashed else [1, 0] for curve in chart.curves])
    # One entry to a line where there is little room.
    legend = alt.Legend(symbolOpacity=1, columns=1 if upright else len(names))
    tone = alt.Color("curve:N", scale=tones, sort=names, legend=legend)
    base = rows_of(
        [
            {
                "curve": curve.name,
                "size_class": point.size_class,
                "value": point.value,
                "low": point.low,
                "high": point.high,
                "text": point.text,
                "place": chart.classes.index(point.size_class),
            }
            for curve in chart.curves
            for point in curve.points
        ]
    ).encode(**place)
    bands = base.mark_area(opacity=0.16, orient="horizontal" if upright else "vertical").encode(color=tone, **band)
    lines = base.mark_line(strokeWidth=2.5).encode(
        color=tone, order="place:Q", strokeDash=alt.StrokeDash("curve:N", scale=dashes, sort=names), **line
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        color=tone, shape=alt.Shape("curve:N", scale=shapes, sort=names), **line
    )
    layers = [bands, lines, points]
    if upright or len(names) > _LABELLED_CURVES:
        return layers
    # The texts of the first curve, the lower one: under its points, but above the axis.
    first = base.transform_filter(alt.datum.curve == names[0])
    for side, down in ((alt.datum.value >= _NEAR_AXIS, 17), (alt.datum.value < _NEAR_AXIS, -13)):
        texts = first.transform_filter(side).mark_text(dy=down, fontSize=12, fontWeight=600, color="var(--ink)")
        layers.append(texts.encode(text="text:N", **line))
    return layers
