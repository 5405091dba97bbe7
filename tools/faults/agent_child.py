"""A child process: an agent that enrols, keeps runs and delivers them until it is killed.

``agent_child.py STATE_FOLDER TOKEN RUN_FILE`` prints a line when it has loaded, then each run_id that it has kept.
"""

import sys
from pathlib import Path

from weighin_agent.fleet.actions import deliver_runs, enroll, keep_run, working
from weighin_agent.fleet.state import State
from weighin_agent.fleet.token import parse_token

RUNS_PER_DELIVERY = 3


def main(folder: str, token: str, run_file: str) -> None:
    """Work for ever."""
    state, run = State(Path(folder)), Path(run_file).read_bytes()
    print("loaded", flush=True)
    with working(state) as spool:
        if state.enrolment() is None:
            enroll(state, spool, parse_token(token), 1)
        while True:
            for _ in range(RUNS_PER_DELIVERY):
                print(keep_run(state, spool, run).run_id, flush=True)
            deliver_runs(state, spool)


if __name__ == "__main__":
    main(*sys.argv[1:])
