"""Drawing: charts as static SVG, and as PNG. The only user of altair and vl-convert.

Colours are the variables of the page, so one drawing serves light, dark and paper; there is no script and no font file.
"""

from weighin_analysis.report.charts.curve_chart import Curve, CurveChart, CurvePoint, draw_curves
from weighin_analysis.report.charts.dot_chart import DotChart, Point, Zone, draw_dots
from weighin_analysis.report.charts.memory_chart import MemoryChart, Need, Stock, draw_memory
from weighin_analysis.report.charts.scatter_chart import LimitLine, Mark, ScatterChart, draw_scatter
from weighin_analysis.report.charts.theme import svg_of, to_png, to_standalone

Chart = CurveChart | DotChart | MemoryChart | ScatterChart

__all__ = [
    "Chart",
    "Curve",
    "CurveChart",
    "CurvePoint",
    "DotChart",
    "LimitLine",
    "Mark",
    "MemoryChart",
    "Need",
    "Point",
    "ScatterChart",
    "Stock",
    "Zone",
    "draw",
    "to_png",
    "to_standalone",
]


def draw(chart: Chart, *, width: int) -> str:
    """Return a chart as one SVG element, about ``width`` pixels of plot wide, that scales with its container."""
    if isinstance(chart, CurveChart):
        return svg_of(draw_curves(chart, width=width))
    if isinstance(chart, DotChart):
        return svg_of(draw_dots(chart, width=width))
    if isinstance(chart, MemoryChart):
        return svg_of(draw_memory(chart, width=width))
    return svg_of(draw_scatter(chart, width=width))
