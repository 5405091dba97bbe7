"""When a case is known well enough, and which case to run next in the time that is left. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from weighin_analysis.errors import EstimateError
from weighin_analysis.estimate import disturbed_round, known_times
from weighin_analysis.measurement import Measurement
from weighin_analysis.suite import Rounds

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How well a case is known: its rounds, those that others left alone, and the scatter that is left.

    ``sd`` is the standard deviation of the median of ln(time) over rounds, of the phase and length known worst among
    those that run in every round; None before anything is known.
    """

    round_count: int
    quiet_round_count: int
    sd: float | None


def progress_of(measurements: Sequence[Measurement], round_count: int) -> Progress:
    """Return how well the case of these measurements is known after so many rounds."""
    disturbed = {s.round for m in measurements for s in m.series if disturbed_round(s)}
    spreads = []
    for measurement in measurements:
        if len({series.round for series in measurement.series}) < round_count:
            continue
        try:
            spreads.append(known_times(measurement).rounds_sd)
        except EstimateError:
            continue
    return Progress(
        round_count=round_count, quiet_round_count=round_count - len(disturbed), sd=max(spreads, default=None)
    )


def wants_round(progress: Progress, rounds: Rounds) -> bool:
    """Return whether another round would tell something new.

    A round that others disturbed is kept, and one more is wanted for it.
    """
    if progress.round_count >= rounds.most_count:
        return False
    enough = progress.quiet_round_count >= rounds.least_count
    return not enough or progress.sd is None or progress.sd > rounds.target_sd


def share_done(progress: Progress, rounds: Rounds) -> float:
    """Return about which share of the rounds of a case is done, 0 to 1."""
    return progress.round_count / rounds.most_count if wants_round(progress, rounds) else 1.0


def next_case(open_cases: Mapping[_Key, tuple[Progress, float]], rounds: Rounds, seconds_left: float) -> _Key | None:
    """Return the case whose next round tells most, None where no round is wanted or fits into the time left.

    ``open_cases`` holds the progress of each case and the seconds that one of its rounds takes. The fewest quiet rounds
    come first, then the widest scatter.
    """
    fitting = {
        key: progress
        for key, (progress, seconds) in open_cases.items()
        if wants_round(progress, rounds) and seconds <= seconds_left
    }
    return min(fitting, key=lambda key: (fitting[key].quiet_round_count, -(fitting[key].sd or 1.0)), default=None)
