import math
from dataclasses import replace
from statistics import NormalDist, median

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from made_measurements import full_model_measurement, lawful_measurement, measurement, probe_case, rounds_of, series

from weighin_analysis.catalog import architecture, architectures
from weighin_analysis.errors import EstimateError
from weighin_analysis.estimate import (
    BETWEEN_RUNS_SD,
    EXTRAPOLATION_SD,
    LAYER_PROBE_SD,
    MOST_CALL_SHARE,
    WHOLE_MODEL_SD,
    RoundTimes,
    anchor_times,
    call_seconds,
    disturbed_round,
    full_model_times,
    is_alone,
    known_times,
    percentile_20,
    quiet_series,
    rate_estimate,
    time_estimate,
    times_at,
)
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, SeriesPart
from weighin_analysis.scheme import Scheme

QWEN = probe_case(architecture("Qwen2.5-0.5B"))
ENCODER = probe_case(architecture("DistilBERT"), Scheme.INT8_DYNAMIC)

seconds = st.floats(1e-6, 10.0)
samples = st.lists(seconds, min_size=1, max_size=9)
rounds = st.lists(samples, min_size=1, max_size=6)
round_times = st.lists(seconds, min_size=1, max_size=8).map(
    lambda found: RoundTimes(seconds=tuple(found), method_sd=LAYER_PROBE_SD)
)


def at(*found: float, **changes: float) -> RoundTimes:
    return RoundTimes(seconds=found, method_sd=LAYER_PROBE_SD, foreign_cpu_share=changes.get("share"))


# The formula.


def test_the_time_of_a_round_is_the_formula_of_the_method_by_hand() -> None:
    layers = [[0.010, 0.012, 0.011, 0.030, 0.013, 0.014], [0.020, 0.021, 0.022, 0.023, 0.024, 0.060]]
    head = [[0.005, 0.006, 0.0055, 0.02, 0.0052, 0.0051], [0.007, 0.0071, 0.0072, 0.0073, 0.0074, 0.02]]
    # The 20th percentile of six samples is the second smallest: five gaps, a fifth of the way.
    by_hand = [24 / 7 * 0.011 + 151_936 / 57_088 * 0.0051, 24 / 7 * 0.021 + 151_936 / 57_088 * 0.0071]
    assert (QWEN.probe_layers, QWEN.head_columns) == (7, 57_088)
    times = full_model_times(rounds_of(QWEN, layers, head))
    assert times.seconds == pytest.approx(by_hand)
    assert times.median_seconds == pytest.approx(sum(by_hand) / 2)


def test_the_estimate_is_the_median_over_rounds() -> None:
    layers = [[0.01], [0.02], [0.9], [0.03], [0.011]]
    times = full_model_times(rounds_of(replace(QWEN, probe_layers=24), layers, [[0.0001]] * 5))
    assert times.median_seconds == pytest.approx(0.02 + 0.0001 * 151_936 / 57_088)


def test_a_burst_within_a_round_does_not_move_the_time() -> None:
    calm = full_model_times(rounds_of(ENCODER, [[0.01] * 8]))
    burst = full_model_times(rounds_of(ENCODER, [[0.01] * 6 + [0.5, 0.7]]))
    assert burst.seconds == calm.seconds


def test_samples_of_one_round_count_together_in_whatever_series_they_come() -> None:
    found = [series(SeriesPart.LAYERS, 0, [s]) for s in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)]
    assert full_model_times(measurement(ENCODER, found)).seconds == pytest.approx((0.02,))


@given(
    name=st.sampled_from(list(architectures())),
    layer=st.floats(1e-6, 1.0),
    column=st.floats(1e-9, 1e-4),
    phase=st.sampled_from(Phase),
)
def test_a_device_with_equal_layers_is_predicted_exactly(name: str, layer: float, column: float, phase: Phase) -> None:
    shape = architecture(name)
    measured = lawful_measurement(
        probe_case(shape), phase, 32, layer_seconds=lambda _tokens, _depth: layer, column_seconds=column
    )
    truth = shape.layers * layer + (shape.vocab * column if shape.head_weight_count else 0.0)
    assert full_model_times(measured).median_seconds == pytest.approx(truth)


