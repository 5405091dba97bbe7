"""`weighin-analysis tiers`: how many devices have which tier, and the tier of every device."""

import argparse
import json
import re
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighin_analysis.commands.fleet_options import add_fleet_options
from weighin_analysis.printable import printable
from weighin_analysis.report.numbers import counted, percent

if TYPE_CHECKING:
    from weighin_analysis.fleet.coverage.tiers import Tiers
    from weighin_analysis.fleet.query.fleet import Fleet

EXAMPLE = "weighin-analysis tiers --snapshot snapshot/ --json"
MOST_SHOWN = 50
UNJUDGED = "?"
_BATCH_ROWS = 10_000
_NOT_PLAIN = re.compile(r"[^\n -~]")


def tiers(options: argparse.Namespace, *, shortened: bool) -> Iterator[str]:
    """Yield what to print; ``shortened`` shows the first devices of many. An AnalysisError where none is."""
    # Imported here: they need the [report] extra, and importing them takes longer than printing the help.
    from weighin_analysis.fleet.coverage.tiers import tiers_of  # noqa: PLC0415
    from weighin_analysis.fleet.query.fleet import Fleet  # noqa: PLC0415
    from weighin_analysis.fleet.snapshot.views import TABLES  # noqa: PLC0415

    judged = ("devices", "tiers")  # by the snapshot's own limits
    with Fleet(options.snapshot, tables=judged if options.limits is None else TABLES) as fleet, fleet.asking():
        limits = None if options.limits is None else fleet.limits([options.limits])[0]
        found = tiers_of(fleet, limits=limits, source=options.source)
        yield from _json(found, fleet) if options.json else map(printable, _text(found, shortened=shortened))


def headline(found: "Tiers") -> str:
    """Return the decision in one sentence: shares of devices by tier, the largest first."""
    if not found.device_count:
        return "None of its devices are counted." if found.left_out else "No runs yet."
    total = found.judged_count
    devices = counted(found.device_count, "device")
    if not total:
        return f"Nothing can be said of {devices}: no run gave a measurement that a class can be judged by."
    if total < found.device_count:
        devices = f"{total:,} judged of {devices}"
    parts: list[str] = []
    reached = 0
    for one in found.counts:
        if one.tier is not None:
            reached += one.device_count
            says = "" if parts else f" comfortably run{'s' if total == 1 else ''} models of"
            parts.append(f"{reached:,} ({_tenths(reached / total)}){says} {one.tier} or larger")
    if not parts:
        return f"None of {devices} runs a measured class comfortably."
    tail = f"; {total - reached:,} run no measured class comfortably" if reached < total else ""
    return f"Of {devices}, {', '.join(parts)}{tail}."


def _rows(found: "Tiers") -> Iterator[dict[str, Any]]:
    for batch in found.devices.batches(_BATCH_ROWS):
        yield from batch.to_pylist()


def _json(found: "Tiers", fleet: "Fleet") -> Iterator[str]:
    """Yield one document, a device per line."""
    head = {
        "snapshot_time": fleet.time.isoformat(),
        "headline": headline(found),
        "limits_version": found.limits_version,
        "formula_version": found.formula_version,
        "sources": dict(found.sources),
        "left_out": dict(found.left_out),
        "device_count": found.device_count,
        "judged_count": found.judged_count,
        "tiers": [
            {
                "tier": one.tier,
                "device_count": one.device_count,
                "share": one.share,
                "expected_share": one.expected_share,
            }
            for one in found.counts
        ],
    }
    yield _escaped(json.dumps(head))[:-1] + ', "devices": ['
    before = ""
    for rows in found.devices.json(_BATCH_ROWS):
        yield before + _escaped(rows)
        before = ","
    yield "]}"


def _escaped(document: str) -> str:
    """Return JSON with escapes for what is not ASCII and for what a terminal would obey in a text of a snapshot."""
    return document if document.isascii() and "\x7f" not in document else _NOT_PLAIN.sub(_escape, document)


def _escape(found: re.Match[str]) -> str:
    return "".join(f"\\u{unit:04x}" for (unit,) in struct.iter_unpack(">H", found[0].encode("utf-16-be")))


def _text(found: "Tiers", *, shortened: bool) -> Iterator[str]:
    yield headline(found)
    if found.left_out:
        others = " and ".join(f"{count:,} {name}" for name, count in found.left_out.items())
        devices = "device" if sum(found.left_out.values()) == 1 else "devices"
        yield f"Not counted: {others} {devices}; --source names what is."
    if not found.device_count:
        return
    formula = f", formula {found.formula_version}" if found.formula_version else ""  # none where nothing was estimated
    yield f"Limits {found.limits_version}{formula}."
    yield ""
    yield f"{'tier':<5}  {'devices':>9}  {'share':>7}  {'expected':>8}"
    for one in found.counts:
        share, expected = _tenths(one.share), _tenths(one.expected_share)
        yield f"{one.tier or 'none':<5}  {one.device_count:>9,}  {share:>7}  {expected:>8}"
    if found.judged_count < found.device_count:
        yield f"{UNJUDGED:<5}  {found.device_count - found.judged_count:>9,}  {'-':>7}  {'-':>8}"
        yield "?: nothing was measured there that a class can be judged by; no share counts these devices"
    yield ""
    yield f"{'device':<36}  {'tier':<5}  {'sure':>9}  {'usable':<6}  {'limited by':<10}  name"
    for number, row in enumerate(_rows(found)):
        if shortened and number == MOST_SHOWN:
            yield f"and {found.device_count - MOST_SHOWN:,} more: --json, or the output in a file, has all"
            return
        yield _line(row)


def _tenths(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _line(row: Mapping[str, Any]) -> str:
    sure = "-" if row["tier_probability"] is None else percent(row["tier_probability"])
    none = "none" if row["limited_by"] else UNJUDGED
    return (
        f"{row['device_id']:<36}  {row['tier'] or none:<5}  {sure:>9}  {row['usable_tier'] or none:<6}  "
        f"{row['limited_by'] or '-':<10}  {row['name'] or '-'}"
    )


def add_tiers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command with its arguments."""
    parser = commands.add_parser(
        "tiers",
        help="print the tier of every device",
        description="Print how many devices have which tier, and the tier of every device: the largest size class that "
        "it runs comfortably, how sure that is, and what it runs out of first.",
        epilog=f"example: {EXAMPLE}",
    )
    add_fleet_options(parser, several_limits=False, weighted=False)
    return parser
