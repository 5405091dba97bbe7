import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_measurements import lawful_measurement, measurement, probe_case, series

from weighin_analysis.accuracy import (
    OWN_LAYERS_RULE,
    UNSEEN_RULE,
    Cell,
    Load,
    Point,
    cells_of,
    interval_check,
    later_loads,
    own_layers_load,
    phase_errors,
    unseen_load,
    verification,
)
from weighin_analysis.architecture import Architecture
from weighin_analysis.card import Estimate
from weighin_analysis.catalog import architecture
from weighin_analysis.errors import EstimateError
from weighin_analysis.estimate import RoundTimes
from weighin_analysis.measurement import Measurement, Phase, SeriesPart

SHAPE = architecture("Qwen2.5-0.5B")
HALF = 0.1  # half-width of the intervals made here


def load(
    actual: float,
    *,
    predicted: float = 1.0,
    twin: float | None = None,
    phase: Phase = Phase.DECODE,
    length: int = 16,
) -> Load:
    """One load of a full model whose predicted time has an interval of +- HALF around it."""
    decode = phase is Phase.DECODE
    return Load(
        point=Point(
            architecture="any",
            scheme="int4_block32",
            phase=phase,
            token_count=1 if decode else length,
            context_depth=length if decode else 0,
        ),
        predicted=Estimate(value=predicted, low=predicted - HALF, high=predicted + HALF),
        actual_seconds=actual,
        twin_seconds=twin,
    )


def cell(error: float, *, scatter: float | None = None, phase: Phase = Phase.DECODE, length: int = 16) -> Cell:
    """A cell whose prediction is off by ``error`` and whose full model is off from itself by ``scatter``."""
    twin = None if scatter is None else math.exp(scatter)
    (found,) = cells_of([load(1.0, predicted=1 + error, twin=twin, phase=phase, length=length)])
    return found


def full_model(seconds: Sequence[float], twin: Sequence[float] = (), *, layer_seconds: float = 0.001) -> Measurement:
    """A decode measurement of a full model, round by round, beside a probe on which every layer costs the same."""
    probe = lawful_measurement(
        probe_case(SHAPE), Phase.DECODE, 16, layer_seconds=lambda _tokens, _depth: layer_seconds, column_seconds=1e-9
    )
    parts = {SeriesPart.FULL_MODEL: seconds, SeriesPart.FULL_MODEL_TWIN: twin}
    found = [series(part, i, [one]) for part, values in parts.items() for i, one in enumerate(values)]
    return measurement(probe.case, [*probe.series, *found])


# From measurements to loads.


def test_a_full_model_is_held_against_the_prediction_from_its_own_layers() -> None:
    found = own_layers_load(full_model([0.03, 0.025, 0.026], [0.027, 0.024, 0.028]), 0.8)
    assert found.actual_seconds == 0.026
    assert found.twin_seconds == 0.027
    assert found.predicted.value == pytest.approx(SHAPE.layers * 0.001 + SHAPE.vocab * 1e-9)
    assert found.predicted.low < found.predicted.value < found.predicted.high
    assert found.point == Point(
        architecture=SHAPE.name, scheme="int4_block32", phase=Phase.DECODE, token_count=1, context_depth=16
    )


def test_without_a_second_load_nothing_is_known_of_the_scatter() -> None:
    found = own_layers_load(full_model([0.03, 0.025, 0.026]), 0.8)
    assert found.twin_seconds is None
    assert cells_of([found])[0].scatter is None


def test_without_a_full_model_there_is_nothing_to_compare() -> None:
    with pytest.raises(EstimateError, match="no full model"):
        own_layers_load(full_model([]), 0.8)


class Law:
    """Costs that depend on nothing but the phase and the length."""

    def decode_times(self, _shape: Architecture, context_depth: int) -> RoundTimes:
        return RoundTimes(seconds=(0.001 * context_depth,), method_sd=0.1)

    def prefill_times(self, _shape: Architecture, token_count: int) -> RoundTimes:
        return RoundTimes(seconds=(0.01 * token_count,), method_sd=0.1)


