import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from agent_process import (
    agent,
    measuring_child,
    models_left_behind,
    only_document,
    outcome_of,
    spooled_runs,
    started_agent,
)
from google.protobuf import json_format
from tiny_cases import is_gone, wait_until

from weighin.v1 import measurement_pb2, run_pb2


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def run_of(document: dict[str, Any]) -> run_pb2.Run:
    return json_format.ParseDict(document["run"], run_pb2.Run())


def one_line(errors: str) -> str:
    """The one complaint on standard error."""
    (line,) = errors.splitlines()
    assert line.startswith("weighin-agent: ")
    assert "Traceback" not in errors
    return line


# A run to its end.


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """Folder, document and standard error of a finished run of three tiny models and one that fits nowhere."""
    folder = tmp_path_factory.mktemp("finished")
    done = agent(
        "run", "--json", "--no-submit", "--state", folder / "state", "--output", folder / "run.json", suite="with_giant"
    )
    assert done.returncode == 0, done.stderr
    return folder, only_document(done.stdout), done.stderr


def test_a_run_prints_one_document_and_keeps_the_run(finished: tuple[Path, dict[str, Any], str]) -> None:
    folder, document, _ = finished
    assert [row["architecture"] for row in document["card"]] == ["TinyEncoder", "Tiny", "Tiny", "Giant"]
    assert {m.case.architecture.name for m in run_of(document).measurements} == {"TinyEncoder", "Tiny"}
    (spooled,) = spooled_runs(folder / "state")
    assert document["run_id"] in spooled.name
    assert models_left_behind(folder / "state") == []


def test_progress_goes_to_standard_error_alone(finished: tuple[Path, dict[str, Any], str]) -> None:
    _, document, errors = finished
    lines = errors.splitlines()
    cases = ["TinyEncoder int8_dynamic", "Tiny int4_block32", "Tiny int8_block32", "Giant int4_block32"]
    assert [line for line in lines if line in cases] == cases
    assert lines[-1:] == [f"run {document['run_id']} is kept in the spool; send it with `weighin-agent submit`"]


def test_every_verdict_is_told_as_soon_as_its_case_was_measured(finished: tuple[Path, dict[str, Any], str]) -> None:
    _, _, errors = finished
    lines = errors.splitlines()
    for case in ("TinyEncoder int8_dynamic", "Tiny int4_block32", "Tiny int8_block32"):
        assert lines[lines.index(case) + 1].startswith("  tiny comfortable: ")


def test_the_output_file_holds_what_standard_output_said(finished: tuple[Path, dict[str, Any], str]) -> None:
    folder, document, _ = finished
    assert json.loads((folder / "run.json").read_text()) == document


def test_the_run_carries_no_path_of_this_machine(finished: tuple[Path, dict[str, Any], str]) -> None:
    folder, document, _ = finished
    assert str(folder) not in json.dumps(document)
    assert str(Path.home()) not in json.dumps(document["run"])


def test_a_model_that_does_not_fit_is_an_answer_and_no_failure(finished: tuple[Path, dict[str, Any], str]) -> None:
    _, document, errors = finished
    row = document["card"][-1]
    assert (row["architecture"], row["verdict"], row["basis"]) == ("Giant", "does_not_fit", "formula")
    assert row["decode_tokens_per_second"] is None
    assert document["limited_by"] == "memory"
    (failure,) = run_of(document).failures
    assert failure.reason == measurement_pb2.CASE_FAILURE_REASON_MEMORY_GATE
    assert "Giant int4_block32: memory gate: needs about" in errors


# A run that loses a child, its own life, or its patience.


def test_a_child_killed_in_the_middle_costs_its_case_alone(state: Path) -> None:
    with started_agent("run", "--json", "--no-submit", "--state", state, suite="slow") as process:
        measuring_child(process).kill()
        code, output, errors = outcome_of(process)
    assert code == 1
    document = only_document(output)
    (failure,) = run_of(document).failures
    assert failure.reason == measurement_pb2.CASE_FAILURE_REASON_CRASHED
    assert failure.case.architecture.name == "TinyEncoder"
    assert "SIGKILL" in failure.detail
    assert [row["architecture"] for row in document["card"]] == ["Tiny", "Tiny"]
    assert "TinyEncoder int8_dynamic: crashed" in errors
    assert len(spooled_runs(state)) == 1


