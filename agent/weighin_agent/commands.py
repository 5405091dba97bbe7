"""The commands of `weighin-agent`: their arguments, and which module answers each.

What probes and measures takes half a second to load, so it is loaded by the commands that do.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from weighin_agent.command_line import Commands, add_command, print_json, print_text, state_of
from weighin_agent.commands_fleet import add_fleet_commands
from weighin_agent.schedule.period import DEFAULT_PERIOD, check_period
from weighin_analysis.commands.question import add_question
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import SUITE_NAMES


def parser() -> argparse.ArgumentParser:
    """Return the command line; ``options.command`` answers it with an exit code."""
    program = argparse.ArgumentParser(
        prog="weighin-agent",
        description="Weigh this device in: which LLM size classes can it run, how fast, how sure.",
        epilog="example: weighin-agent run --no-submit",
    )
    program.add_argument("--version", action="version", version=f"weighin-agent {version('weighin-agent')}")
    commands = program.add_subparsers(required=True, metavar="COMMAND")
    _add_probe(commands)
    _add_run(commands)
    _add_check(commands)
    _add_verify(commands)
    _add_schedule(commands)
    add_fleet_commands(commands)
    return program


def _add_probe(commands: Commands) -> None:
    add_command(commands, "probe", _probe, "read what this device is, without a benchmark", "probe --json")


def _add_run(commands: Commands) -> None:
    about = "probe and benchmark this device, print its card, keep the run and send it if enrolled"
    parser = add_command(commands, "run", _run, about, "run --no-submit --json")
    parser.add_argument("--suite", choices=SUITE_NAMES, default="standard", help="what to run (default: %(default)s)")
    _add_execution_provider(parser)
    parser.add_argument(
        "--allow-software-adapter",
        action="store_true",
        help="with --ep webgpu or all: measure a GPU driver that computes on the processor; never counted in tiers",
    )
    parser.add_argument(
        "--scheduled",
        type=check_period,
        nargs="?",
        const=DEFAULT_PERIOD,
        metavar="PERIOD",
        help="as a scheduler starts it: only where the newest run is older than PERIOD (default: 1d), on mains power, "
        "while nobody is disturbed; else say why not, and exit with 0",
    )
    parser.add_argument("--no-submit", action="store_true", help="keep the run in the spool; send nothing now")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the JSON document to FILE")


def _add_check(commands: Commands) -> None:
    about = "can this device download and run a model? judged from its newest run and what is free now"
    parser = add_command(commands, "check", _check, about, "check Qwen3-0.6B --context 4096")
    add_question(parser)
    parser.add_argument(
        "--ep", type=str.lower, metavar="NAME", help="execution provider to run it on (default: any that was measured)"
    )


def _add_verify(commands: Commands) -> None:
    about = "run full models beside their own layer probes and print the error of the prediction"
    parser = add_command(commands, "verify", _verify, about, "verify --architecture Qwen2.5-0.5B --scheme int8_block32")
    parser.add_argument(
        "--architecture",
        action="append",
        metavar="NAME|FILE.json",
        help="a reference architecture or a file that describes one (default: Qwen2.5-0.5B); may be repeated",
    )
    parser.add_argument(
        "--scheme",
        action="append",
        type=Scheme,
        choices=[s for s in Scheme if s is not Scheme.FP16],
        help="quantization scheme (default: int4_block32); may be repeated",
    )
    parser.add_argument(
        "--repeats",
        type=_positive,
        default=3,
        metavar="N",
        help="loads of every model, each in a process of its own; their medians count (default: %(default)s)",
    )
    parser.add_argument(
        "--unseen",
        action="store_true",
        help="predict from the layers of the suite's other shapes alone, timed before and after each load",
    )
    _add_execution_provider(parser)


def _add_schedule(commands: Commands) -> None:
    about = "weigh this device in again and again, while it is idle and on mains power"
    parser = add_command(commands, "schedule", _schedule, about, "schedule install --every 1d")
    parser.add_argument("action", choices=("install", "remove", "show"), help="show: what is scheduled on this device")
    parser.add_argument(
        "--every",
        type=check_period,
        default=DEFAULT_PERIOD,
        metavar="PERIOD",
        help="how far apart, 1h to 90d (default: %(default)s)",
    )
    parser.add_argument("--print", action="store_true", dest="only_print", help="install: print the files alone")


def _add_execution_provider(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ep",
        type=str.lower,
        default="auto",
        metavar="NAME",
        help="execution provider to measure: auto, all, or a name that `probe` lists as measured (default: auto)",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _probe(options: argparse.Namespace) -> int:
    from weighin_agent.commands_device import show_device  # noqa: PLC0415

    return show_device(options)


def _run(options: argparse.Namespace) -> int:
    from weighin_agent.commands_device import run  # noqa: PLC0415

    return run(options)


def _check(options: argparse.Namespace) -> int:
    from weighin_agent.commands_device import check  # noqa: PLC0415

    return check(options)


def _verify(options: argparse.Namespace) -> int:
    from weighin_agent.commands_device import verify  # noqa: PLC0415

    return verify(options)


def _schedule(options: argparse.Namespace) -> int:
    from weighin_agent.probe.system import this_system_name  # noqa: PLC0415
    from weighin_agent.schedule import scheduler  # noqa: PLC0415
    from weighin_agent.schedule.plan import PlannedFile  # noqa: PLC0415

    plan = scheduler.plan_here(this_system_name(), state_of(options).folder, options.every)
    files: Sequence[PlannedFile] = plan.files
    match options.action:
        case "install" if not options.only_print:
            scheduler.install(plan)
            print(f"scheduled every {options.every}; {plan.remark}", file=sys.stderr)
        case "remove":
            files = scheduler.remove(plan)
        case "show":
            files = scheduler.installed(plan)
    if options.json:
        print_json([{"path": str(file.path), "text": file.text} for file in files])
    elif options.only_print or options.action == "show":
        print_text("\n".join(f"# {file.path}\n{file.text}" for file in files) or "nothing is scheduled")
    else:
        verb = "written" if options.action == "install" else "removed"
        print_text("\n".join(f"{verb}: {file.path}" for file in files) or "nothing was scheduled")
    return 1 if options.action == "show" and not files else 0
