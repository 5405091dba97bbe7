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
    weights_memory_bytes,
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


def test_a_tied_table_is_held_twice_as_head_and_as_embedding() -> None:
    qwen = architecture("Qwen2.5-0.5B")
    beside = weights_memory_bytes(qwen, Scheme.FP32) - bytes_read_per_token(qwen, Scheme.FP32)
    assert beside == 4 * 151_936 * 896


def test_memory_is_the_sum_of_its_parts() -> None:
    llama = architecture("Llama-3.2-1B")
    total = memory_bytes(llama, Scheme.INT4_BLOCK32, context_tokens=2048, prompt_tokens=512)
    cache = 2 * 16 * 8 * 64 * 2048 * 4  # ONNX Runtime keeps keys and values in fp32 on the CPU
    weights = weights_memory_bytes(llama, Scheme.INT4_BLOCK32)
    assert total == weights + cache + activation_bytes(llama, 512) + RUNTIME_BYTES


@given(shape=any_shape, scheme=any_scheme, context=token_counts, prompt=token_counts, more=token_counts)
def test_longer_contexts_and_prompts_never_take_less(
    shape: Architecture, scheme: Scheme, context: int, prompt: int, more: int
) -> None:
    memory = memory_bytes(shape, scheme, context_tokens=context, prompt_tokens=prompt)
    assert memory <= memory_bytes(shape, scheme, context_tokens=context + more, prompt_tokens=prompt)
    assert memory < memory_bytes(shape, scheme, context_tokens=context, prompt_tokens=prompt + more)


@given(shape=any_shape, scheme=any_scheme)
def test_a_model_in_memory_is_no_smaller_than_its_download(shape: Architecture, scheme: Scheme) -> None:
    assert memory_bytes(shape, scheme, context_tokens=1, prompt_tokens=1) > download_bytes(shape, scheme)


@given(shape=any_shape)
def test_fewer_bits_take_less(shape: Architecture) -> None:
    sizes = [download_bytes(shape, scheme) for scheme in (Scheme.INT4_BLOCK32, Scheme.INT8_BLOCK32, Scheme.FP32)]
    assert sizes == sorted(sizes)
