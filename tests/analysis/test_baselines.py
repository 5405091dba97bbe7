from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.accuracy import Cell
from weighin_analysis.baselines import (
    Machine,
    bandwidth_roofline,
    baseline_errors,
    llm_checker_rate,
    llmfit_rate,
    two_parameter_fit,
    whichllm_rate,
)
from weighin_analysis.catalog import architectures
from weighin_analysis.errors import EstimateError
from weighin_analysis.footprint import bytes_read_per_token
from weighin_analysis.measurement import Phase
from weighin_analysis.scheme import Scheme

PARAMETERS = st.integers(1_000_000, 100_000_000_000)
SCHEMES = st.sampled_from(Scheme)
BYTES = st.floats(1e6, 1e11)
SECONDS = st.floats(1e-4, 1e2)


def checker(parameter_count: int, *, cores: int = 2, memory_bytes: float = 24 * 2**30) -> float:
    """llm-checker's answer for a processor of a known maker and unknown clock."""
    return llm_checker_rate(
        parameter_count,
        cpu_model="Intel(R) Xeon(R) Processor",
        physical_core_count=cores,
        frequency_hertz=None,
        memory_total_bytes=memory_bytes,
    )


# The roofline.


def test_the_roofline_reads_every_byte_once() -> None:
    assert bandwidth_roofline(5e8, 2e10) == pytest.approx(40)


@given(read=BYTES, more=st.floats(1, 100), bandwidth=st.floats(1e8, 1e12))
def test_reading_more_is_never_faster(read: float, more: float, bandwidth: float) -> None:
    assert 0 < bandwidth_roofline(read * more, bandwidth) <= bandwidth_roofline(read, bandwidth)


# The line through small models.


@given(
    fixed=st.floats(0, 1),
    per_byte=st.floats(1e-12, 1e-8),
    sizes=st.lists(BYTES, min_size=2, max_size=5, unique_by=lambda size: round(size, -6)),
)
def test_models_that_lie_on_a_line_are_met(fixed: float, per_byte: float, sizes: list[float]) -> None:
    line = two_parameter_fit([(size, fixed + per_byte * size) for size in sizes])
    for size in sizes:
        assert line.seconds(size) == pytest.approx(fixed + per_byte * size, rel=1e-6)


@given(points=st.lists(st.tuples(BYTES, SECONDS), min_size=2, max_size=6, unique_by=lambda point: point[0]))
def test_no_coefficient_is_negative_and_more_bytes_never_take_less_time(points: list[tuple[float, float]]) -> None:
    line = two_parameter_fit(points)
    assert line.fixed_seconds >= 0
    assert line.seconds_per_byte >= 0
    sizes = sorted(size for size, _ in points)
    times = [line.seconds(size) for size in sizes]
    assert times == sorted(times)
    assert times[0] > 0


def test_where_larger_models_were_faster_the_size_says_nothing() -> None:
    """The best line without a negative slope is flat, between the two and nearer to the short time."""
    line = two_parameter_fit([(1e8, 0.4), (5e8, 0.2)])
    assert line.seconds_per_byte == 0
    assert 0.2 < line.fixed_seconds < 0.3


def test_a_line_that_would_begin_below_zero_goes_through_it() -> None:
    line = two_parameter_fit([(1e8, 0.01), (5e8, 0.2)])
    assert line.fixed_seconds == 0
    assert 1e-10 < line.seconds_per_byte < 4e-10


@pytest.mark.parametrize("points", [[], [(1e8, 0.1)], [(1e8, 0.1), (1e8, 0.2)]])
def test_one_size_makes_no_line(points: list[tuple[float, float]]) -> None:
    with pytest.raises(EstimateError, match="two sizes"):
        two_parameter_fit(points)


# The peers. The expected values are worked out by hand from the formulas.


def test_llmfit_divides_a_constant_by_the_parameters() -> None:
    one = 1_000_000_000
    assert llmfit_rate(one, Scheme.INT4_BLOCK32, logical_core_count=2, is_arm=False) == pytest.approx(24.15)
    assert llmfit_rate(2 * one, Scheme.INT8_BLOCK32, logical_core_count=8, is_arm=False) == pytest.approx(9.24)
    assert llmfit_rate(one, Scheme.INT8_DYNAMIC, logical_core_count=4, is_arm=True) == pytest.approx(21.6)


def test_whichllm_divides_eighteen_by_the_parameters() -> None:
    assert whichllm_rate(1_000_000_000, Scheme.INT4_BLOCK32) == pytest.approx(21.2)
    assert whichllm_rate(2_000_000_000, Scheme.INT8_BLOCK32) == pytest.approx(9)


