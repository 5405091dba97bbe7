"""How often the intervals of coverage hold: made fleets drawn from a population whose true shares are known.

    python tools/simulate_coverage.py          # the tables of docs/coverage.md

A device has a true decode rate and a true time to first token in every scheme, and belongs to one of three cells. A
fleet is drawn from the population, with unequal probability per cell where it is weighted afterwards. A device runs
once to three times, a slow one more often; its newest run counts, in the scheme that is best by its estimates. Each
estimate is off by an error of the spread that it states, of which a part is common to the whole fleet, to its schemes
and to both phases. What comes out goes through the product's own `grade`, `reached` and `share_of`; a test holds the
share of such a fleet against that of a snapshot with the same runs.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from weighin_analysis.fleet.coverage.shares import COMMON_VARIANCE, BoolArray, Cells, FloatArray, reached, share_of
from weighin_analysis.fleet.coverage.values import Share
from weighin_analysis.fleet.grading.grade import EstimateColumns, grade
from weighin_analysis.limits import current_limits

IntArray = NDArray[np.int64]

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
# Of every scheme, what it adds to ln(decode) and to ln(speed of the prompt).
SCHEMES = np.array([(0.0, 0.0), (0.25, -0.2), (-0.4, 0.3), (-0.15, 0.1)])

_DEVICES_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is drawn: ``log_sd`` is the middle one of the stated spreads; ``share`` is the truth.

    ``true_common_variance`` is the part of the errors' variance that is common, which the product takes to be
    COMMON_VARIANCE; ``true_sd_factor`` how much larger errors are than their intervals state. ``phases_share`` tells
    that the common error of decode is also that of the first token; ``counts_runs`` is the mistake to count every run
    of a device.
    """

    device_count: int
    share: float
    log_sd: float
    weighted: bool
    scheme_count: int = 2
    true_common_variance: float = COMMON_VARIANCE
    true_sd_factor: float = 1.0
    phases_share: bool = True
    counts_runs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How often the interval held the true share, how wide it was, and how far the value was off, all as means."""

    held: float
    width: float
    bias: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The runs of one or more fleets, by fleet, device and time.

    ``decode`` and ``first`` are what was estimated, a column per scheme: ln of how many times over the limit is kept.
    """

    fleet: IntArray
    cell: IntArray
    newest: BoolArray
    decode: FloatArray
    first: FloatArray
    log_sd: FloatArray

    def among(self, chosen: BoolArray) -> "Runs":
        """Return some of the runs."""
        return Runs(**{name: getattr(self, name)[chosen] for name in Runs.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Population:
    cell: IntArray
    decode: FloatArray
    first: FloatArray
    shares: FloatArray


@cache
def population() -> _Population:
    """Return the population, by cell; speeds are ln of multiples of the limits in the first scheme."""
    random = np.random.default_rng(20260301)
    counts = [round(share * POPULATION) for share, *_ in CELLS]
    cell = np.repeat(np.arange(len(CELLS)), counts)
    mean, sd = (np.array([one[column] for one in CELLS])[cell] for column in (2, 3))
    speed = mean + sd * random.standard_normal(len(cell))
    decode, first = (speed + PHASE_SD * random.standard_normal(len(cell)) for _ in range(2))
    return _Population(cell=cell, decode=decode, first=first, shares=np.array(counts) / sum(counts))


@cache
def _reach(scheme_count: int) -> FloatArray:
    """Return how far every device of the population keeps both limits in its best scheme, sorted."""
    everybody = population()
    by_scheme = [np.minimum(everybody.decode + one, everybody.first + other) for one, other in SCHEMES[:scheme_count]]
    return np.sort(np.max(by_scheme, axis=0))


def simulate(scenario: Scenario, *, fleets: int = FLEETS, seed: int = 1) -> Outcome:
    """Draw fleets and hold the interval of each against the truth."""
    random = np.random.default_rng([seed, round(1000 * scenario.share), scenario.device_count, scenario.weighted])
    at_once = max(1, _DEVICES_AT_ONCE // scenario.device_count)
    counts = [min(at_once, fleets - done) for done in range(0, fleets, at_once)]
    found = [share for count in counts for share in shares(draw(random, scenario, count), scenario)]
    value, low, high = (np.array([getattr(one, name) for one in found]) for name in ("value", "low", "high"))
    held = (low <= scenario.share) & (scenario.share <= high)
    return Outcome(
        held=float(held.mean()), width=float((high - low).mean()), bias=float((value - scenario.share).mean())
    )


def draw(random: np.random.Generator, scenario: Scenario, fleets: int) -> Runs:
    """Return the runs of fleets that are drawn from the population."""
    everybody, device_count = population(), fleets * scenario.device_count
    chances = [one[1] if scenario.weighted else one[0] for one in CELLS]
    cell = random.choice(len(CELLS), p=chances, size=device_count)
    starts = np.searchsorted(everybody.cell, np.arange(len(CELLS) + 1))
    device = starts[cell] + (random.random(device_count) * np.diff(starts)[cell]).astype(np.int64)
    slowness = 1 / (1 + np.exp(everybody.decode[device] + everybody.first[device]))
    run_counts = 1 + random.binomial(MOST_RUNS - 1, slowness)
    of_run = np.repeat(np.arange(device_count), run_counts)
    newest = np.zeros(len(of_run), dtype=np.bool_)
    newest[run_counts.cumsum() - 1] = True
    fleet = of_run // scenario.device_count
    log_sd = scenario.log_sd * SPREAD_FACTORS[random.integers(len(SPREAD_FACTORS), size=device_count)][of_run]
    # Moving every device by as much makes any share the true one.
    moved = SCHEMES[: scenario.scheme_count] - _reach(scenario.scheme_count)[round((1 - scenario.share) * POPULATION)]
    common = random.standard_normal((2, fleets))
    decode, first = (
        speed[device][of_run, None] + added + _errors(random, scenario, log_sd, one[fleet])
        for speed, added, one in zip(
            (everybody.decode, everybody.first), moved.T, common[[0, 0 if scenario.phases_share else 1]], strict=True
        )
    )
    return Runs(fleet=fleet, cell=cell[of_run], newest=newest, decode=decode, first=first, log_sd=log_sd)


def _errors(random: np.random.Generator, scenario: Scenario, log_sd: FloatArray, common: FloatArray) -> FloatArray:
    """Return the error of every run in every scheme: its own part, and the part common to the fleet."""
    own = random.standard_normal((len(log_sd), scenario.scheme_count))
    part = scenario.true_common_variance
    error = math.sqrt(part) * common[:, None] + math.sqrt(1 - part) * own
    return np.asarray(scenario.true_sd_factor * log_sd[:, None] * error)


def shares(runs: Runs, scenario: Scenario) -> Iterator[Share]:
    """Yield the share of every fleet that is comfortable in its best scheme."""
    counted = runs if scenario.counts_runs else runs.among(runs.newest)
    margin_sds, probability = _graded(counted)
    borders = np.flatnonzero(np.diff(counted.fleet)) + 1
    for cell, margins, chances in zip(
        *(np.split(one, borders) for one in (counted.cell, margin_sds, probability)), strict=True
    ):
        cells = Cells(cell=cell, shares=population().shares) if scenario.weighted else Cells.one(len(cell))
        share = share_of(reached(margins, chances), cells)
        assert share is not None  # there is a device
        yield share


def _graded(runs: Runs) -> tuple[FloatArray, FloatArray]:
    """Return margin and probability of every run in its best scheme."""
    decode, first = speeds(runs)
    count, scheme_count = decode.shape
    absent = np.full(decode.size, np.nan)
    log_sd = np.repeat(runs.log_sd, scheme_count)
    grades = grade(
        EstimateColumns(
            is_decoder=np.ones(decode.size, dtype=np.bool_),
            decode_tokens_per_second=decode.ravel(),
            decode_tokens_per_second_log_sd=log_sd,
            time_to_first_token_seconds=first.ravel(),
            time_to_first_token_seconds_log_sd=log_sd,
            latency_seconds=absent,
            latency_seconds_log_sd=absent,
            memory_bytes=np.ones(decode.size),
            memory_available_bytes=absent,
            stopped=np.zeros(decode.size, dtype=np.bool_),
        ),
        current_limits(),
    )
    margin_sds, probability = (
        one.reshape(count, scheme_count).max(axis=1)
        for one in (grades.comfortable_margin_sds, grades.comfortable_probability)
    )
    return margin_sds, probability


def speeds(runs: Runs) -> tuple[FloatArray, FloatArray]:
    """Return the estimated decode rates in tokens/s and times to first token in seconds."""
    limit = current_limits().decoder_comfortable
    return (
        limit.decode_tokens_per_second * np.exp(runs.decode),
        limit.time_to_first_token_seconds * np.exp(-runs.first),
    )


def variants() -> dict[str, Scenario]:
    """Return what else may be so, or is wrong, by its name."""
    base = Scenario(device_count=300, share=0.5, log_sd=0.25, weighted=False)
    return {
        "all as assumed": base,
        "one scheme": replace(base, scheme_count=1),
        "the best of four schemes": replace(base, scheme_count=4),
        "no error is common": replace(base, true_common_variance=0.0),
        "a quarter of the variance is common": replace(base, true_common_variance=0.25),
        "three quarters of the variance are common": replace(base, true_common_variance=0.75),
        "all of the variance is common": replace(base, true_common_variance=1.0),
        "what is common differs between phases": replace(base, phases_share=False),
        "errors are 1.5 times what is stated": replace(base, true_sd_factor=1.5),
        "mistake: every run counts, not every device": replace(base, counts_runs=True),
    }


def table(fleets: int) -> Iterator[str]:
    """Yield the lines of the tables in Markdown."""
    heads = " | ".join(f"{share:.0%}" for share in SHARES)
    yield f"| weights | ln-sd | devices | {heads} |"
    yield "|---|---|---|" + "---|" * len(SHARES)
    for weighted, log_sd, count in itertools.product((False, True), LOG_SDS, COUNTS):
        one = Scenario(device_count=count, share=0.5, log_sd=log_sd, weighted=weighted)
        yield f"| {'yes' if weighted else 'no'} | {log_sd} | {count} | {_cells(one, fleets)} |"
    yield ""
    yield f"| what is otherwise | {heads} |"
    yield "|---|" + "---|" * len(SHARES)
    for name, one in variants().items():
        yield f"| {name} | {_cells(one, fleets, bias=True)} |"


def _cells(scenario: Scenario, fleets: int, *, bias: bool = False) -> str:
    """Return how often the interval holds, its width or how far the value is off, in percent, for every true share."""
    outcomes = [simulate(replace(scenario, share=share), fleets=fleets) for share in SHARES]
    return " | ".join(
        f"{100 * one.held:.1f} ({100 * one.bias:+.1f})" if bias else f"{100 * one.held:.1f} ({100 * one.width:.0f})"
        for one in outcomes
    )


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Print how often the intervals of coverage hold the true share.")
    parser.add_argument("--fleets", type=int, default=FLEETS)
    for line in table(parser.parse_args().fleets):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
