"""What others predict with, on the same cells: a data sheet, one measured factor, a line through two runs.

They exist to be beaten: a predictor that does not beat them is not shipped.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from weighin_analysis.public.cells import Cell, Question


def one_scalar(question: Question) -> float:
    """Return seconds per token in proportion to the work, as one run has it: one factor between estimate and device."""
    return question.near.seconds * question.cell.work / question.near.work


def two_point_line(question: Question) -> float:
    """Return seconds per token on the line through two runs; where it is not above 0, in proportion to the nearer one.

    Time per token is fixed cost + bytes / bandwidth, both from two runs without further knowledge.
    """
    near, far = question.near, question.far
    assert far is not None
    slope = (far.seconds - near.seconds) / (far.work - near.work)
    seconds = near.seconds + slope * (question.cell.work - near.work)
    return seconds if seconds > 0 else one_scalar(question)


class SpecSheet:
    """The nominal bandwidth, times the efficiency that other devices reach on the same backend.

    The efficiency of a device is the median of bytes read per second over nominal bandwidth; that of a backend the
    median over devices, the predicted one left out; that of all backends where no other device has this one.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for cell in cells:
            if cell.row.bandwidth_bytes_per_second is not None:
                rate = cell.work / cell.seconds / cell.row.bandwidth_bytes_per_second
                found[cell.row.backend, cell.row.device].append(rate)
        self._medians = {key: float(np.median(rates)) for key, rates in found.items()}

    def seconds(self, cell: Cell) -> float | None:
        """Return seconds per token of a cell, None where no bandwidth is stated or no other device is there."""
        others = {key: rate for key, rate in self._medians.items() if key[1] != cell.row.device}
        same = [rate for (backend, _), rate in others.items() if backend == cell.row.backend]
        if cell.row.bandwidth_bytes_per_second is None or not others:
            return None
        efficiency = float(np.median(same or list(others.values())))
        return cell.work / (cell.row.bandwidth_bytes_per_second * efficiency)
