"""Readers that can crash or hang run in a process of their own, and the probe outlives them."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from weighin_agent.device import ProbeGapReason
from weighin_agent.probe.child import ask_child, run_command
from weighin_agent.probe.cpuinfo_library import read_cpu_name
from weighin_agent.probe.execution_providers import parse_execution_providers, read_execution_providers
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.system import this_system

WriteModule = Callable[[str, str], str]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteModule:
    """Write a module that ``python -m`` finds; what it writes itself lies in the current folder."""
    (tmp_path / "modules").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.chdir(tmp_path)

    def write(name: str, source: str) -> str:
        (tmp_path / "modules" / f"{name}.py").write_text(source)
        return name

    return write


def test_a_child_answers_with_its_last_line_whatever_it_printed_before(write_module: WriteModule) -> None:
    module = write_module("chatty_child", "print('loading devices ...')\nprint('{\"model\": \"X\"}')")
    assert ask_child(module, 30).facts == {"model": "X"}


def test_a_crash_is_a_gap_that_names_the_signal(write_module: WriteModule) -> None:
    source = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)"
    gaps = Gaps()
    assert read_execution_providers(gaps, write_module("crashing_child", source)) == ()
    (gap,) = gaps.all()
    assert (gap.fact, gap.reason) == ("execution_providers", ProbeGapReason.READ_FAILED)
    assert "SIGILL" in gap.detail


def test_a_module_in_the_current_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may have put it there: a folder of downloads is a usual place to start a program from."""
    monkeypatch.chdir(tmp_path)
    for name in ("onnxruntime", "json", "weighin_agent"):
        Path(f"{name}.py").write_text("open('planted code ran', 'w').close()")
    assert read_execution_providers(Gaps())
    assert not Path("planted code ran").exists()


def test_a_missing_library_is_a_gap(write_module: WriteModule) -> None:
    gaps = Gaps()
    assert read_execution_providers(gaps, write_module("failing_child", "import no_such_library")) == ()
    assert [gap.reason for gap in gaps.all()] == [ProbeGapReason.READ_FAILED]


def is_running(process_id: int) -> bool:
    try:
        # Not every container has a first process that collects the dead.
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_that_hangs_is_ended_with_everything_that_it_started(write_module: WriteModule) -> None:
    """A grandchild that holds the pipe open must not hold the probe."""
    source = """
import pathlib, signal, subprocess, sys
grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
pathlib.Path("grandchild").write_text(str(grandchild.pid))
signal.pause()
"""
    answer = ask_child(write_module("hanging_child", source), 3)
    assert (answer.reason, answer.facts) == (ProbeGapReason.TIMED_OUT, {})
    grandchild = int(Path("grandchild").read_text())
    deadline = time.monotonic() + 30
    while is_running(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(grandchild)


@pytest.mark.parametrize("source", ["", "print('hello')", "print('[1]')", "print('[' * 100000)"])
def test_an_answer_that_does_not_parse_is_a_gap(write_module: WriteModule, source: str) -> None:
    assert ask_child(write_module("odd_child", source), 30).reason is ProbeGapReason.READ_FAILED


def test_a_packaged_agent_starts_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the interpreter is the agent itself: starting it would start it again and again."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert ask_child("weighin_agent.probe.cpuinfo_child", 30).reason is ProbeGapReason.NOT_IMPLEMENTED


def test_the_runtime_lists_the_cpu_as_measured_and_every_other_with_its_reason() -> None:
    gaps = Gaps()
    providers = read_execution_providers(gaps)
    assert gaps.all() == ()
    assert [provider.name for provider in providers if provider.measured] == ["cpu"]
    assert all(provider.reason for provider in providers if not provider.measured)


def test_execution_providers_have_our_short_names_or_the_runtimes_own() -> None:
    listed = ["AzureExecutionProvider", "CUDAExecutionProvider", "NewExecutionProvider", "CPUExecutionProvider", 5]
    providers = parse_execution_providers(listed)
    assert [provider.name for provider in providers] == ["cuda", "cpu", "azure", "NewExecutionProvider"]
    assert providers[2].reason == "it calls a remote service; nothing runs on this device"


def test_the_last_reader_names_this_processor_or_says_why_not() -> None:
    gaps = Gaps()
    assert (read_cpu_name(gaps, this_system()) is None) == bool(gaps.all())


def test_a_last_reader_without_an_answer_is_one_gap(write_module: WriteModule) -> None:
    gaps = Gaps()
    assert read_cpu_name(gaps, this_system(), write_module("nameless_child", "print('{\"model\": null}')")) is None
    assert [(gap.fact, gap.reason) for gap in gaps.all()] == [("cpu.model", ProbeGapReason.NOT_OFFERED)]


def test_a_command_that_is_not_installed_is_a_gap_and_no_error() -> None:
    output = run_command(("no-such-command",), 30)
    assert (output.text, output.exit_code, output.reason) == ("", None, ProbeGapReason.NOT_OFFERED)


def test_a_command_that_hangs_is_ended() -> None:
    assert run_command((sys.executable, "-c", "import signal; signal.pause()"), 1).reason is ProbeGapReason.TIMED_OUT


def test_what_a_command_printed_counts_even_if_it_ended_badly() -> None:
    """sysctl ends with 1 if one of many names is unknown to this version of the system."""
    output = run_command((sys.executable, "-c", "print('hw.memsize: 1'); raise SystemExit(1)"), 30)
    assert (output.text.strip(), output.exit_code, output.reason) == ("hw.memsize: 1", 1, None)
