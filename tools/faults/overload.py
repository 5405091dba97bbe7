"""Five times as many runs as the aggregator takes, by a client that sends by the clock whatever is answered."""

import random
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aggregator_process
import example_runs
import grpc

from faults import server
from faults.devices import SMALL_RUN
from faults.oracle import Books, Ledger, audit
from weighin.v1 import services_pb2

CAP_RUNS_PER_SECOND = 50
OVERLOAD = 5
LEAST_GOODPUT_SHARE = 0.9
_RUNS_PER_CALL = 10
# A connection carries eight calls at once.
_CONNECTIONS = 8
_DEADLINE_SECONDS = 15.0
_DOCUMENTED = {"OK", "UNAVAILABLE OVERLOADED, to be sent again"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """Rates are runs a second: ``cap`` by setting, ``offered`` by the client, ``goodput`` acknowledged.

    ``acknowledgement_p99`` is of calls that were taken.
    """

    seconds: float
    cap_runs_per_second: float
    offered_runs_per_second: float
    goodput_runs_per_second: float
    answers: dict[str, int]
    acknowledgement_p99_seconds: float | None
    books: Books

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held."""
        missed = list(self.books.missed())
        if self.goodput_runs_per_second < LEAST_GOODPUT_SHARE * self.cap_runs_per_second:
            missed.append(f"goodput was {self.goodput_runs_per_second:.0f} of {self.cap_runs_per_second:.0f} runs/s")
        if self.offered_runs_per_second < 0.9 * OVERLOAD * self.cap_runs_per_second:
            missed.append(f"only {self.offered_runs_per_second:.0f} runs/s were offered")
        missed += [f"answered {name}" for name in self.answers if name not in _DOCUMENTED]
        return tuple(missed)


@dataclass(slots=True, kw_only=True)
class _Answers:
    """What came back, from gRPC's threads."""

    ledger: Ledger = field(default_factory=Ledger)
    by_name: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, call: "grpc.Future[bytes]", started: float) -> None:
        """Note one answer."""
        seconds = time.monotonic() - started
        try:
            results = services_pb2.SubmitRunsResponse.FromString(call.result()).results
        except grpc.RpcError as error:
            code, reason, wait_seconds = aggregator_process.refusal(error)
            with self.lock:
                self.by_name[f"{code.name} {reason}" + (", to be sent again" if wait_seconds else "")] += 1
            return
        stored = [one.run_id for one in results if one.outcome == services_pb2.OUTCOME_STORED]
        with self.lock:
            self.by_name["OK" if len(stored) == len(results) else "OK, not all stored"] += 1
            self.seconds.append(seconds)
            self.ledger.acknowledged.update(stored)
            for run_id in stored:
                self.ledger.keep(run_id, SMALL_RUN)


def inject(folder: Path, size: int, chance: random.Random) -> Overload:
    """Offer runs for ``size`` seconds."""
    data, answers = folder / "data", _Answers()
    gap_seconds = _RUNS_PER_CALL / (OVERLOAD * CAP_RUNS_PER_SECOND)
    calls = [_request(chance) for _ in range(int(size / gap_seconds))]
    cap = ("--max-runs-per-second", str(CAP_RUNS_PER_SECOND))
    process = server.start(data, server.free_port(), options=cap)
    try:
        start = time.monotonic()
        sending_seconds = _send(calls, process.address, gap_seconds, answers)
        seconds = time.monotonic() - start
    finally:
        process.stop()
    answers.seconds.sort()
    return Overload(
        seconds=seconds,
        cap_runs_per_second=CAP_RUNS_PER_SECOND,
        offered_runs_per_second=len(calls) * _RUNS_PER_CALL / sending_seconds,
        goodput_runs_per_second=len(answers.ledger.acknowledged) / seconds,
        answers=dict(answers.by_name.most_common()),
        acknowledgement_p99_seconds=answers.seconds[int(0.99 * len(answers.seconds))] if answers.seconds else None,
        books=audit(data, [answers.ledger]),
    )


def _request(chance: random.Random) -> tuple[bytes, tuple[tuple[str, str]]]:
    """Serialize a call of a device of its own."""
    run_ids = [example_runs.uuid7(time.time_ns() // 1_000_000, chance.getrandbits(62)) for _ in range(_RUNS_PER_CALL)]
    envelopes = [example_runs.envelope(SMALL_RUN, run_id, number) for number, run_id in enumerate(run_ids, start=1)]
    device_id = f"{chance.getrandbits(32):08x}-0000-4000-8000-{chance.getrandbits(48):012x}"
    return example_runs.request(envelopes).SerializeToString(), (("weighin-device-id", device_id),)


def _send(
    calls: list[tuple[bytes, tuple[tuple[str, str]]]], address: str, gap_seconds: float, answers: _Answers
) -> float:
    """Begin one call after the other at its moment, and wait for the last answer; seconds that the sending took."""
    answered = threading.Semaphore(0)
    with ExitStack() as stack:
        channels = [
            stack.enter_context(grpc.insecure_channel(address, options=server.CHANNEL_OPTIONS))
            for _ in range(_CONNECTIONS)
        ]
        submits: list[grpc.UnaryUnaryMultiCallable[bytes, bytes]] = [
            channel.unary_unary(aggregator_process.SUBMIT_RUNS) for channel in channels
        ]
        begin = time.monotonic()
        for number, (data, metadata) in enumerate(calls):
            time.sleep(max(0.0, begin + number * gap_seconds - time.monotonic()))
            submit, started = submits[number % _CONNECTIONS], time.monotonic()
            call = submit.future(data, metadata=metadata, timeout=_DEADLINE_SECONDS)

            def done(future: "grpc.Future[bytes]", started: float = started) -> None:
                answers.take(future, started)
                answered.release()

            call.add_done_callback(done)
        sending_seconds = time.monotonic() - begin
        for _ in calls:
            answered.acquire()
    return sending_seconds
