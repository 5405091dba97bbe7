"""Faults of the children of a weigh-in, made for real: each costs its own case, with the right reason, and no other."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from agent_process import agent, models_left_behind, only_document, spooled_runs, started_agent
from google.protobuf import json_format
from tiny_cases import PATIENCE_SECONDS, case_children, synthesisers, tiny_suite, wait_until

from weighin.v1 import measurement_pb2, run_pb2

CASES = [(case.architecture.name, case.scheme.value) for case in tiny_suite().cases]
# Ample for what takes a second on a quiet machine.
STEP_TIMEOUT_SECONDS = 10


def finish(state: Path, do: Callable[[psutil.Process], object]) -> tuple[dict[str, Any], str]:
    """The document and the last line about a case of a run to whose process something is done while it runs."""
    with started_agent("run", "--json", "--no-submit", "--state", state, suite="slow") as process:
        family = psutil.Process(process.pid)
        do(family)
        output, errors = process.communicate(timeout=PATIENCE_SECONDS + 2 * STEP_TIMEOUT_SECONDS)
        assert process.returncode == 1, errors
        assert "Traceback" not in errors
    assert models_left_behind(state) == []
    assert len(spooled_runs(state)) == 1
    return only_document(output), errors


def only_failure(document: dict[str, Any], lost: tuple[str, str]) -> tuple[str, str]:
    """Reason and detail of the one failure, that of case ``lost``; every other case was measured and judged."""
    run = json_format.ParseDict(document["run"], run_pb2.Run())
    (failure,) = run.failures
    scheme = measurement_pb2.Scheme.Name(failure.case.scheme).removeprefix("SCHEME_").lower()
    assert (failure.case.architecture.name, scheme) == lost
    assert [(row["architecture"], row["scheme"]) for row in document["card"]] == [c for c in CASES if c != lost]
    measured = {m.case.architecture.name + str(m.case.scheme) for m in run.measurements}
    assert len(measured) == len(CASES) - 1
    reason = measurement_pb2.CaseFailureReason.Name(failure.reason)
    return reason.removeprefix("CASE_FAILURE_REASON_").lower(), failure.detail


def child_of(family: psutil.Process, index: int) -> psutil.Process:
    """Wait until the case of this number has its child, and return it."""
    wait_until(lambda: len(case_children(family)) > index, "the case has a child")
    return case_children(family)[index]


@pytest.mark.parametrize("index", range(len(CASES)))
def test_a_killed_child_is_a_crash(index: int, tmp_path: Path) -> None:
    document, errors = finish(tmp_path, lambda family: child_of(family, index).kill())
    assert only_failure(document, CASES[index]) == ("crashed", "ended by signal 9 (SIGKILL), often for want of memory")
    assert f"{' '.join(CASES[index])}: crashed: ended by signal 9" in errors


def test_a_stopped_child_is_timed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHIN_TEST_STEP_TIMEOUT_SECONDS", str(STEP_TIMEOUT_SECONDS))
    document, errors = finish(tmp_path, lambda family: child_of(family, 1).suspend())
    assert only_failure(document, CASES[1]) == ("timed_out", f"ended after {STEP_TIMEOUT_SECONDS} s")
    assert f"{' '.join(CASES[1])}: timed out" in errors


def test_a_killed_synthesiser_costs_the_case_that_it_was_to_make(tmp_path: Path) -> None:
    def kill(family: psutil.Process) -> None:
        wait_until(lambda: synthesisers(family), "models are made")
        synthesisers(family)[0].kill()

    document, _ = finish(tmp_path, kill)
    assert only_failure(document, CASES[0]) == ("crashed", "ended by signal 9 (SIGKILL), often for want of memory")


def test_corrupted_weights_are_refused_before_they_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of the encoder's weights, turned over on the disk."""
    monkeypatch.setenv("WEIGHIN_TEST_DAMAGED", CASES[0][0])
    document, errors = finish(tmp_path, lambda _family: None)
    reason, detail = only_failure(document, CASES[0])
    assert reason == "weights_mismatch"
    assert detail.endswith("on disk is not what was written")
    assert str(tmp_path) not in json.dumps(document["run"])
    assert "weights mismatch" in errors


def webgpu(state: Path) -> dict[str, Any]:
    """What the agent's own probe says of the WebGPU plugin; nothing if it is not installed."""
    offered = only_document(agent("probe", "--json", "--state", state).stdout)["device"]["execution_providers"]
    return next((provider for provider in offered if provider["name"] == "webgpu"), {})


def test_a_plugin_without_a_device_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_driver = str(tmp_path / "no driver.json")
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.setenv(name, no_driver)
    if sys.platform != "linux" or not webgpu(tmp_path):
        pytest.skip("onnxruntime-ep-webgpu is not installed, or finds its device without Vulkan")
    done = agent("run", "--no-submit", "--ep", "webgpu", "--state", tmp_path, suite="brief")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("weighin-agent: execution provider 'webgpu' is not measured here: ")
    assert "no Vulkan driver offers an adapter" in line
    assert line.endswith("use --ep cpu")
    assert spooled_runs(tmp_path) == []


@pytest.mark.slow  # a software driver compiles each shader for seconds when it meets it first
def test_nodes_that_only_the_cpu_has_fail_their_case_and_the_others_are_measured(tmp_path: Path) -> None:
    """The plugin has no matrix product that quantizes its activations, which the encoder is made of."""
    if not webgpu(tmp_path).get("adapter"):
        pytest.skip("onnxruntime-ep-webgpu is not installed, or finds no device")
    options = "--json", "--no-submit", "--ep", "webgpu", "--allow-software-adapter"
    done = agent("run", *options, "--state", tmp_path, suite="brief")
    assert done.returncode == 1, done.stderr
    document = only_document(done.stdout)
    reason, detail = only_failure(document, CASES[0])
    assert reason == "wrong_execution_provider"
    assert "left to the CPU" in detail
    for measurement in json_format.ParseDict(document["run"], run_pb2.Run()).measurements:
        assert measurement.execution_provider == "webgpu"
        assert 0.999 < measurement.output_correlation <= 1
        assert measurement.HasField("output_relative_rms")
