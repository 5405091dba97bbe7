"""The commands of a device's life in a fleet, as a person types them."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from agent_process import agent_line
from example_runs import example_run
from google.protobuf.json_format import ParseDict
from made_certificates import Authority
from scripted_aggregator import failure, scripted_aggregator, store_all
from scripted_fleet import SECRET, ScriptedFleet, scripted_fleet

from weighin.v1 import run_pb2, services_pb2
from weighin_agent import commands_device
from weighin_agent.commands import parser
from weighin_agent.errors import EnvironmentFailure, UsageError
from weighin_agent.fleet.actions import keep_run, status, working
from weighin_agent.fleet.consent import CONSENT_VERSION
from weighin_agent.fleet.room import Room
from weighin_agent.fleet.state import State
from weighin_agent.probe.system import this_system_name
from weighin_agent.schedule import scheduler
from weighin_agent.terminal_status import status_lines


class Usage(NamedTuple):
    """As shutil.disk_usage answers."""

    total: int
    used: int
    free: int


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def fleet() -> Iterator[ScriptedFleet]:
    with scripted_fleet() as fleet:
        yield fleet


@dataclass(slots=True)
class Typed:
    """Runs command lines in this process; ``answer`` is what the person at the terminal types."""

    state: State
    monkeypatch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, answer: str | None = None, standard_input: str = "") -> tuple[int, str, str]:
        typed = io.StringIO(standard_input if answer is None else answer + "\n")
        typed.isatty = lambda: answer is not None  # type: ignore[method-assign]
        self.monkeypatch.setattr("sys.stdin", typed)
        options = parser().parse_args([*arguments, "--state", str(self.state.folder)])
        code = options.command(options)
        return code, *self.capture.readouterr()

    def document(self, *arguments: str) -> Any:
        code, output, _ = self(*arguments, "--json")
        assert code in (0, 1)
        return json.loads(output)


@pytest.fixture
def typed(state: State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    monkeypatch.delenv("WEIGHIN_TOKEN", raising=False)
    return Typed(state, monkeypatch, capsys)


def keep(state: State, consent_version: int = 0) -> bytes:
    run = example_run()
    run.consent_version = consent_version
    with working(state) as spool:
        keep_run(state, spool, run.SerializeToString())
    return run.SerializeToString()


ACCEPTED = ("--accept-consent", str(CONSENT_VERSION))


def test_a_token_is_taken_from_the_argument_a_file_standard_input_or_the_environment(
    typed: Typed, fleet: ScriptedFleet, tmp_path: Path
) -> None:
    text = fleet.token().text
    file = tmp_path / "token.txt"
    file.write_text(text + "\n")
    assert typed("enroll", text, *ACCEPTED)[0] == 0
    assert typed("enroll", "--token-file", str(file), *ACCEPTED)[0] == 0
    assert typed("enroll", "--token-file", "-", *ACCEPTED, standard_input=text + "\n")[0] == 0
    typed.monkeypatch.setenv("WEIGHIN_TOKEN", text)
    code, output, errors = typed("enroll", *ACCEPTED)
    assert (code, errors) == (0, "")
    assert fleet.address in output
    assert SECRET not in output
    assert [request.enrollment_token for request in fleet.seen.enrolments] == [text] * 4


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "a token is needed"),
        (("--token-file", "no such file"), "no such file: No such file"),
        (("not-a-token",), "not an enrolment token"),
    ],
)
def test_without_a_token_that_can_be_used_it_is_bad_usage(arguments: tuple[str, ...], why: str, typed: Typed) -> None:
    with pytest.raises(UsageError, match=why):
        typed("enroll", *arguments, *ACCEPTED)


def test_a_token_and_a_plain_address_exclude_each_other(typed: Typed, fleet: ScriptedFleet) -> None:
    with pytest.raises(SystemExit) as refused:
        typed("enroll", fleet.token().text, "--insecure", "127.0.0.1:1", *ACCEPTED)
    assert refused.value.code == 2


def test_consent_is_asked_for_and_without_it_nothing_is_said_to_anybody(typed: Typed, fleet: ScriptedFleet) -> None:
    token = fleet.token().text
    with pytest.raises(UsageError, match="consent was not given"):
        typed("enroll", token, answer="n")
    with pytest.raises(UsageError, match="--accept-consent"):
        typed("enroll", token)
    with pytest.raises(UsageError, match="is not offered"):
        typed("enroll", token, "--accept-consent", str(CONSENT_VERSION + 1))
    assert fleet.seen.enrolments == []
    assert typed("enroll", token, answer="y")[0] == 0


def test_submit_and_status_tell_what_is_wrong_with_the_way_and_that_nothing_is_lost(
    typed: Typed, fleet: ScriptedFleet
) -> None:
    typed("enroll", fleet.token().text, *ACCEPTED)
    keep(typed.state)
    fleet.present(fleet.authority.server("fleet.example.org"))
    code, output, _ = typed("submit")
    assert (code, len(output.splitlines())) == (1, 1)
    assert "1 run(s) kept in the spool" in output
    assert "TLS_HOST_MISMATCH" in output
    assert "TLS_HOST_MISMATCH" in typed("status")[1]
    assert typed.document("status")["last_delivery"]["kept_reason"] == "TLS_HOST_MISMATCH"


def test_status_tells_of_the_certificate(typed: Typed, fleet: ScriptedFleet) -> None:
    typed("enroll", fleet.token().text, *ACCEPTED)
    assert f"enrolled with {fleet.address} over mutual TLS" in typed("status")[1]
    document = typed.document("status")
    assert document["enrolment"]["enroll_address"] == fleet.enroll_address
    assert set(document["certificate"]) == {"issue_time_seconds", "renew_time_seconds", "expire_time_seconds"}


@pytest.mark.parametrize("name", ["key.pem", "certificate.pem", "authority.pem"])
@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_status_tells_of_a_credential_that_is_damaged(
    typed: Typed, fleet: ScriptedFleet, name: str, content: bytes | None
) -> None:
    typed("enroll", fleet.token().text, *ACCEPTED)
    path = typed.state.credential.folder / name
    path.unlink() if content is None else path.write_bytes(content)
    assert "CREDENTIAL_DAMAGED" in typed("status")[1]
    assert typed.document("status")["certificate"] is None


def test_preview_shows_a_device_that_is_not_enrolled_the_very_message_that_it_would_send(
    typed: Typed, fleet: ScriptedFleet
) -> None:
    keep(typed.state)
    shown = typed.document("preview")
    assert (shown["aggregator_address"], shown["device_id"]) == (None, typed.state.device_id())
    typed("enroll", fleet.token().text, *ACCEPTED)
    typed("submit")
    (request,) = fleet.requests
    (envelope,) = request.envelopes
    (previewed,) = shown["envelopes"]
    assert ParseDict(previewed["run"], run_pb2.Run()) == run_pb2.Run.FromString(envelope.run)
    assert (previewed["run_id"], previewed["sequence"], previewed["attempt_count"], previewed["run_sha256"]) == (
        envelope.run_id,
        envelope.sequence,
        envelope.attempt_count,
        envelope.run_sha256.hex(),
    )
    assert (shown["spool_dropped_count"], shown["spool_quarantined_count"]) == (0, 0)


def test_preview_of_nothing_says_how_to_get_something_to_look_at(typed: Typed) -> None:
    assert "weighin-agent run --no-submit" in typed("preview")[1]
    assert typed.document("preview")["envelopes"] == []


def test_forget_asks_and_does_nothing_without_a_yes(typed: Typed, fleet: ScriptedFleet) -> None:
    typed("enroll", fleet.token().text, *ACCEPTED)
    with pytest.raises(UsageError, match="nothing was forgotten"):
        typed("forget", answer="")
    with pytest.raises(UsageError, match="--yes"):
        typed("forget")
    assert fleet.seen.deletions == []
    code, _, errors = typed("forget", answer="yes")
    assert code == 0
    assert fleet.address in errors.splitlines()[-1]
    assert len(fleet.seen.deletions) == 1


def test_forget_names_who_must_be_asked_for_what_was_sent_under_an_earlier_name(
    typed: Typed, fleet: ScriptedFleet
) -> None:
    typed("enroll", fleet.token().text, *ACCEPTED)
    before = typed.state.device_id()
    revoked = failure(grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED")
    fleet.answers = replace(fleet.answers, enroll=revoked, only_device=before)
    typed("enroll", fleet.token(token_id="fedcba9876543210").text, *ACCEPTED)
    code, _, errors = typed("forget", "--yes")
    assert code == 0
    assert f"`weighin-aggregator forget {before}`" in errors.splitlines()[0]
    assert errors.splitlines()[-1].startswith("forgotten")


def test_forget_says_that_the_schedule_stays(
    typed: Typed, fleet: ScriptedFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    typed("enroll", fleet.token().text, *ACCEPTED)
    plan = scheduler.plan_here(this_system_name(), typed.state.folder, "1d")
    plan.files[0].path.parent.mkdir(parents=True)
    plan.files[0].path.write_bytes(plan.files[0].data)
    code, _, errors = typed("forget", "--yes")
    assert code == 0
    assert "`weighin-agent schedule remove`" in errors.splitlines()[-1]
    plan.files[0].path.unlink()
    assert "schedule" not in typed("forget", "--yes")[2]


def test_a_deletion_that_waits_is_finished_by_submit_and_by_run_without_measuring(
    typed: Typed, fleet: ScriptedFleet
) -> None:
    for command in (("submit",), ("run", "--no-submit"), ("run", "--scheduled")):
        typed("enroll", fleet.token().text, *ACCEPTED)
        fleet.answers = replace(fleet.answers, delete=failure(grpc.StatusCode.UNAVAILABLE, "OVERLOADED", 5))
        code, _, errors = typed("forget", "--yes")
        assert (code, len(errors.splitlines())) == (1, 1)
        assert "nothing is measured" in errors
        assert typed(*command)[0] == 1
        fleet.answers = replace(fleet.answers, delete=None)
        assert typed(*command)[0] == 0
        assert status(typed.state).device_id is None


def test_with_a_full_disk_nothing_is_measured_and_status_says_so(typed: Typed) -> None:
    run = keep(typed.state)
    typed.monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1 << 40, (1 << 40) - (1 << 30), 1 << 30))
    with pytest.raises(EnvironmentFailure, match="1024 MiB are free") as refused:
        typed("run")
    assert "\n" not in str(refused.value)
    typed.monkeypatch.setattr(commands_device, "reason_to_wait", lambda _moment, _period_seconds: None)
    code, _, errors = typed("run", "--scheduled", "--no-submit")
    assert code == 0
    assert "MiB are free" in errors
    assert "disk is too full" in typed("status")[1]
    with working(typed.state) as spool:
        assert [spool.read(entry).run for entry in spool.pending()] == [run]


@pytest.mark.parametrize(
    ("free_bytes", "total_bytes", "is_low"),
    [
        (200 << 20, 1 << 30, False),
        ((200 << 20) - 1, 1 << 30, True),
        (1 << 30, 1 << 40, True),
        (21 << 30, 1 << 40, False),
    ],
)
def test_a_disk_is_full_below_200_mib_or_a_fiftieth(free_bytes: int, total_bytes: int, is_low: bool) -> None:
    assert Room(free_bytes=free_bytes, total_bytes=total_bytes).is_low is is_low


def test_a_disk_with_room_is_not_spoken_of(state: State) -> None:
    assert not [line for line in status_lines(status(state)) if "the disk" in line]


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "ImportError('it began') from KeyboardInterrupt()"])
def test_an_interrupt_while_the_agent_still_loads_is_one_line(state: State, raised: str) -> None:
    code = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'weighin_agent.commands':\n"
        f"            raise {raised}\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from weighin_agent.cli import main\n"
        "main()\n"
    )
    line = [sys.executable, "-c", code, "status", "--state", str(state.folder)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "weighin-agent: interrupted; nothing was left running\n"


def test_an_interrupted_delivery_ends_at_once_and_keeps_its_runs(state: State) -> None:
    asked, over = threading.Event(), threading.Event()

    def silent(request: services_pb2.SubmitRunsRequest) -> services_pb2.SubmitRunsResponse:
        asked.set()
        over.wait(timeout=60)
        return store_all(request)

    with scripted_aggregator(silent) as aggregator:
        subprocess.run(
            agent_line("enroll", "--insecure", aggregator.address, *ACCEPTED, "--state", state.folder), check=True
        )
        keep(state)
        with subprocess.Popen(
            agent_line("submit", "--state", state.folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert asked.wait(timeout=60)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        over.set()
    assert (process.returncode, output) == (130, "")
    assert errors == "weighin-agent: interrupted; nothing was left running\n"
    assert status(state).pending_count == 1


def test_a_handshake_that_fails_is_one_line_and_nothing_of_the_librarys_own(typed: Typed, fleet: ScriptedFleet) -> None:
    typed("enroll", fleet.token().text, *ACCEPTED)
    keep(typed.state)
    fleet.present(Authority().server())
    line = agent_line("submit", "--state", typed.state.folder)
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, ""), "a person must act"
    assert "TLS_UNTRUSTED" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "needless"),
    [(["--help"], {"cryptography", "numpy"}), (["status"], {"numpy"}), (["submit"], {"numpy"})],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_that_measures_nothing_loads_nothing_that_measures(
    arguments: list[str], needless: set[str], tmp_path: Path
) -> None:
    code = (
        "import atexit, sys; from weighin_agent.cli import main; "
        f"atexit.register(lambda: print('loaded:', *sorted({needless} & set(sys.modules)), file=sys.stderr)); main()"
    )
    line = [agent_line()[0], "-c", code, *arguments]
    environment = os.environ | {"WEIGHIN_STATE_DIR": str(tmp_path)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "loaded:"