def test_llm_checker_scales_a_baseline_of_7b() -> None:
    """4 + 1.2 + 1 + 1.5 = 7.7 for two cores of a processor whose name says Intel, and memory to spare."""
    assert checker(7_000_000_000) == 8
    assert checker(1_000_000_000) == 18  # the size factor ends at 2.2
    assert checker(7_000_000_000, memory_bytes=8 * 2**30) == 5  # 5.2 of 7.25 GB: factor 0.65


@given(parameters=PARAMETERS, more=st.integers(1, 1000), scheme=SCHEMES, cores=st.integers(1, 64))
def test_every_peer_gives_a_positive_rate_that_never_grows_with_the_model(
    parameters: int, more: int, scheme: Scheme, cores: int
) -> None:
    def rates(count: int) -> list[float]:
        return [
            llmfit_rate(count, scheme, logical_core_count=cores, is_arm=False),
            whichllm_rate(count, scheme),
            checker(count, cores=cores),
        ]

    for small, large in zip(rates(parameters), rates(parameters * more), strict=True):
        assert 0 < large <= small


# All of them on the cells of a verification.

SMALL = ("SmolLM2-135M", "Gemma-3-270M", "Qwen2.5-0.5B")
MACHINE = Machine(
    read_bandwidth_bytes_per_second=2e10,
    cpu_model="Intel(R) Xeon(R) Processor",
    is_arm=False,
    physical_core_count=2,
    logical_core_count=2,
    frequency_hertz=None,
    memory_total_bytes=24 * 2**30,
)


def cell(name: str, phase: Phase, length: int) -> Cell:
    """A full model on a device that does nothing but read its weights, at 10 GB/s."""
    decode = phase is Phase.DECODE
    seconds = bytes_read_per_token(architectures()[name], Scheme.INT4_BLOCK32) / 1e10
    return Cell(
        architecture=name,
        scheme="int4_block32",
        phase=phase,
        token_count=1 if decode else length,
        context_depth=length if decode else 0,
        loads=3,
        actual_seconds=seconds,
        predicted_seconds=seconds,
        error=0.0,
        low=seconds,
        high=seconds,
        scatter=0.0,
    )


def test_every_baseline_says_something_of_decoding_and_only_the_line_of_a_prefill() -> None:
    cells = [cell(name, phase, 32) for name in (*SMALL, "Gemma-2B") for phase in Phase]
    found = baseline_errors(cells, architectures(), MACHINE)
    lines = {"two_parameter_fit", "two_parameter_fit_own_point"}
    assert set(found) == lines | {"bandwidth_roofline", "llmfit", "whichllm", "llm_checker"}
    assert {name: len(errors[Phase.DECODE]) for name, errors in found.items()} == dict.fromkeys(found, 4)
    assert {name: len(errors[Phase.PREFILL]) for name, errors in found.items() if errors[Phase.PREFILL]} == (
        dict.fromkeys(lines, 4)
    )


def test_a_device_that_only_reads_is_what_line_and_roofline_describe() -> None:
    """The cells know nothing of a cache; at a depth of 0 there is none."""
    found = baseline_errors([cell(name, Phase.DECODE, 0) for name in (*SMALL, "Gemma-2B")], architectures(), MACHINE)
    assert found["two_parameter_fit"][Phase.DECODE] == pytest.approx([0] * 4, abs=1e-6)
    assert found["bandwidth_roofline"][Phase.DECODE] == pytest.approx([0.5] * 4)  # of twice the bandwidth


@pytest.mark.parametrize("bandwidth", [None, 0.0])
def test_without_a_read_bandwidth_there_is_no_roofline(bandwidth: float | None) -> None:
    machine = replace(MACHINE, read_bandwidth_bytes_per_second=bandwidth)
    found = baseline_errors([cell("SmolLM2-135M", Phase.DECODE, 0)], architectures(), machine)
    assert set(found) == {"llmfit", "whichllm", "llm_checker"}


def test_a_line_needs_two_small_models_besides_the_one_that_it_predicts() -> None:
    found = baseline_errors(
        [cell(name, Phase.DECODE, 0) for name in (*SMALL[:2], "Gemma-2B")], architectures(), MACHINE
    )
    assert len(found["two_parameter_fit"][Phase.DECODE]) == 1  # Gemma 2B, from the two small ones
    assert len(found["two_parameter_fit_own_point"][Phase.DECODE]) == 3


def test_what_is_not_judged_and_what_is_no_decoder_is_left_out() -> None:
    cells = [cell("SmolLM2-135M", Phase.PREFILL, 512), cell("DistilBERT", Phase.PREFILL, 32)]
    assert baseline_errors(cells, architectures(), MACHINE) == {}