def test_an_interrupt_ends_everything_and_leaves_nothing_and_until_then_no_second_agent_runs(state: Path) -> None:
    with started_agent("run", "--json", "--no-submit", "--state", state, suite="endless") as process:
        child = measuring_child(process)
        second = agent("run", "--json", "--no-submit", "--state", state, suite="brief")
        assert (second.returncode, second.stdout) == (1, "")
        assert "another weighin-agent is at work" in one_line(second.stderr)
        assert not is_gone(child)  # the first goes on undisturbed
        process.send_signal(signal.SIGINT)
        code, output, errors = outcome_of(process)
    assert (code, output) == (130, "")
    assert errors.splitlines()[-1] == "weighin-agent: interrupted; nothing was left running"
    assert "Traceback" not in errors
    assert is_gone(child)
    assert models_left_behind(state) == []
    assert spooled_runs(state) == []


def test_a_termination_is_an_interrupt(state: Path) -> None:
    with started_agent("run", "--no-submit", "--state", state, suite="endless") as process:
        child = measuring_child(process)
        process.terminate()
        code, output, errors = outcome_of(process)
    assert (code, output) == (130, "")
    assert errors.splitlines()[-1] == "weighin-agent: interrupted; nothing was left running"
    assert is_gone(child)
    assert models_left_behind(state) == []


def test_a_killed_agent_leaves_no_process_and_the_next_one_clears_its_files(state: Path) -> None:
    with started_agent("run", "--json", "--no-submit", "--state", state, suite="endless") as process:
        child = measuring_child(process)
        process.kill()
        process.wait()
        wait_until(lambda: is_gone(child), "the child of the killed agent ends")
    assert models_left_behind(state) != []
    next_run = agent("run", "--state", state, suite="brief")
    assert next_run.returncode == 0, next_run.stderr
    assert models_left_behind(state) == []
    assert len(spooled_runs(state)) == 1
    # What a person sees without --json, on a device that is not enrolled.
    assert "This device comfortably runs at least tiny models at int4." in next_run.stdout
    assert "all layers" in next_run.stdout
    assert "1 run(s) kept in the spool: this device is not enrolled" in next_run.stderr.splitlines()[-1]


# What makes no sense is told before anything is measured.


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("azure", "'azure' is not measured here: it calls a remote service; nothing runs on this device; use --ep cpu"),
        ("abacus", "'abacus' is not offered by the runtime here; use --ep cpu"),
    ],
)
def test_an_execution_provider_that_is_not_measured_is_refused(name: str, why: str, state: Path) -> None:
    if name == "azure" and '"name": "azure"' not in agent("probe", "--json", "--state", state).stdout:
        pytest.skip("this runtime does not offer it")
    done = agent("run", "--no-submit", "--ep", name, "--state", state, suite="brief")
    assert (done.returncode, done.stdout) == (2, "")
    assert one_line(done.stderr).endswith(why)
    assert spooled_runs(state) == []
    assert models_left_behind(state) == []


@pytest.mark.parametrize(
    ("output", "why"),
    [("missing/run.json", "there is no folder"), (".", "is a folder"), (os.devnull, "is not a file")],
    ids=["into no folder", "a folder", "a device"],
)
def test_an_output_that_cannot_be_written_is_refused_at_once(
    output: str, why: str, state: Path, tmp_path: Path
) -> None:
    done = agent("run", "--no-submit", "--state", state, "--output", tmp_path / output, suite="brief")
    assert (done.returncode, done.stdout) == (2, "")
    assert why in one_line(done.stderr)
    assert not state.exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["run", "--suite", "slow"], "--suite: invalid choice: 'slow' (choose from"),
        (["run", "--rounds", "5"], "unrecognized arguments: --rounds 5"),
        (["verify", "--scheme", "Q4_0"], "--scheme: invalid"),
        (["verify", "--repeats", "0"], "'0' is not a whole number above 0"),
        (["weigh"], "invalid choice: 'weigh'"),
        ([], "required: COMMAND"),
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_what_is_wrong(arguments: list[str], why: str) -> None:
    done = agent(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["probe", "run", "verify", "enroll", "submit", "status", "preview"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = agent(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"example: weighin-agent {command}" in done.stdout
    assert "--json" in done.stdout
