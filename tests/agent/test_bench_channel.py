"""The lines between a parent and its children, from the child's end; the parent's is tested with real cases."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tiny_cases import PATIENCE_SECONDS

from weighin_agent.bench.channel import answer, answer_failures
from weighin_agent.bench.job import Failed, Ready, decode_answer
from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailureReason

# Answers every line but the last, at which it works for ever.
CHILD = """
import threading
from weighin_agent.bench.channel import answer, requests
from weighin_agent.bench.job import Failed
from weighin_agent.run import CaseFailureReason
for line in requests():
    answer(Failed(reason=CaseFailureReason.CRASHED, detail=line.strip()))
    if line == "work\\n":
        threading.Event().wait()
"""


@contextmanager
def child() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    found = decode_answer(process.stdout.readline())
    assert isinstance(found, Failed)
    return found.detail


def test_requests_are_answered_one_by_one() -> None:
    with child() as process:
        assert [ask(process, line) for line in ("0", "1", "ünïcode")] == ["0", "1", "ünïcode"]


@pytest.mark.parametrize("last", ["0", "work"], ids=["idle", "at work"])
def test_a_child_ends_with_its_input_whatever_it_does(last: str) -> None:
    with child() as process:
        ask(process, last)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE_SECONDS) == 1


def test_an_answer_is_one_line_that_is_sent_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    answer(Ready())
    (line,) = capsys.readouterr().out.splitlines()
    assert decode_answer(line) == Ready()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            CaseError("no adapter", reason=CaseFailureReason.NO_DEVICE),
            Failed(reason=CaseFailureReason.NO_DEVICE, detail="no adapter"),
        ),
        (
            OSError(28, "No space left on device", "/home/someone/models"),
            Failed(
                reason=CaseFailureReason.RUNTIME_ERROR,
                detail="the models cannot be written or read: No space left on device",
            ),
        ),
        (
            OSError("/home/someone/models"),
            Failed(reason=CaseFailureReason.RUNTIME_ERROR, detail="the models cannot be written or read: OSError"),
        ),
        (MemoryError(), Failed(reason=CaseFailureReason.OUT_OF_MEMORY, detail="memory ran out")),
    ],
    ids=["case", "full disk", "no reason", "memory"],
)
def test_what_went_wrong_for_a_known_reason_is_an_answer_without_a_path(
    error: Exception, expected: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    with answer_failures():
        fail()
    assert decode_answer(capsys.readouterr().out) == expected


def test_what_nobody_thought_of_ends_the_process_without_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), answer_failures():
        raise ZeroDivisionError
    assert capsys.readouterr().out == ""
