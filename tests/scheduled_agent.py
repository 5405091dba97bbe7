"""A child process for tests: the agent on a machine whose power supplies lie under a folder, and that is idle.

``scheduled_agent.py FOLDER ARGUMENT...``: the agent's own reader of power reads the files of FOLDER in the place of
those of this machine, whose load, that of running tests, is not looked at. It needs the agent alone, no other module of
the tests.
"""

import sys
from functools import partial
from pathlib import Path

from weighin_agent import cli
from weighin_agent.probe import linux
from weighin_agent.schedule import moment


def stand_on(folder: Path) -> None:
    """Let the machine of ``folder`` be this one."""
    linux.read_mains = partial(linux.read_mains, folder)
    moment.read_cpu_seconds = lambda: None  # type: ignore[attr-defined]


if __name__ == "__main__":
    stand_on(Path(sys.argv[1]))
    cli.main(sys.argv[2:])
