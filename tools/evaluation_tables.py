"""Print the tables of docs/evaluate.md that `evaluate` does not: `python tools/evaluation_tables.py`."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weighin_analysis.measurement import Phase
from weighin_analysis.public.cells import Cell, Question
from weighin_analysis.public.evaluate import (
    NEAREST_SCALAR,
    NONNEGATIVE_LINE,
    ONE_ANCHOR,
    TWO_ANCHORS,
    TWO_POINT_LINE,
    Evaluation,
    Predicted,
    by_device,
    evaluate,
    score,
)
from weighin_analysis.public.rows import PublicRow, read_rows

ROWS_FILE = Path(__file__).parents[1] / "tests" / "data" / "throughput.csv"

AT_LEAST_BETTER = 0.15
INTERVAL_HOLDS = 0.72, 0.88
TWO_PHONES = {"Galaxy S23 (SD 8 Gen 2)", "Xiaomi-POCO myron (SD 8 Elite Gen 5)"}
_SAMPLES, _HALVINGS = 1_000, 10
_DISTANCES = (1.0, 1.01, 1.05, 1.1, 1.5, math.inf)
_FEW = 9  # rows, of which a share says something

# What a sample of devices is judged by: gain in median and p90, and how often the intervals from two and from one hold.
Verdict = tuple[float, float, float, float]
_JUDGED = (
    "gain over the line, median",
    "gain over the line, p90",
    "interval from two holds",
    "interval from one holds",
)


def decode(rows: Sequence[PublicRow], fold: Callable[[Cell], str] = by_device) -> Evaluation:
    """Return the evaluation that all tables are of: decode, the easy subset."""
    return evaluate(rows, Phase.DECODE, hard=False, fold=fold)


def verdict(found: Evaluation, keep: Callable[[Question], bool] = lambda _: True) -> Verdict:
    """Return how two anchors do beside the line through them, on the questions to keep, and how the intervals hold."""
    two, line, one = (
        score([answer for answer in found.predicted[name] if keep(answer.question)])
        for name in (TWO_ANCHORS, TWO_POINT_LINE, ONE_ANCHOR)
    )
    assert two.interval_coverage is not None
    assert one.interval_coverage is not None
    gains = 1 - two.median_ape / line.median_ape, 1 - two.p90_ape / line.p90_ape
    return *gains, two.interval_coverage, one.interval_coverage


def resampled(found: Evaluation, samples: int = _SAMPLES) -> NDArray[np.float64]:
    """Return a verdict per bootstrap sample of devices (B. Efron, Annals of Statistics 7, 1979), a line each."""
    names = (TWO_ANCHORS, TWO_POINT_LINE, ONE_ANCHOR)
    devices = sorted({answer.question.cell.row.device for answer in found.predicted[TWO_ANCHORS]})
    parts = {name: [_by_device(found.predicted[name], device) for device in devices] for name in names}
    draws = np.random.default_rng(0).integers(0, len(devices), (samples, len(devices)))
    lines = []
    for drawn in draws:
        two, line, one = (np.concatenate([parts[name][i] for i in drawn], axis=1) for name in names)
        gains = [1 - np.quantile(two[0], share) / np.quantile(line[0], share) for share in (0.5, 0.9)]
        lines.append((*gains, *(np.average(some[1], weights=some[2]) for some in (two, one))))
    return np.array(lines)


def _by_device(answers: Sequence[Predicted], device: str) -> NDArray[np.float64]:
    """Return errors, whether the interval holds, and weights of a device's answers."""
    own = [answer for answer in answers if answer.question.cell.row.device == device]
    return np.array([(one.absolute_percentage_error, one.holds or False, one.question.weight) for one in own]).T


def halves(rows: Sequence[PublicRow]) -> NDArray[np.float64]:
    """Return a verdict per half of the devices that are predicted, each fitted on the other half and scored alone."""
    devices = sorted({answer.question.cell.row.device for answer in decode(rows).predicted[TWO_ANCHORS]})
    lines = []
    for seed in range(_HALVINGS):
        half = set(np.random.default_rng(seed).permutation(devices)[: len(devices) // 2])
        found = decode(rows, partial(_side, half))
        lines += [verdict(found, partial(_is_in, half, name)) for name in ("True", "False")]
    return np.array(lines)


def _side(half: set[str], cell: Cell) -> str:
    return str(cell.row.device in half)


def _is_in(half: set[str], name: str, question: Question) -> bool:
    return _side(half, question.cell) == name


def enough(verdicts: NDArray[np.float64]) -> list[float]:
    """Return the share of verdicts that reach what is asked: 15 % better, and 72 to 88 % within the interval."""
    low, high = INTERVAL_HOLDS
    reached = [verdicts[:, i] >= AT_LEAST_BETTER for i in (0, 1)]
    return [
        float(share.mean())
        for share in (*reached, *((low <= verdicts[:, i]) & (verdicts[:, i] <= high) for i in (2, 3)))
    ]


def _chances(found: Evaluation, rows: Sequence[PublicRow]) -> Iterator[str]:
    drawn, by_halves = resampled(found), halves(rows)
    sampled = f"{_SAMPLES:,} samples of devices: 95 % lie in"
    yield f"| | {sampled} | enough in | {len(by_halves)} halves lie in | enough in |"
    yield "|---|---|---|---|---|"
    columns = zip(_JUDGED, drawn.T, enough(drawn), by_halves.T, enough(by_halves), strict=True)
    for words, values, share, of_halves, share_of_halves in columns:
        low, high = np.quantile(values, [0.025, 0.975])
        halves_say = f"{of_halves.min():.0%} to {of_halves.max():.0%} | {share_of_halves:.0%}"
        yield f"| {words} | {low:.0%} to {high:.0%} | {share:.0%} | {halves_say} |"


def as_stated(row: PublicRow) -> PublicRow:
    """Return a row under a scheme that nobody can count, so that the size that it states is taken, and its context."""
    return replace(row, quantization=row.quantization.replace(" ", "_") + "_stated", test="")


def _variants(rows: Sequence[PublicRow]) -> Iterator[tuple[str, Evaluation]]:
    yield "each device left out", decode(rows)
    yield "each runtime", decode(rows, lambda cell: cell.row.runtime)
    yield "each backend", decode(rows, lambda cell: cell.row.backend)
    yield "each source", decode(rows, lambda cell: cell.row.source)
    yield "without the two phones", decode([row for row in rows if row.device not in TWO_PHONES])
    yield "without any phone", decode([row for row in rows if row.device_class != "phone"])
    yield "size and context as the rows state them", decode([as_stated(row) for row in rows])


def _left_out(rows: Sequence[PublicRow]) -> Iterator[str]:
    errors_of = "two anchors | by device | line | by device"
    yield f"| fitted and predicted | rows | devices | {errors_of} | gain | intervals from two, one |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for words, found in _variants(rows):
        two, line = found.scores[TWO_ANCHORS], found.scores[TWO_POINT_LINE]
        errors = " | ".join(
            f"{one.median_ape:.1%}, {one.p90_ape:.0%} | {one.device_balanced_median_ape:.1%}" for one in (two, line)
        )
        median, p90, of_two, of_one = verdict(found)
        shares = f"{median:.0%}, {p90:.0%} | {of_two:.0%}, {of_one:.0%}"
        yield f"| {words} | {two.rows} | {two.devices} | {errors} | {shares} |"


def _by_distance(found: Evaluation) -> Iterator[str]:
    names = (TWO_ANCHORS, TWO_POINT_LINE, NONNEGATIVE_LINE, NEAREST_SCALAR)
    yield f"| nearest run | rows | {' | '.join(names)} | interval from two | interval from one (questions) |"
    yield "|---|---|---|---|---|---|---|---|"
    spans = [*pairwise(_DISTANCES), (1.1, math.inf)]
    for low, high in spans:
        asked = {
            name: [one for one in found.predicted[name] if _within(one, low, high)] for name in (*names, ONE_ANCHOR)
        }
        scores = {name: score(answers) for name, answers in asked.items()}
        errors = " | ".join(f"{scores[name].median_ape:.1%}, {scores[name].p90_ape:.0%}" for name in names)
        holds = f"{scores[TWO_ANCHORS].interval_coverage:.0%} | {scores[ONE_ANCHOR].interval_coverage:.0%}"
        count = f"({len(asked[ONE_ANCHOR]):,})"
        yield f"| {_span(low, high)} | {len(asked[TWO_ANCHORS])} | {errors} | {holds} {count} |"


def _within(answer: Predicted, low: float, high: float) -> bool:
    # A run of exactly the same size belongs to the first span.
    return (low if low > 1 else 0) < math.exp(answer.question.distance) <= high


def _span(low: float, high: float) -> str:
    names = {1.01: "1 %", 1.05: "5 %", 1.1: "10 %", 1.5: "a factor of 1.5"}
    return f"within {names[high]}" if high < math.inf else f"all beyond {names[low]}"


def _by_backend(found: Evaluation) -> Iterator[str]:
    yield "| backend | rows | devices | median, p90 | interval from two | interval from one |"
    yield "|---|---|---|---|---|---|"
    backends = {one.question.cell.row.backend for one in found.predicted[TWO_ANCHORS]}
    scores = {
        backend: [
            score([one for one in found.predicted[name] if one.question.cell.row.backend == backend])
            for name in (TWO_ANCHORS, ONE_ANCHOR)
        ]
        for backend in backends
    }
    for backend, (two, one) in sorted(scores.items(), key=lambda item: (-item[1][0].rows, item[0])):
        if two.rows > _FEW:
            errors, holds = f"{two.median_ape:.1%}, {two.p90_ape:.0%}", f"{two.interval_coverage:.0%}"
            yield f"| {backend} | {two.rows} | {two.devices} | {errors} | {holds} | {one.interval_coverage:.0%} |"


def tables(rows: Sequence[PublicRow]) -> Iterator[str]:
    """Yield the lines of all tables."""
    found = decode(rows)
    for table in (_by_distance(found), _by_backend(found), _left_out(rows), _chances(found, rows)):
        yield from table
        yield ""


if __name__ == "__main__":
    print("\n".join(tables(read_rows(ROWS_FILE))))
