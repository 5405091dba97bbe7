"""One thread's CPU time on a busy device speaks for several on a quiet one: faster, and the less sure the more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.estimate import LAYER_PROBE_SD, RoundTimes
from weighin_analysis.measurement import Phase
from weighin_analysis.threads import on_threads

ONE = RoundTimes(seconds=(0.2, 0.4), method_sd=LAYER_PROBE_SD, foreign_cpu_share=0.9)
phases = pytest.mark.parametrize("phase", Phase)


@pytest.mark.parametrize(("phase", "speedup"), [(Phase.DECODE, 1.741), (Phase.PREFILL, 1.945)])
def test_two_threads_are_nearly_twice_as_fast_the_more_so_where_memory_is_not_shared(
    phase: Phase, speedup: float
) -> None:
    assert on_threads(ONE, phase, 2).seconds == pytest.approx((0.2 / speedup, 0.4 / speedup), rel=1e-3)


@phases
def test_a_single_thread_keeps_its_time_and_answers_for_the_load(phase: Phase) -> None:
    found = on_threads(ONE, phase, 1)
    assert found.seconds == ONE.seconds
    assert found.method_sd > ONE.method_sd


@given(phase=st.sampled_from(Phase), count=st.integers(1, 128))
def test_more_threads_are_faster_never_by_more_than_their_number_and_less_sure(phase: Phase, count: int) -> None:
    fewer, more = on_threads(ONE, phase, count), on_threads(ONE, phase, count + 1)
    assert ONE.median_seconds / (count + 1) <= more.median_seconds < fewer.median_seconds
    assert more.method_sd > fewer.method_sd


@phases
def test_the_load_of_others_is_not_counted_again_since_cpu_time_does_not_see_it(phase: Phase) -> None:
    found = on_threads(ONE, phase, 4)
    assert found.foreign_cpu_share is None
    assert not found.disturbed