@given(layers=rounds, factor=st.floats(0.01, 100))
def test_a_device_twice_as_slow_takes_twice_as_long(layers: list[list[float]], factor: float) -> None:
    slow = [[s * factor for s in found] for found in layers]
    fast_time = full_model_times(rounds_of(ENCODER, layers))
    slow_time = full_model_times(rounds_of(ENCODER, slow))
    assert slow_time.median_seconds == pytest.approx(factor * fast_time.median_seconds)
    assert slow_time.log_sd() == pytest.approx(fast_time.log_sd())


# The cost of a call.


def with_short_probe(case: Case = QWEN, layers: int = 2) -> Case:
    return replace(case, short_probe_layers=layers)


@given(
    layer=st.floats(1e-5, 1e-2),
    share=st.floats(0, MOST_CALL_SHARE * 0.999),
    column=st.floats(1e-9, 1e-6),
    short=st.integers(1, QWEN.probe_layers - 1),
    phase=st.sampled_from(Phase),
)
def test_two_layer_counts_tell_the_cost_of_a_call_and_the_full_model_pays_it_once(
    layer: float, share: float, column: float, short: int, phase: Phase
) -> None:
    call = share / (1 - share) * QWEN.probe_layers * layer
    measured = lawful_measurement(
        with_short_probe(layers=short),
        phase,
        32,
        layer_seconds=lambda _tokens, _depth: layer,
        column_seconds=column,
        call_seconds=call,
    )
    assert call_seconds(measured) == pytest.approx(call, rel=1e-6, abs=1e-9 * layer)
    assert full_model_times(measured).median_seconds == pytest.approx(call + 24 * layer + 151_936 * column, rel=1e-6)


@given(long=rounds, short=rounds)
def test_the_cost_of_a_call_is_never_negative_nor_above_its_share(
    long: list[list[float]], short: list[list[float]]
) -> None:
    found = [series(SeriesPart.LAYERS, i, one) for i, one in enumerate(long)]
    found += [series(SeriesPart.SHORT_LAYERS, i, one) for i, one in enumerate(short)]
    cost = call_seconds(measurement(with_short_probe(), found))
    assert cost is not None
    assert 0 <= cost <= MOST_CALL_SHARE * median(percentile_20(one) for one in long) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("case", "part"), [(QWEN, SeriesPart.SHORT_LAYERS), (with_short_probe(), SeriesPart.HEAD)], ids=["one", "not run"]
)
def test_without_a_second_layer_probe_the_cost_of_a_call_is_not_known(case: Case, part: SeriesPart) -> None:
    assert call_seconds(measurement(case, [series(SeriesPart.LAYERS, 0, [0.01]), series(part, 0, [0.009])])) is None


def test_rounds_without_the_short_probe_take_the_cost_of_a_call_from_the_others() -> None:
    """The long prompt and the short probe do not run in every round."""
    found = [series(SeriesPart.LAYERS, i, [0.072]) for i in range(3)] + [series(SeriesPart.SHORT_LAYERS, 0, [0.022])]
    found += [series(SeriesPart.HEAD, i, [57_088e-9]) for i in range(3)]
    times = full_model_times(measurement(with_short_probe(), found, phase=Phase.PREFILL, length=32))
    assert times.seconds == pytest.approx([24 * 0.010 + 0.002 + 151_936e-9] * 3)


def test_a_call_that_was_timed_by_itself_is_believed_before_two_layer_counts() -> None:
    found = [series(part, 0, [time]) for part, time in ((SeriesPart.LAYERS, 0.072), (SeriesPart.SHORT_LAYERS, 0.022))]
    assert call_seconds(measurement(with_short_probe(), found)) == pytest.approx(0.002)
    found.append(series(SeriesPart.CALL, 0, [0.001]))
    assert call_seconds(measurement(with_short_probe(), found)) == pytest.approx(0.001)


def test_a_long_prompt_is_told_by_the_short_probe_alone() -> None:
    found = [series(SeriesPart.SHORT_LAYERS, 0, [0.2]), series(SeriesPart.HEAD, 0, [57_088e-9])]
    times = full_model_times(measurement(with_short_probe(), found, phase=Phase.PREFILL, length=512))
    assert times.seconds == pytest.approx([24 / 2 * 0.2 + 151_936e-9])


