"""`weighin-analysis evaluate`: how well runs of a device predict its other rows, on other people's measurements."""

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weighin_analysis.measurement import Phase
from weighin_analysis.public.evaluate import (
    NEAREST_SCALAR,
    ONE_ANCHOR,
    ONE_SCALAR,
    SPEC_SHEET,
    TWO_ANCHORS,
    TWO_POINT_LINE,
    CommonShare,
    Evaluation,
    Score,
    common_share,
    score,
)
from weighin_analysis.public.evaluate import evaluate as evaluate_rows
from weighin_analysis.public.rows import read_rows

EXAMPLE = "weighin-analysis evaluate throughput.csv --phase prefill"
_HEADINGS = "predictor            from          rows devices  median     p90 by device 80 % holds  width"
# What a row is predicted from: other than these, the nearest two.
_FROM = {
    ONE_ANCHOR: "each in turn",
    ONE_SCALAR: "each in turn",
    NEAREST_SCALAR: "nearest one",
    SPEC_SHEET: "no run",
}
_NEAR = 1.1
_FAMILIES = ((TWO_ANCHORS, TWO_POINT_LINE, "From two runs of a device"), (ONE_ANCHOR, ONE_SCALAR, "From any one run"))


def evaluate(options: argparse.Namespace) -> tuple[str, int]:
    """Return what to print, and 0. PublicDataError for a file that cannot be read, or that says too little."""
    found = evaluate_rows(read_rows(options.throughput), Phase(options.phase), hard=options.all)
    return (json.dumps(document(found), indent=2) if options.json else "\n".join(_lines(found))), 0


def document(found: Evaluation) -> dict[str, Any]:
    """Return what `evaluate --json` prints; errors, coverage and widths are fractions, null where there is none."""
    shares = {name: common_share(found.predicted[name]) for name in (TWO_ANCHORS, ONE_ANCHOR)}
    return {
        "phase": found.phase,
        "subset": "all" if found.hard else "easy",
        "predictors": {name: dataclasses.asdict(score) for name, score in found.scores.items()},
        "common_share": {name: dataclasses.asdict(share) if share else None for name, share in shares.items()},
        "left_out": dict(found.left_out),
    }


def _lines(found: Evaluation) -> Iterator[str]:
    scores = found.scores
    rows = next(iter(scores.values())).rows
    subset = "all dense models" if found.hard else "the easy subset"
    yield f"{found.phase}, {subset}: {rows} rows, each predicted as if its device had never been seen"
    yield ""
    yield from _table(scores)
    yield ""
    for name, baseline, words in _FAMILIES:
        yield _meaning(words, scores[name], scores[baseline])
    yield from _far_off(found)
    for name, _, words in _FAMILIES:
        if share := common_share(found.predicted[name]):
            yield f"{words}, {_in_common(share)}"
    yield f"Rows left out: {', '.join(f'{count} {reason}' for reason, count in found.left_out.items() if count)}."


def _table(scores: dict[str, Score]) -> Iterator[str]:
    yield _HEADINGS
    for name, one in scores.items():
        interval = one.interval_coverage, one.median_interval_width
        holds, width = ("-" if value is None else f"{value:.1%}" for value in interval)
        errors = f"{one.median_ape:>7.1%} {one.p90_ape:>7.1%} {one.device_balanced_median_ape:>9.1%}"
        asked = f"{_FROM.get(name, 'nearest two'):<12} {one.rows:>5} {one.devices:>7}"
        yield f"{name:<20} {asked} {errors} {holds:>10} {width:>6}"


def _meaning(words: str, ours: Score, baseline: Score) -> str:
    return (
        f"{words}, the rate of another model is off by at most {ours.median_ape:.1%} in half of the rows and by "
        f"{ours.p90_ape:.0%} in nine of ten; the baseline from the same by {baseline.median_ape:.1%} and "
        f"{baseline.p90_ape:.0%}."
    )


def _far_off(found: Evaluation) -> Iterator[str]:
    """Say what is left where no run is nearly of the size: tables hold many of one size, a device of two runs none."""
    names = (TWO_ANCHORS, TWO_POINT_LINE)
    asked = [[one for one in found.predicted[name] if one.question.distance > math.log(_NEAR)] for name in names]
    if all(asked):
        two, line = map(score, asked)
        yield (
            f"Where no run is within {_NEAR - 1:.0%} of its size ({two.rows} rows), from two runs by "
            f"{two.median_ape:.1%} and {two.p90_ape:.0%}; the baseline by {line.median_ape:.1%} and {line.p90_ape:.0%}."
        )


def _in_common(share: CommonShare) -> str:
    sample = f"{share.low:.0%}-{share.high:.0%}"
    fewer = f"{share.least_without_one:.0%}-{share.most_without_one:.0%}"
    return (
        f"{share.share:.0%} of the error's variance is common to all devices ({sample}; {fewer} without any one "
        f"device): {share.targets} models on one backend and quantization, {share.devices} devices."
    )


def add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command with its arguments."""
    parser = commands.add_parser(
        "evaluate",
        help="how well other people's measurements are predicted",
        description="Predict every row of a throughput table from other runs of its device, beside the baselines.",
        epilog=f"example: {EXAMPLE}",
    )
    parser.add_argument("throughput", type=Path, metavar="THROUGHPUT.csv", help="table of published rates")
    parser.add_argument("--all", action="store_true", help="with hybrid models and schemes of 2 and 3 bits")
    phases = [phase.value for phase in (Phase.DECODE, Phase.PREFILL)]
    parser.add_argument("--phase", choices=phases, default=Phase.DECODE.value, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser
