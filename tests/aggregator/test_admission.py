"""The cap on runs per second: what it takes, what it refuses, and what it says to those that it refuses."""

import math
from dataclasses import dataclass
from pathlib import Path

import aggregator_process
import example_runs
import grpc
import pytest
from aggregator_process import new_run_id, refusal
from hypothesis import given
from hypothesis import strategies as st

from weighin_aggregator.refusal import Reason, Refusal
from weighin_aggregator.serve.admission import Admission


@dataclass(slots=True)
class Clock:
    """Stands still until it is told."""

    seconds: float = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def is_open(admission: Admission) -> bool:
    try:
        admission.require_left()
    except Refusal as refused:
        return refused.reason != Reason.OVERLOADED
    return True


@given(st.integers(1, 1_000), st.integers(1, 100))
def test_under_overload_it_takes_what_the_cap_allows_within_one_call(cap: int, call_runs: int) -> None:
    clock, taken, seconds = Clock(), 0, 60.0
    admission = Admission(cap, clock)
    offers = math.ceil(5 * cap * seconds / call_runs)
    for _ in range(min(offers, 2_000)):
        if is_open(admission):
            admission.take(call_runs)
            taken += call_runs
        clock.seconds += seconds / min(offers, 2_000)
    possible = min(cap * seconds, call_runs * min(offers, 2_000))
    assert 0.9 * possible - call_runs <= taken <= cap * (seconds + 1) + call_runs


def test_a_pause_saves_up_no_more_than_a_second() -> None:
    clock = Clock()
    admission = Admission(100, clock)
    clock.seconds += 3_600
    calls = 0
    while is_open(admission):
        admission.take(10)
        calls += 1
    assert calls == 10


def test_who_is_refused_is_told_when_the_cap_has_room_again() -> None:
    clock = Clock()
    admission = Admission(10, clock)
    admission.take(110)
    with pytest.raises(Refusal) as refused:
        admission.require_left()
    assert refused.value.wait_seconds == 10
    clock.seconds += 10.1
    admission.require_left()


def test_without_a_cap_everything_is_taken() -> None:
    admission = Admission(None, Clock())
    for _ in range(100):
        admission.require_left()
        admission.take(1_000_000)


def test_a_capped_server_answers_unavailable_with_a_delay_and_does_not_look_at_what_was_sent(tmp_path: Path) -> None:
    mode = ("--insecure", "--max-runs-per-second", "1")
    with (
        aggregator_process.serving(tmp_path / "data", tmp_path / "log", mode=mode) as server,
        aggregator_process.client(server.address) as client,
    ):
        client.submit(*(example_runs.envelope(example_runs.example_run(), new_run_id()) for _ in range(100)))
        with pytest.raises(grpc.RpcError) as error:
            client.send(b"\xff")
    code, reason, wait_seconds = refusal(error.value)
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
    assert wait_seconds is not None
    assert 5 <= wait_seconds < 100
