"""A real ``weighin-agent`` for tests: its commands as child processes, and what they leave behind."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from tiny_cases import PATIENCE_SECONDS, case_children, wait_until

TINY_AGENT = Path(__file__).parent / "tiny_agent.py"
QUICK_RUN_SECONDS = 240.0


def agent_line(*arguments: str | Path, suite: str | None = None) -> list[str]:
    """The command line of the agent, with a suite of tiny models unless ``suite`` is None."""
    program = ["-c", "from weighin_agent.cli import main; main()"] if suite is None else [str(TINY_AGENT), suite]
    return [sys.executable, *program, *map(str, arguments)]


def agent(*arguments: str | Path, suite: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    line = agent_line(*arguments, suite=suite)
    return subprocess.run(line, capture_output=True, text=True, timeout=QUICK_RUN_SECONDS, check=False)


@contextmanager
def started_agent(*arguments: str | Path, suite: str) -> Iterator[subprocess.Popen[str]]:
    """A command that is under way; whatever is left of it ends with the block."""
    with subprocess.Popen(
        agent_line(*arguments, suite=suite), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def measuring_child(process: subprocess.Popen[str]) -> psutil.Process:
    """Wait until the agent has a child that measures, and return it."""
    parent = psutil.Process(process.pid)
    wait_until(lambda: case_children(parent), "the agent starts a case")
    return case_children(parent)[0]


def outcome_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end of a command; exit code, standard output, standard error."""
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, output, errors


def only_document(output: str) -> dict[str, Any]:
    """The one JSON document that standard output is."""
    document = json.loads(output)
    assert isinstance(document, dict)
    return document


def spooled_runs(state: Path) -> Sequence[Path]:
    """The runs that wait in a state folder."""
    return sorted((state / "spool").glob("*.run"))


def models_left_behind(state: Path) -> list[str]:
    """What lies in a state folder beside what lasts there: synthesised models."""
    lasting = {"credential", "identity", "lock", "newest_run", "spool"}
    records = {"enrolment.json", "last_delivery.json", "memberships.json"}
    return sorted(path.name for path in state.iterdir() if path.name not in lasting | records)
