"""A child process for tests: runs the job on its standard input as the agent does, and says when it is under way."""

import sys

from weighin_agent.bench.job import decode_job
from weighin_agent.bench.runner import run_case


def main() -> None:
    job = decode_job(sys.stdin.readline())
    outcome = run_case(job, timeout_seconds=600, on_progress=lambda _share: print("under way", flush=True))
    print(outcome)


if __name__ == "__main__":
    main()
