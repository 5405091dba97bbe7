"""Hostile input at a real server: whatever is sent, the answer is one of the contract."""

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aggregator_process
import example_runs
import grpc
import psutil
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from faults import server
from faults.memory import peak_bytes
from faults.mutations import VALID, edited_bytes, hostile_run
from weighin_aggregator.store.store import FILE_NAME

RUNS_PER_CALL = 50
# One input in ten is a whole request.
REQUEST_SHARE = 0.1
MOST_SECONDS = 1.0
MOST_GROWTH_BYTES = 50 << 20
# What docs/ingest.md answers to bad input: of a whole call, and of a run.
ANSWERS = {
    (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST"),
    (grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_RUNS"),
    (grpc.StatusCode.FAILED_PRECONDITION, "CONSENT_REQUIRED"),
}
OUTCOMES = {
    ("STORED", ""),
    ("DUPLICATE", ""),
    ("REJECTED", "FIELD_INVALID"),
    ("REJECTED", "MALFORMED_RUN"),
    ("REJECTED", "RUN_ID_INVALID"),
    ("REJECTED", "RUN_ID_REUSED"),
    ("REJECTED", "UNKNOWN_FIELD"),
    ("RETRY", "CHECKSUM_MISMATCH"),
    ("RETRY", "SCHEMA_TOO_NEW"),
}
_SEEDS = st.integers(0, (1 << 64) - 1)
# Shrinking would send the same again and again: what fails is told by its seed.
_GENERATE = (Phase.explicit, Phase.generate)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileInput:
    """``answers`` counts every answer by its name; ``undocumented`` tells of those that the contract does not have.

    ``growth_bytes`` is of the most memory that the server ever had, after two checkpoints and a tenth of the inputs; of
    the rows that it stores DuckDB keeps what it can in memory, so ``growth_of_store_bytes`` stands beside it. ``hangs``
    took the server over a second of processor time, twice; a call without an answer is not documented.
    """

    inputs: int
    answers: dict[str, int]
    undocumented: tuple[str, ...]
    hangs: int
    longest_call_seconds: float
    growth_bytes: int
    growth_of_store_bytes: int

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held."""
        missed = [f"not documented: {text}" for text in self.undocumented]
        if self.hangs:
            missed.append(f"{self.hangs} inputs took over {MOST_SECONDS:.0f} s")
        if self.growth_bytes - self.growth_of_store_bytes > MOST_GROWTH_BYTES:
            missed.append(f"memory grew by {self.growth_bytes / 2**20:.0f} MiB")
        return tuple(missed)


@dataclass(slots=True, kw_only=True)
class _Attack:
    """One server, and what it answered."""

    client: aggregator_process.Client
    process: psutil.Process
    answers: Counter[str] = field(default_factory=Counter)
    undocumented: list[str] = field(default_factory=list)
    hangs: int = 0
    longest_seconds: float = 0.0

    def warm_up(self, store: Path) -> None:
        """Send valid runs through two checkpoints: before each, rows of the log lie in memory, too."""
        for _ in range(2):
            size_bytes = store.stat().st_size
            while store.stat().st_size == size_bytes:
                self._send_valid()

    def _send_valid(self) -> None:
        ids = [aggregator_process.new_run_id() for _ in range(RUNS_PER_CALL)]
        self.client.submit(*(example_runs.envelope(VALID, run_id) for run_id in ids))

    def send_request(self, number: int) -> None:
        """Send bytes that are no request, or hardly."""
        chance = random.Random(number)  # noqa: S311 - no secret
        whole = example_runs.request([example_runs.envelope(VALID, aggregator_process.new_run_id())])
        data = edited_bytes(whole.SerializeToString(), chance)
        self._send(data if chance.random() < 0.5 else chance.randbytes(chance.randrange(2_000)), f"request {number}")

    def send_runs(self, numbers: list[int]) -> None:
        """Send runs in one call; halve it where one of them ends the call, as an agent does."""
        runs = [hostile_run(random.Random(number)) for number in numbers]  # noqa: S311 - no secret
        envelopes = [example_runs.envelope(run, aggregator_process.new_run_id()) for run in runs]
        is_one = len(envelopes) == 1
        whole = example_runs.request(envelopes).SerializeToString()
        if not self._send(whole, f"runs {numbers}", is_one=is_one):
            middle = len(numbers) // 2
            self.send_runs(numbers[:middle])
            self.send_runs(numbers[middle:])

    def _send(self, data: bytes, what: str, *, is_one: bool = True) -> bool:
        """Send a call twice where it takes long; False where the whole call was refused."""
        before = self._processor_seconds()
        is_answered = self._call(data, what, is_one=is_one)
        between = self._processor_seconds()
        if between - before > MOST_SECONDS:
            self._call(data, what, is_one=is_one)
            self.hangs += self._processor_seconds() - between > MOST_SECONDS
        return is_answered

    def _processor_seconds(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def _call(self, data: bytes, what: str, *, is_one: bool) -> bool:
        start = time.monotonic()
        try:
            results = self.client.send(data).results
        except grpc.RpcError as error:
            code, reason, _ = aggregator_process.refusal(error)
            if is_one:
                self._note(f"{code.name} {reason}", (code, reason) in ANSWERS, what)
            elif (code, reason) not in ANSWERS:
                self._note(f"{code.name} {reason}", False, what)
            return is_one
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - start)
        for outcome in aggregator_process.outcomes(results):
            self._note(" ".join(outcome).strip(), outcome in OUTCOMES, what)
        if not results:
            self._note("OK without runs", True, what)
        return True

    def _note(self, answer: str, is_documented: bool, what: str) -> None:
        self.answers[answer] += 1
        if not is_documented:
            self.undocumented.append(f"{answer} to {what}")


def inject(folder: Path, size: int, chance: random.Random) -> HostileInput:
    """Send ``size`` inputs that hypothesis draws: a tenth whole requests, the rest runs."""
    data, requests = folder / "data", int(size * REQUEST_SHARE)
    with (
        server.serving(data, server.free_port()) as process,
        aggregator_process.client(process.address) as client,
    ):
        attack = _Attack(client=client, process=psutil.Process(process.process.pid))
        attack.warm_up(data / FILE_NAME)
        drawn = seed(chance.getrandbits(64))
        drawn(_many(requests)(given(_SEEDS)(attack.send_request)))()
        batches = st.lists(_SEEDS, min_size=RUNS_PER_CALL, max_size=RUNS_PER_CALL)
        drawn(_many(size // 10 // RUNS_PER_CALL)(given(batches)(attack.send_runs)))()
        warm_bytes, warm_store_bytes = peak_bytes(attack.process.pid), _folder_bytes(data)
        # Hypothesis leaves out what it has drawn before, so that it may take more than one round.
        while (left := size - attack.answers.total()) > 0:
            drawn(_many(-(-left // RUNS_PER_CALL))(given(batches)(attack.send_runs)))()
        growth_bytes = peak_bytes(attack.process.pid) - warm_bytes
        growth_of_store_bytes = _folder_bytes(data) - warm_store_bytes
    return HostileInput(
        inputs=attack.answers.total(),
        answers=dict(attack.answers.most_common()),
        undocumented=tuple(attack.undocumented),
        hangs=attack.hangs,
        longest_call_seconds=attack.longest_seconds,
        growth_bytes=growth_bytes,
        growth_of_store_bytes=growth_of_store_bytes,
    )


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _many(examples: int) -> settings:
    return settings(
        max_examples=max(examples, 1),
        database=None,
        deadline=None,
        phases=_GENERATE,
        suppress_health_check=list(HealthCheck),
    )
