"""The commands of a device's life in a fleet: enroll, submit, status, preview, forget."""

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

from weighin_agent.command_line import Commands, add_command, output_console, print_json, print_text, state_of
from weighin_agent.errors import EnvironmentFailure, UsageError
from weighin_agent.fleet import actions as fleet
from weighin_agent.fleet.consent import CONSENT_TEXT, CONSENT_VERSION
from weighin_agent.fleet.delivery import DeliveryReport
from weighin_agent.fleet.forget import forget
from weighin_agent.fleet.preview import preview
from weighin_agent.fleet.state import State
from weighin_agent.fleet.token import EnrollmentToken, parse_token
from weighin_agent.schedule.period import DEFAULT_PERIOD
from weighin_agent.terminal_status import print_status

# Far more than a token; a file of the wrong kind may have no end.
_TOKEN_FILE_CHARACTERS = 10_000
TOKEN_VARIABLE = "WEIGHIN_TOKEN"  # noqa: S105 - where a token lies, not one


def add_fleet_commands(commands: Commands) -> None:
    """Add them to the command line."""
    _add_enroll(commands)
    add_command(commands, "submit", _submit, "send the runs that wait in the spool", "submit --json")
    about = "where things stand: enrolment, certificate, spool, last delivery"
    add_command(commands, "status", _status, about, "status --json")
    add_command(commands, "preview", _preview, "print the exact message that waits to be sent", "preview --json")
    about = "delete what this device sent, on the aggregator too, and its identity here"
    parser = add_command(commands, "forget", _forget, about, "forget --yes")
    parser.add_argument("--yes", action="store_true", help="do it without being asked")


def delivery_line(run_id: str | None, report: DeliveryReport | None) -> str:
    """Say what became of what was to be delivered; ``run_id`` is the run that was just made."""
    if report is None:
        return f"run {run_id} is kept in the spool; send it with `weighin-agent submit`"
    parts = []
    if report.stored_count:
        parts.append(f"{report.stored_count} run(s) stored by the aggregator")
    if report.duplicate_count:
        parts.append(f"{report.duplicate_count} run(s) were stored there already")
    parts += [f"set aside: {run.reason}: {run.detail}" for run in report.quarantined]
    if report.kept_count:
        parts.append(f"{report.kept_count} run(s) kept in the spool: {report.kept_detail}")
    return "; ".join(parts) or "nothing waits to be sent"


def go_on_forgetting(options: argparse.Namespace, state: State) -> int:
    """Forget the device, or go on where an earlier try ended: what every command does that would send."""
    report = forget(state)
    if options.json:
        print_json(asdict(report))
    for one in report.elsewhere:
        print(
            f"not asked: {one.aggregator_address}, for device {one.device_id}, as whom this one enrolled there before; "
            f"its operator deletes what is left of that with `weighin-aggregator forget {one.device_id}`",
            file=sys.stderr,
        )
    if report.forgotten:
        there = f" What it sent to {report.aggregator_address} is deleted there." if report.aggregator_address else ""
        print(f"forgotten: nothing of this device is left in {state.folder}.{there}", file=sys.stderr)
        if _is_scheduled(state):
            print(
                "its schedule stays, and weighs in without sending; end it with `weighin-agent schedule remove`",
                file=sys.stderr,
            )
        return 0
    print(
        f"not forgotten yet: {report.detail}; until then nothing is measured for sending, and `weighin-agent forget` "
        "tries again",
        file=sys.stderr,
    )
    return 1


def _is_scheduled(state: State) -> bool:
    # Here, because they load what probes, for which no other command of a fleet has a use.
    from weighin_agent.probe.system import this_system_name  # noqa: PLC0415
    from weighin_agent.schedule import scheduler  # noqa: PLC0415

    try:
        return bool(scheduler.installed(scheduler.plan_here(this_system_name(), state.folder, DEFAULT_PERIOD)))
    except EnvironmentFailure:  # a system without a scheduler that is known, or files that cannot be read
        return False


