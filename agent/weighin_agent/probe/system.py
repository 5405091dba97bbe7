"""The machine as the readers reach it: its files, its commands, and children of ours that ask its libraries."""

import functools
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from weighin_agent.probe.child import ChildAnswer, CommandOutput, ask_child, run_command

# A command as its words, and the seconds that it may take.
AskCommand = Callable[[tuple[str, ...], float], CommandOutput]
# The name of a module of ours to run in a process of its own, and the seconds that it may take.
AskChild = Callable[[str, float], ChildAnswer]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Everything through which a reader sees the machine; a captured machine answers in its place in tests.

    ``name`` is what `platform.system` says, "Android" on every Python there; ``architecture`` and ``kernel`` are the
    machine's and the kernel's release as uname tells them. ``processors`` are the logical processors that this
    process may run on, None where the system does not tell.
    """

    name: str
    architecture: str
    kernel: str
    ask: AskCommand
    ask_child: AskChild
    root: Path = Path("/")
    processors: frozenset[int] | None = None


def this_system() -> System:
    """Return the machine that this process runs on; no command is run twice."""
    return System(
        name=this_system_name(),
        architecture=platform.machine(),
        kernel=platform.release(),
        ask=functools.cache(run_command),
        ask_child=functools.cache(ask_child),
        processors=frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    )


def this_system_name() -> str:
    """Return the name of the operating system as `System` has it."""
    # Python says "Android" itself only from 3.13 on; before, an Android Python has this function alone.
    return "Android" if hasattr(sys, "getandroidapilevel") else platform.system()
