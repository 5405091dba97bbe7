"""What cannot be measured on a real device, and what can."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_measurements import full_model_measurement, lawful_measurement, probe_case

from weighin_analysis.catalog import architecture
from weighin_analysis.measurement import Case, Measurement, Phase, SeriesPart
from weighin_analysis.plausible import (
    MainMemory,
    Plausibility,
    clock_is_suspect,
    plausibility,
    plausibility_rules,
    possible_measurements,
)
from weighin_analysis.public.bytes_read import weight_bytes_read
from weighin_analysis.public.rows import Confidence, PublicPhase, read_rows
from weighin_analysis.scheme import Scheme

PUBLIC = Path(__file__).parents[1] / "data" / "throughput.csv"
GB = 1e9
LLAMA = probe_case(architecture("Llama-3.2-1B"))
NO_CACHE = MainMemory(read_bandwidth_bytes_per_second=40 * GB, last_level_cache_bytes=0)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def decoding(rate: float, *, case: Case = LLAMA, provider: str = "cpu") -> Measurement:
    """A decode measurement that reads the stored weights of every graph at ``rate`` bytes per second."""
    weight = case.scheme.stored_bytes_per_weight / rate
    shape = case.architecture
    found = lawful_measurement(
        case,
        Phase.DECODE,
        16,
        layer_seconds=lambda _tokens, _depth: shape.layer_weight_count * weight,
        column_seconds=shape.hidden * weight,
    )
    return replace(found, execution_provider=provider)


def test_decode_that_reads_no_faster_than_memory_is_plausible() -> None:
    assert plausibility(decoding(40 * GB), NO_CACHE) is Plausibility.OK


@pytest.mark.parametrize(("times", "expected"), [(1.14, Plausibility.OK), (1.16, Plausibility.EXCEEDS_BANDWIDTH)])
def test_a_little_more_than_the_measured_bandwidth_may_be_noise(times: float, expected: Plausibility) -> None:
    assert plausibility(decoding(times * 40 * GB), NO_CACHE) is expected


def test_a_probe_that_fits_into_the_cache_may_be_faster_than_memory() -> None:
    layers = LLAMA.probe_layers * LLAMA.architecture.layer_weight_count * LLAMA.scheme.stored_bytes_per_weight
    large = replace(NO_CACHE, last_level_cache_bytes=math.ceil(layers))
    assert plausibility(decoding(400 * GB), large) is Plausibility.OK
    small = replace(NO_CACHE, last_level_cache_bytes=int(layers / 2))
    assert plausibility(decoding(400 * GB), small) is Plausibility.EXCEEDS_BANDWIDTH


def test_a_cache_of_unknown_size_is_taken_for_a_large_one() -> None:
    unknown = replace(NO_CACHE, last_level_cache_bytes=None)
    large = replace(NO_CACHE, last_level_cache_bytes=plausibility_rules().unknown_cache_bytes)
    for rate in (40 * GB, 400 * GB):
        for case in (LLAMA, probe_case(architecture("Gemma-2B"), Scheme.FP16)):
            measured = decoding(rate, case=case)
            assert plausibility(measured, unknown) is plausibility(measured, large)


def test_a_full_model_is_held_against_all_of_its_weights() -> None:
    weights = LLAMA.architecture.layers * LLAMA.architecture.layer_weight_count + LLAMA.architecture.head_weight_count
    seconds = weights * LLAMA.scheme.stored_bytes_per_weight / (40 * GB)
    whole = full_model_measurement(LLAMA, seconds)
    assert plausibility(whole, NO_CACHE) is Plausibility.OK
    assert plausibility(full_model_measurement(LLAMA, seconds / 5), NO_CACHE) is Plausibility.EXCEEDS_BANDWIDTH


def test_a_prompt_is_bound_by_arithmetic_and_never_too_fast() -> None:
    prompt = lawful_measurement(LLAMA, Phase.PREFILL, 32, layer_seconds=lambda *_: 1e-9, column_seconds=1e-12)
    assert plausibility(prompt, NO_CACHE) is Plausibility.OK


def test_an_accelerator_is_unchecked_since_nobody_measures_its_memory() -> None:
    assert plausibility(decoding(4000 * GB, provider="cuda"), NO_CACHE) is Plausibility.UNCHECKED


def test_the_processor_without_a_bandwidth_cannot_be_believed_but_by_its_owner() -> None:
    unknown = replace(NO_CACHE, read_bandwidth_bytes_per_second=None)
    measured = decoding(40 * GB)
    assert plausibility(measured, unknown) is Plausibility.BANDWIDTH_MISSING
    assert not Plausibility.BANDWIDTH_MISSING.counts
    assert possible_measurements([measured], unknown) == [measured]


@given(sample=st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -1.0]), place=st.integers(0, 20))
def test_a_single_sample_that_is_no_time_makes_the_measurement_invalid(sample: float, place: int) -> None:
    measured = decoding(GB)
    index = place % len(measured.series)
    damaged = replace(measured.series[index], sample_seconds=(sample,))
    found = (*measured.series[:index], damaged, *measured.series[index + 1 :])
    assert plausibility(replace(measured, series=found), NO_CACHE) is Plausibility.SAMPLE_INVALID


def test_a_measurement_without_a_sample_is_invalid() -> None:
    assert plausibility(replace(decoding(GB), series=()), NO_CACHE) is Plausibility.SAMPLE_INVALID


def test_the_cost_of_a_call_is_no_matter_of_memory() -> None:
    measured = decoding(40 * GB)
    call = replace(measured.series[0], part=SeriesPart.CALL, sample_seconds=(1e-9,))
    assert plausibility(replace(measured, series=(*measured.series, call)), NO_CACHE) is Plausibility.OK


@pytest.mark.parametrize(
    ("observed", "sent", "suspect"),
    [
        (-timedelta(days=20), timedelta(0), False),  # it waited in the spool
        (-timedelta(days=20), None, False),
        (timedelta(hours=23), timedelta(hours=23), False),
        (-timedelta(hours=25), -timedelta(hours=25), True),
        (timedelta(hours=25), timedelta(hours=25), True),
        (timedelta(hours=25), timedelta(0), True),
        (timedelta(hours=25), None, True),
        (None, None, False),
    ],
)
def test_a_clock_is_judged_by_when_a_run_was_sent_and_no_run_begins_after_it_arrived(
    observed: timedelta | None, sent: timedelta | None, suspect: bool
) -> None:
    observe_time = None if observed is None else NOW + observed
    send_time = None if sent is None else NOW + sent
    assert clock_is_suspect(receive_time=NOW, observe_time=observe_time, send_time=send_time) is suspect


def test_no_sound_public_rate_is_called_implausible() -> None:
    """Against nominal bandwidth, which is above what is measured, and without any cache, which is stricter."""
    checked = dict.fromkeys(Confidence, 0)
    flagged = dict.fromkeys(Confidence, 0)
    for row in read_rows(PUBLIC):
        weights = weight_bytes_read(row)
        if row.phase is not PublicPhase.DECODE or not (row.tokens_per_second and row.bandwidth_bytes_per_second):
            continue
        if weights is not None:
            bandwidth = row.bandwidth_bytes_per_second
            memory = MainMemory(read_bandwidth_bytes_per_second=bandwidth, last_level_cache_bytes=0)
            checked[row.confidence] += 1
            flagged[row.confidence] += not memory.delivers(weights, 1 / row.tokens_per_second)
    assert (checked[Confidence.HIGH] + checked[Confidence.MEDIUM], checked[Confidence.LOW]) == (941, 137)
    assert (flagged[Confidence.HIGH], flagged[Confidence.MEDIUM], flagged[Confidence.LOW]) == (0, 0, 17)
