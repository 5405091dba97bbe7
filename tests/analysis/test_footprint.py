from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.architecture import Architecture
from weighin_analysis.catalog import architecture, architectures
from weighin_analysis.footprint import (
    RUNTIME_BYTES,
    activation_bytes,
    bytes_read_per_token,
    download_bytes,
    memory_bytes,
)
from weighin_analysis.scheme import Scheme

any_shape = st.sampled_from(list(architectures().values()))
any_scheme = st.sampled_from(Scheme)
token_counts = st.integers(1, 1 << 17)


@pytest.mark.parametrize(
    ("name", "megabytes"),
    [("SmolLM2-135M", 84), ("Gemma-3-270M", 168), ("Qwen2.5-0.5B", 309), ("Llama-3.2-1B", 772), ("Gemma-2B", 1566)],
)
def test_the_download_is_the_size_of_the_real_int4_file(name: str, megabytes: int) -> None:
    """The sizes of the files that were written with real shapes."""
    assert download_bytes(architecture(name), Scheme.INT4_BLOCK32) == pytest.approx(megabytes * 1e6, rel=0.01)


def test_a_token_reads_all_layers_and_the_head_packed() -> None:
    qwen = architecture("Qwen2.5-0.5B")
    layer = 896 * (896 + 2 * 128) + 896 * 896 + 3 * 896 * 4864
    assert bytes_read_per_token(qwen, Scheme.INT4_BLOCK32) == (24 * layer + 151_936 * 896) * 3 // 4
    assert bytes_read_per_token(qwen, Scheme.FP32) == (24 * layer + 151_936 * 896) * 4


# Peaks of processes that ran full models from their files, without file-backed pages, in MB: context of 2048, prompt of
# 512, onnxruntime 1.31.1, Linux on x86-64 with AVX-512; `make bench-memory`.
MEASURED_MEGABYTES = [
    ("DistilBERT", "int8_dynamic", 96),
    ("DistilBERT", "fp32", 223),
    ("SmolLM2-135M", "int4_block32", 253),
    ("SmolLM2-135M", "int8_block32", 317),
    ("SmolLM2-135M", "int8_dynamic", 280),
    ("Gemma-3-270M", "int4_block32", 333),
    ("Qwen2.5-0.5B", "int4_block32", 503),
    ("Qwen2.5-0.5B", "int8_block32", 750),
    ("Qwen2.5-0.5B", "int8_dynamic", 622),
    ("Llama-3.2-1B", "int4_block32", 1214),
    ("Llama-3.2-1B", "int8_block32", 1837),
    ("Llama-3.2-1B", "int8_dynamic", 1491),
    ("Gemma-2B", "int4_block32", 2153),
]


@pytest.mark.parametrize(("name", "scheme", "megabytes"), MEASURED_MEGABYTES)
def test_memory_is_within_a_tenth_of_what_was_measured(name: str, scheme: str, megabytes: int) -> None:
    predicted = memory_bytes(architecture(name), Scheme(scheme), context_tokens=2048, prompt_tokens=512)
    assert predicted == pytest.approx(megabytes * 1e6, rel=0.1)


def test_memory_is_the_sum_of_its_parts() -> None:
    llama = architecture("Llama-3.2-1B")
    total = memory_bytes(llama, Scheme.INT4_BLOCK32, context_tokens=2048, prompt_tokens=512)
    cache = 2 * 16 * 8 * 64 * 2048 * 4  # ONNX Runtime keeps keys and values in fp32 on the CPU
    weights = bytes_read_per_token(llama, Scheme.INT4_BLOCK32)
    assert total == weights + cache + activation_bytes(llama, 512) + RUNTIME_BYTES


def test_the_input_embedding_stays_in_its_file() -> None:
    """A vocabulary twice as large makes the packed head larger, and the logits, and nothing else."""
    llama = architecture("Llama-3.2-1B")
    larger = replace(llama, vocab=2 * llama.vocab)
    more = [memory_bytes(shape, Scheme.FP32, context_tokens=2048, prompt_tokens=512) for shape in (larger, llama)]
    assert more[0] - more[1] == 4 * llama.vocab * (llama.hidden + 1)


@given(shape=any_shape, scheme=any_scheme, context=token_counts, prompt=token_counts, more=token_counts)
def test_longer_contexts_and_prompts_never_take_less(
    shape: Architecture, scheme: Scheme, context: int, prompt: int, more: int
) -> None:
    memory = memory_bytes(shape, scheme, context_tokens=context, prompt_tokens=prompt)
    assert memory <= memory_bytes(shape, scheme, context_tokens=context + more, prompt_tokens=prompt)
    assert memory < memory_bytes(shape, scheme, context_tokens=context, prompt_tokens=prompt + more)


@given(shape=any_shape, scheme=any_scheme)
def test_the_packed_matrices_are_no_smaller_than_the_stored_ones(shape: Architecture, scheme: Scheme) -> None:
    matrices = shape.layers * shape.layer_weight_count + shape.head_weight_count
    assert bytes_read_per_token(shape, scheme) >= int(matrices * scheme.stored_bytes_per_weight)


@given(shape=any_shape)
def test_fewer_bits_take_less(shape: Architecture) -> None:
    sizes = [download_bytes(shape, scheme) for scheme in (Scheme.INT4_BLOCK32, Scheme.INT8_BLOCK32, Scheme.FP32)]
    assert sizes == sorted(sizes)
