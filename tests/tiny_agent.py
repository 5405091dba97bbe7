"""A child process for tests: the agent's command line with a suite of tiny models in the place of any other.

``tiny_agent.py SUITE ARGUMENT...``, where SUITE is one of those below; all but the suite's data is the agent's own.
Two things can be told by the environment: $WEIGHIN_TEST_STEP_TIMEOUT_SECONDS, after which a child counts as hanging,
and $WEIGHIN_TEST_DAMAGED, the shape whose weights are damaged on the disk.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from tiny_cases import ENDLESS, TINY, tiny_suite

from weighin_agent import cli, commands_device
from weighin_agent.bench import runner, suite_run
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import Suite, suite_case

# More weights in one layer than any machine has memory for.
GIANT = replace(TINY, name="Giant", hidden=1 << 20, ffn=1 << 22, heads=1 << 15)
HOUR_SECONDS = 3600.0


def suite_named(name: str) -> Suite:
    brief = tiny_suite()
    match name:
        case "brief":
            return brief
        case "slow":  # a second or more once all its cases are loaded
            return replace(brief, rounds=replace(ENDLESS, most_count=100))
        case "endless":
            return replace(brief, rounds=ENDLESS, time_limit_seconds=HOUR_SECONDS)
        case "several_shapes":  # enough for a cost model
            shapes = [replace(TINY, name=f"Tiny{width}", hidden=width, ffn=3 * width) for width in (64, 96, 128, 192)]
            cases = tuple(suite_case(shape, Scheme.INT4_BLOCK32, brief.probe) for shape in shapes)
            return replace(brief, cases=cases)
        case "with_giant":
            return replace(brief, cases=(*brief.cases, suite_case(GIANT, Scheme.INT4_BLOCK32, brief.probe)))
    raise ValueError(name)


def main(suite_name: str, *arguments: str) -> None:
    suite = suite_named(suite_name)
    commands_device.load_suite = lambda _name: suite  # type: ignore[assignment, attr-defined]
    if "WEIGHIN_TEST_STEP_TIMEOUT_SECONDS" in os.environ:
        suite_run.STEP_TIMEOUT_SECONDS = float(os.environ["WEIGHIN_TEST_STEP_TIMEOUT_SECONDS"])
    if "WEIGHIN_TEST_DAMAGED" in os.environ:
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        runner.SYNTHESISE = "damaging_synthesiser"  # type: ignore[attr-defined]
    cli.main(arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
