"""`weighin-analysis check`: which share of the devices of a snapshot runs one model, and how fast."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from weighin_analysis.commands.fleet_options import add_fleet_options
from weighin_analysis.commands.question import context_length
from weighin_analysis.fleet.coverage.values import ModelCheck, ModelShares, Share
from weighin_analysis.naming.identify import say_parameters
from weighin_analysis.numbers import gb, gib, number
from weighin_analysis.report.numbers import counted, people, share_text

EXAMPLE = "weighin-analysis check Qwen2.5-1.5B --snapshot snapshot/"


def check(options: argparse.Namespace) -> tuple[str, int]:
    """Return what to print, and 0; an AnalysisError where it cannot be told."""
    # Imported here: they need the [report] extra, and importing them takes longer than printing the help.
    from weighin_analysis.fleet.check.check_model import check_model  # noqa: PLC0415
    from weighin_analysis.fleet.coverage.population import read_population  # noqa: PLC0415
    from weighin_analysis.fleet.query.fleet import Fleet  # noqa: PLC0415

    with Fleet(options.snapshot) as fleet, fleet.asking():
        found = check_model(
            fleet,
            options.model,
            scheme=options.scheme,
            context_tokens=options.context,
            limits=None if options.limits is None else fleet.limits([options.limits])[0],
            source=options.source,
            population=read_population(options.population) if options.population else None,
        )
    return json.dumps(asdict(found), indent=2) if options.json else "\n".join(_lines(found)), 0


def _lines(found: ModelCheck) -> Iterator[str]:
    yield _sentence(found)
    counts = ", ".join(f"{count:,} {name}" for name, count in found.sources.items())
    parameters = say_parameters(found.parameters) if found.parameters else "an unknown number of"
    yield (
        f"{parameters} parameters, size class {found.size_class}, context {found.context_tokens:,} tokens; "
        f"{counts or 'no'} {_devices(found.sources)}, limits {found.limits_version}"
    )
    if found.left_out:
        others = " and ".join(f"{count:,} {name}" for name, count in found.left_out.items())
        yield f"not counted: {others} {_devices(found.left_out)}; --source names what is"
    if found.any_scheme.judged_count:
        verdicts = [f"{count:,} {name.replace('_', ' ')}" for name, count in found.verdicts.items()]
        yield f"devices by their best verdict: {', '.join(verdicts)}; {found.unjudged_count:,} not judged"
    yield from _speed_lines(found)
    if found.storage_short_count:
        yield f"{counted(found.storage_short_count, 'device')} with too little free storage for the smallest download"
    if found.schemes:
        yield ""
        yield from _table(found.schemes)
    yield from found.notes


def _devices(counts: Mapping[str, int]) -> str:
    return "device" if sum(counts.values()) == 1 else "devices"


def _sentence(found: ModelCheck) -> str:
    shares = found.any_scheme
    if not any(found.sources.values()):
        return "No devices are counted."
    if shares.comfortable is None or shares.usable is None:
        return f"Nothing that was measured on these devices tells of {found.model}."
    devices = counted(shares.judged_count, "device")
    if found.covered_population_share is not None:
        devices = people(found.covered_population_share, devices)
    return (
        f"{_share(shares.comfortable)} of {devices} run {found.model} comfortably, {_share(shares.usable)} at least "
        "at reading speed."
    )


def _share(share: Share | None) -> str:
    if share is None:
        return "-"
    value, interval = share_text(share)
    return f"{value} ({interval})" if interval else value


def _speed_lines(found: ModelCheck) -> Iterator[str]:
    decode, first = found.decode_tokens_per_second, found.time_to_first_token_seconds
    if decode:
        yield f"decode at p25, p50, p75 of the devices that it fits on: {', '.join(map(number, decode))} tokens/s"
    if first:
        yield f"first token: {', '.join(map(number, first))} s"


def _table(schemes: Sequence[ModelShares]) -> Iterator[str]:
    rows = [("format", "scheme", "download", "memory", "devices", "comfortable", "usable")]
    rows += [
        (
            one.format or "-",
            one.scheme or "-",
            "-" if one.download_bytes is None else gb(one.download_bytes),
            "-" if one.memory_bytes is None else gib(one.memory_bytes),
            f"{one.judged_count:,}",
            _share(one.comfortable),
            _share(one.usable),
        )
        for one in schemes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command with its arguments."""
    about = "Tell which share of the devices of a snapshot runs one model, how fast, and what it takes there."
    parser = commands.add_parser(
        "check", help="which devices run a model", description=about, epilog=f"example: {EXAMPLE}"
    )
    parser.add_argument("model", metavar="MODEL|FILE", help="a name, or a file or folder, as for `size`")
    parser.add_argument("--scheme", metavar="S", help="scheme (default: the best that each device has)")
    parser.add_argument(
        "--context", type=context_length, metavar="N", help="tokens that memory is counted for (default: 2048)"
    )
    add_fleet_options(parser, several_limits=False, weighted=True)
    return parser
