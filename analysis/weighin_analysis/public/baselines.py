"""What others predict with, on the same cells: a data sheet, one measured factor, a line through two runs.

They exist to be beaten: a predictor that does not beat them is not shipped.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

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


def nonnegative_line(question: Question) -> float:
    """Return seconds per token on the line through two runs; where its cost or slope is below 0, in proportion to both.

    In proportion is by least squares of relative errors. No step costs less than nothing and none is faster for more
    bytes, so a line that says so is noise: a stronger baseline than ``two_point_line``.
    """
    near, far = question.near, question.far
    assert far is not None
    slope = (far.seconds - near.seconds) / (far.work - near.work)
    if slope >= 0 and near.seconds >= slope * near.work:
        return near.seconds + slope * (question.cell.work - near.work)
    rates = near.work / near.seconds, far.work / far.seconds
    return question.cell.work * sum(rates) / sum(rate**2 for rate in rates)


def spec_sheet(cells: Sequence[Cell], questions: Sequence[Question]) -> Iterator[tuple[Question, float | None]]:
    """Yield each question with seconds per token by nominal bandwidth times the efficiency of its backend elsewhere.

    The efficiency of a device is its median of bytes read per second over nominal bandwidth; that of a backend is the
    median over devices, the predicted one left out; that of all backends where no other device has this one. None where
    no bandwidth is stated, or no other device has any.
    """
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for cell in cells:
        if cell.row.bandwidth_bytes_per_second is not None:
            share = cell.work / cell.seconds / cell.row.bandwidth_bytes_per_second
            found[cell.row.backend, cell.row.device].append(share)
    medians = {key: float(np.median(shares)) for key, shares in found.items()}
    for question in questions:
        row = question.cell.row
        others = [(backend, share) for (backend, device), share in medians.items() if device != row.device]
        same = [share for backend, share in others if backend == row.backend]
        if row.bandwidth_bytes_per_second is None or not others:
            yield question, None
        else:
            efficiency = float(np.median(same or [share for _, share in others]))
            yield question, question.cell.work / (row.bandwidth_bytes_per_second * efficiency)
