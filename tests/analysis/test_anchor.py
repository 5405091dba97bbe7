"""What a full model that ran says of the predictions, and when it is believed."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_measurements import an_anchor, full_model_measurement, measurement, probe_case, timed_case

from weighin_analysis.anchor import corrected, find_anchors
from weighin_analysis.card import Anchor
from weighin_analysis.catalog import architecture
from weighin_analysis.estimate import LAYER_PROBE_SD, LOAD_SD, RoundTimes
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase
from weighin_analysis.scheme import Scheme

SMOL = probe_case(architecture("SmolLM2-135M"))
TIMES = RoundTimes(seconds=(0.1, 0.2, 0.3), method_sd=LAYER_PROBE_SD)
DECODE_SECONDS, PROMPT_SECONDS = 0.02, 0.5


def anchors_of(*measurements: Sequence[Measurement]) -> tuple[Anchor, ...]:
    cases: defaultdict[Case, list[Measurement]] = defaultdict(list)
    for one in (one for found in measurements for one in found):
        cases[one.case].append(one)
    return find_anchors(cases)


def probe(*, share: float | None = None, clock: ClockKind = ClockKind.WALL) -> list[Measurement]:
    return timed_case(
        SMOL,
        decode_seconds=DECODE_SECONDS,
        first_token_seconds=PROMPT_SECONDS,
        prompt_tokens=128,
        share=share,
        clock=clock,
    )


def full_model(
    *decode_factors: float,  # one for each depth
    prefill: float = 1.0,
    rounds: int = 6,
    share: float | None = None,
    clock: ClockKind = ClockKind.WALL,
) -> list[Measurement]:
    """The full model at depths 16 and 960 and a prompt of 128, so many times as slow as its layers let expect."""
    decodes = zip((16, 960), decode_factors, strict=True)
    found = [(Phase.DECODE, depth, factor * DECODE_SECONDS) for depth, factor in decodes]
    found.append((Phase.PREFILL, 128, prefill * PROMPT_SECONDS))
    return [
        full_model_measurement(SMOL, seconds, phase=phase, length=length, rounds=rounds, share=share, clock=clock)
        for phase, length, seconds in found
    ]


# What was found.


def test_kappa_is_actual_over_predicted_time_the_median_over_lengths_for_each_phase() -> None:
    decode, prefill = anchors_of(probe(), full_model(1.04, 1.10, prefill=0.9))
    assert (decode.phase, prefill.phase) == (Phase.DECODE, Phase.PREFILL)
    assert decode.kappa == pytest.approx(math.sqrt(1.04 * 1.10))
    assert prefill.kappa == pytest.approx(0.9)
    assert (decode.architecture, decode.scheme, decode.execution_provider, decode.threads) == (
        "SmolLM2-135M",
        Scheme.INT4_BLOCK32,
        "cpu",
        2,
    )


def test_its_error_holds_the_offsets_of_both_loads_and_the_scatter_of_both_sides() -> None:
    many, few = anchors_of(probe(), full_model(1.0, 1.0))[0], anchors_of(probe(), full_model(1.0, 1.0, rounds=3))[0]
    assert few.sd > many.sd > math.hypot(LOAD_SD, LOAD_SD)


@pytest.mark.parametrize(
    "measurements",
    [
        [probe()],
        [full_model(1.0, 1.0)],
        [probe(), [replace(one, case=replace(one.case, threads=1)) for one in full_model(1.0, 1.0)]],
        [probe(), [replace(one, case=replace(one.case, scheme=Scheme.INT8_BLOCK32)) for one in full_model(1.0, 1.0)]],
        [probe(), [replace(one, series=()) for one in full_model(1.0, 1.0)]],
        [[measurement(one.case, []) for one in probe()], full_model(1.0, 1.0)],
        [probe(), full_model(1.0, 1.0, rounds=2)],
        [probe(), full_model(1.0, 1.0, share=0.5)],
        [probe(share=0.5), full_model(1.0, 1.0)],
        [probe(clock=ClockKind.THREAD_CPU), full_model(1.0, 1.0, clock=ClockKind.THREAD_CPU)],
    ],
    ids=[
        "no full model",
        "no layer probe",
        "other threads",
        "another scheme",
        "no sample of the full model",
        "no sample of the layers",
        "two rounds",
        "full model disturbed",
        "layers disturbed",
        "CPU time of a busy device",
    ],
)
def test_without_three_quiet_rounds_of_both_there_is_no_anchor(measurements: list[list[Measurement]]) -> None:
    assert anchors_of(*measurements) == ()


def test_a_length_that_ran_on_one_side_alone_says_nothing() -> None:
    (decode,) = anchors_of(probe()[:1], full_model(1.07, 3.0))
    assert decode.kappa == pytest.approx(1.07)


# When it is believed.


@pytest.mark.parametrize(
    ("kappa", "sd", "applied", "plausible"),
    [
        (1.0, 0.05, False, True),
        (1.04, 0.05, False, True),
        (1.06, 0.05, True, True),
        (0.96, 0.05, False, True),
        (0.94, 0.05, True, True),
        (1.15, 0.05, True, True),
        (1.16, 0.05, False, False),
        (0.85, 0.05, True, True),
        (0.84, 0.05, False, False),
        (1.10, 0.2, False, True),
    ],
)
def test_kappa_is_applied_beyond_its_error_and_within_fifteen_percent(
    kappa: float, sd: float, applied: bool, plausible: bool
) -> None:
    anchor = an_anchor(kappa, sd=sd)
    assert (anchor.applied, anchor.plausible) == (applied, plausible)


@given(kappa=st.floats(0.2, 5.0), sd=st.floats(0.001, 1.0))
def test_an_anchor_moves_the_times_or_widens_them_and_never_both(kappa: float, sd: float) -> None:
    anchor = an_anchor(kappa, sd=sd)
    found = corrected(TIMES, SMOL, Phase.DECODE, [anchor])
    factor = kappa if anchor.applied else 1.0
    assert found.seconds == pytest.approx([factor * seconds for seconds in TIMES.seconds])
    width = 0.0 if anchor.plausible else math.log(kappa)
    assert found.method_sd == pytest.approx(math.hypot(TIMES.method_sd, width))


@pytest.mark.parametrize(
    ("case", "phase"),
    [
        (SMOL, Phase.PREFILL),
        (replace(SMOL, scheme=Scheme.INT8_BLOCK32), Phase.DECODE),
        (replace(SMOL, execution_provider="webgpu"), Phase.DECODE),
        (replace(SMOL, threads=1), Phase.DECODE),
    ],
    ids=["phase", "scheme", "execution provider", "threads"],
)
def test_an_anchor_speaks_of_its_own_alone(case: Case, phase: Phase) -> None:
    assert corrected(TIMES, case, phase, [an_anchor(1.1)]) == TIMES


def test_an_anchor_speaks_of_other_shapes() -> None:
    found = corrected(TIMES, probe_case(architecture("Llama-3.1-8B")), Phase.DECODE, [an_anchor(1.1)])
    assert found.median_seconds == pytest.approx(0.22)
