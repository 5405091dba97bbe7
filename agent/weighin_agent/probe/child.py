"""Runs what can crash, hang or fork in a process of its own: a reader of ours, or a command of the system."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from weighin_agent.device import ProbeGapReason
from weighin_agent.exit_codes import signal_name


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOutput:
    """What a command printed; "" with ``reason`` and ``detail`` if there is nothing.

    ``exit_code`` is None if the command did not start or did not end in time.
    """

    text: str = ""
    exit_code: int | None = None
    reason: ProbeGapReason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildAnswer:
    """What the child printed as JSON, or why there is nothing: then ``reason`` and ``detail`` are set."""

    facts: dict[str, object] = field(default_factory=dict)
    reason: ProbeGapReason | None = None
    detail: str = ""


def run_command(command: Sequence[str], timeout_seconds: float) -> CommandOutput:
    """Run a command and return what it printed, whatever it ended with. Never raises.

    The command leads a process group of its own, and the whole group ends with it: a grandchild that holds the pipe
    open would otherwise keep this call waiting for ever.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # An agent that was started without a window opens none for its commands; only Windows knows the flag.
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except FileNotFoundError:
        return CommandOutput(reason=ProbeGapReason.NOT_OFFERED, detail="the command that tells it is not installed")
    except OSError:
        return CommandOutput(reason=ProbeGapReason.READ_FAILED, detail="the system refused to start a process")
    with process:
        try:
            output, _ = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            detail = f"no answer within {timeout_seconds:g} seconds"
            return CommandOutput(reason=ProbeGapReason.TIMED_OUT, detail=detail)
        finally:
            _end_group(process)
    text = output.decode("utf-8", errors="replace")
    if text.strip():
        return CommandOutput(text=text, exit_code=process.returncode)
    detail = "the command that tells it printed nothing"
    return CommandOutput(exit_code=process.returncode, reason=ProbeGapReason.READ_FAILED, detail=detail)


def ask_child(module: str, timeout_seconds: float) -> ChildAnswer:
    """Run ``python -P -m module``, which prints one JSON object as its last line. Never raises."""
    if getattr(sys, "frozen", False):
        # There is no interpreter to start: the "interpreter" is the agent itself, which would start without end.
        return _failed(ProbeGapReason.NOT_IMPLEMENTED, "not readable in a packaged agent")
    # -P: the current folder is not searched for modules, so nothing that lies there is run.
    output = run_command((sys.executable, "-P", "-m", module), timeout_seconds)
    if output.exit_code is None:
        return ChildAnswer(reason=output.reason, detail=output.detail)
    return parse_answer(output.text, output.exit_code)


def parse_answer(output: str, exit_code: int) -> ChildAnswer:
    """Read the last line of a child's output; a crash, an error or anything but a JSON object is a failure."""
    if exit_code < 0:
        return _failed(ProbeGapReason.READ_FAILED, f"the reader crashed ({signal_name(-exit_code)})")
    if exit_code > 0:
        return _failed(ProbeGapReason.READ_FAILED, f"the reader ended with exit code {exit_code}")
    lines = output.strip().splitlines()
    try:
        facts = json.loads(lines[-1]) if lines else None
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        return _failed(ProbeGapReason.READ_FAILED, "the reader's answer does not parse")
    return ChildAnswer(facts=facts)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _failed(reason: ProbeGapReason, detail: str) -> ChildAnswer:
    return ChildAnswer(reason=reason, detail=detail)
