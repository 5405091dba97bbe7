"""The coverage-guided fuzzer, in a process of its own: libFuzzer, with the Python of the aggregator instrumented."""

import importlib.util
import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from faults.hostile_input import MOST_GROWTH_BYTES, MOST_SECONDS

FUZZ_CHILD = Path(__file__).parent / "fuzz_child.py"
_TAIL_LINES = 5


class NoFuzzerError(Exception):
    """No fuzzer is installed; the text says which is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzzing:
    """``answers`` counts them by reason, and ``stored`` runs were accepted and went through DuckDB in groups.

    ``crash`` is what ended the fuzzer before its time. ``longest`` is time of the processor for one input;
    ``growth_bytes`` is of resident memory since a tenth of the inputs, None where the end was not reached.
    """

    inputs_wanted: int
    inputs: int
    stored: int
    corpus_files: int
    answers: dict[str, int]
    crash: str | None
    longest_seconds: float
    growth_bytes: int | None

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held."""
        missed = [self.crash] if self.crash else []
        if self.inputs < self.inputs_wanted:
            missed.append(f"only {self.inputs} of {self.inputs_wanted} inputs were tried")
        if self.longest_seconds > MOST_SECONDS:
            missed.append(f"an input took {self.longest_seconds:.1f} s")
        if self.growth_bytes is not None and self.growth_bytes > MOST_GROWTH_BYTES:
            missed.append(f"memory grew by {self.growth_bytes / 2**20:.0f} MiB")
        return tuple(missed)


def inject(folder: Path, size: int, chance: random.Random) -> Fuzzing:
    """Try ``size`` inputs. Raises NoFuzzerError where atheris is not installed, which has no wheel for every Python."""
    if importlib.util.find_spec("atheris") is None:
        raise NoFuzzerError("atheris is not installed: pip install atheris, where it has a wheel for this Python")
    line = [sys.executable, str(FUZZ_CHILD), str(folder), str(size), str(chance.randrange(1, 1 << 31))]
    with (folder / "log").open("w+") as log:
        done = subprocess.run(line, stdout=log, stderr=subprocess.STDOUT, check=False)
        log.seek(0)
        tail = log.readlines()[-_TAIL_LINES:]
    counts = json.loads((folder / "counts.json").read_text())
    return Fuzzing(
        inputs_wanted=size,
        corpus_files=len(list((folder / "corpus").iterdir())),
        crash=" ".join(line.strip() for line in tail) if done.returncode else None,
        **counts,
    )
