"""The commands of `weighin-agent`: their arguments, and what each prints where. The only wiring of the agent."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from weighin_agent import terminal
from weighin_agent.check import Request, unanswerable
from weighin_agent.check import answer as answer_from
from weighin_agent.check import document as check_document
from weighin_agent.command_line import Commands, add_command, output_console, print_json, print_text, state_of
from weighin_agent.commands_fleet import add_fleet_commands, delivery_line, go_on_forgetting
from weighin_agent.errors import DamagedRunError, EnvironmentFailure, UsageError
from weighin_agent.files import write_durably
from weighin_agent.fleet import actions as fleet
from weighin_agent.fleet.delivery import DeliveryReport
from weighin_agent.fleet.room import lack_of_room, require_room
from weighin_agent.fleet.spool import Spool
from weighin_agent.fleet.state import State
from weighin_agent.probe import probe
from weighin_agent.probe.system import this_system_name
from weighin_agent.run import CaseFailureReason, Run
from weighin_agent.schedule import scheduler
from weighin_agent.schedule.moment import read_moment, reason_to_wait
from weighin_agent.schedule.period import DEFAULT_PERIOD, check_period, period_seconds
from weighin_agent.schedule.plan import PlannedFile
from weighin_agent.terminal_check import print_check
from weighin_agent.verify import Bench, Step, own_layers_loads, own_layers_plan, run_plan, unseen_loads, unseen_plan
from weighin_agent.weigh_in import card_of, check_execution_provider, weigh_in, work_folder
from weighin_agent.wire import message_to_json, run_to_message
from weighin_analysis.accuracy import OWN_LAYERS_RULE, UNSEEN_RULE, cells_of, verification
from weighin_analysis.answers.found import check_question, find_model
from weighin_analysis.answers.words import LINKS_BITS_PER_SECOND
from weighin_analysis.architecture import Architecture
from weighin_analysis.catalog import architecture, parse_architecture
from weighin_analysis.commands.question import add_question
from weighin_analysis.errors import CatalogError
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import SUITE_NAMES, load_suite, suite_case


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


def _execution_provider(options: argparse.Namespace) -> str:
    # A full model is held against its layers on one execution provider: the processor, unless another is named.
    return "cpu" if options.ep in ("auto", "all") else options.ep


def _probe(options: argparse.Namespace) -> int:
    device, gaps = probe(state_of(options).folder)
    if options.json:
        print_json({"device": asdict(device), "probe_gaps": [asdict(gap) for gap in gaps]})
    else:
        terminal.print_device(output_console(), device, gaps)
    return 0


def _run(options: argparse.Namespace) -> int:
    state, suite = state_of(options), load_suite(options.suite)
    errors = Console(stderr=True, highlight=False)
    if options.output:
        _check_output(options.output)
    if state.forgetting() is not None:
        return go_on_forgetting(options, state)
    with fleet.working(state) as spool:
        reason = _reason_to_wait(options, state)
        if reason:
            return _skip(options, reason, _deliver_after_run(options, state, spool))
        enrolment = state.enrolment()
        with terminal.suite_progress(errors, suite) as watch:
            run = weigh_in(
                suite,
                execution_provider=options.ep,
                allow_software_adapter=options.allow_software_adapter,
                state_folder=state.folder,
                consent_version=enrolment.consent_version if enrolment else 0,
                watch=watch,
            )
        message = run_to_message(run)
        entry = fleet.keep_run(state, spool, message.SerializeToString())
        card = card_of(run)
        document = {"run_id": entry.run_id, "run": message_to_json(message), **_card_document(asdict(card))}
        if options.json:
            print_json(document)
        else:
            terminal.print_card(output_console(), card, run)
        if options.output:
            _write_output(options.output, document)
        report = _deliver_after_run(options, state, spool)
    print(delivery_line(entry.run_id, report), file=sys.stderr)
    failed = _some_part_failed(run) or card.unjudged
    return 1 if failed or (report and report.quarantined) else 0


def _reason_to_wait(options: argparse.Namespace, state: State) -> str | None:
    """Why a scheduled start does not weigh in now; None where it may. Raises EnvironmentFailure for want of room."""
    if options.scheduled:
        return reason_to_wait(read_moment(state), period_seconds(options.scheduled)) or lack_of_room(state.folder)
    require_room(state.folder)
    return None


def _deliver_after_run(options: argparse.Namespace, state: State, spool: Spool) -> DeliveryReport | None:
    if options.no_submit:
        return None
    # Nobody waits for a scheduled start, so it keeps to the pause that the one before it began.
    return fleet.deliver_runs(state, spool, heed_own_backoff=options.scheduled is not None)


def _skip(options: argparse.Namespace, reason: str, report: DeliveryReport | None) -> int:
    """Tell why a scheduled start does not weigh in; what waited from before was sent all the same."""
    if options.json:
        print_json({"skipped": reason})
    sent = f"; {delivery_line(None, report)}" if report else ""
    print(f"no weigh-in now: {reason}{sent}", file=sys.stderr)
    return 1 if report and report.quarantined else 0


def _check_output(path: Path) -> None:
    """Complain about a place that cannot take the document before a minute of measuring, not after it."""
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise UsageError(f"--output {path}: is a folder; name a file in it")


def _write_output(path: Path, document: object) -> None:
    try:
        write_durably(path, (json.dumps(document, indent=2) + "\n").encode())
    except OSError as error:
        text = f"--output {path}: {error.strerror or error}; the run is kept in the spool all the same"
        raise EnvironmentFailure(text) from error


def _card_document(card: dict[str, object]) -> dict[str, object]:
    """Return the judgements: the rows under "card", what they say together beside it."""
    return {"card": card.pop("rows"), **card}


def _some_part_failed(run: Run) -> bool:
    """Return whether a case failed; a class that does not fit is an answer, not a failure."""
    return any(failure.reason is not CaseFailureReason.MEMORY_GATE for failure in run.failures)


def _check(options: argparse.Namespace) -> int:
    state, found = state_of(options), find_model(options.model)
    check_question(options.format, options.scheme, options.what_if or ())
    request = Request(
        found=found,
        format=options.format,
        scheme=options.scheme,
        context_tokens=options.context,
        execution_provider=options.ep,
        what_ifs=tuple(options.what_if or ()),
    )
    answer = unanswerable(request)
    if answer is None:
        try:
            newest = fleet.newest_run(state)
        except DamagedRunError as error:
            raise UsageError(f"{error}: run `weighin-agent run` first") from error
        if newest is None:
            raise UsageError(f"no run is kept in {state.folder} yet: run `weighin-agent run` first")
        now, _ = probe(state.folder, bandwidth=False)
        answer = answer_from(request, newest, now, datetime.now(UTC))
    links = (1e6 * options.link_mbit,) if options.link_mbit else LINKS_BITS_PER_SECOND
    if options.json:
        print_json(check_document(answer, links))
    else:
        print_check(output_console(), answer, links)
    return 0 if answer.runs else 1


def _verify(options: argparse.Namespace) -> int:
    state, suite = state_of(options), load_suite("standard")
    shapes = [_read_architecture(text) for text in options.architecture or ["Qwen2.5-0.5B"]]
    if len({shape.name for shape in shapes}) < len(shapes):
        raise UsageError("--architecture: two have the same name")
    schemes = dict.fromkeys(options.scheme or [Scheme.INT4_BLOCK32])
    cases = [suite_case(shape, scheme, suite.probe) for shape in shapes for scheme in schemes]
    if options.unseen and not all(case.head_columns for case in cases):
        raise UsageError("--unseen: an encoder cannot be predicted from the suite, whose layers are those of decoders")
    plan = unseen_plan(suite, cases, options.repeats) if options.unseen else own_layers_plan(cases, options.repeats)
    provider, errors = _execution_provider(options), Console(stderr=True, highlight=False)
    spinner = errors.status("reading the device") if errors.is_terminal else nullcontext()
    require_room(state.folder)
    with fleet.working(state), spinner as status, work_folder(state.folder) as folder:
        device, gaps = probe(state.folder, bandwidth=False)
        check_execution_provider(device, gaps, provider)

        def on_step(index: int, step: Step, share: float) -> None:
            if status:
                status.update(terminal.step_line(step, f"{index + 1} of {len(plan)}, {share:.0%}"))

        bench = Bench(suite=suite, device=device, execution_provider=provider, folder=folder)
        results = run_plan(bench, plan, on_step)
    loads = unseen_loads(results) if options.unseen else own_layers_loads(results)
    found = verification(cells_of(loads), UNSEEN_RULE if options.unseen else OWN_LAYERS_RULE)
    if options.json:
        print_json(asdict(found) | {"repeats": options.repeats})
    else:
        terminal.print_verification(output_console(), found)
    return 0 if found.passed else 1


def _read_architecture(text: str) -> Architecture:
    """Return a reference architecture by name, or the one that a JSON file describes."""
    try:
        if not text.endswith(".json"):
            return architecture(text)
        return parse_architecture(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--architecture {text}: {error.strerror or error}") from error
    except (CatalogError, UnicodeDecodeError) as error:
        raise UsageError(f"--architecture {text}: {error}") from error


def _schedule(options: argparse.Namespace) -> int:
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
