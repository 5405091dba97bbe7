"""A decode step reads neither a model's file nor its buffers: the traps of public tables."""

import pytest
from made_rows import THROUGHPUT, row_of

from weighin_analysis.public.bytes_read import bytes_read, depth, weight_bytes_read
from weighin_analysis.public.rows import Confidence, PublicPhase, read_rows


def test_a_known_model_is_counted_tensor_by_tensor_whatever_size_the_row_states() -> None:
    stated = row_of(model="Llama-3.2-1B", quantization="Q8_0", model_size_bytes="1321083008")
    unstated = row_of(model="meta-llama/Llama-3.2-1B-Instruct", quantization="Q8_0", model_size_bytes="")
    assert weight_bytes_read(stated) == weight_bytes_read(unstated) == pytest.approx(1.3133e9, rel=1e-3)


def test_a_tied_table_is_read_once_however_often_the_runtime_holds_it() -> None:
    # llama.rn reports 1,888,569,262 bytes of buffers, in which the table of 151,936 x 1,536 weights is twice.
    twice = row_of(
        model="Qwen2.5-1.5B",
        parameters="1543714304",
        quantization="unknown",
        model_size_bytes="1888569262",
        size_source="reported weights_total_mib (all buffers)",
    )
    counted = row_of(model="Qwen2.5-1.5B", parameters="1543714304", quantization="Q8_0")
    assert weight_bytes_read(twice) == pytest.approx(weight_bytes_read(counted), rel=0.001)


def test_of_a_table_apart_from_the_head_one_row_is_read() -> None:
    row = row_of(model="Llama-3.1-8B", parameters="8030261248", quantization="w4a16", model_size_bytes="4015130624")
    assert weight_bytes_read(row) == pytest.approx(4015130624 * (8030261248 - 525336576) / 8030261248)


def test_of_embeddings_per_layer_only_what_a_token_passes_is_read() -> None:
    row = row_of(
        model="Gemma-3n-E4B",
        parameters="7850000000",
        active_parameters="4000000000",
        quantization="int4 per-channel",
        model_size_bytes="4235000000",
    )
    assert weight_bytes_read(row) == pytest.approx(4235000000 * 4.0 / 7.85)


def test_of_a_mixture_only_the_experts_that_a_token_passes_are_read() -> None:
    row = row_of(model="Qwen3-30B-A3B", parameters="30532122624", quantization="Q4_K_M", model_size_bytes="18556686912")
    read = weight_bytes_read(row)
    assert read is not None
    assert 0.1 < read / 18556686912 < 0.12


def test_keys_and_values_are_read_at_the_depth_of_the_test() -> None:
    shallow, deep = (row_of(test=test, context="4096") for test in ("tg128", "1024 in / 256 out"))
    assert (depth(shallow), depth(deep)) == (64, 1152)
    reads = [bytes_read(row) for row in (shallow, deep)]
    assert reads[0] is not None
    assert reads[1] is not None
    assert reads[1] - reads[0] == 2 * 16 * 8 * 64 * 2 * (1152 - 64)


@pytest.mark.parametrize(("test", "context", "expected"), [("Genie tok/s", "4096", 4096), ("chat app", "", 64)])
def test_where_a_test_tells_no_lengths_the_context_counts(test: str, context: str, expected: int) -> None:
    assert depth(row_of(test=test, context=context)) == expected


def test_a_model_of_another_size_than_its_name_says_is_not_taken_for_it() -> None:
    row = row_of(model="Llama-3.2-1B", parameters="3000000000", quantization="Q4_0", model_size_bytes="1700000000")
    assert bytes_read(row) == 1_700_000_000


def test_nothing_is_known_of_a_model_without_size() -> None:
    assert bytes_read(row_of(model="nobody knows it", model_size_bytes="")) is None


def test_no_row_that_is_worth_anything_reads_faster_than_its_memory() -> None:
    """Crowd rows do, up to 5.7 times: mixtures that are not marked, speculative decoding, wrong counts."""
    over = []
    for row in read_rows(THROUGHPUT):
        read = bytes_read(row) if row.phase is PublicPhase.DECODE else None
        if read and row.tokens_per_second and row.bandwidth_bytes_per_second:
            share = read * row.tokens_per_second / row.bandwidth_bytes_per_second
            over += [row] if share > 1 else []
    assert {row.confidence for row in over} == {Confidence.LOW}
    assert 10 <= len(over) <= 30
