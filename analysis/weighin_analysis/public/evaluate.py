"""How well public rows are predicted from runs of the same device, beside the baselines on the same cells.

Whatever is fitted is fitted on the other devices only, its choice from a grid included: each row is predicted as a row
of a device that nobody has seen.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weighin_analysis.errors import PublicDataError
from weighin_analysis.measurement import Phase
from weighin_analysis.public.baselines import nonnegative_line, one_scalar, spec_sheet, two_point_line
from weighin_analysis.public.cells import Cell, Question, cells, from_one, from_two, other_runs
from weighin_analysis.public.fit import asked, best_law, interval_factor, tried, weighted_quantile
from weighin_analysis.public.predictors import SizeLaw, ln_times
from weighin_analysis.public.rows import PublicRow

TWO_ANCHORS, ONE_ANCHOR = "weighin_two_anchors", "weighin_one_anchor"
TWO_POINT_LINE, ONE_SCALAR, SPEC_SHEET = "two_point_line", "one_scalar", "spec_sheet"
# Stronger than what others do: the line where it can be one, and one factor from the nearest run instead of any.
NONNEGATIVE_LINE, NEAREST_SCALAR = "nonnegative_line", "nearest_scalar"
_Floats = NDArray[np.float64]
_BOOTSTRAP_SAMPLES = 1_000
# What a row belongs to, all of which is left out together when a row of it is predicted.
Fold = Callable[[Cell], str]


def by_device(cell: Cell) -> str:
    """Leave one device out."""
    return cell.row.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """One question answered: seconds per token; ``log_sd`` is None for a predictor that states no interval."""

    question: Question
    seconds: float
    log_sd: float | None = None

    @property
    def log_error(self) -> float:
        """ln(predicted / measured time)."""
        return math.log(self.seconds / self.question.cell.seconds)

    @property
    def absolute_percentage_error(self) -> float:
        """|predicted - measured| / measured tokens per second, a fraction."""
        return abs(self.question.cell.seconds / self.seconds - 1)

    @property
    def holds(self) -> bool | None:
        """Whether the measured time lies in the interval; None without one."""
        return None if self.log_sd is None else abs(self.log_error) <= interval_factor() * self.log_sd


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Errors of a predictor, as fractions of the measured tokens per second.

    ``rows`` are cells; a cell that is asked for with several runs in turn counts once. ``device_balanced_median_ape``
    is the median of the devices' medians. The last two are None for a predictor that states no interval; the width is
    (high - low) / predicted.
    """

    rows: int
    devices: int
    median_ape: float
    p90_ape: float
    device_balanced_median_ape: float
    interval_coverage: float | None
    median_interval_width: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonShare:
    """Of the variance of ln errors, the share that is one and the same on all devices, by target.

    ``low`` to ``high`` holds 95 % of bootstrap samples of targets; ``least_without_one`` and ``most_without_one`` are
    what it comes to where any one device is left out. ``targets`` are backend x model x quantization seen on two
    devices or more, ``rows`` the devices' means of these.
    """

    share: float
    low: float
    high: float
    least_without_one: float
    most_without_one: float
    targets: int
    rows: int
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All predictors on one set of cells, by name, best informed first; and what was left out of the file, and why.

    ``laws`` are those that were fitted, by the fold whose rows they predict and do not know.
    """

    phase: Phase
    hard: bool
    predicted: Mapping[str, Sequence[Predicted]]
    laws: Mapping[str, SizeLaw]
    left_out: Mapping[str, int]

    @property
    def scores(self) -> dict[str, Score]:
        """The score of each predictor."""
        return {name: score(answers) for name, answers in self.predicted.items()}


def evaluate(rows: Sequence[PublicRow], phase: Phase, *, hard: bool, fold: Fold = by_device) -> Evaluation:
    """Return how well the rows of a phase are predicted, all predictors on the same cells: those with two other runs.

    The spec sheet tells of decoding only, and is asked only where every cell states a bandwidth. PublicDataError where
    there are no such cells on two devices: then nothing can be fitted on another one.
    """
    found, left_out = cells(rows, phase, hard=hard)
    runs = other_runs(found)
    pairs = from_two(runs)
    answerable = {pair.cell for pair in pairs}
    if len({fold(pair.cell) for pair in pairs}) < 2:
        raise PublicDataError(
            "nothing to evaluate: this takes two devices with three models each on one runtime, backend and "
            f"quantization; usable {phase} rows: {len(found)}"
        )
    singles = from_one(runs)
    laws = _laws(pairs, singles, fold)
    two, one = _by_law(pairs, laws, fold), _by_law(singles, laws, fold)
    one = [answer for answer in one if answer.question.cell in answerable]
    predicted = {
        TWO_ANCHORS: two,
        ONE_ANCHOR: one,
        TWO_POINT_LINE: [Predicted(question=pair, seconds=two_point_line(pair)) for pair in pairs],
        NONNEGATIVE_LINE: [Predicted(question=pair, seconds=nonnegative_line(pair)) for pair in pairs],
        NEAREST_SCALAR: [Predicted(question=pair, seconds=one_scalar(pair)) for pair in pairs],
        ONE_SCALAR: [Predicted(question=ask.question, seconds=one_scalar(ask.question)) for ask in one],
    }
    sheet = [(pair, seconds) for pair, seconds in spec_sheet(found, pairs) if seconds is not None]
    if phase is Phase.DECODE and len(sheet) == len(pairs):
        predicted[SPEC_SHEET] = [Predicted(question=pair, seconds=seconds) for pair, seconds in sheet]
    counted = left_out + Counter({"with fewer than two other models beside them": len(found) - len(pairs)})
    return Evaluation(phase=phase, hard=hard, predicted=predicted, laws=laws, left_out=counted)


def _laws(pairs: Sequence[Question], singles: Sequence[Question], fold: Fold) -> dict[str, SizeLaw]:
    """Return for each fold that has pairs the law that was fitted on the other folds alone."""
    tries, alone = tried(pairs), asked(singles)
    of_pairs, of_singles = (np.array([fold(question.cell) for question in kind]) for kind in (pairs, singles))
    return {name: best_law(tries, alone, of_pairs != name, of_singles != name) for name in sorted(set(of_pairs))}


def _by_law(questions: Sequence[Question], laws: Mapping[str, SizeLaw], fold: Fold) -> list[Predicted]:
    """Answer the questions of all folds that have a law, each by that."""
    kept = [question for question in questions if fold(question.cell) in laws]
    one, names = asked(kept), np.array([fold(question.cell) for question in kept])
    means, variances = np.empty(len(kept)), np.empty(len(kept))
    for name, law in laws.items():
        chosen = names == name
        means[chosen], variances[chosen] = ln_times(law, one.work[chosen], one.near[chosen], one.far[chosen])
    return [
        Predicted(question=question, seconds=math.exp(mean), log_sd=math.sqrt(variance))
        for question, mean, variance in zip(kept, means, variances, strict=True)
    ]


def score(answers: Sequence[Predicted]) -> Score:
    """Return the errors of a predictor over its answers."""
    errors = np.array([answer.absolute_percentage_error for answer in answers])
    weights = np.array([answer.question.weight for answer in answers])
    devices = np.array([answer.question.cell.row.device for answer in answers])
    medians = [weighted_quantile(errors[devices == one], weights[devices == one], 0.5) for one in set(devices)]
    coverage, width = _interval(answers, weights)
    return Score(
        rows=len({answer.question.cell for answer in answers}),
        devices=len(medians),
        median_ape=weighted_quantile(errors, weights, 0.5),
        p90_ape=weighted_quantile(errors, weights, 0.9),
        device_balanced_median_ape=float(np.median(medians)),
        interval_coverage=coverage,
        median_interval_width=width,
    )


def _interval(answers: Sequence[Predicted], weights: NDArray[np.float64]) -> tuple[float | None, float | None]:
    sds = [answer.log_sd for answer in answers if answer.log_sd is not None]
    if not sds:
        return None, None
    width = weighted_quantile(2 * np.sinh(interval_factor() * np.array(sds)), weights, 0.5)
    return float(np.average([answer.holds is True for answer in answers], weights=weights)), width


def common_share(answers: Sequence[Predicted]) -> CommonShare | None:
    """Return the share of the ln error that all devices have in common; None where no target is seen on two devices.

    The intra-class correlation of one-way random effects (R. Fisher, Statistical Methods for Research Workers, 1925),
    over the mean ln error of each device at each target, about 0: a predictor is not granted its bias.
    """
    found: defaultdict[tuple[str, str, str], defaultdict[str, list[tuple[float, float]]]]
    found = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        cell = answer.question.cell
        found[cell.target][cell.row.device].append((answer.log_error, answer.question.weight))
    means = [{device: _mean(errors) for device, errors in devices.items()} for devices in found.values()]
    groups = _groups(means, without="")
    if not groups:
        return None
    devices = {device for one in means if len(one) > 1 for device in one}
    draws = np.random.default_rng(0).integers(0, len(groups), (_BOOTSTRAP_SAMPLES, len(groups)))
    low, high = np.quantile(_intra_class_correlations(groups, draws), [0.025, 0.975])
    fewer = [_groups(means, without=device) for device in devices]
    without_one = [_intra_class_correlation(some) for some in fewer if some]
    return CommonShare(
        share=_intra_class_correlation(groups),
        low=float(low),
        high=float(high),
        least_without_one=min(without_one, default=0.0),
        most_without_one=max(without_one, default=1.0),
        targets=len(groups),
        rows=sum(map(len, groups)),
        devices=len(devices),
    )


def _groups(means: Sequence[Mapping[str, float]], *, without: str) -> list[_Floats]:
    """Return the errors of each target that more than one device has seen, one device left out."""
    kept = [[error for device, error in devices.items() if device != without] for devices in means]
    return [np.array(errors) for errors in kept if len(errors) > 1]


def _mean(errors: Sequence[tuple[float, float]]) -> float:
    return sum(error * weight for error, weight in errors) / sum(weight for _, weight in errors)


def _intra_class_correlation(groups: Sequence[_Floats]) -> float:
    return float(_intra_class_correlations(groups, np.arange(len(groups))[None, :])[0])


def _intra_class_correlations(groups: Sequence[_Floats], draws: NDArray[np.intp]) -> _Floats:
    """Return for each line of drawn groups the variance that a group has in common over all of it, at least 0."""
    counts = np.array([len(group) for group in groups])[draws]
    squares = np.array([float(((group - group.mean()) ** 2).sum()) for group in groups])[draws]
    means = np.array([len(group) * float(group.mean()) ** 2 for group in groups])[draws]
    rows, number = counts.sum(axis=1), draws.shape[1]
    within = squares.sum(axis=1) / (rows - number)
    common = np.maximum(0.0, (means.sum(axis=1) / number - within) * number / rows)
    total: _Floats = common + within
    shares: _Floats = np.divide(common, total, out=np.zeros_like(total), where=total > 0)
    return shares
