"""The text of docs/accuracy.md, from what was measured and judged. Pure: no clock, no file."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weighin_analysis.accuracy import Cell, IntervalCheck, PhaseErrors, Verification
from weighin_analysis.architecture import Architecture
from weighin_analysis.catalog import size_class_of
from weighin_analysis.measurement import Phase

_BASELINE_WORDS = {
    "weighin": "**weighin**, from its own layers",
    "two_parameter_fit": "line through small models, its own point left out",
    "two_parameter_fit_own_point": "the same line, fitted to the predicted model too",
    "bandwidth_roofline": "bandwidth roofline",
    "llmfit": "llmfit 3f44fd3",
    "whichllm": "whichllm a897551",
    "llm_checker": "llm-checker 238b0df",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Runs held against full models that ran later: each with the run before it, and with every run before it.

    ``clean`` is the first kind for runs that nothing disturbed. Minutes are from the end of a run to the full model.
    """

    runs: int
    clean_runs: int
    nearest: IntervalCheck
    clean: IntervalCheck | None
    every: IntervalCheck
    least_minutes: float
    most_minutes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that the page tells. ``surroundings`` are sentences; ``not_reached`` is what was planned in vain."""

    begin: str
    end: str
    command: str
    surroundings: Sequence[str]
    own_layers: Verification
    unseen: Verification
    intervals: Intervals | None
    baselines: Mapping[str, Mapping[Phase, Sequence[float]]]
    shapes: Mapping[str, Architecture]
    not_reached: Sequence[str]


def page(found: Findings) -> str:
    """Return the page as Markdown."""
    sections = [
        "# Accuracy",
        f"Written by `{found.command}`, {found.begin} to {found.end}; not by hand. Errors are of the predicted time "
        "against the full model, signed: negative is too fast. A cell is the median over loads of the prediction "
        "against the median over loads of the full model. Scatter, in brackets, is how far a second load of the same "
        "full model in the same process is from the first, by the same medians: no prediction can be better than that.",
        "\n".join(f"- {sentence}" for sentence in found.surroundings),
        "## In short",
        _summary(found),
        "## From its own layers",
        "Each model in turn with its own layer probe, in one process per load.",
        _cells_table(found.own_layers.cells, found.shapes),
        "## Shapes that were never seen",
        "Predicted from the layers of the suite's other shapes alone, timed before and after each load.",
        _cells_table(found.unseen.cells, found.shapes),
        "## Intervals",
        _intervals(found.intervals),
        "## Against simpler predictions",
        "Absolute errors on the decoders of the first table. The line is fitted for each scheme and length on the "
        "models up to 0.5B among them; the peers' formulas are those for a CPU, as published, and say nothing of a "
        "prefill.",
        _baselines(found),
        "## Not reached",
        "\n".join(f"- {sentence}" for sentence in found.not_reached) or "Everything planned was measured.",
    ]
    return "\n\n".join(sections) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:+.1%}" if sign else f"{value:.1%}"


def _summary(found: Findings) -> str:
    rows = [
        _summary_row(f"{what}, {phase}", errors)
        for what, one in (("own layers", found.own_layers), ("never seen", found.unseen))
        for phase, errors in (("decode", one.decode), ("prefill", one.prefill))
    ]
    header = ["what", "cells", "error: median", "allowed", "p90", "allowed", "scatter: median", "p90", "passed"]
    note = (
        "Judged are decode at all depths and prefill up to 128 tokens. Allowed is the aim, or 1.5 times the scatter "
        "where the scatter is larger than the aim."
    )
    return f"{_table(header, rows)}\n\n{note}"


def _summary_row(name: str, errors: PhaseErrors) -> list[str]:
    values = (
        errors.median_abs_error,
        errors.allowed_median,
        errors.p90_abs_error,
        errors.allowed_p90,
        errors.median_scatter,
        errors.p90_scatter,
    )
    verdict = {True: "yes", False: "**no**", None: "-"}[errors.passed]
    return [name, str(errors.cells), *(_percent(value) for value in values), verdict]


def _cells_table(cells: Sequence[Cell], shapes: Mapping[str, Architecture]) -> str:
    """One row per model and scheme, one column per phase and length."""
    if not cells:
        return "Nothing measured."
    points = sorted({_point(cell) for cell in cells})
    rows: defaultdict[tuple[str, str], dict[tuple[str, int], Cell]] = defaultdict(dict)
    for cell in cells:
        rows[cell.architecture, cell.scheme][_point(cell)] = cell
    header = ["class", "model", "scheme", "loads", *(_point_words(point) for point in points)]
    ordered = sorted(rows.items(), key=lambda row: (shapes[row[0][0]].parameter_count, row[0][1]))
    return _table(
        header,
        [
            [
                size_class_of(shapes[name].parameter_count).name,
                name,
                scheme,
                str(min(cell.loads for cell in found.values())),
                *(_cell_words(found.get(point)) for point in points),
            ]
            for (name, scheme), found in ordered
        ],
    )


def _point(cell: Cell) -> tuple[str, int]:
    return cell.phase, cell.context_depth if cell.phase is Phase.DECODE else cell.token_count


def _point_words(point: tuple[str, int]) -> str:
    phase, length = point
    return f"decode at {length}" if phase == Phase.DECODE else f"prefill {length}"


def _cell_words(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    return f"{_percent(cell.error, sign=True)} ({_percent(cell.scatter)})"


def _intervals(found: Intervals | None) -> str:
    if found is None:
        return "Nothing measured."
    rows = [
        _interval_row("each with the run before it", found.nearest),
        _interval_row("the same, clean runs alone", found.clean),
        _interval_row("each with every run before it", found.every),
    ]
    words = (
        f"Whole runs of the suite `standard` ({found.runs}, of which {found.clean_runs} clean), held against full "
        f"models that ran alone in processes of their own {found.least_minutes:.0f} to {found.most_minutes:.0f} "
        "minutes after the run before them. The intervals are meant to hold in 80 % of the cells."
    )
    table = _table(["later full models", "cells", "interval held", "median width, high / low"], rows)
    return f"{words}\n\n{table}"


def _interval_row(name: str, check: IntervalCheck | None) -> list[str]:
    if check is None:
        return [name, "0", "-", "-"]
    return [name, str(check.cells), f"{check.coverage:.1%}", f"{check.median_width:.2f}"]


def _baselines(found: Findings) -> str:
    rows = []
    for name, words in _BASELINE_WORDS.items():
        errors = found.baselines.get(name)
        if errors:
            rows.append([words, *(text for phase in (Phase.DECODE, Phase.PREFILL) for text in _spread(errors[phase]))])
    header = ["predictor", "decode: cells", "median", "p90", "prefill: cells", "median", "p90"]
    return _table(header, rows) if rows else "Nothing measured."


def _spread(errors: Sequence[float]) -> list[str]:
    if not errors:
        return ["0", "-", "-"]
    return [str(len(errors)), _percent(float(np.median(errors))), _percent(float(np.percentile(errors, 90)))]
