"""A child process for tests: adds runs to its spool and delivers them until it is killed.

Prints each run_id when the spool has promised to keep it: ``adding_agent.py STATE_FOLDER ADDRESS``.
"""

import sys
from pathlib import Path

from example_runs import example_run

from weighin_agent.fleet.actions import deliver_runs, enroll_insecure, keep_run, working
from weighin_agent.fleet.state import State

RUNS_PER_DELIVERY = 3


def main(folder: str, address: str) -> None:
    state = State(Path(folder))
    run = example_run().SerializeToString()
    with working(state) as spool:
        enroll_insecure(state, spool, address, 1)
        while True:
            for _ in range(RUNS_PER_DELIVERY):
                print(keep_run(state, spool, run).run_id, flush=True)
            deliver_runs(state, spool)


if __name__ == "__main__":
    main(*sys.argv[1:])