# A full model alone.


def test_a_full_model_alone_is_known_as_it_was_and_a_layer_probe_by_the_formula() -> None:
    alone = full_model_measurement(QWEN, 0.25)
    probe = rounds_of(QWEN, [[0.07]], [[57_088e-9]])
    beside = measurement(QWEN, [*probe.series, *alone.series])
    assert [is_alone([one]) for one in (alone, probe, beside)] == [True, False, False]
    assert known_times(alone).seconds == pytest.approx([0.25] * 6)
    assert known_times(beside).seconds == known_times(probe).seconds == pytest.approx([0.24 + 151_936e-9])


def test_a_case_without_any_series_is_no_full_model_alone() -> None:
    assert not is_alone([measurement(QWEN, [])])
    assert not is_alone([])


# Samples that are no times.


@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_a_sample_that_cannot_be_a_time_is_ignored(rubbish: float) -> None:
    assert full_model_times(rounds_of(ENCODER, [[0.01, rubbish, 0.01], [rubbish]])).seconds == pytest.approx((0.01,))


@pytest.mark.parametrize(
    "found",
    [
        rounds_of(ENCODER, []),
        rounds_of(ENCODER, [[], [math.nan], [0.0]]),
        rounds_of(QWEN, [[0.01]], [[-1.0]]),
        rounds_of(QWEN, [[0.01]]),
        rounds_of(QWEN, [], [[0.01]]),
        measurement(QWEN, [series(SeriesPart.SHORT_LAYERS, 0, [0.01]), series(SeriesPart.HEAD, 0, [0.01])]),
    ],
    ids=["no series", "only rubbish", "no usable head", "no head", "no layers", "a short probe that the case lacks"],
)
def test_without_a_usable_sample_there_is_no_time(found: Measurement) -> None:
    with pytest.raises(EstimateError, match="no round holds usable samples"):
        full_model_times(found)


def test_a_round_needs_both_layers_and_head() -> None:
    found = rounds_of(QWEN, [[0.011], [0.022], [0.033]], [[0.001], [math.nan], [0.001]])
    assert len(full_model_times(found).seconds) == 2


def test_a_round_that_the_cost_of_a_call_takes_below_zero_is_left_out() -> None:
    parts = {SeriesPart.LAYERS: [0.01, 1e-9], SeriesPart.HEAD: [0.01, 1e-9], SeriesPart.CALL: [0.001, 0.001]}
    found = [series(part, i, [time]) for part, times in parts.items() for i, time in enumerate(times)]
    assert len(full_model_times(measurement(QWEN, found)).seconds) == 1


def test_without_an_anchor_there_is_no_measured_time() -> None:
    with pytest.raises(EstimateError, match="no full model was run"):
        anchor_times(rounds_of(QWEN, [[0.01]], [[0.01]]))


def test_an_anchor_is_taken_as_it_was_measured() -> None:
    found = [series(SeriesPart.FULL_MODEL, i, [0.1 * (i + 1)]) for i in range(3)]
    assert anchor_times(measurement(QWEN, found)).seconds == pytest.approx((0.1, 0.2, 0.3))


# The interval.


@given(times=round_times, probability=st.floats(0.05, 0.99))
def test_the_value_lies_in_its_interval(times: RoundTimes, probability: float) -> None:
    time, rate = time_estimate(times, probability), rate_estimate(times, 7, probability)
    assert 0 < time.low <= time.value <= time.high
    assert 0 < rate.low <= rate.value <= rate.high
    assert rate.value == pytest.approx(7 / time.value)


@given(times=round_times, narrow=st.floats(0.05, 0.98))
def test_a_surer_interval_is_wider(times: RoundTimes, narrow: float) -> None:
    assert time_estimate(times, narrow).high < time_estimate(times, narrow + 0.01).high


@given(times=round_times)
def test_the_interval_is_never_narrower_than_method_and_drift(times: RoundTimes) -> None:
    assert times.log_sd() >= math.hypot(times.method_sd, BETWEEN_RUNS_SD) * (1 - 1e-12)


