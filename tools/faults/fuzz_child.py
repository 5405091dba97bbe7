"""A child process: a coverage-guided fuzzer over decode, validate and store, in the process of the code under test.

``fuzz_child.py FOLDER INPUTS SEED`` writes what it counted to FOLDER/counts.json; any exception that is no answer ends
it at once, with the input beside it. The random numbers are libFuzzer's; FOLDER/corpus holds what found new code.
"""

import dis
import json
import operator
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import atheris  # type: ignore[import-untyped]
import numpy as np
import psutil

with atheris.instrument_imports(include=["weighin_aggregator"]):
    from weighin_aggregator.intake.examine import Accepted, Refused, examine
    from weighin_aggregator.intake.records import Sending, to_batch
    from weighin_aggregator.limits import DEFAULT_LIMITS
    from weighin_aggregator.refusal import Refusal
    from weighin_aggregator.store.store import Store, utc_now

from aggregator_process import new_run_id
from example_runs import DEVICE_ID, envelope
from google.protobuf.message import DecodeError

from faults.mutations import VALID, edited_message
from weighin.v1 import run_pb2

_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
}
GROUP_RUNS = 500
STORE_RUNS = 5_000
MOST_INPUT_BYTES = 8 << 10
_WARM_SHARE = 0.1
_SENDING = Sending(send_time=None, spool_dropped_count=0, spool_quarantined_count=0)


class Target:
    """What happens to each input; ``stored`` runs went through DuckDB, in groups."""

    def __init__(self, folder: Path, inputs: int) -> None:
        self._data = folder / "data"
        self._store = Store.open(self._data, create=True)
        self._counts_file = folder / "counts.json"
        self._group: list[Accepted] = []
        self._wanted = inputs
        self._inputs = self._stored = self._stored_before = 0
        self._answers: dict[str, int] = {}
        self._longest_seconds = 0.0
        self._warm_bytes = 0

    def take(self, run: bytes) -> None:
        """Examine one run as the server does. Raises what is no answer."""
        if not self._inputs:
            _mend_comparisons()  # what the start of the fuzzer has put in place
        self._inputs += 1
        # Time of the processor: how busy the machine is, is no fault of the input.
        start = time.thread_time()
        answer = self._answer(run)
        self._longest_seconds = max(self._longest_seconds, time.thread_time() - start)
        self._answers[answer] = self._answers.get(answer, 0) + 1
        if len(self._group) == GROUP_RUNS:
            self._commit()
        if self._inputs == int(self._wanted * _WARM_SHARE):
            self._warm_bytes = self._resident_bytes()
        if self._inputs >= self._wanted:
            self._save(self._resident_bytes() - self._warm_bytes)
        elif self._inputs % 1_000 == 0:
            self._commit()
            self._save(None)

    def _answer(self, run: bytes) -> str:
        try:
            examined = examine(envelope(run, new_run_id()), DEFAULT_LIMITS)
        except Refusal as refusal:
            return str(refusal.reason)
        if isinstance(examined, Refused):
            return str(examined.reason)
        self._group.append(examined)
        return "ACCEPTED"

    def _commit(self) -> None:
        if self._group:
            self._store.insert(to_batch(self._group, DEVICE_ID, utc_now(), _SENDING).tables)
            self._store.checkpoint_if_due()
            self._stored += len(self._group)
            self._group.clear()
        if self._stored - self._stored_before > STORE_RUNS:
            self._stored_before = self._stored
            self._renew()

    def _renew(self) -> None:
        """Begin a new store: what a database holds in memory of more and more rows is no leak."""
        self._store.close()
        shutil.rmtree(self._data)
        self._store = Store.open(self._data, create=True)

    def _resident_bytes(self) -> int:
        """Read how much memory this process has, with an empty store: what rows take depends on the moment."""
        self._commit()
        self._renew()
        return int(psutil.Process().memory_info().rss)

    def _save(self, growth_bytes: int | None) -> None:
        self._counts_file.write_text(
            json.dumps(
                {
                    "inputs": self._inputs,
                    "stored": self._stored,
                    "answers": self._answers,
                    "longest_seconds": self._longest_seconds,
                    "growth_bytes": growth_bytes,
                }
            )
        )


def _mend_comparisons() -> None:
    """Let arrays be compared by themselves: atheris 3.0.0 never gives back what a comparison made."""
    trace = atheris._trace_cmp

    def compare(left: Any, right: Any, comparison: int, *rest: Any) -> Any:
        if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
            return _COMPARE[dis.cmp_op[comparison]](left, right)
        return trace(left, right, comparison, *rest)

    atheris._trace_cmp = compare


def mutate(data: bytes, most_bytes: int, seed: int) -> bytes:
    """Change fields where the input is a run, every other time, else bytes; now and then of a run that is valid."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    if chance.random() < 0.5:
        try:
            run = run_pb2.Run.FromString(VALID if chance.random() < 0.5 else data)
            mutated = edited_message(run, chance)
        except (DecodeError, ValueError):
            mutated = b""
        if mutated and len(mutated) <= most_bytes:
            return mutated
    changed: bytes = atheris.Mutate(data, most_bytes)
    return changed


def main(folder: str, inputs: str, seed: str) -> None:
    """Fuzz until so many inputs were taken."""
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    (corpus / "valid").write_bytes(VALID)
    target = Target(Path(folder), int(inputs))
    line = [
        sys.argv[0],
        f"-atheris_runs={inputs}",
        f"-seed={seed}",
        f"-max_len={MOST_INPUT_BYTES}",
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/",
        str(corpus),
    ]
    atheris.Setup(line, target.take, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
