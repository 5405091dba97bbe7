"""How often the intervals of coverage hold: made fleets drawn from a population whose true shares are known.

    python tools/simulate_coverage.py          # the table of docs/coverage.md

A device has a true decode rate and a true time to first token, and belongs to one of three cells. A fleet is drawn from
the population, with unequal probability per cell where it is weighted afterwards. Every device runs once to three times
and the newest run counts. Each estimate is off by an error of the spread that it states, of which a part is common to
the whole fleet and to both phases. What comes out goes through the product's own `grade`, `reached` and `interval`.
"""

import argparse
import itertools
import math
import sys
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from weighin_analysis.card import Verdict
from weighin_analysis.fleet.coverage import COMMON_VARIANCE, interval, reached
from weighin_analysis.fleet.grade import VERDICTS, EstimateColumns, grade
from weighin_analysis.limits import current_limits

FloatArray = NDArray[np.float64]

FLEETS = 2000
COUNTS = (30, 100, 300, 1000)
SHARES = (0.05, 0.2, 0.5, 0.8, 0.95)
LOG_SDS = (0.12, 0.25, 0.5)
MOST_RUNS = 3
POPULATION = 200_000
# Share of the population, chance to be drawn into a fleet that is weighted, mean and spread of ln(speed).
CELLS = ((0.5, 0.2, -0.6, 0.7), (0.3, 0.3, 0.3, 0.6), (0.2, 0.5, 0.9, 0.8))
# Of devices of one speed, how far decode and prefill are from it.
PHASE_SD = 0.3
# Stated spreads differ between devices by these factors.
SPREAD_FACTORS = np.array([0.7, 1.0, 1.3])

_DEVICES_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is drawn: ``log_sd`` is the middle one of the stated spreads; ``share`` is the truth.

    ``true_common_variance`` is the part of the errors' variance that is common, which the product takes to be
    COMMON_VARIANCE; ``true_sd_factor`` how much larger errors are than their intervals state.
    ``phases_share`` tells that the common error of decode is also that of the first token.
    """

    device_count: int
    share: float
    log_sd: float
    weighted: bool
    true_common_variance: float = COMMON_VARIANCE
    true_sd_factor: float = 1.0
    phases_share: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How often the interval held the true share, how wide it was, and how far the value was off, all as means."""

    held: float
    width: float
    bias: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Population:
    cell: NDArray[np.int64]
    decode: FloatArray
    first: FloatArray
    shares: FloatArray


@cache
def _population() -> _Population:
    """Return the population, by cell; speeds are ln of multiples of the limits."""
    random = np.random.default_rng(20260301)
    counts = [round(share * POPULATION) for share, *_ in CELLS]
    cell = np.repeat(np.arange(len(CELLS)), counts)
    mean, sd = (np.array([one[column] for one in CELLS])[cell] for column in (2, 3))
    speed = mean + sd * random.standard_normal(len(cell))
    decode, first = (speed + PHASE_SD * random.standard_normal(len(cell)) for _ in range(2))
    return _Population(cell=cell, decode=decode, first=first, shares=np.array(counts) / sum(counts))


