"""Which rows of a throughput file are predicted, and from which other runs of the same device.

A cell is one measurement. It is predicted from runs of other models that share its kernel: device, runtime, backend and
quantization (and, for a prefill, the test); never from itself, nor from another source's measurement of the same model.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from weighin_analysis.measurement import Phase
from weighin_analysis.public.bytes_read import bytes_read, known_model
from weighin_analysis.public.rows import Confidence, PublicPhase, PublicRow

# The easy subset of the recipe leaves out models whose layers differ, and schemes whose unpacking, not their bytes,
# decides: 2 and 3 bits, and those with codebooks.
_HYBRID = re.compile(r"qwen3\.5|lfm2", re.IGNORECASE)
_SLOW_TO_UNPACK = re.compile(r"IQ|Q[23]|W2|mixed 2")
# Two threads of a desktop do not draw on its memory bandwidth: what they say holds for two threads.
_TWO_THREADS = "2-thread"
# Sizes that differ by less are one size: through two of them there is no line.
_SAME_SIZE = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One measurement: ``work`` is what a token takes, bytes read in decode and parameters in prefill."""

    row: PublicRow
    model: str
    work: float
    seconds: float

    @property
    def phase(self) -> Phase:
        """The phase that was timed."""
        return Phase(self.row.phase)

    @property
    def kernel(self) -> tuple[str, ...]:
        """What runs of a device must share to tell of each other."""
        row = self.row
        return row.device, row.runtime, row.backend, row.quantization, row.test if _is_prefill(row) else ""

    @property
    def target(self) -> tuple[str, str, str]:
        """What the same model on other devices has in common: backend, model, quantization."""
        return self.row.backend, self.model, self.row.quantization


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A cell and the runs that it is predicted from; ``weight`` is its share where one cell is asked for repeatedly."""

    cell: Cell
    near: Cell
    far: Cell | None = None
    weight: float = 1.0

    @property
    def distance(self) -> float:
        """How far the nearer run lies from the cell: |ln(work / work)|."""
        return abs(math.log(self.near.work / self.cell.work))


def cells(rows: Iterable[PublicRow], phase: Phase, *, hard: bool) -> tuple[tuple[Cell, ...], Counter[str]]:
    """Return the cells of a phase, and why how many of its other rows are none; ``hard`` adds what is not easy."""
    found, left_out = [], Counter[str]()
    for row in (row for row in rows if row.phase.value == phase.value):
        reason = _unused(row, hard=hard)
        work = None if reason else _work(row)
        if work is None:
            left_out[reason or "of unknown size"] += 1
            continue
        assert row.tokens_per_second is not None
        entry = known_model(row.model, row.parameters)
        name = entry.name if entry else row.model
        found.append(Cell(row=row, model=name, work=work, seconds=1 / row.tokens_per_second))
    return tuple(found), left_out


def _unused(row: PublicRow, *, hard: bool) -> str | None:
    if row.is_mixture_of_experts:
        return "of mixtures of experts"
    if row.confidence is Confidence.LOW:
        return "of low confidence"
    if _TWO_THREADS in row.notes:
        return "on two threads of many"
    if not hard and _HYBRID.search(row.model):
        return "of hybrid models"
    if not hard and _SLOW_TO_UNPACK.match(row.quantization):
        return "in 2 or 3 bits or codebooks"
    return None


def _work(row: PublicRow) -> float | None:
    return float(row.active_parameters or row.parameters) if _is_prefill(row) else bytes_read(row)


def _is_prefill(row: PublicRow) -> bool:
    return row.phase is PublicPhase.PREFILL


def other_runs(all_cells: Sequence[Cell]) -> dict[Cell, tuple[Cell, ...]]:
    """Return for each cell the runs of other models with its kernel, nearest in work first."""
    kernels = defaultdict(list)
    for cell in all_cells:
        kernels[cell.kernel].append(cell)
    return {
        cell: tuple(
            sorted(
                (other for other in kernels[cell.kernel] if other.model != cell.model),
                key=lambda other: (abs(math.log(other.work / cell.work)), other.row.line),
            )
        )
        for cell in all_cells
    }


def from_two(runs: dict[Cell, tuple[Cell, ...]]) -> tuple[Question, ...]:
    """Return each cell with its nearest two runs of different size, leaving out cells that have none."""
    questions = []
    for cell, others in runs.items():
        far = next((one for one in others[1:] if abs(math.log(one.work / others[0].work)) > _SAME_SIZE), None)
        if far is not None:
            questions.append(Question(cell=cell, near=others[0], far=far))
    return tuple(questions)


def from_one(runs: dict[Cell, tuple[Cell, ...]]) -> tuple[Question, ...]:
    """Return each cell with each of its runs in turn: whichever one a device happens to have. A cell weighs 1."""
    return tuple(
        Question(cell=cell, near=other, weight=1 / len(others)) for cell, others in runs.items() for other in others
    )
