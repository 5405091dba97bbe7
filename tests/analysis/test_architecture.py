from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.catalog import architecture

# Number of elements of all tensors in the published weight files.
PUBLISHED_PARAMETER_COUNTS = {
    "DistilBERT": 66_362_880,
    "SmolLM2-135M": 134_515_008,
    "Gemma-3-270M": 268_098_176,
    "Qwen2.5-0.5B": 494_032_768,
    "Llama-3.2-1B": 1_235_814_400,
    "Gemma-2B": 2_506_172_416,
    "Phi-3-mini": 3_821_079_552,
    "Llama-3.1-8B": 8_030_261_248,
}
SMALL = Architecture(
    name="small",
    kind=ArchitectureKind.DECODER,
    layers=3,
    hidden=10,
    ffn=7,
    heads=4,
    kv_heads=2,
    head_dim=5,
    vocab=100,
    tied_embeddings=True,
)


@pytest.mark.parametrize(("name", "published"), PUBLISHED_PARAMETER_COUNTS.items())
def test_the_parameters_of_a_reference_are_those_of_the_published_weights(name: str, published: int) -> None:
    assert architecture(name).parameter_count == pytest.approx(published, rel=0.03)


def test_a_layer_counts_its_seven_matrices() -> None:
    query, key, value, output = 10 * 20, 10 * 10, 10 * 10, 20 * 10
    gate, up, down = 10 * 7, 10 * 7, 7 * 10
    assert SMALL.layer_weight_count == query + key + value + output + gate + up + down


def test_a_plain_feed_forward_block_has_one_matrix_less_than_a_gated_one() -> None:
    gated = replace(SMALL, feed_forward=FeedForward.GEGLU)
    plain = replace(SMALL, feed_forward=FeedForward.GELU)
    assert gated.layer_weight_count == SMALL.layer_weight_count
    assert SMALL.layer_weight_count - plain.layer_weight_count == 10 * 7
    assert [one.projections for one in FeedForward] == [3, 3, 2]


def test_every_layer_attends_to_everything_without_a_window() -> None:
    assert {SMALL.window_of_layer(index) for index in range(SMALL.layers)} == {None}


def test_every_layer_attends_to_the_window_where_none_is_global() -> None:
    windowed = replace(SMALL, sliding_window=512)
    assert [windowed.window_of_layer(index) for index in range(3)] == [512, 512, 512]


def test_the_last_layer_of_each_interval_is_global() -> None:
    gemma = architecture("Gemma-3-270M")
    windows = [gemma.window_of_layer(index) for index in range(gemma.layers)]
    assert [index for index, window in enumerate(windows) if window is None] == [5, 11, 17]
    assert {window for window in windows if window is not None} == {512}


def test_a_tied_table_is_counted_once_and_untied_ones_twice() -> None:
    untied = replace(SMALL, tied_embeddings=False)
    assert untied.parameter_count - SMALL.parameter_count == 100 * 10
    assert untied.head_weight_count == SMALL.head_weight_count == 100 * 10


def test_an_encoder_has_one_table_no_head_and_no_cache() -> None:
    encoder = replace(SMALL, kind=ArchitectureKind.ENCODER, tied_embeddings=False)
    assert encoder.parameter_count == 3 * encoder.layer_weight_count + 100 * 10
    assert encoder.head_weight_count == 0
    assert encoder.kv_cache_bytes(2048, bytes_per_element=4) == 0


def test_a_token_of_qwen_takes_12288_bytes_of_cache_at_two_bytes_per_element() -> None:
    assert architecture("Qwen2.5-0.5B").kv_cache_bytes(1, bytes_per_element=2) == 12_288


@given(layers=st.integers(1, 200), tokens=st.integers(0, 1 << 20), element=st.sampled_from([1, 2, 4]))
def test_the_cache_grows_with_layers_tokens_and_width(layers: int, tokens: int, element: int) -> None:
    shape = replace(SMALL, layers=layers)
    assert shape.kv_cache_bytes(tokens, element) == layers * tokens * element * SMALL.kv_cache_bytes(1, 1) // 3
