"""What every command of `weighin-agent` shares: its first arguments, the state folder, and how it prints."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from weighin_agent.fleet.state import State, state_folder
from weighin_agent.output import silence_output

Command = Callable[[argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(commands: Commands, name: str, command: Command, about: str, example: str) -> argparse.ArgumentParser:
    """Add a command that ``command`` answers with an exit code; more arguments may be added to what is returned."""
    parser = commands.add_parser(name, help=about, description=about, epilog=f"example: weighin-agent {example}")
    parser.set_defaults(command=command)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text for people")
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="folder that keeps identity and spool (default: $WEIGHIN_STATE_DIR, else the system's place for it)",
    )
    return parser


def state_of(options: argparse.Namespace) -> State:
    """Return the state that the command is about."""
    return State(state_folder(options.state))


def output_console() -> Console:
    """Return standard output for people, wide where it is no terminal: whoever reads it later wraps it."""
    console = _Output(highlight=False)
    return console if console.is_terminal else _Output(highlight=False, width=140)


class _Output(Console):
    """Standard output whose reader may leave early: the command goes on, and its exit code stays."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        silence_output()


def print_json(document: object) -> None:
    """Print a document to standard output."""
    print_text(json.dumps(document, indent=2))


def print_text(text: str) -> None:
    """Print to standard output; that nobody reads it any more is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever read our output has seen enough
        silence_output()
