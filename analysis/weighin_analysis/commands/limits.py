"""`weighin-analysis limits`: the limits that ship with weighin, to read or to begin a file of one's own."""

import argparse
import json
import tomllib

from weighin_analysis.limits import CURRENT_VERSION, shipped_text, shipped_versions


def add_limits(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command with its arguments."""
    parser = commands.add_parser(
        "limits",
        help="print the limits behind verdicts and tiers",
        description="Print limits as the TOML file that they are. A copy with other numbers and a version of its own "
        "is what --limits of other commands takes.",
        epilog="example: weighin-analysis limits > my-limits.toml",
    )
    parser.add_argument(
        "version", nargs="?", default=CURRENT_VERSION, metavar="VERSION", help=f"default: {CURRENT_VERSION}"
    )
    parser.add_argument("--json", action="store_true", help="print all versions as one JSON document instead")
    return parser


def limits(options: argparse.Namespace) -> tuple[str, int]:
    """Return what to print; LimitsError for a version that does not ship."""
    text = shipped_text(options.version)
    if options.json:
        shipped = [tomllib.loads(shipped_text(version)) for version in shipped_versions()]
        text = json.dumps({"current": CURRENT_VERSION, "limits": shipped}, indent=2)
    return text, 0