def _add_enroll(commands: Commands) -> None:
    example = f"enroll --token-file token.txt --accept-consent {CONSENT_VERSION}"
    parser = add_command(commands, "enroll", _enroll, "join the fleet of an aggregator", example)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "token",
        metavar="TOKEN",
        nargs="?",
        help=f"what `weighin-aggregator token create` printed (default: ${TOKEN_VARIABLE}); others on this device can "
        "read arguments",
    )
    where.add_argument(
        "--token-file", type=Path, metavar="FILE", help="read the token from FILE, or from standard input with -"
    )
    where.add_argument("--insecure", metavar="HOST:PORT", help="plain text without a token; loopback only")
    parser.add_argument(
        "--accept-consent",
        type=int,
        metavar="VERSION",
        default=0,
        help=f"accept what is sent, without being asked; the present version is {CONSENT_VERSION}",
    )


def _enroll(options: argparse.Namespace) -> int:
    state = state_of(options)
    token = None if options.insecure else _token(options)
    consent = options.accept_consent or _ask_consent()
    if consent != CONSENT_VERSION:
        raise UsageError(f"consent version {consent} is not offered; accept with --accept-consent {CONSENT_VERSION}")
    with fleet.working(state) as spool:
        if token is None:
            enrolment = fleet.enroll_insecure(state, spool, options.insecure, consent)
        else:
            enrolment = fleet.enroll(state, spool, token, consent)
    if options.json:
        print_json(asdict(enrolment))
    else:
        print_text(f"enrolled with the aggregator at {enrolment.aggregator_address}; `weighin-agent run` sends to it")
    return 0


def _token(options: argparse.Namespace) -> EnrollmentToken:
    file: Path | None = options.token_file
    if file == Path("-"):
        return parse_token(sys.stdin.readline(_TOKEN_FILE_CHARACTERS))
    if file:
        try:
            with file.open(encoding="utf-8") as opened:
                return parse_token(opened.read(_TOKEN_FILE_CHARACTERS))
        except OSError as error:
            raise UsageError(f"--token-file {file}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"--token-file {file}: is not text") from error
    text = options.token or os.environ.get(TOKEN_VARIABLE)
    if not text:
        raise UsageError(
            f"a token is needed: as the argument, with --token-file FILE, or in ${TOKEN_VARIABLE}; "
            "`weighin-aggregator token create` prints one"
        )
    return parse_token(text)


def _ask_consent() -> int:
    print(CONSENT_TEXT, file=sys.stderr)
    if not _agrees("Send this?", f"nothing is sent without consent; accept it with --accept-consent {CONSENT_VERSION}"):
        raise UsageError("not enrolled: consent was not given")
    return CONSENT_VERSION


def _agrees(question: str, without_terminal: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(without_terminal)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _submit(options: argparse.Namespace) -> int:
    state = state_of(options)
    if state.forgetting() is not None:
        return go_on_forgetting(options, state)
    with fleet.working(state) as spool:
        report = fleet.deliver_runs(state, spool)
    if options.json:
        print_json(asdict(report))
    else:
        print_text(delivery_line(None, report))
    return 1 if report.has_failed else 0


def _status(options: argparse.Namespace) -> int:
    status = fleet.status(state_of(options))
    if options.json:
        print_json(asdict(status) | {"state_folder": str(status.state_folder)})
    else:
        print_status(output_console(), status)
    return 0


def _preview(options: argparse.Namespace) -> int:
    shown = preview(state_of(options), CONSENT_VERSION)
    if shown.envelopes or options.json:
        print_json(asdict(shown))
    else:
        print_text("nothing waits to be sent; `weighin-agent run --no-submit` makes a run to look at first")
    return 0


def _forget(options: argparse.Namespace) -> int:
    state = state_of(options)
    if not options.yes and state.forgetting() is None:
        print(
            f"This deletes the runs of this device that wait, all that the aggregator has of it, and its identity in "
            f"{state.folder}.",
            file=sys.stderr,
        )
        if not _agrees("Forget this device?", "nothing was forgotten: confirm it with --yes"):
            raise UsageError("nothing was forgotten: it was not confirmed")
    return go_on_forgetting(options, state)