def test_the_interval_is_the_formula_of_the_method_by_hand() -> None:
    times = at(0.1, 0.2, 0.4, 0.1)
    # Two rounds that scatter by 3.5 % are expected before any was seen.
    squares = float(np.sum((np.log([0.1, 0.2, 0.4, 0.1]) - np.mean(np.log([0.1, 0.2, 0.4, 0.1]))) ** 2))
    scatter = 1.25 * math.sqrt((squares + 2 * 0.035**2) / (3 + 2) / 4)
    spread = 1.2816 * math.hypot(LAYER_PROBE_SD, scatter, BETWEEN_RUNS_SD)
    found = time_estimate(times, 0.8)
    assert NormalDist().inv_cdf(0.9) == pytest.approx(1.2816, abs=1e-4)
    assert found.value == pytest.approx(median([0.1, 0.2, 0.4, 0.1]))
    assert found.low == pytest.approx(0.15 * math.exp(-spread), rel=1e-4)
    assert found.high == pytest.approx(0.15 * math.exp(spread), rel=1e-4)


@given(spread=st.floats(1.01, 3.0), more=st.floats(1.01, 2.0))
def test_scatter_between_rounds_widens_the_interval(spread: float, more: float) -> None:
    calm, wild = at(1 / spread, 1.0, spread), at(1 / (spread * more), 1.0, spread * more)
    assert time_estimate(wild, 0.8).high > time_estimate(calm, 0.8).high
    assert time_estimate(wild, 0.8).value == time_estimate(calm, 0.8).value


@given(count=st.integers(1, 12))
def test_rounds_that_agree_prove_little_when_they_are_few(count: int) -> None:
    """Two rounds that happen to agree are no proof of a quiet machine; many are."""
    few, more = at(*[0.1] * count), at(*[0.1] * (count + 1))
    assert few.rounds_sd > more.rounds_sd > 0


def test_load_of_others_widens_the_interval_and_never_moves_the_value() -> None:
    layers = [[0.01], [0.011], [0.012]]
    estimates = [
        time_estimate(full_model_times(rounds_of(ENCODER, layers, share=share)), 0.8)
        for share in (None, 0.0, 0.04, 0.1, 0.3, 0.6)
    ]
    assert len({e.value for e in estimates}) == 1
    highs = [e.high for e in estimates]
    assert highs[0] == highs[1] == highs[2]  # too little to matter
    assert highs[2] < highs[3] < highs[4] < highs[5]


def test_the_load_of_others_is_the_median_over_the_series() -> None:
    found = [series(SeriesPart.LAYERS, i, [0.01], share=s) for i, s in enumerate((0.0, None, 0.2, 0.1))]
    times = full_model_times(measurement(ENCODER, found))
    assert times.foreign_cpu_share == 0.1
    assert times.disturbed


@pytest.mark.parametrize(
    ("probe_layers", "spread"), [(24, WHOLE_MODEL_SD), (11, LAYER_PROBE_SD), (2, LAYER_PROBE_SD), (1, LAYER_PROBE_SD)]
)
def test_the_fewer_layers_ran_the_less_sure_is_the_method(probe_layers: int, spread: float) -> None:
    case = replace(QWEN, probe_layers=probe_layers, head_columns=QWEN.architecture.vocab)
    assert full_model_times(rounds_of(case, [[0.01]], [[0.01]])).method_sd == spread


# Between and beyond the measured lengths.


@given(slope=st.floats(0, 1e-3), base=st.floats(1e-3, 1.0), length=st.integers(1, 5000))
def test_times_between_and_beyond_two_lengths_lie_on_their_line(slope: float, base: float, length: int) -> None:
    points = [(depth, at(base + slope * depth, 2 * base + slope * depth)) for depth in (960, 16)]
    found = times_at(points, length)
    assert found.seconds == pytest.approx((base + slope * length, 2 * base + slope * length))
    assert found.extrapolated == (not 16 <= length <= 960)


def test_a_length_that_was_measured_is_taken_as_it_is() -> None:
    points = [(32, at(0.1)), (128, at(9.0)), (512, at(0.2))]
    assert times_at(points, 128) == at(9.0)


