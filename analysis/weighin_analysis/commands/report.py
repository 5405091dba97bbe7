"""`weighin-analysis report`: the page that people decide by, and its numbers and charts as files beside it."""

import argparse
import json
from pathlib import Path

from weighin_analysis.commands.fleet_options import add_fleet_options

EXAMPLE = "weighin-analysis report --snapshot snapshot/ --out report/"


def report(options: argparse.Namespace) -> tuple[str, int]:
    """Return where the page is, and 0; an AnalysisError where there can be none."""
    # Imported here: they need the [report] extra, and importing them takes longer than printing the help.
    from weighin_analysis.fleet.coverage.population import read_population  # noqa: PLC0415
    from weighin_analysis.fleet.query.fleet import Fleet  # noqa: PLC0415
    from weighin_analysis.report.numbers import counted  # noqa: PLC0415
    from weighin_analysis.report.write import write_report  # noqa: PLC0415

    population = read_population(options.population) if options.population else None
    with Fleet(options.snapshot) as fleet, fleet.asking():
        limits = fleet.limits(options.limits or ())
        written = write_report(fleet, options.out, limits=limits, source=options.source, population=population)
    if options.json:
        return json.dumps({"report": str(written.page), "devices": written.device_count}), 0
    return f"{written.page}: {counted(written.device_count, 'device')}", 0


def add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command with its arguments."""
    parser = commands.add_parser(
        "report",
        help="write the report of a snapshot",
        description="Write a report about the devices of a snapshot: one self-contained HTML page, the same as "
        "Markdown, the numbers as CSV and JSON, the charts as SVG and PNG.",
        epilog=f"example: {EXAMPLE}",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write index.html into")
    add_fleet_options(parser, several_limits=True, weighted=True)
    return parser
