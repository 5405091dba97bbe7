"""A child process for tests: an agent whose every write fails, as on a full disk, adds a run and delivers.

``full_disk_agent.py STATE_FOLDER`` prints the error of adding, then how many runs were stored and set aside.
"""

import resource
import sys
from pathlib import Path

from weighin_agent.errors import AgentError
from weighin_agent.fleet.actions import deliver_runs, keep_run, working
from weighin_agent.fleet.state import State


def main(folder: str) -> None:
    state = State(Path(folder))
    with working(state) as spool:
        # The system now refuses to let any file grow; pipes and sockets are not concerned.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        try:
            keep_run(state, spool, b"new")
        except AgentError as error:
            print(error)
        report = deliver_runs(state, spool)
    print(report.stored_count, len(report.quarantined))


if __name__ == "__main__":
    main(*sys.argv[1:])
