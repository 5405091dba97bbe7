"""Write the report of a snapshot into a folder."""

import os
from pathlib import Path

from weighin_analysis.errors import AnalysisError
from weighin_analysis.report.charts import draw
from weighin_analysis.report.page import build_page
from weighin_analysis.report.render import render
from weighin_analysis.snapshot import Snapshot


class ReportError(AnalysisError):
    """A report that cannot be written where it was asked for."""


def write_report(snapshot: Snapshot, folder: Path) -> Path:
    """Write ``index.html`` into ``folder``, made if missing, and return its path; ReportError if that fails."""
    text = render(build_page(snapshot, lambda chart, width: draw(chart, width=width)))
    path = folder / "index.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Who has the old page open must not read half a new one.
        unfinished = folder / f".index.{os.getpid()}.html"
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as cause:
        raise ReportError(f"{folder}: cannot write the report ({cause.strerror}); choose another --out") from cause
    return path
