"""`weighin-analysis query`: one question in SQL to a snapshot, answered as a table, CSV, JSON or Parquet."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING

from weighin_analysis.errors import QuestionError
from weighin_analysis.replacing import replacing

if TYPE_CHECKING:
    from weighin_analysis.fleet.query.answer import Answer

EXAMPLES = """examples:
  weighin-analysis query 'SELECT tier, count(*) AS devices FROM tiers GROUP BY tier' --snapshot snapshot/
  weighin-analysis query 'DESCRIBE estimates' --snapshot snapshot/
  weighin-analysis query 'FROM verdicts' --snapshot snapshot/ --format parquet --out verdicts.parquet
  weighin-analysis query - --snapshot snapshot/ --format csv < question.sql > answer.csv

tables: devices, runs, measurements, estimates, verdicts and tiers, and the facts behind them: hardware, series,
case_failures and probe_gaps. docs/views.md tells their columns.
"""
_MOST_ROWS = 40


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def query(options: argparse.Namespace, output: IO[bytes], terminal_columns: int | None) -> str:
    """Write the answer to ``--out``, else to ``output``; return what to tell beside it, which is mostly nothing.

    ``terminal_columns`` is the width of ``output`` if it is a terminal: then nothing reaches it that it would obey.
    SnapshotError, QueryError and QuestionError in one line; an answer that fails leaves no file.
    """
    # Imported here: the extra [report] is needed to ask, not to read the help.
    from weighin_analysis.fleet.query.fleet import Fleet  # noqa: PLC0415

    if options.out:
        _require_place(options.out, options.snapshot)
        terminal_columns = None
    if options.format is Format.PARQUET and terminal_columns is not None:
        raise QuestionError("Parquet is nothing for a terminal; name a file with --out")
    sql = _read_stdin() if options.sql == "-" else options.sql
    with Fleet(options.snapshot) as fleet, _new_file(options.out) if options.out else nullcontext(output) as file:
        return _write(fleet.sql(sql), options.format, file, terminal_columns)


def _write(answer: "Answer", form: Format, file: IO[bytes], terminal_columns: int | None) -> str:
    from weighin_analysis.fleet.query.formats import csv_text, json_text, table, write_parquet  # noqa: PLC0415

    note = ""
    match form:
        case Format.TABLE:
            shown = table(answer, _MOST_ROWS, terminal_columns)
            file.write("".join(f"{line}\n" for line in shown.lines).encode())
            note = _left_out(shown.left_out_rows, shown.left_out_columns)
        case Format.PARQUET:
            write_parquet(answer, file)
        case Format.CSV | Format.JSON:
            for text in csv_text(answer) if form is Format.CSV else json_text(answer):
                file.write((text if terminal_columns is None else _printable(text)).encode())
    file.flush()
    return note


def _left_out(rows: int, columns: tuple[str, ...]) -> str:
    parts = [f"{rows:,} more rows"] if rows else []
    parts += [f"{len(columns)} more columns ({', '.join(columns)})"] if columns else []
    return f"not shown: {' and '.join(parts)}; --format csv gives everything" if parts else ""


def _printable(text: str) -> str:
    """Return a text for a terminal, which would obey a carriage return within a line."""
    characters = text.replace("\r\n", "\n")
    return "".join(one if one.isprintable() or one == "\n" else "�" for one in characters)


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise QuestionError(f"the question on standard input is not UTF-8: {error.reason}") from error


def _require_place(path: Path, snapshot: Path) -> None:
    """Pass where a new file may take the place of ``path``; QuestionError where it would do harm, or cannot be."""
    if path.is_dir():
        raise QuestionError(f"--out {path}: is a folder; name a file in it")
    if path.exists() and not path.is_file():  # a device, which a new file must not replace
        raise QuestionError(f"--out {path}: is not a file; without --out the answer goes to standard output")
    if not path.parent.is_dir():
        raise QuestionError(f"--out {path}: there is no folder {path.parent}; make it first")
    if path.resolve().is_relative_to(snapshot.resolve()):
        raise QuestionError(f"--out {path}: is in the snapshot, which is only read; name a file elsewhere")


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that takes the place of ``path`` once it is complete, or of the file that a link there leads to."""
    with replacing(path.resolve()) as unfinished, unfinished.open("wb") as file:
        yield file


def add_query(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command with its arguments."""
    parser = commands.add_parser(
        "query",
        help="ask a snapshot in SQL",
        description="Ask a snapshot one question in DuckDB's SQL. Nothing but the answer goes to standard output.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sql", metavar="SQL", help="one SELECT (also FROM, WITH, DESCRIBE, SUMMARIZE); - reads stdin")
    parser.add_argument("--snapshot", type=Path, required=True, metavar="DIR", help="folder of the snapshot")
    parser.add_argument(
        "--format",
        type=Format,
        choices=list(Format),
        default=Format.TABLE,
        help=f"table (default) shows the first {_MOST_ROWS} rows, the others give all of any number",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the answer there instead")
    return parser