@pytest.mark.parametrize(
    ("length", "expected"), [(80, 0.2), (320, 0.4), (1024, 0.5 + 512 * 0.2 / 384), (16, 0.1 - 16 * 0.2 / 96)]
)
def test_of_three_lengths_the_two_nearest_make_the_line(length: int, expected: float) -> None:
    points = [(32, at(0.1)), (128, at(0.3)), (512, at(0.5))]
    assert times_at(points, length).seconds == pytest.approx((expected,))


def test_an_extrapolated_time_is_less_sure() -> None:
    points = [(32, at(0.1, 0.1)), (128, at(0.3, 0.3))]
    within, beyond = times_at(points, 64), times_at(points, 512)
    assert beyond.log_sd() == pytest.approx(math.hypot(within.log_sd(), EXTRAPOLATION_SD))


def test_a_line_carries_the_worse_method_and_the_heavier_load() -> None:
    low = RoundTimes(seconds=(0.1,), method_sd=LAYER_PROBE_SD, foreign_cpu_share=None)
    high = RoundTimes(seconds=(0.3,), method_sd=LAYER_PROBE_SD, foreign_cpu_share=0.2)
    found = times_at([(32, low), (128, high)], 64)
    assert (found.method_sd, found.foreign_cpu_share) == (LAYER_PROBE_SD, 0.2)


@pytest.mark.parametrize("points", [[], [(32, at(0.1))], [(32, at(0.1)), (32, at(0.2))]])
def test_fewer_than_two_lengths_make_no_line(points: list[tuple[int, RoundTimes]]) -> None:
    with pytest.raises(EstimateError, match="nothing measured at length 512"):
        times_at(points, 512)


def test_a_line_that_falls_below_zero_gives_no_time() -> None:
    with pytest.raises(EstimateError, match="no positive time at 4096"):
        times_at([(32, at(0.2)), (128, at(0.1))], 4096)


@given(first=round_times, second=round_times, length=st.integers(33, 127))
def test_a_time_between_two_lengths_lies_between_their_times(
    first: RoundTimes, second: RoundTimes, length: int
) -> None:
    assume(len(first.seconds) == len(second.seconds))
    found = times_at([(32, first), (128, second)], length)
    for a, between, b in zip(first.seconds, found.seconds, second.seconds, strict=True):
        assert min(a, b) * (1 - 1e-9) <= between <= max(a, b) * (1 + 1e-9)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40))
def test_the_20th_percentile_is_numpys(values: list[float]) -> None:
    assert percentile_20(values) == pytest.approx(float(np.percentile(values, 20)))


def test_disturbed_rounds_are_left_out_while_three_quiet_ones_remain() -> None:
    """A round in which others took half of the processor is slow for a reason that is not the device."""
    slow = [series(SeriesPart.LAYERS, i, [0.03], share=0.5) for i in range(2)]
    quiet = [series(SeriesPart.LAYERS, i, [0.01], share=0.01) for i in range(2, 5)]
    scale = ENCODER.architecture.layers / ENCODER.probe_layers
    assert full_model_times(measurement(ENCODER, [*slow, *quiet])).seconds == pytest.approx([0.01 * scale] * 3)
    assert len(full_model_times(measurement(ENCODER, [*slow, *quiet[:2]])).seconds) == 4


def test_the_cpu_time_of_a_thread_does_not_see_others_and_keeps_all_its_rounds() -> None:
    busy = [series(SeriesPart.LAYERS, i, [0.01], share=0.9 if i else 0.0, clock=ClockKind.THREAD_CPU) for i in range(5)]
    assert not any(disturbed_round(one) for one in busy)
    assert [disturbed_round(replace(one, clock=ClockKind.WALL)) for one in busy] == [False] + [True] * 4
    assert quiet_series(busy) == busy


def test_a_probe_of_all_layers_but_a_slice_of_the_head_is_not_the_whole_model() -> None:
    """Gemma-like shapes: few layers, a vocabulary of a quarter million."""
    whole = replace(QWEN, probe_layers=QWEN.architecture.layers, head_columns=QWEN.architecture.vocab)
    assert whole.is_whole_model
    assert not replace(whole, head_columns=256).is_whole_model
    assert not replace(whole, probe_layers=1).is_whole_model
    assert replace(ENCODER, probe_layers=ENCODER.architecture.layers).is_whole_model
