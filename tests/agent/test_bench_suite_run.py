"""Suites of tiny models with real child processes; where a limit of time matters, the clock is one that counts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tiny_cases import ENDLESS, ROUNDS, case_children, synthesisers, tiny_job, tiny_suite

from weighin_agent.bench.job import Job
from weighin_agent.bench.suite_run import Watcher, run_suite
from weighin_agent.run import CaseFailure, CaseFailureReason
from weighin_analysis.measurement import Measurement, SeriesPart
from weighin_analysis.suite import Rounds, SuiteCase, anchor_case

CASES = tiny_suite().cases
NAMES = [f"{case.architecture.name} {case.scheme}" for case in CASES]
AMPLE_SECONDS = 1e9


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where suites run; afterwards nothing is left there, and no child process."""
    work = tmp_path / "work"
    work.mkdir()
    yield work
    assert list(work.iterdir()) == []
    assert case_children() + synthesisers() == []


@dataclass
class Clock:
    """A clock that is a second later at each reading: a round, read before and after, takes a second."""

    seconds: float = 0.0

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


@dataclass
class Suite:
    """A suite that runs in ``folder``, and all that its watcher was told, each with what it was told at that moment."""

    folder: Path
    rounds: Rounds = ROUNDS
    cases: tuple[SuiteCase, ...] = CASES
    memory_limit_bytes: Callable[[], int | None] = lambda: None
    on_event: Callable[[str], None] = lambda _event: None
    clock: Clock = field(default_factory=Clock)
    events: list[str] = field(default_factory=list)
    round_ends: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def run(self, deadline_seconds: float = AMPLE_SECONDS) -> tuple[list[Measurement], list[CaseFailure]]:
        return run_suite(
            self.cases, self.make_job, deadline_seconds=deadline_seconds, watcher=self.watcher(), now_seconds=self.clock
        )

    def make_job(self, suite_case: SuiteCase) -> Job:
        case = replace(
            tiny_job(self.folder).case,
            architecture=suite_case.architecture,
            scheme=suite_case.scheme,
            probe_layers=suite_case.probe_layers,
            head_columns=suite_case.head_columns,
        )
        return tiny_job(
            self.folder,
            case,
            rounds=self.rounds,
            layer_probe=not suite_case.anchor,
            full_model_loads=int(suite_case.anchor),
            memory_limit_bytes=self.memory_limit_bytes(),
        )

    def watcher(self) -> Watcher:
        def ended(share: float) -> None:
            self.shares.append(share)
            self.round_ends.append(self.clock.seconds)
            self.tell("round")

        return Watcher(
            on_case=lambda case: self.tell(f"begin {case.architecture.name} {case.scheme}"),
            on_measured=lambda found: self.tell(f"measured {name_of(found[0])}"),
            on_failure=lambda failure: self.tell(f"failed {failure.case.architecture.name} {failure.case.scheme}"),
            on_progress=ended,
        )

    def tell(self, event: str) -> None:
        self.events.append(event)
        self.on_event(event)


def name_of(measurement: Measurement) -> str:
    return f"{measurement.case.architecture.name} {measurement.case.scheme}"


def round_counts(found: list[Measurement]) -> dict[str, int]:
    """The rounds of each case, by the decode or prefill that ran in most of them."""
    counts: dict[str, int] = {}
    for measurement in found:
        rounds = len({series.round for series in measurement.series})
        counts[name_of(measurement)] = max(rounds, counts.get(name_of(measurement), 0))
    return counts


# The order of things.


def test_a_suite_comes_back_measured_in_the_order_of_its_cases(folder: Path) -> None:
    suite = Suite(folder)
    found, failures = suite.run()
    assert failures == []
    assert list(round_counts(found)) == NAMES
    assert set(round_counts(found).values()) == {ROUNDS.most_count}
    assert suite.shares[-1] == 1.0
    assert suite.shares == sorted(suite.shares)


def test_the_first_rounds_of_all_cases_come_before_the_further_rounds_of_any(folder: Path) -> None:
    suite = Suite(folder)
    suite.run()
    first = [event for name in NAMES for event in (f"begin {name}", "round", "round", f"measured {name}")]
    further = ["round"] * len(NAMES) * (ROUNDS.most_count - ROUNDS.least_count)
    assert suite.events == [*first, *further, "round"]  # the last says that the suite is at its end


def test_an_anchor_runs_beside_the_layer_probe_of_the_same_model(folder: Path) -> None:
    anchor = anchor_case(CASES[1].architecture, CASES[1].scheme)
    found, failures = Suite(folder, cases=(*CASES, anchor)).run()
    assert failures == []
    parts = [{series.part for series in measurement.series} for measurement in found]
    assert parts.count({SeriesPart.FULL_MODEL}) == 5
    assert parts.count({SeriesPart.LAYERS, SeriesPart.HEAD}) == 6
    assert parts.count({SeriesPart.LAYERS, SeriesPart.HEAD, SeriesPart.CALL}) == 4


def test_one_process_makes_all_models_and_one_per_case_measures(folder: Path) -> None:
    counts: list[tuple[int, int]] = []
    Suite(folder, on_event=lambda _event: counts.append((len(case_children()), len(synthesisers())))).run()
    assert max(children for children, _ in counts) == len(CASES)
    assert {makers for _, makers in counts[1:-1]} == {1}  # none before the first case, none at the very end


# The time it may take.


def test_no_further_round_ends_after_the_deadline_and_the_time_is_used(folder: Path) -> None:
    suite = Suite(folder, rounds=ENDLESS)
    found, failures = suite.run(deadline_seconds=300.0)
    assert failures == []
    assert list(round_counts(found)) == NAMES
    # Asking for the time takes two seconds more, which no round knows of.
    assert 280 < max(suite.round_ends) <= 300 + 2


def test_each_case_gets_its_fair_share_of_the_time_but_at_least_one_round(folder: Path) -> None:
    """Sixty rounds fill the time; the first case would take it all."""
    suite = Suite(folder, rounds=replace(ENDLESS, least_count=1_000))
    found, _ = suite.run(deadline_seconds=240.0)
    counts = [round_counts(found)[name] for name in NAMES]
    assert min(counts) > 10
    assert max(counts) < 2 * min(counts)


def test_a_case_for_which_no_time_is_left_is_neither_measured_nor_failed(folder: Path) -> None:
    suite = Suite(folder)
    suite.on_event = lambda event: setattr(suite.clock, "seconds", 1e6) if event.startswith("measured") else None
    found, failures = suite.run(deadline_seconds=1e5)
    assert (list(round_counts(found)), failures) == ([NAMES[0]], [])
    assert suite.shares[-1] == 1.0


def test_without_any_time_nothing_runs(folder: Path) -> None:
    suite = Suite(folder)
    assert suite.run(deadline_seconds=0.0) == ([], [])
    assert suite.events == ["round"]


# What fails.


def test_a_case_that_crashes_later_loses_its_measurement_and_nothing_else(folder: Path) -> None:
    suite = Suite(folder)

    def kill_the_second(event: str) -> None:
        if event == f"measured {NAMES[-1]}":
            case_children()[1].kill()

    suite.on_event = kill_the_second
    found, (failure,) = suite.run()
    assert list(round_counts(found)) == [NAMES[0], NAMES[2]]
    assert set(round_counts(found).values()) == {ROUNDS.most_count}
    assert failure.reason is CaseFailureReason.CRASHED
    assert f"failed {NAMES[1]}" in suite.events


def test_a_case_that_cannot_be_made_costs_itself_alone(folder: Path) -> None:
    """A third of a key-value head for every head is no model."""
    impossible = replace(CASES[1], architecture=replace(CASES[1].architecture, name="Odd", heads=3, kv_heads=2))
    suite = Suite(folder, cases=(CASES[0], impossible, CASES[2]))
    found, (failure,) = suite.run()
    assert list(round_counts(found)) == [NAMES[0], NAMES[2]]
    assert (failure.case.architecture.name, failure.reason) == ("Odd", CaseFailureReason.RUNTIME_ERROR)


def test_a_synthesiser_that_is_killed_costs_the_next_case_alone(folder: Path) -> None:
    suite = Suite(folder)

    def kill_the_synthesiser(event: str) -> None:
        if event == f"measured {NAMES[0]}":
            synthesisers()[0].kill()

    suite.on_event = kill_the_synthesiser
    found, (failure,) = suite.run()
    assert list(round_counts(found)) == [NAMES[0], NAMES[2]]
    assert failure.reason is CaseFailureReason.CRASHED
    assert "SIGKILL" in failure.detail


def test_a_case_that_fits_nowhere_is_gated_and_the_others_run(folder: Path) -> None:
    wide = replace(CASES[1], architecture=replace(CASES[1].architecture, name="Wide", hidden=1 << 20, heads=1 << 15))
    found, (failure,) = Suite(folder, cases=(CASES[0], wide), memory_limit_bytes=lambda: 10**9).run()
    assert list(round_counts(found)) == [NAMES[0]]
    assert (failure.case.architecture.name, failure.reason) == ("Wide", CaseFailureReason.MEMORY_GATE)


# What does not fit beside the rest.


def room_for_one() -> int | None:
    """The memory that is left on a device that holds one case at a time."""
    return 1 if case_children() else None


def test_a_case_that_does_not_fit_beside_the_rest_is_finished_at_once_and_closed(folder: Path) -> None:
    suite = Suite(folder, memory_limit_bytes=room_for_one)
    children_at_begin: list[int] = []
    suite.on_event = lambda event: children_at_begin.append(len(case_children())) if event[0] == "b" else None
    found, failures = suite.run()
    assert failures == []
    assert children_at_begin == [0, 0, 0]
    assert list(round_counts(found)) == NAMES
    assert set(round_counts(found).values()) == {ROUNDS.most_count}


def test_a_case_that_crashes_while_it_is_finished_at_once_costs_itself_alone(folder: Path) -> None:
    suite = Suite(folder, memory_limit_bytes=room_for_one)

    def kill_the_first(event: str) -> None:
        if event == f"measured {NAMES[0]}":
            case_children()[0].kill()
            # Its memory is not free before its end is known.
            suite.memory_limit_bytes = lambda: 1 if suite.events[-1] == event else room_for_one()

    suite.on_event = kill_the_first
    found, (failure,) = suite.run()
    assert list(round_counts(found)) == NAMES[1:]
    assert failure.reason is CaseFailureReason.CRASHED


# Ctrl-C.


@pytest.mark.parametrize("moment", ["begin", "round", "measured", "failed"])
@pytest.mark.parametrize("nth", [1, 2])
def test_an_interrupt_leaves_no_process_and_no_file(moment: str, nth: int, folder: Path) -> None:
    odd = replace(CASES[1], architecture=replace(CASES[1].architecture, heads=3, kv_heads=2))
    suite = Suite(folder, cases=(CASES[0], odd, CASES[2], odd))
    seen = 0

    def interrupt(event: str) -> None:
        nonlocal seen
        seen += event.startswith(moment)
        if seen == nth:
            raise KeyboardInterrupt

    suite.on_event = interrupt
    with pytest.raises(KeyboardInterrupt):
        suite.run()