def test_an_unseen_model_is_held_against_the_costs_of_other_shapes() -> None:
    decode = full_model([0.02])
    prefill = measurement(decode.case, [series(SeriesPart.FULL_MODEL, 0, [0.3])], phase=Phase.PREFILL, length=32)
    assert unseen_load(Law(), decode, 0.8).predicted.value == pytest.approx(0.016)
    found = unseen_load(Law(), prefill, 0.8)
    assert found.predicted.value == pytest.approx(0.32)
    assert found.actual_seconds == 0.3


def probe(*, layer_seconds: float, name: str = SHAPE.name, rounds: int = 6) -> Measurement:
    """A layer probe in decode on which every layer costs the same and the head next to nothing."""
    return lawful_measurement(
        probe_case(architecture(name)),
        Phase.DECODE,
        16,
        layer_seconds=lambda _tokens, _depth: layer_seconds,
        column_seconds=1e-9,
        rounds=rounds,
    )


def alone(seconds: float, *, name: str = SHAPE.name, length: int = 16, threads: int = 2) -> Measurement:
    """A full model that ran by itself."""
    case = probe_case(architecture(name), threads=threads)
    return measurement(case, [series(SeriesPart.FULL_MODEL, i, [seconds]) for i in range(6)], length=length)


def test_a_later_full_model_is_held_against_what_the_earlier_run_said() -> None:
    later = [alone(0.05), alone(0.05, length=960), alone(0.05, threads=1)]
    (found,) = later_loads([probe(layer_seconds=0.002)], later, 0.8)
    assert found.actual_seconds == 0.05
    assert found.predicted.value == pytest.approx(SHAPE.layers * 0.002 + SHAPE.vocab * 1e-9)


def test_a_run_that_ran_the_full_model_says_its_time_and_corrects_the_others_by_it() -> None:
    """The full model took a tenth more than its layers said; so will that of the other shape."""
    small = architecture("SmolLM2-135M")
    said = small.layers * 0.0005 + small.vocab * 1e-9
    anchor = replace(alone(1.1 * said, name=small.name), case=replace(alone(1.0, name=small.name).case, probe_layers=0))
    earlier = [anchor, probe(layer_seconds=0.0005, name=small.name), probe(layer_seconds=0.002)]
    own, other = later_loads(earlier, [alone(1.0, name=small.name), alone(1.0)], 0.8)
    assert own.predicted.value == pytest.approx(1.1 * said)
    assert other.predicted.value == pytest.approx(1.1 * (SHAPE.layers * 0.002 + SHAPE.vocab * 1e-9))


# Cells.


def test_a_cell_compares_the_medians_over_its_loads() -> None:
    loads = [load(1.1, predicted=1.0, twin=1.0), load(1.0, predicted=1.3, twin=1.2), load(0.9, predicted=0.9, twin=1.3)]
    (found,) = cells_of(loads)
    assert (found.loads, found.actual_seconds, found.predicted_seconds) == (3, 1.0, 1.0)
    assert found.error == 0
    assert found.low == pytest.approx(0.9)
    assert found.high == pytest.approx(1.1)
    assert found.scatter == pytest.approx(math.log(1.2))


def test_loads_of_different_points_make_different_cells_in_their_order() -> None:
    loads = [load(1, length=960), load(1), load(1, phase=Phase.PREFILL, length=32), load(2, length=960)]
    assert [(c.phase, c.context_depth, c.loads) for c in cells_of(loads)] == [
        (Phase.DECODE, 960, 2),
        (Phase.DECODE, 16, 1),
        (Phase.PREFILL, 0, 1),
    ]


# The errors and the rule.


def test_the_errors_of_a_phase_are_its_absolute_ones() -> None:
    found = verification(
        [*(cell(e) for e in (-0.1, 0.02, 0.04, -0.06, 0.3)), cell(0.5, phase=Phase.PREFILL, length=32)], UNSEEN_RULE
    )
    assert found.decode.cells == 5
    assert found.decode.median_abs_error == pytest.approx(0.06)
    assert found.decode.p90_abs_error == pytest.approx(0.1 + 0.6 * 0.2)
    assert found.prefill.cells == 1
    assert found.prefill.median_abs_error == pytest.approx(0.5)


