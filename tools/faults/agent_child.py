"""A child process: an agent that keeps runs and delivers them until it is killed.

``agent_child.py STATE_FOLDER ADDRESS RUN_FILE`` prints a line when it has loaded, then each run_id that it has kept.
"""

import sys
from pathlib import Path

from weighin_agent.fleet.actions import deliver_runs, enroll_insecure, keep_run, working
from weighin_agent.fleet.state import State

RUNS_PER_DELIVERY = 3


def main(folder: str, address: str, run_file: str) -> None:
    """Work for ever."""
    state, run = State(Path(folder)), Path(run_file).read_bytes()
    print("loaded", flush=True)
    with working(state) as spool:
        enroll_insecure(state, spool, address, 1)
        while True:
            for _ in range(RUNS_PER_DELIVERY):
                print(keep_run(state, spool, run).run_id, flush=True)
            deliver_runs(state, spool)


if __name__ == "__main__":
    main(*sys.argv[1:])
