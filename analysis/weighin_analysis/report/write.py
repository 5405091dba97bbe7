"""Write the report of a fleet into a folder: the page, the same as Markdown, numbers as CSV and JSON, the charts."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from weighin_analysis.errors import AnalysisError
from weighin_analysis.fleet.coverage.population import Population
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.fleet.snapshot.folder import in_snapshot
from weighin_analysis.limits import Limits, load_limits
from weighin_analysis.replacing import replacing
from weighin_analysis.report.cards import device_details
from weighin_analysis.report.charts import draw, to_png, to_standalone
from weighin_analysis.report.exports import csv_files, to_json, write_devices
from weighin_analysis.report.gather import findings_of, grades_of
from weighin_analysis.report.markdown import to_markdown
from weighin_analysis.report.page import build_page
from weighin_analysis.report.queries import MAX_SECTIONS
from weighin_analysis.report.render import Drawing, light_palette, render
from weighin_analysis.report.view import Page

PAGE = "index.html"
CHARTS = "charts"
_CHART_NAMES = ("coverage", "speed", "memory", "decode", "first-token")
# The curves of more versions than two could not be told apart.
MOST_LIMITS = 2
# Pixels of plot: beside the text of a desktop page, and inside a phone of 360 pixels.
WIDE_PIXELS, NARROW_PIXELS = 960, 264


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Where the page is, and how many devices it counts."""

    page: Path
    device_count: int


class ReportError(AnalysisError):
    """A report that cannot be written as, or where, it was asked for."""


def write_report(
    fleet: Fleet,
    folder: Path,
    *,
    limits: Sequence[Limits] = (),
    source: str | None = None,
    population: Population | None = None,
) -> Written:
    """Write the report of a fleet into ``folder``, made if missing.

    ``limits`` are those of the snapshot unless told; of two versions everything that has one version takes the first.
    Every file is replaced whole, the page last. ReportError in one line where the folder cannot be written, or lies in
    a snapshot, which holds its own files and nothing else.
    """
    if len(limits) > MOST_LIMITS:
        raise ReportError(f"{len(limits)} versions of the limits; a report sets {MOST_LIMITS} side by side at most")
    if in_snapshot(folder):
        raise ReportError(f"{folder}: a report in a snapshot would make it none; choose another --out")
    graded = grades_of(fleet, limits or [load_limits(fleet.limits_version)])
    findings = findings_of(fleet, graded, source=source, population=population)
    details = device_details(fleet, graded[0], findings.devices[:MAX_SECTIONS])
    page = build_page(findings, details)
    files: dict[str, bytes] = {name: text.encode() for name, text in csv_files(findings).items()}
    files["report.md"] = to_markdown(page, CHARTS).encode()
    files["report.json"] = to_json(findings, page.headline).encode()
    try:
        (folder / CHARTS).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max_workers=1) as drawing:  # which needs no DuckDB, while that writes
            drawn = drawing.submit(_drawn_files, page)
            with replacing(folder / "devices.csv") as unfinished:
                write_devices(fleet, graded, unfinished)
            files |= drawn.result()
        for name, content in files.items():
            with replacing(folder / name) as unfinished:
                unfinished.write_bytes(content)
        for name in (f"{CHARTS}/{anchor}.{kind}" for anchor in _CHART_NAMES for kind in ("svg", "png")):
            if name not in files:  # of an earlier report, of a fleet of another kind
                (folder / name).unlink(missing_ok=True)
    except OSError as cause:
        raise ReportError(f"{folder}: cannot write the report ({cause.strerror}); choose another --out") from cause
    return Written(page=folder / PAGE, device_count=findings.coverage.sample.device_count)


def _drawn_files(page: Page) -> dict[str, bytes]:
    """Return the charts and, last, the page."""
    drawings = _drawings(page)
    files: dict[str, bytes] = {}
    for anchor, drawing in drawings.items():
        picture = to_standalone(drawing.wide, light_palette())
        files[f"{CHARTS}/{anchor}.svg"] = picture.encode()
        files[f"{CHARTS}/{anchor}.png"] = to_png(picture)
    return {**files, PAGE: render(page, drawings).encode()}


def _drawings(page: Page) -> Mapping[str, Drawing]:
    figures = [section.figure for section in page.sections if section.figure]
    return {
        figure.anchor: Drawing(
            wide=draw(figure.chart, width=WIDE_PIXELS), narrow=draw(figure.chart, width=NARROW_PIXELS)
        )
        for figure in figures
    }
