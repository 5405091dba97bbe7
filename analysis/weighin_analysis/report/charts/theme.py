"""What all charts have in common: the look of their axes, the ticks of a logarithmic axis, and the way to SVG."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

ROW_HEIGHT = 26
# A plot narrower than this is drawn for a phone.
PHONE_PIXELS = 400
# A verdict, or a version of the limits, is told by shape as well as by colour.
SHAPES = {
    "comfortable": "circle",
    "usable": "diamond",
    "too-slow": "triangle-down",
    "does-not-fit": "cross",
    "compared": "square",
    "compared-usable": "triangle-up",
}
_TICKS = tuple(digit * 10**power for power in range(-4, 8) for digit in (1, 2, 5))
_TICK_PIXELS = 34
_ROLES = re.compile(r' (?:role|aria-[a-z]+)="[^"]*"')
_THEME: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
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
    "axisBand": {"grid": False, "labelFontWeight": 600, "labelFontSize": 13},
    "axisYBand": {"minExtent": 46},  # fonts differ in width: no class may be cut at the edge
    "legend": {
        "orient": "top",
        "title": None,
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "labelLimit": 260,
        "symbolSize": 80,
        "columnPadding": 26,
    },
}


def svg_of(chart: alt.LayerChart | alt.FacetChart) -> str:
    """Return a chart as SVG; nothing is read from anywhere, and every text in it is escaped."""
    # A check of the whole specification takes longer than the drawing; tests draw every chart.
    spec = chart.configure(**_THEME).to_dict(validate=False)
    svg: str = vl_convert.vegalite_to_svg(json.dumps(spec), allowed_base_urls=[])
    # The figure carries one text alternative instead of a label per mark.
    return _ROLES.sub("", svg)


def to_standalone(svg: str, colours: Mapping[str, str]) -> str:
    """Return a chart that needs no page around it: with colours for variables, and paper under it."""
    for name, value in colours.items():
        svg = svg.replace(colour(name), value)
    head, rest = svg.split(">", maxsplit=1)
    return f'{head}><rect width="100%" height="100%" fill="{colours["paper"]}"/>{rest}'


def to_png(svg: str) -> bytes:
    """Return a chart that needs no page around it as PNG, twice as many pixels to each side."""
    png: bytes = vl_convert.svg_to_png(svg, scale=2)
    return png


def rows_of(values: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """Return a chart without a mark over these rows."""
    return alt.Chart(alt.InlineData(values=[dict(one) for one in values]))


def colour(tone: str) -> str:
    """Return the variable of the page that holds a tone."""
    return f"var(--{tone})"


def log_ticks(low: float, high: float, pixels: int) -> list[float]:
    """Return round numbers on a logarithmic axis, no closer than can be read."""
    inside = [tick for tick in _TICKS if low <= tick <= high]
    return inside if len(inside) * _TICK_PIXELS <= pixels else [tick for tick in inside if f"{tick:e}".startswith("1")]
