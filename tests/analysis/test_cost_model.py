from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_measurements import measurement, probe_case, series

from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.catalog import architecture
from weighin_analysis.cost_model import LEAST_SHAPES, CostModel, fit, non_negative_least_squares
from weighin_analysis.errors import EstimateError
from weighin_analysis.estimate import rate_estimate, time_estimate
from weighin_analysis.measurement import Case, Measurement, Phase, SeriesPart
from weighin_analysis.scheme import Scheme

DEPTHS, PROMPTS = (16, 960), (32, 128)


def plain(shape: Architecture) -> Architecture:
    """The widths of a shape with the blocks of a Llama."""
    return replace(shape, feed_forward=FeedForward.SWIGLU, query_key_norm=False, sandwich_norm=False)


def decoder(
    name: str, layers: int, hidden: int, ffn: int, heads: int, kv_heads: int, head_dim: int, vocab: int
) -> Architecture:
    return Architecture(
        name=name,
        kind=ArchitectureKind.DECODER,
        layers=layers,
        hidden=hidden,
        ffn=ffn,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        tied_embeddings=True,
    )


REFERENCES = [
    plain(architecture(name))
    for name in (
        "SmolLM2-135M",
        "Gemma-3-270M",
        "Qwen2.5-0.5B",
        "Llama-3.2-1B",
        "Gemma-2B",
        "Phi-3-mini",
        "Llama-3.1-8B",
    )
]
UNSEEN = [
    decoder("SmolLM2-360M", 32, 960, 2560, 15, 5, 64, 49152),
    decoder("TinyLlama-1.1B", 22, 2048, 5632, 32, 4, 64, 32000),
    decoder("Qwen2.5-1.5B", 28, 1536, 8960, 12, 2, 128, 151936),
    decoder("Mistral-7B", 32, 4096, 14336, 32, 8, 128, 32768),
    decoder("Llama-70B", 80, 8192, 28672, 64, 8, 128, 128256),
    decoder("odd widths", 19, 1184, 3520, 11, 11, 96, 70016),
]
some_shape = st.builds(
    decoder,
    st.just("drawn"),
    layers=st.integers(2, 80),
    hidden=st.integers(8, 256).map(lambda n: 32 * n),
    ffn=st.integers(8, 900).map(lambda n: 32 * n),
    heads=st.integers(1, 64),
    kv_heads=st.integers(1, 8),
    head_dim=st.sampled_from([64, 80, 96, 128, 256]),
    vocab=st.integers(1000, 260_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A device on which every unit of work has its price: the times of layers and of head columns."""

    call: float = 2e-4
    weight: float = 6e-11
    operator: float = 1e-5
    multiplication: float = 1.3e-11
    element: float = 1e-9
    key: float = 3e-10
    score: float = 4e-10

    def layers(self, shape: Architecture, count: int, tokens: int, depth: int) -> float:
        """Seconds of a call of ``count`` layers: decode with one token, else a prefill."""
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        weights, operators = shape.layer_weight_count, 11 * self.operator  # two norms, eight blocks' worth, attention
        if tokens == 1:
            cache = (depth + 1) * (self.key * keys + self.score * queries)
            return self.call + count * (self.weight * weights + operators + cache)
        between = 2 * shape.hidden + queries + 2 * keys + 3 * shape.ffn
        work = self.multiplication * weights + self.element * between + self.score * tokens * queries
        return self.call + count * (operators + tokens * work)

    def head(self, shape: Architecture, columns: int) -> float:
        """Seconds of a call of ``columns`` of the head."""
        return self.call + self.operator + self.weight * shape.hidden * columns

    def full_model(self, shape: Architecture, tokens: int, depth: int) -> float:
        """Seconds of the whole model, in one call."""
        return self.layers(shape, shape.layers, tokens, depth) + self.head(shape, shape.vocab) - self.call


LAW = Law()


def measured(
    shape: Architecture,
    law: Law = LAW,
    *,
    scheme: Scheme = Scheme.INT8_DYNAMIC,
    times: Callable[[], float] = lambda: 1.0,
    share: float | None = None,
) -> list[Measurement]:
    """What the suite measures of a shape on the device of the law; each measurement is slower by ``times()``."""
    planned = probe_case(shape, scheme)
    case = replace(planned, short_probe_layers=planned.probe_layers // 2)
    points = [(Phase.DECODE, 1, depth) for depth in DEPTHS] + [(Phase.PREFILL, tokens, 0) for tokens in PROMPTS]
    return [_at(case, law, phase, tokens, depth, times(), share) for phase, tokens, depth in points]


def _at(case: Case, law: Law, phase: Phase, tokens: int, depth: int, factor: float, share: float | None) -> Measurement:
    shape = case.architecture
    seconds = {SeriesPart.LAYERS: law.layers(shape, case.probe_layers, tokens, depth)}
    if case.short_probe_layers:
        seconds[SeriesPart.SHORT_LAYERS] = law.layers(shape, case.short_probe_layers, tokens, depth)
    seconds[SeriesPart.HEAD] = law.head(shape, case.head_columns)
    found = [
        series(part, number, [factor * time], share=share, phase=phase)
        for number in range(4)
        for part, time in seconds.items()
    ]
    return measurement(case, found, phase=phase, length=depth or tokens)


def everything(shapes: Sequence[Architecture] = REFERENCES, law: Law = LAW) -> list[Measurement]:
    return [one for shape in shapes for one in measured(shape, law)]


@pytest.fixture(scope="module")
def model() -> CostModel:
    return fit(everything())


# A device that obeys the law.


@pytest.mark.parametrize("shape", UNSEEN, ids=lambda shape: shape.name)
def test_a_device_that_obeys_the_law_is_predicted_at_any_shape_depth_and_prompt(
    model: CostModel, shape: Architecture
) -> None:
    for depth in (0, 16, 300, 960, 4000):
        decoded = model.decode_times(shape, depth).median_seconds
        assert decoded == pytest.approx(LAW.full_model(shape, 1, depth), rel=1e-3)
    for tokens in (32, 100, 128, 512):
        filled = model.prefill_times(shape, tokens).median_seconds
        assert filled == pytest.approx(LAW.full_model(shape, tokens, 0), rel=1e-3)


def test_three_shapes_are_enough() -> None:
    three = [shape for shape in REFERENCES if shape.name in {"SmolLM2-135M", "Qwen2.5-0.5B", "Llama-3.2-1B"}]
    model = fit(everything(three))
    for shape in UNSEEN:
        assert model.decode_times(shape, 500).median_seconds == pytest.approx(LAW.full_model(shape, 1, 500), rel=1e-3)


def test_every_load_being_off_by_some_percent_moves_an_unseen_shape_by_less() -> None:
    random = np.random.default_rng(1)
    found = [one for shape in REFERENCES for one in measured(shape, times=lambda: float(random.lognormal(0, 0.05)))]
    model = fit(found)
    for shape in UNSEEN:
        assert model.decode_times(shape, 500).median_seconds == pytest.approx(LAW.full_model(shape, 1, 500), rel=0.08)
        filled = model.prefill_times(shape, 128).median_seconds
        assert filled == pytest.approx(LAW.full_model(shape, 128, 0), rel=0.08)


@pytest.mark.parametrize("wild", [shape.name for shape in REFERENCES])
def test_one_wild_case_does_not_wreck_the_rest(wild: str) -> None:
    calm = everything([shape for shape in REFERENCES if shape.name != wild])
    model = fit(calm + measured(plain(architecture(wild)), times=lambda: 3.0))
    for shape in UNSEEN:
        assert model.decode_times(shape, 500).median_seconds == pytest.approx(LAW.full_model(shape, 1, 500), rel=0.15)
        filled = model.prefill_times(shape, 128).median_seconds
        assert filled == pytest.approx(LAW.full_model(shape, 128, 0), rel=0.15)


def test_an_encoder_is_measured_and_predicted_without_a_head() -> None:
    encoder = architecture("DistilBERT")
    larger = replace(encoder, name="BERT-base", layers=12)
    case = probe_case(encoder, Scheme.INT8_DYNAMIC)
    found = [
        measurement(
            case,
            [series(SeriesPart.LAYERS, i, [0.002 * tokens]) for i in range(4)],
            phase=Phase.PREFILL,
            length=tokens,
        )
        for tokens in PROMPTS
    ]
    model = fit([*everything(), *found])
    ratio = model.prefill_times(larger, 64).median_seconds / model.prefill_times(encoder, 64).median_seconds
    assert ratio == pytest.approx(2)
    with pytest.raises(EstimateError, match="not a decoder"):
        model.decode_times(encoder, 16)


# What must hold for every shape.


@given(shape=some_shape, depth=st.integers(0, 100_000), tokens=st.integers(1, 100_000))
def test_times_are_positive_and_grow_with_layers_depth_and_prompt(
    model: CostModel, shape: Architecture, depth: int, tokens: int
) -> None:
    deeper = replace(shape, layers=shape.layers + 1)
    decoded, filled = model.decode_times(shape, depth), model.prefill_times(shape, tokens)
    assert min(decoded.median_seconds, filled.median_seconds) > 0
    assert model.decode_times(deeper, depth).median_seconds > decoded.median_seconds
    assert model.prefill_times(deeper, tokens).median_seconds > filled.median_seconds
    assert model.decode_times(shape, depth + 1).median_seconds > decoded.median_seconds
    assert model.prefill_times(shape, tokens + 1).median_seconds > filled.median_seconds


@given(shape=some_shape, depth=st.integers(0, 10_000))
def test_the_estimates_of_the_layer_probe_work_on_predicted_times(
    model: CostModel, shape: Architecture, depth: int
) -> None:
    times = model.decode_times(shape, depth)
    time, rate = time_estimate(times, 0.8), rate_estimate(times, 1, 0.8)
    assert time.low < time.value < time.high
    assert rate.value == pytest.approx(1 / time.value)


@pytest.mark.parametrize("scheme", [Scheme.INT4_BLOCK32, Scheme.INT8_BLOCK32])
def test_rows_that_are_no_multiple_of_four_blocks_cost_more_in_the_block_schemes_alone(scheme: Scheme) -> None:
    even = decoder("even", 8, 1024, 4096, 16, 4, 64, 32000)
    odd = replace(even, hidden=1024 + 32)

    def rise(scheme: Scheme) -> float:
        model = fit([one for shape in REFERENCES for one in measured(shape, scheme=scheme)])
        return model.decode_times(odd, 16).median_seconds / model.decode_times(even, 16).median_seconds

    assert rise(scheme) > 1.02 * rise(Scheme.INT8_DYNAMIC)


def test_a_sliding_window_changes_nothing_on_a_processor(model: CostModel) -> None:
    shape = UNSEEN[3]
    windowed = replace(shape, sliding_window=512)
    assert model.decode_times(windowed, 4000).seconds == model.decode_times(shape, 4000).seconds
    assert model.prefill_times(windowed, 4000).seconds == model.prefill_times(shape, 4000).seconds


# The interval.


def test_the_farther_from_what_was_measured_the_wider(model: CostModel) -> None:
    near, far = UNSEEN[3], UNSEEN[4]  # 7B beside a measured 8B, and 70B
    assert model.decode_times(far, 16).method_sd > model.decode_times(near, 16).method_sd
    assert model.prefill_times(far, 32).method_sd > model.prefill_times(near, 32).method_sd


def test_measurements_that_no_law_explains_widen_the_interval(model: CostModel) -> None:
    random = np.random.default_rng(2)
    found = [one for shape in REFERENCES for one in measured(shape, times=lambda: float(random.lognormal(0, 0.3)))]
    scattered = fit(found)
    for shape in UNSEEN:
        assert scattered.decode_times(shape, 16).method_sd > 1.5 * model.decode_times(shape, 16).method_sd


def test_lengths_beyond_those_that_were_run_are_marked(model: CostModel) -> None:
    shape = UNSEEN[0]
    assert [model.decode_times(shape, depth).extrapolated for depth in (16, 500, 960, 961)] == [False] * 3 + [True]
    assert [model.prefill_times(shape, tokens).extrapolated for tokens in (32, 64, 128, 512)] == [False] * 3 + [True]


def test_the_load_of_others_is_handed_on() -> None:
    found = [one for shape in REFERENCES for one in measured(shape, share=0.125)]
    assert fit(found).decode_times(UNSEEN[0], 16).foreign_cpu_share == 0.125
    assert fit(found).decode_times(UNSEEN[0], 16).disturbed


# Too little to fit.


@pytest.mark.parametrize("count", range(LEAST_SHAPES))
def test_too_few_shapes_give_no_model(count: int) -> None:
    with pytest.raises(EstimateError, match="at least 3 shapes"):
        fit(everything(REFERENCES[:count]))


def test_shapes_without_a_usable_sample_do_not_count() -> None:
    found = everything(REFERENCES[:3])
    spoilt = [replace(one, series=()) if one.case.architecture == REFERENCES[0] else one for one in found]
    with pytest.raises(EstimateError, match="at least 3 shapes"):
        fit(spoilt)


def test_measurements_of_two_schemes_are_not_mixed() -> None:
    mixed = everything(REFERENCES[:3]) + measured(REFERENCES[3], scheme=Scheme.INT4_BLOCK32)
    with pytest.raises(EstimateError, match="one execution provider, scheme"):
        fit(mixed)


# Least squares with no value below zero.


@given(
    matrix=arrays(np.float64, (6, 3), elements=st.integers(0, 10)),
    target=arrays(np.float64, 6, elements=st.integers(0, 10)),
)
def test_no_set_of_positive_values_fits_better(
    matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]], target: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> None:
    found = non_negative_least_squares(matrix, target)
    assert np.all(found >= 0)
    error = float(np.linalg.norm(matrix @ found - target))
    for count in range(4):
        for chosen in combinations(range(3), count):
            other = np.zeros(3)
            other[list(chosen)] = np.linalg.lstsq(matrix[:, chosen], target, rcond=None)[0].clip(0) if chosen else 0
            assert error <= float(np.linalg.norm(matrix @ other - target)) + 1e-6
