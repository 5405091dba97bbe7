"""The commands that look at the device: probe, run, check, verify."""

import argparse
import json
import sys
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from weighin_agent import terminal
from weighin_agent.check import Request, unanswerable
from weighin_agent.check import answer as answer_from
from weighin_agent.check import document as check_document
from weighin_agent.command_line import output_console, print_json, state_of
from weighin_agent.commands_fleet import delivery_line, go_on_forgetting
from weighin_agent.errors import DamagedRunError, EnvironmentFailure, UsageError
from weighin_agent.files import write_durably
from weighin_agent.fleet import actions as fleet
from weighin_agent.fleet.delivery import DeliveryReport
from weighin_agent.fleet.room import lack_of_room, require_room
from weighin_agent.fleet.spool import Spool
from weighin_agent.fleet.state import State
from weighin_agent.probe import probe
from weighin_agent.run import CaseFailureReason, Run
from weighin_agent.schedule.moment import read_moment, reason_to_wait
from weighin_agent.schedule.period import period_seconds
from weighin_agent.terminal_check import print_check
from weighin_agent.verify import Bench, Step, own_layers_loads, own_layers_plan, run_plan, unseen_loads, unseen_plan
from weighin_agent.weigh_in import card_of, check_execution_provider, weigh_in, work_folder
from weighin_agent.wire import message_to_json, run_to_message
from weighin_analysis.accuracy import OWN_LAYERS_RULE, UNSEEN_RULE, cells_of, verification
from weighin_analysis.answers.found import check_question, find_model
from weighin_analysis.answers.words import LINKS_BITS_PER_SECOND
from weighin_analysis.architecture import Architecture
from weighin_analysis.catalog import architecture, parse_architecture
from weighin_analysis.errors import CatalogError
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import load_suite, suite_case


def _execution_provider(options: argparse.Namespace) -> str:
    # A full model is held against its layers on one execution provider: the processor, unless another is named.
    return "cpu" if options.ep in ("auto", "all") else options.ep


def show_device(options: argparse.Namespace) -> int:
    """Answer `probe`; returns the exit code."""
    device, gaps = probe(state_of(options).folder)
    if options.json:
        print_json({"device": asdict(device), "probe_gaps": [asdict(gap) for gap in gaps]})
    else:
        terminal.print_device(output_console(), device, gaps)
    return 0


def run(options: argparse.Namespace) -> int:
    """Answer `run`; returns the exit code."""
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
    return 1 if failed or (report and report.has_failed) else 0


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
    return 1 if report and report.has_failed else 0


def _check_output(path: Path) -> None:
    """Complain about a place that cannot take the document before a minute of measuring, not after it."""
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise UsageError(f"--output {path}: is a folder; name a file in it")
    if path.exists() and not path.is_file():  # a device, which a new file must not replace
        raise UsageError(f"--output {path}: is not a file; --json prints the document to standard output")


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


def check(options: argparse.Namespace) -> int:
    """Answer `check`; returns the exit code."""
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


def verify(options: argparse.Namespace) -> int:
    """Answer `verify`; returns the exit code."""
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
