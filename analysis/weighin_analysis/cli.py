"""The command `weighin-analysis`: judgements over a fleet. The only module of this package that prints."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from weighin_analysis.errors import AnalysisError, QuestionError, WhatIfError
from weighin_analysis.interruption import is_interruption
from weighin_analysis.printable import printable

# What `pip install weighin-analysis[report]` brings; the core needs none of it.
_REPORT_MODULES = {"altair", "duckdb", "jinja2", "markupsafe", "pyarrow", "vl_convert"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 when it succeeded, 1 when it failed, 2 when called wrongly, 130 when interrupted."""
    try:
        try:
            options = _parser().parse_args(arguments)
            command: Callable[[argparse.Namespace], int] = options.command
            return command(options)
        finally:
            # The interpreter itself would flush at exit, too late for an error to be one line.
            print(end="", flush=True)
    except (QuestionError, WhatIfError) as error:
        return _refuse(str(error), 2)
    except AnalysisError as error:
        return _refuse(str(error), 1)
    except OSError as error:
        return _fail(error)
    except (KeyboardInterrupt, ImportError, RuntimeError) as error:
        if is_interruption(error):
            return _refuse("interrupted", 130)
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _REPORT_MODULES:
            return _refuse(f"{error.name} is not installed; install weighin-analysis[report]", 2)
        raise


def _fail(error: OSError) -> int:
    # An error about a file names it; one about standard output, which came to us open, names nothing.
    if error.filename is not None:
        return _refuse(str(error), 1)
    _silence_output()
    if isinstance(error, BrokenPipeError):  # whoever read the help has seen enough
        return 1
    return _refuse(f"cannot write to standard output: {error.strerror}", 1)


def _silence_output() -> None:
    """Let the interpreter's own last flush go nowhere, instead of failing again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(message: str, exit_code: int) -> int:
    print(printable(f"weighin-analysis: {message}"), file=sys.stderr)
    return exit_code


def _parser() -> argparse.ArgumentParser:
    # Imported here, where Ctrl-C is one line already: reading what is known of models takes a moment.
    from weighin_analysis.commands.catalogue import add_catalogue  # noqa: PLC0415
    from weighin_analysis.commands.check import add_check, check  # noqa: PLC0415
    from weighin_analysis.commands.coverage import add_coverage, coverage  # noqa: PLC0415
    from weighin_analysis.commands.evaluate import add_evaluate, evaluate  # noqa: PLC0415
    from weighin_analysis.commands.import_ import add_import, import_  # noqa: PLC0415
    from weighin_analysis.commands.limits import add_limits, limits  # noqa: PLC0415
    from weighin_analysis.commands.query import add_query  # noqa: PLC0415
    from weighin_analysis.commands.report import add_report, report  # noqa: PLC0415
    from weighin_analysis.commands.size import add_size, size  # noqa: PLC0415
    from weighin_analysis.commands.tiers import add_tiers  # noqa: PLC0415

    parser = argparse.ArgumentParser(
        prog="weighin-analysis",
        description="Which language models do the devices of a fleet run?",
        epilog="example: weighin-analysis report --snapshot snapshot/ --out report/",
    )
    parser.add_argument("--version", action="version", version=f"weighin-analysis {version('weighin-analysis')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_report(commands).set_defaults(command=lambda options: _print_answer(*report(options)))
    add_tiers(commands).set_defaults(command=_tiers)
    add_coverage(commands).set_defaults(command=lambda options: _print_answer(*coverage(options)))
    add_size(commands).set_defaults(command=lambda options: _print_answer(*size(options)))
    add_catalogue(commands).set_defaults(command=_catalogue)
    add_limits(commands).set_defaults(command=lambda options: _print_answer(*limits(options)))
    add_check(commands).set_defaults(command=lambda options: _print_answer(*check(options)))
    add_import(commands).set_defaults(command=lambda options: _print_answer(*import_(options)))
    add_evaluate(commands).set_defaults(command=lambda options: _print_answer(*evaluate(options)))
    add_query(commands).set_defaults(command=_query)
    return parser


def _query(options: argparse.Namespace) -> int:
    from weighin_analysis.commands.query import query  # noqa: PLC0415

    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if note := query(options, sys.stdout.buffer, columns):
        print(printable(note), file=sys.stderr)
    return 0


def _catalogue(options: argparse.Namespace) -> int:
    return _print_answer(*options.action(options))


def _print_answer(text: str, exit_code: int) -> int:
    """Print an answer, broken to the width of a terminal; its exit code stays if whoever reads it leaves early."""
    lines = [printable(line) for line in text.splitlines()]
    if sys.stdout is not None and sys.stdout.isatty():
        lines = _broken(lines, shutil.get_terminal_size().columns)
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        _silence_output()
    return exit_code


def _broken(lines: Sequence[str], width: int) -> list[str]:
    from weighin_analysis.answers.words import wrapped  # noqa: PLC0415

    return [piece for line in lines for piece in wrapped(line, width)]


def _tiers(options: argparse.Namespace) -> int:
    from weighin_analysis.commands.tiers import tiers  # noqa: PLC0415

    try:
        for line in tiers(options, shortened=sys.stdout.isatty()):
            print(line)
        print(end="", flush=True)
    except BrokenPipeError:
        _silence_output()
    return 0


if __name__ == "__main__":
    sys.exit(main())
