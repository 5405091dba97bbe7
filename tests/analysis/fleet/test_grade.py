"""Estimates held against limits: the verdict of the card's own rule, and how probable it is."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Verdict
from weighin_analysis.fleet.grading.grade import (
    NO_VERDICT,
    VERDICTS,
    EstimateColumns,
    Grades,
    grade,
    log_sd,
    normal_cdf,
)
from weighin_analysis.limits import current_limits
from weighin_analysis.verdict import verdict_of

LIMITS = current_limits()
DECODE = LIMITS.decoder_comfortable.decode_tokens_per_second
FIRST = LIMITS.decoder_comfortable.time_to_first_token_seconds
LATENCY = LIMITS.encoder_comfortable.latency_seconds
PLENTY = 1e12


def columns(
    decode: float = math.nan,
    first: float = math.nan,
    latency: float = math.nan,
    *,
    sd: float = 0.1,
    decoder: bool = True,
    memory: float = 1e9,
    available: float = PLENTY,
    stopped: bool = False,
) -> EstimateColumns:
    """One estimate as columns of length one."""
    return EstimateColumns(
        is_decoder=np.array([decoder]),
        decode_tokens_per_second=np.array([decode]),
        decode_tokens_per_second_log_sd=np.array([sd]),
        time_to_first_token_seconds=np.array([first]),
        time_to_first_token_seconds_log_sd=np.array([sd]),
        latency_seconds=np.array([latency]),
        latency_seconds_log_sd=np.array([sd]),
        memory_bytes=np.array([memory]),
        memory_available_bytes=np.array([available]),
        stopped=np.array([stopped]),
    )


def verdict(grades: Grades) -> Verdict | None:
    (code,) = grades.verdict
    return None if code == NO_VERDICT else VERDICTS[code]


def probabilities(grades: Grades) -> tuple[float, float]:
    return float(grades.comfortable_probability[0]), float(grades.usable_probability[0])


positive = st.floats(1e-6, 1e6)
near = st.sampled_from([DECODE, FIRST, LATENCY, *(math.nextafter(x, y) for x in (DECODE, FIRST) for y in (0, 99))])


@given(
    decode=positive | near,
    first=positive | near,
    latency=positive | near,
    decoder=st.booleans(),
    memory=st.integers(1, 1 << 50),
    available=st.none() | st.integers(0, 1 << 50),
)
def test_the_verdict_is_that_of_a_card(
    decode: float, first: float, latency: float, decoder: bool, memory: int, available: int | None
) -> None:
    kind = ArchitectureKind.DECODER if decoder else ArchitectureKind.ENCODER
    speeds = {"decode_tokens_per_second": decode, "time_to_first_token_seconds": first, "latency_seconds": latency}
    expected, _ = verdict_of(kind, speeds, memory, available, LIMITS)
    free = math.nan if available is None else float(available)
    found = grade(columns(decode, first, latency, decoder=decoder, memory=float(memory), available=free), LIMITS)
    assert verdict(found) is expected


def test_at_the_limit_a_model_is_comfortable_as_likely_as_not() -> None:
    found = grade(columns(DECODE, 1e-9), LIMITS)
    assert verdict(found) is Verdict.COMFORTABLE
    assert probabilities(found) == pytest.approx((0.5, 1.0), abs=1e-6)


@pytest.mark.parametrize("sds", [-2.0, -0.5, 0.3, 1.0, 2.5])
def test_beyond_the_limit_by_so_many_standard_deviations_the_normal_distribution_tells(sds: float) -> None:
    expected = pytest.approx(NormalDist().cdf(sds), abs=1e-6)
    assert probabilities(grade(columns(DECODE * math.exp(0.1 * sds), 1e-9), LIMITS))[0] == expected
    assert probabilities(grade(columns(1e9, FIRST * math.exp(-0.1 * sds)), LIMITS))[0] == expected
    latency = LATENCY * math.exp(-0.1 * sds)
    assert probabilities(grade(columns(latency=latency, decoder=False), LIMITS))[0] == expected


def test_a_margin_is_told_in_standard_deviations_of_its_own_estimate() -> None:
    found = grade(columns(DECODE * math.exp(0.3), 1e-9, sd=0.2), LIMITS)
    assert float(found.comfortable_margin_sds[0]) == pytest.approx(1.5)


def test_the_tightest_bound_is_the_margin_of_a_level() -> None:
    found = grade(columns(DECODE * math.exp(0.2), FIRST * math.exp(0.1)), LIMITS)
    assert float(found.comfortable_margin_sds[0]) == pytest.approx(-1)
    assert verdict(found) is not Verdict.COMFORTABLE


def test_decode_and_first_token_are_taken_as_independent() -> None:
    """Which lies between both ends that any dependence allows."""
    found, _ = probabilities(grade(columns(DECODE * math.exp(0.1), FIRST), LIMITS))
    p, q = NormalDist().cdf(1), 0.5
    assert found == pytest.approx(p * q, abs=1e-6)
    assert max(0.0, p + q - 1) < found < min(p, q)


@given(decode=positive, first=positive, sd=st.floats(0, 3))
def test_probabilities_are_such_and_usable_is_never_less_likely(decode: float, first: float, sd: float) -> None:
    comfortable, usable = probabilities(grade(columns(decode, first, sd=sd), LIMITS))
    assert 0 <= comfortable <= usable + 1e-7 <= 1 + 2e-7


def test_without_any_spread_a_verdict_is_certain() -> None:
    assert probabilities(grade(columns(DECODE * 1.001, FIRST / 2, sd=0), LIMITS)) == (1.0, 1.0)
    assert probabilities(grade(columns(DECODE / 1.001, FIRST / 2, sd=0), LIMITS)) == (0.0, 1.0)


def test_memory_is_a_step() -> None:
    available = 1e9 / LIMITS.memory_share
    fits = grade(columns(1e9, 1e-9, memory=1e9, available=available), LIMITS)
    too_large = grade(columns(1e9, 1e-9, memory=1e9 + 1, available=available), LIMITS)
    assert (verdict(fits), verdict(too_large)) == (Verdict.COMFORTABLE, Verdict.DOES_NOT_FIT)
    assert probabilities(fits) == pytest.approx((1.0, 1.0))
    assert probabilities(too_large) == (0.0, 0.0)
    assert too_large.comfortable_margin_sds[0] == too_large.usable_margin_sds[0] == -math.inf


def test_what_the_memory_gate_stopped_does_not_fit_whatever_the_limits() -> None:
    assert verdict(grade(columns(stopped=True), LIMITS)) is Verdict.DOES_NOT_FIT


def test_what_does_not_fit_needs_no_speed() -> None:
    assert verdict(grade(columns(memory=1e9, available=1e6), LIMITS)) is Verdict.DOES_NOT_FIT


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -5.0])
def test_what_is_no_positive_number_has_no_verdict_and_counts_as_no_yes(value: float) -> None:
    for found in (
        grade(columns(value, 1.0), LIMITS),
        grade(columns(20.0, value), LIMITS),
        grade(columns(latency=value, decoder=False), LIMITS),
    ):
        assert verdict(found) is None
        assert all(map(math.isnan, probabilities(found)))
        assert math.isnan(found.usable_margin_sds[0])


@pytest.mark.parametrize("sd", [math.nan, math.inf, -0.1])
def test_a_value_without_an_interval_is_no_estimate(sd: float) -> None:
    assert verdict(grade(columns(20.0, 1.0, sd=sd), LIMITS)) is None


def test_no_estimates_have_no_verdicts() -> None:
    one = columns(20.0, 1.0)
    empty = EstimateColumns(**{name: getattr(one, name)[:0] for name in EstimateColumns.__slots__})
    assert len(grade(empty, LIMITS).verdict) == 0


@given(sd=st.floats(1e-6, 3), value=positive, probability=st.floats(0.01, 0.99))
def test_the_spread_that_an_interval_states_is_found_again(sd: float, value: float, probability: float) -> None:
    reach = NormalDist().inv_cdf(0.5 + probability / 2) * sd
    low, high = np.array([value * math.exp(-reach)]), np.array([value * math.exp(reach)])
    assert float(log_sd(low, high, probability)[0]) == pytest.approx(sd, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("low", "high"), [(math.nan, 1), (1, math.nan), (0, 1), (-1, 1), (2, 1), (-2, -1), (1, -1), (0, 0)]
)
def test_what_is_no_interval_states_no_spread(low: float, high: float) -> None:
    assert math.isnan(log_sd(np.array([low], dtype=float), np.array([high], dtype=float), 0.8)[0])


def test_an_interval_of_no_width_states_no_spread_at_all() -> None:
    assert log_sd(np.array([3.0]), np.array([3.0]), 0.8)[0] == 0


def test_the_normal_distribution_is_met_to_its_stated_error() -> None:
    points = np.linspace(-8, 8, 2001)
    exact = np.array([NormalDist().cdf(x) for x in points])
    assert np.max(np.abs(normal_cdf(points) - exact)) < 7.5e-8
    assert list(normal_cdf(np.array([-math.inf, math.inf]))) == [0, 1]
    assert math.isnan(normal_cdf(np.array([math.nan]))[0])
