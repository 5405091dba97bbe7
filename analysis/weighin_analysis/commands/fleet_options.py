"""The arguments of every command that judges a fleet."""

import argparse
from pathlib import Path


def add_fleet_options(parser: argparse.ArgumentParser, *, several_limits: bool, weighted: bool) -> None:
    """Add which snapshot, limits and devices are asked; ``weighted`` where devices may be weighted to a population."""
    parser.add_argument(
        "--snapshot", type=Path, required=True, metavar="DIR", help="folder made by `weighin-aggregator snapshot`"
    )
    if several_limits:
        parser.add_argument(
            "--limits",
            action="append",
            metavar="VERSION|FILE",
            help="limits to judge by; given twice, both stand side by side (default: those of the snapshot)",
        )
    else:
        parser.add_argument(
            "--limits",
            action=_Once,
            metavar="VERSION|FILE",
            help="limits to judge by (default: those of the snapshot)",
        )
    parser.add_argument(
        "--source",
        metavar="S",
        help="devices to count: native, browser, external or all (default: native, else the only source there is)",
    )
    if weighted:
        parser.add_argument(
            "--population", action=_Once, type=Path, metavar="FILE.csv", help="shares to weight the devices to"
        )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


class _Once(argparse.Action):
    """An option that may be given once: the last of several would be taken without a word about the others."""

    def __call__(
        self, parser: argparse.ArgumentParser, options: argparse.Namespace, values: object, name: str | None = None
    ) -> None:
        """Keep the value."""
        if getattr(options, self.dest) is not None:
            parser.error(f"{name} is given twice; this command takes one")
        setattr(options, self.dest, values)
