"""Running the cases of a suite within a time limit: each once through, then more rounds where they tell most.

Noise is slow: bursts of half a second, and a level that moves over minutes. So cases stay loaded, as far as memory
allows, and their later rounds are spread over the rest of the time, in turn with those of all others.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from weighin_agent.bench.job import Job
from weighin_agent.bench.runner import OpenCase, Synthesiser, needed_memory_bytes, open_case
from weighin_agent.bench.schedule import next_case, wants_round
from weighin_agent.run import CaseFailure, CaseFailureReason
from weighin_analysis.measurement import Measurement
from weighin_analysis.suite import SuiteCase

# No step of a case takes this long, unless it hangs.
STEP_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Who wants to know how far a weigh-in is.

    A case begins; a case is measured for the first time; a case has failed; a share of the time has passed, 0 to 1.
    """

    on_case: Callable[[SuiteCase], None]
    on_measured: Callable[[tuple[Measurement, ...]], None]
    on_failure: Callable[[CaseFailure], None]
    on_progress: Callable[[float], None]


def run_suite(
    cases: Sequence[SuiteCase],
    make_job: Callable[[SuiteCase], Job],
    *,
    deadline_seconds: float,
    watcher: Watcher,
    now_seconds: Callable[[], float] = time.monotonic,
) -> tuple[list[Measurement], list[CaseFailure]]:
    """Return what was measured and which cases failed; a case for which no time was left is in neither.

    ``make_job`` is asked right before a case begins, when it is known what memory is free. But for the first of a case,
    no round begins that would end after ``deadline_seconds`` of the clock ``now_seconds``.
    """
    with _SuiteRun(make_job, deadline_seconds, watcher, now_seconds) as run:
        for i, case in enumerate(cases):
            if run.seconds_left() <= 0:
                break
            run.first_rounds(case, rest=cases[i + 1 :])
        run.further_rounds()
    watcher.on_progress(1.0)
    return [one for case in cases for one in run.results.get(case, ())], run.failures


class _SuiteRun:
    """The state of a suite's execution: what is loaded, what was found out so far."""

    def __init__(
        self,
        make_job: Callable[[SuiteCase], Job],
        deadline_seconds: float,
        watcher: Watcher,
        now_seconds: Callable[[], float],
    ) -> None:
        self.results: dict[SuiteCase, tuple[Measurement, ...]] = {}
        self.failures: list[CaseFailure] = []
        self._make_job, self._watcher, self._now_seconds = make_job, watcher, now_seconds
        self._begin_seconds, self._deadline_seconds = now_seconds(), deadline_seconds
        self._open: dict[SuiteCase, OpenCase] = {}
        self._round_seconds: dict[tuple[SuiteCase, bool], float] = {}
        self._stack = ExitStack()
        self._synthesiser = self._stack.enter_context(Synthesiser())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def seconds_left(self) -> float:
        """Return the time that is left for all cases."""
        return self._deadline_seconds - self._now_seconds()

    def first_rounds(self, suite_case: SuiteCase, rest: Sequence[SuiteCase]) -> None:
        """Load a case and run its first rounds, within its fair share of the time but at least one.

        It stays loaded if the cases of ``rest``, which are still to come, fit beside it; else it is finished now.
        """
        self._watcher.on_case(suite_case)
        begin = self._now_seconds()
        fair_end = begin + self.seconds_left() / (1 + len(rest))
        job = self._make_job(suite_case)
        with ExitStack() as stack:
            case = stack.enter_context(open_case(job, self._synthesiser, STEP_TIMEOUT_SECONDS))
            if isinstance(case, CaseFailure):
                self._fail(case, begin)
                return
            self._open[suite_case] = case
            self._run_rounds(suite_case, job.rounds.least_count, fair_end)
            if suite_case not in self._open:
                return
            self._watcher.on_measured(self.results[suite_case])
            if self._fits_beside(rest):
                self._stack.push(stack.pop_all())
            else:
                self._run_rounds(suite_case, job.rounds.most_count, fair_end)
                self._open.pop(suite_case, None)  # it may have failed by now

    def further_rounds(self) -> None:
        """Run rounds where they tell most, until all is known well enough or the time is up."""
        while self._open:
            known = {key: (case.progress, self._next_round_seconds(key)) for key, case in self._open.items()}
            rounds = next(iter(self._open.values())).job.rounds
            chosen = next_case(known, rounds, self.seconds_left())
            if chosen is None:
                return
            self._run_round(chosen)

    def _run_rounds(self, suite_case: SuiteCase, count: int, end_seconds: float) -> None:
        """Run up to ``count`` rounds in all, as long as they are wanted and end in time; the first in any case."""
        case = self._open[suite_case]
        while (
            suite_case in self._open
            and case.progress.round_count < count
            and wants_round(case.progress, case.job.rounds)
        ):
            begun = case.progress.round_count > 0
            if begun and self._now_seconds() + self._next_round_seconds(suite_case) > end_seconds:
                return
            self._run_round(suite_case)

    def _next_round_seconds(self, suite_case: SuiteCase) -> float:
        """Return how long the next round of a case takes: as its last of the same kind, else as any before it."""
        case = self._open[suite_case]
        known = self._round_seconds.get((suite_case, case.next_is_long))
        return self._round_seconds[suite_case, not case.next_is_long] if known is None else known

    def _run_round(self, suite_case: SuiteCase) -> None:
        begin, case = self._now_seconds(), self._open[suite_case]
        is_long = case.next_is_long
        failure = case.run_round()
        now = self._now_seconds()
        self._round_seconds[suite_case, is_long] = now - begin
        self._watcher.on_progress(
            min(1.0, (now - self._begin_seconds) / (self._deadline_seconds - self._begin_seconds))
        )
        if failure is None:
            self.results[suite_case] = case.measurements
            return
        # What was measured before a crash is no answer about a device that crashes.
        self.results.pop(suite_case, None)
        del self._open[suite_case]
        self._fail(failure, begin)

    def _fail(self, failure: CaseFailure, begin_seconds: float) -> None:
        """Keep the failure of a step; what a hanging child cost is not taken from the other cases."""
        if failure.reason is CaseFailureReason.TIMED_OUT:
            self._deadline_seconds += self._now_seconds() - begin_seconds
        self.failures.append(failure)
        self._watcher.on_failure(failure)

    def _fits_beside(self, rest: Sequence[SuiteCase]) -> bool:
        """Return whether every case that is still to come would fit beside those that are loaded."""
        jobs = [self._make_job(case) for case in rest]
        return all(job.memory_limit_bytes is None or needed_memory_bytes(job) <= job.memory_limit_bytes for job in jobs)
