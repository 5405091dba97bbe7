"""`weighin-analysis coverage`: the share of devices that run each size class, and what to ship to whom."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

from weighin_analysis.catalog import size_classes
from weighin_analysis.commands.fleet_options import add_fleet_options
from weighin_analysis.errors import QuestionError
from weighin_analysis.fleet.coverage.values import Coverage, CoverageRow, Level, Sample, Share
from weighin_analysis.numbers import gb, gib, number
from weighin_analysis.report.numbers import counted, people, percent, share_text

EXAMPLE = "weighin-analysis coverage --snapshot snapshot/ --class 2B --population market.csv"


def coverage(options: argparse.Namespace) -> tuple[str, int]:
    """Return what to print, and 0; an AnalysisError where it cannot be told."""
    # Imported here: they need the [report] extra, and importing them takes longer than printing the help.
    from weighin_analysis.fleet.coverage.cover import coverage_of  # noqa: PLC0415
    from weighin_analysis.fleet.coverage.population import read_population  # noqa: PLC0415
    from weighin_analysis.fleet.coverage.suppress import LEAST_DEVICES, suppressed  # noqa: PLC0415
    from weighin_analysis.fleet.query.fleet import Fleet  # noqa: PLC0415

    names = [one.name for one in size_classes()]
    if options.size_class and options.size_class not in names:
        raise QuestionError(f"there is no size class {options.size_class!r:.40}; the classes are {', '.join(names)}")
    population = read_population(options.population) if options.population else None
    with Fleet(options.snapshot) as fleet, fleet.asking():
        found = coverage_of(fleet, fleet.limits(options.limits or ()), source=options.source, population=population)
        time = fleet.time
    if options.public and 0 < found.sample.device_count < LEAST_DEVICES:
        headline = f"Fewer than {LEAST_DEVICES} devices: nothing is told of them."
        return json.dumps({"snapshot_time": time.isoformat(), "headline": headline}) if options.json else headline, 0
    told = suppressed(found) if options.public else found
    headline = sentence(found, told, options.size_class, options.scheme)
    shown = _chosen(told, options.size_class, options.scheme)
    if options.json:
        return json.dumps({"snapshot_time": time.isoformat(), "headline": headline, **asdict(shown)}, indent=2), 0
    return "\n".join([headline, *_text(shown, options.scheme)]), 0


def sentence(found: Coverage, told: Coverage, size_class: str | None, scheme: str | None) -> str:
    """Return the answer in one sentence: about a class, or about the largest that most devices run comfortably.

    ``told`` is what of ``found`` may be told; an answer that may not is not replaced by the next that may.
    """
    # Imported here for the reason above.
    from weighin_analysis.report.decision import main_choice  # noqa: PLC0415

    if not found.sample.device_count:
        return (
            "No devices are counted." if found.sample.left_out or found.sample.unplaced_device_count else "No runs yet."
        )
    main = main_choice(found)
    if main and not (size_class or scheme):
        if main not in told.ship:
            return "What most devices run comfortably is not told: it would be about fewer than five devices."
        return _reaches(told.sample, _judged(told.sample), f"a {main.size_class} model", main.reach, main.usable_reach)
    if asked := size_class or (main and main.size_class):
        return _of_class(told, asked, scheme)
    if found.sample.unjudged_device_count == found.sample.device_count:
        return _nothing_known(found.sample)
    return f"None of {_judged(told.sample)} runs a size class comfortably."


def _of_class(told: Coverage, asked: str, scheme: str | None) -> str:
    shares = {
        row.level: row
        for row in told.rows
        if (row.limits_version, row.size_class, row.scheme) == (told.limits_versions[0], asked, scheme)
    }
    comfortable, usable = shares.get(Level.COMFORTABLE), shares.get(Level.USABLE)
    form = f" in {scheme}" if scheme else ""
    if not (comfortable and comfortable.share and usable and usable.share):
        if comfortable and comfortable.judged_count and comfortable.share is None:
            return f"No share of {asked} models{form} is told: of a part of the population nobody was judged on them."
        return f"Nothing can be told of {asked} models{form} on these devices."
    model = f"a {asked} model{form}"
    return _reaches(told.sample, counted(comfortable.judged_count, "device"), model, comfortable.share, usable.share)


def _judged(sample: Sample) -> str:
    """Return on how many devices something was judged, in words; not how many where that may not be told."""
    if sample.unjudged_device_count is None:
        return "the judged devices"
    return counted(sample.device_count - sample.unjudged_device_count, "device")


def _reaches(sample: Sample, devices: str, model: str, comfortable: Share, usable: Share) -> str:
    value, interval = share_text(comfortable)
    between = f" ({interval})" if interval else ""
    those = people(sample.covered_population_share, devices) if sample.weighted else devices
    return (
        f"{value}{between} of {those} {'runs' if those == '1 device' else 'run'} {model} comfortably, "
        f"{percent(usable.value)} at least at reading speed."
    )


def _nothing_known(sample: Sample) -> str:
    devices = counted(sample.device_count, "device")
    return f"Nothing can be said of {devices}: no run gave a measurement to judge a class by."


def _chosen(found: Coverage, size_class: str | None, scheme: str | None) -> Coverage:
    """Return what was asked for; QuestionError for a scheme that no device has."""
    schemes = dict.fromkeys(row.scheme for row in found.rows if row.scheme)
    if scheme and scheme not in schemes and found.rows:
        raise QuestionError(f"no device has a verdict in the scheme {scheme!r:.40}; there are {', '.join(schemes)}")
    rows = [row for row in found.rows if size_class in {None, row.size_class} and scheme in {None, row.scheme}]
    speeds = [row for row in found.speeds if size_class in {None, row.size_class}]
    return replace(found, rows=tuple(rows), speeds=tuple(speeds))


def _text(found: Coverage, scheme: str | None) -> Iterator[str]:
    yield from _sample_lines(found)
    anyhow = ", in any scheme" if scheme else ""
    parts: list[tuple[str, list[Sequence[str]]]] = [
        (f"Share of devices by size class, in {scheme or 'any scheme'}:", _coverage_cells(found, scheme)),
        (f"What to ship{anyhow}: to the devices that run it comfortably, the rest to a server.", _ship_cells(found)),
        ("Baseline devices, from the weakest:", _baseline_cells(found)),
        ("Gates elsewhere, in devices:", _gate_cells(found)),
    ]
    for title, cells in parts:
        if len(cells) > 1:
            yield ""
            yield title
            yield from _aligned(cells)


def _sample_lines(found: Coverage) -> Iterator[str]:
    sample = found.sample
    counts = ", ".join(f"{count:,} {name}" for name, count in sample.sources.items())
    if sample.device_count:
        formula = f"formula {found.formula_version}; " if found.formula_version else ""
        yield (
            f"{counted(sample.device_count, 'device')}{f' ({counts})' if counts else ''}; limits "
            f"{', '.join(found.limits_versions)}; {formula}"
            f"intervals of {percent(sample.interval_probability)}."
        )
    if sample.weighted:
        worth = f"{sample.effective_device_count:,.0f} device{'' if round(sample.effective_device_count) == 1 else 's'}"
        yield (
            f"Weighted to a population of which {percent(sample.covered_population_share)} is covered; worth {worth} "
            "without weights."
        )
    if sample.left_out:
        others = " and ".join(f"{count:,} {name}" for name, count in sample.left_out.items())
        devices = "device" if sum(sample.left_out.values()) == 1 else "devices"
        yield f"Not counted: {others} {devices}; --source names what is."
    if sample.unjudged_device_count and sample.unjudged_device_count < sample.device_count:
        yield f"No class could be judged on {counted(sample.unjudged_device_count, 'device')}; no share counts them."
    for note in found.notes:
        yield f"Note: {note}."


def _coverage_cells(found: Coverage, scheme: str | None) -> list[Sequence[str]]:
    several = len(found.limits_versions) > 1
    cells: list[Sequence[str]] = [("class", "limits", "comfortable", "", "usable", "", "devices")]
    chosen = [row for row in found.rows if row.scheme == scheme]
    for key in dict.fromkeys((row.limits_version, row.size_class) for row in chosen):
        levels = [row for row in chosen if (row.limits_version, row.size_class) == key]
        cells.append((key[1], key[0], *_by_level(levels), f"{levels[0].judged_count:,}"))
    return cells if several else [(row[0], *row[2:]) for row in cells]


def _by_level(rows: Sequence[CoverageRow]) -> Iterator[str]:
    for level in Level:
        yield from _share_cells(next((row.share for row in rows if row.level is level), None))


def _share_cells(share: Share | None) -> tuple[str, str]:
    return share_text(share) if share else ("-", "")


def _ship_cells(found: Coverage) -> list[Sequence[str]]:
    several = len(found.limits_versions) > 1
    headings = ("ship", "limits", "scheme", "download", "devices", "reach", "", "usable", "server", "tokens/s")
    cells: list[Sequence[str]] = [headings]
    for row in found.ship:
        rate = row.median_decode_tokens_per_second
        cells.append((
            row.size_class or "nothing",
            row.limits_version,
            row.scheme or "-",
            gb(row.download_bytes) if row.download_bytes else "-",
            f"{row.tier_count:,}",
            *_share_cells(row.reach),
            percent(row.usable_reach.value),
            percent(row.server.value),
            number(rate) if rate else "-",
        ))  # fmt: skip
    return cells if several else [(row[0], *row[2:]) for row in cells]


def _baseline_cells(found: Coverage) -> list[Sequence[str]]:
    several = len(found.limits_versions) > 1
    cells: list[Sequence[str]] = [("", "limits", "tier", "tokens/s", "on", "memory", "form", "device")]
    for row in found.baselines:
        rate = row.decode_tokens_per_second
        cells.append((
            f"p{row.percentile}",
            row.limits_version,
            row.tier or "none",
            number(rate) if rate else "-",
            row.size_class or "-",
            gib(row.memory_total_bytes) if row.memory_total_bytes else "-",
            row.form_factor or "-",
            row.name or row.device_id,
        ))  # fmt: skip
    return cells if several else [(row[0], *row[2:]) for row in cells]


def _gate_cells(found: Coverage) -> list[Sequence[str]]:
    cells: list[Sequence[str]] = [("gate", "pass", "fail", "not known")]
    for row in found.gates:
        counts = (row.passed_count, row.failed_count, row.unknown_count)
        cells.append((row.gate.replace("_", " "), *(f"{count:,}" for count in counts)))
    return cells if found.sample.device_count else []


def _aligned(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def add_coverage(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command with its arguments."""
    parser = commands.add_parser(
        "coverage",
        help="tell which share of the devices runs each size class",
        description="Tell which share of the devices runs each size class, with an interval that counts the size of "
        "the sample and the uncertainty of the estimates, and what to ship to whom.",
        epilog=f"example: {EXAMPLE}",
    )
    parser.add_argument("--class", dest="size_class", metavar="CLASS", help="one size class, such as 2B")
    parser.add_argument("--scheme", metavar="S", help="one scheme (default: the best that each device has)")
    parser.add_argument("--public", action="store_true", help="leave out what is about fewer than five devices")
    add_fleet_options(parser, several_limits=True, weighted=True)
    return parser