def test_a_long_prompt_is_shown_and_not_judged() -> None:
    found = verification([cell(0.9, phase=Phase.PREFILL, length=512), cell(0.01)], OWN_LAYERS_RULE)
    assert len(found.cells) == 2
    assert found.prefill.cells == 0
    assert found.prefill.passed is None
    assert found.passed


@pytest.mark.parametrize(
    ("errors", "passed"),
    [
        ([0.029, -0.029, 0.029], True),
        ([0.031, 0.031, 0.031], False),  # the median
        ([0.0] * 8 + [0.09, 0.09], False),  # nine tenths
        ([0.0] * 9 + [0.5], True),
    ],
)
def test_decode_passes_within_three_percent_and_nine_tenths_within_eight(errors: list[float], passed: bool) -> None:
    found = verification([cell(e) for e in errors], OWN_LAYERS_RULE)
    assert (found.decode.passed, found.passed) == (passed, passed)


def test_one_phase_that_misses_is_enough_to_fail() -> None:
    found = verification([cell(0.0), cell(0.06, phase=Phase.PREFILL, length=128)], OWN_LAYERS_RULE)
    assert (found.decode.passed, found.prefill.passed, found.passed) == (True, False, False)


def test_where_the_machine_is_further_from_itself_the_prediction_may_be_one_and_a_half_times_that() -> None:
    bounds = OWN_LAYERS_RULE[Phase.DECODE]
    noisy = phase_errors([cell(0.05, scatter=0.04)], bounds)
    assert noisy.median_scatter == pytest.approx(0.04)
    assert noisy.allowed_median == pytest.approx(0.06)
    assert noisy.allowed_p90 == 0.08
    assert noisy.passed
    assert not phase_errors([cell(0.061, scatter=0.04)], bounds).passed


def test_a_machine_steadier_than_the_bound_leaves_the_bound_as_it_is() -> None:
    found = phase_errors([cell(0.035, scatter=0.029)], OWN_LAYERS_RULE[Phase.DECODE])
    assert found.allowed_median == 0.03
    assert not found.passed


def test_unseen_shapes_have_no_bound_for_nine_tenths() -> None:
    found = verification([cell(0.0)] * 8 + [cell(0.7)] * 2, UNSEEN_RULE)
    assert found.decode.allowed_p90 is None
    assert found.passed


def test_nothing_measured_is_no_proof() -> None:
    found = verification([], OWN_LAYERS_RULE)
    assert (found.decode.cells, found.decode.median_abs_error, found.decode.p90_abs_error) == (0, None, None)
    assert found.interval_coverage is None
    assert not found.passed


@given(errors=st.lists(st.floats(-0.9, 9), min_size=1, max_size=20))
def test_a_tenth_of_the_errors_may_lie_above_the_ninetieth_percentile(errors: list[float]) -> None:
    found = phase_errors([cell(error) for error in errors], OWN_LAYERS_RULE[Phase.DECODE])
    assert found.median_abs_error is not None
    assert found.p90_abs_error is not None
    assert 0 <= found.median_abs_error <= found.p90_abs_error <= max(map(abs, errors)) + 1e-12


@given(error=st.floats(0, 0.5), scatter=st.floats(0, 0.5), less=st.floats(0, 1))
def test_a_smaller_error_never_fails_where_a_larger_one_passed(error: float, scatter: float, less: float) -> None:
    bounds = OWN_LAYERS_RULE[Phase.DECODE]
    if phase_errors([cell(error, scatter=scatter)], bounds).passed:
        assert phase_errors([cell(error * less, scatter=scatter)], bounds).passed


# Intervals.


def test_coverage_is_how_often_the_actual_time_lay_in_the_interval() -> None:
    errors = (0.0, 0.05, -0.09, 0.11, -0.5)
    assert verification([cell(e) for e in errors], OWN_LAYERS_RULE).interval_coverage == pytest.approx(3 / 5)


def test_the_check_of_intervals_counts_every_load_by_itself() -> None:
    found = interval_check([load(1.05), load(0.95), load(1.11), load(2.0)])
    assert found is not None
    assert (found.cells, found.coverage) == (4, 0.5)
    assert found.median_width == pytest.approx(1.1 / 0.9)


def test_no_interval_has_no_coverage() -> None:
    assert interval_check([]) is None
