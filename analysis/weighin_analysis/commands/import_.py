"""`weighin-analysis import`: make what others published a snapshot, alone or beside native runs."""

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from weighin_analysis.fleet.external.published import FORM_FACTORS, Imported
from weighin_analysis.limits import current_limits, load_limits
from weighin_analysis.public.rows import decode_rows, read_content
from weighin_analysis.report.numbers import counted

EXAMPLE = "weighin-analysis import throughput.csv --out public/"


def import_(options: argparse.Namespace) -> tuple[str, int]:
    """Return what to print and 0; PublicDataError or SnapshotError where a file cannot be read or written."""
    # Imported here: it needs the [report] extra.
    from weighin_analysis.fleet.external.importing import import_rows, open_base  # noqa: PLC0415

    content = read_content(options.throughput)  # once: a pipe gives it no second time
    rows = decode_rows(content, str(options.throughput))
    base = open_base(options.snapshot) if options.snapshot else None
    imported = import_rows(
        rows,
        options.out,
        base=base,
        limits=load_limits(base.manifest.limits_version) if base else current_limits(),
        import_time=datetime.now(UTC).replace(tzinfo=None),
        file_sha256=hashlib.sha256(content).hexdigest(),
    )
    if options.json:
        return json.dumps({"snapshot": str(options.out)} | dataclasses.asdict(imported), indent=2), 0
    return "\n".join(_lines(imported, options.out)), 0


def _lines(done: Imported, out: Path) -> Iterator[str]:
    yield f"{out}: {counted(done.row_count, 'row')} of {counted(done.device_count, 'external device')}"
    if done.replaced_device_count:
        were = "was there before and is" if done.replaced_device_count == 1 else "were there before and are"
        yield f"  {done.replaced_device_count} of them {were} replaced"
    if done.kept_device_count:
        yield f"  beside {counted(done.kept_device_count, 'device')} of the snapshot"
    yield f"{counted(done.estimate_count, 'estimate')} for {counted(done.estimated_device_count, 'device')}"
    yield "  free memory is assumed, as the notes of each estimate say"
    if done.disputed_memory_count:
        yield f"  rows of {counted(done.disputed_memory_count, 'device')} disagree on its memory: the least was taken"
    if done.unknown_classes:
        found = ", ".join(f"{name!r} ({count})" for name, count in done.unknown_classes.items())
        yield f"  no form factor is known for devices of the class {found}; known classes: {', '.join(FORM_FACTORS)}"
    if count := sum(done.left_out.values()):
        those = f"{count} rows are measurements only, and say" if count > 1 else "1 row is a measurement only, and says"
        yield f"{those} nothing of other models:"
    for reason, count in done.left_out.items():
        yield f"  {count:5}  {reason}"


def add_import(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command with its arguments."""
    about = "Make throughput that others published a snapshot; its devices have the source external."
    parser = commands.add_parser(
        "import", help="take over published throughput", description=about, epilog=f"example: {EXAMPLE}"
    )
    parser.add_argument("throughput", type=Path, metavar="THROUGHPUT.csv", help="columns: docs/external.md")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write the snapshot into")
    parser.add_argument(
        "--snapshot", type=Path, metavar="DIR", help="snapshot whose rows to keep beside these (default: none)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser
