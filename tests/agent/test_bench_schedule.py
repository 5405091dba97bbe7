from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_measurements import lawful_measurement, measurement, rounds_of, series
from tiny_cases import TINY, tiny_case

from weighin_agent.bench.schedule import Progress, next_case, progress_of, share_done, wants_round
from weighin_analysis.estimate import DISCARDED_SHARE, known_times
from weighin_analysis.measurement import ClockKind, Phase, SeriesPart
from weighin_analysis.suite import Rounds

ROUNDS = Rounds(
    least_count=3, most_count=12, target_sd=0.02, decode_samples=6, long_prompt_interval=3, pause_seconds=0.0
)
CASE = replace(tiny_case(replace(TINY, layers=4)), probe_layers=2)

counts = st.integers(0, 15)
sds = st.none() | st.floats(0.001, 0.9)


@st.composite
def progresses(draw: st.DrawFn) -> Progress:
    count = draw(counts)
    return Progress(round_count=count, quiet_round_count=draw(st.integers(0, count)), sd=draw(sds))


open_cases = st.dictionaries(st.text(), st.tuples(progresses(), st.floats(0.01, 10)), max_size=6)


# How well a case is known.


def test_nothing_is_known_before_the_first_round() -> None:
    assert progress_of((), 0) == Progress(round_count=0, quiet_round_count=0, sd=None)


def test_a_case_is_known_as_well_as_what_is_known_worst_of_it() -> None:
    head = [[0.0005]] * 4
    steady = rounds_of(CASE, [[0.001]] * 4, head)
    rough = replace(rounds_of(CASE, [[0.001], [0.002], [0.001], [0.003]], head), context_depth=960)
    worst = known_times(rough).rounds_sd
    assert worst > known_times(steady).rounds_sd
    assert progress_of((steady, rough), 4) == progress_of((rough, steady), 4)
    assert progress_of((steady, rough), 4) == Progress(round_count=4, quiet_round_count=4, sd=worst)


def test_a_long_prompt_which_runs_in_few_rounds_keeps_no_case_going() -> None:
    steady = rounds_of(CASE, [[0.001]] * 4, [[0.0005]] * 4)
    long_prompt = rounds_of(CASE, [[0.1], [0.3]], [[0.0005]] * 2)
    assert progress_of((steady, long_prompt), 4) == progress_of((steady,), 4)


def test_a_case_is_known_better_with_every_round_that_agrees() -> None:
    found = [
        lawful_measurement(
            CASE, Phase.DECODE, 16, layer_seconds=lambda _tokens, _depth: 0.001, column_seconds=1e-6, rounds=count
        )
        for count in range(1, 13)
    ]
    known = [progress_of((one,), 1).sd for one in found]
    assert all(sd is not None for sd in known)
    assert known == sorted(known, key=lambda sd: -(sd or 0.0))


def test_rounds_that_others_disturbed_are_not_quiet_ones() -> None:
    share = DISCARDED_SHARE + 0.01
    calm = rounds_of(CASE, [[0.001]] * 4, [[0.0005]] * 4)
    busy = measurement(CASE, [series(SeriesPart.LAYERS, 2, [0.001], share=share), *calm.series])
    assert progress_of((calm, busy), 4).quiet_round_count == 3
    not_seen = [replace(one, clock=ClockKind.THREAD_CPU) for one in busy.series]
    assert progress_of((calm, replace(busy, series=tuple(not_seen))), 4).quiet_round_count == 4


def test_samples_that_are_no_times_tell_nothing() -> None:
    assert progress_of((rounds_of(CASE, [[0.0]], [[0.0]]),), 1).sd is None


# Whether it is worth another round.


@given(progresses())
def test_a_case_never_has_more_than_the_most_rounds(progress: Progress) -> None:
    if progress.round_count >= ROUNDS.most_count:
        assert not wants_round(progress, ROUNDS)


@given(progresses())
def test_below_the_most_rounds_a_case_ends_only_with_enough_quiet_ones_and_within_the_target(
    progress: Progress,
) -> None:
    known = progress.sd is not None and progress.sd <= ROUNDS.target_sd
    enough = progress.quiet_round_count >= ROUNDS.least_count
    if progress.round_count < ROUNDS.most_count:
        assert wants_round(progress, ROUNDS) == (not (known and enough))


@given(progresses())
def test_a_case_is_done_exactly_when_it_wants_no_round(progress: Progress) -> None:
    share = share_done(progress, ROUNDS)
    assert 0 <= share <= 1
    assert (share == 1) == (not wants_round(progress, ROUNDS))


# Which round comes next.


@given(cases=open_cases, seconds_left=st.floats(-1, 20))
def test_the_next_round_is_wanted_fits_and_no_other_tells_more(
    cases: dict[str, tuple[Progress, float]], seconds_left: float
) -> None:
    chosen = next_case(cases, ROUNDS, seconds_left)
    candidates = {
        key: progress
        for key, (progress, seconds) in cases.items()
        if wants_round(progress, ROUNDS) and seconds <= seconds_left
    }
    if chosen is None:
        assert candidates == {}
        return
    best = candidates[chosen]
    assert best.quiet_round_count == min(progress.quiet_round_count for progress in candidates.values())
    rivals = [p for p in candidates.values() if p.quiet_round_count == best.quiet_round_count]
    assert best.sd is None or all(rival.sd is not None and rival.sd <= best.sd for rival in rivals)


def known(quiet: int, sd: float | None, *, seconds: float = 1.0) -> tuple[Progress, float]:
    return Progress(round_count=quiet, quiet_round_count=quiet, sd=sd), seconds


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ({"few": known(2, 0.03), "wide": known(5, 0.3)}, "few"),
        ({"narrow": known(4, 0.03), "wide": known(4, 0.3)}, "wide"),
        ({"narrow": known(4, 0.03), "unknown": known(4, None)}, "unknown"),
        ({"long": known(1, None, seconds=6.0), "short": known(4, 0.1)}, "short"),
        ({"known": known(4, 0.01)}, None),
        ({"at its end": known(12, 0.5)}, None),
        ({"long": known(1, None, seconds=6.0)}, None),
        ({}, None),
    ],
)
def test_within_five_seconds_the_next_case_is(cases: dict[str, tuple[Progress, float]], expected: str | None) -> None:
    assert next_case(cases, ROUNDS, 5.0) == expected