def simulate(scenario: Scenario, *, fleets: int = FLEETS, seed: int = 1) -> Outcome:
    """Draw fleets and hold the interval of each against the truth."""
    random = np.random.default_rng([seed, round(1000 * scenario.share), scenario.device_count, scenario.weighted])
    # Moving every device by as much makes any share the true one.
    both = np.minimum(_population().decode, _population().first)
    shift = float(np.quantile(both, 1 - scenario.share))
    truth = float((both > shift).mean())
    at_once = max(1, _DEVICES_AT_ONCE // scenario.device_count)
    parts = [_shares(random, scenario, shift, min(at_once, fleets - done)) for done in range(0, fleets, at_once)]
    value, low, high = (np.concatenate(part) for part in zip(*parts, strict=True))
    held = (low <= truth) & (truth <= high)
    return Outcome(held=float(held.mean()), width=float((high - low).mean()), bias=float((value - truth).mean()))


def _shares(
    random: np.random.Generator, scenario: Scenario, shift: float, fleets: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return value, low and high of the share of every fleet."""
    population = _population()
    cell = _drawn_cells(random, scenario, fleets)
    starts = np.searchsorted(population.cell, np.arange(len(CELLS) + 1))
    device = starts[cell] + (random.random(cell.shape) * np.diff(starts)[cell]).astype(np.int64)
    log_sd = scenario.log_sd * SPREAD_FACTORS[random.integers(len(SPREAD_FACTORS), size=cell.shape)]
    common = (
        [random.standard_normal((fleets, 1))] * 2 if scenario.phases_share else random.standard_normal((2, fleets, 1))
    )
    decode, first = (
        (speeds[device] - shift + _errors(random, scenario, log_sd, one)).ravel()
        for speeds, one in zip((population.decode, population.first), common, strict=True)
    )
    added = reached(*_graded(decode, first, log_sd.ravel()))
    cells = cell if scenario.weighted else np.zeros_like(cell)
    shares = population.shares if scenario.weighted else np.ones(1)
    index = (np.arange(fleets)[:, None] * len(shares) + cells).ravel()

    def sums(values: FloatArray) -> FloatArray:
        return np.bincount(index, weights=values, minlength=fleets * len(shares)).reshape(fleets, -1).astype(np.float64)

    counts = sums(np.ones(len(index)))
    means = [sums(values) / np.maximum(counts, 1) for values in (
        added.point, added.unbiased, added.unbiased**2, added.worse, added.better)]  # fmt: skip
    return interval(counts, shares, *means)


def _drawn_cells(random: np.random.Generator, scenario: Scenario, fleets: int) -> NDArray[np.int64]:
    chances = [one[1] if scenario.weighted else one[0] for one in CELLS]
    return random.choice(len(CELLS), p=chances, size=(fleets, scenario.device_count))


def _errors(random: np.random.Generator, scenario: Scenario, log_sd: FloatArray, common: FloatArray) -> FloatArray:
    """Return the error of every device's newest run: its own part of that run, and the part common to the fleet."""
    runs = random.standard_normal((MOST_RUNS, *log_sd.shape))
    newest = random.integers(MOST_RUNS, size=log_sd.shape)
    own = np.take_along_axis(runs, newest[None], axis=0)[0]
    part = scenario.true_common_variance
    return np.asarray(scenario.true_sd_factor * log_sd * (math.sqrt(part) * common + math.sqrt(1 - part) * own))


def _graded(decode: FloatArray, first: FloatArray, log_sd: FloatArray) -> tuple[NDArray[np.bool_], FloatArray]:
    """Return which estimates are comfortable and with what probability; speeds are ln of multiples of the limits."""
    limits = current_limits()
    comfortable = limits.decoder_comfortable
    absent = np.full(len(decode), np.nan)
    grades = grade(
        EstimateColumns(
            is_decoder=np.ones(len(decode), dtype=np.bool_),
            decode_tokens_per_second=comfortable.decode_tokens_per_second * np.exp(decode),
            decode_tokens_per_second_log_sd=log_sd,
            time_to_first_token_seconds=comfortable.time_to_first_token_seconds * np.exp(-first),
            time_to_first_token_seconds_log_sd=log_sd,
            latency_seconds=absent,
            latency_seconds_log_sd=absent,
            memory_bytes=np.ones(len(decode)),
            memory_available_bytes=absent,
            stopped=np.zeros(len(decode), dtype=np.bool_),
        ),
        limits,
    )
    return grades.verdict == VERDICTS.index(Verdict.COMFORTABLE), grades.comfortable_probability


def wrong() -> dict[str, Scenario]:
    """Return what happens where an assumption is wrong, by its name."""
    base = Scenario(device_count=100, share=0.5, log_sd=0.25, weighted=False)
    return {
        "no error is common": replace(base, true_common_variance=0.0),
        "a quarter of the variance is common": replace(base, true_common_variance=0.25),
        "what is common differs between phases": replace(base, phases_share=False),
        "errors are 1.5 times what is stated": replace(base, true_sd_factor=1.5),
    }


def table(fleets: int) -> list[str]:
    """Return the tables in Markdown."""
    shares = " | ".join(f"{share:.0%}" for share in SHARES)
    lines = [f"| weights | ln-sd | devices | {shares} |", "|---|---|---|" + "---|" * len(SHARES)]
    for weighted, log_sd, count in itertools.product((False, True), LOG_SDS, COUNTS):
        one = Scenario(device_count=count, share=0.5, log_sd=log_sd, weighted=weighted)
        lines.append(f"| {'yes' if weighted else 'no'} | {log_sd} | {count} | {_cells(one, fleets)} |")
    lines += ["", f"| what is wrong | devices | {shares} |", "|---|---|" + "---|" * len(SHARES)]
    for (name, one), count in itertools.product(wrong().items(), (100, 1000)):
        lines.append(f"| {name} | {count} | {_cells(replace(one, device_count=count), fleets)} |")
    return lines


def _cells(scenario: Scenario, fleets: int) -> str:
    """Return how often the interval holds and how wide it is, in percent, for every true share."""
    outcomes = [simulate(replace(scenario, share=share), fleets=fleets) for share in SHARES]
    return " | ".join(f"{100 * one.held:.1f} ({100 * one.width:.0f})" for one in outcomes)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Print how often the intervals of coverage hold the true share.")
    parser.add_argument("--fleets", type=int, default=FLEETS)
    print("\n".join(table(parser.parse_args().fleets)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
