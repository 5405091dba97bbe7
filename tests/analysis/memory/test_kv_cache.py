"""The KV cache against what llama.cpp logged (https://github.com/a-ghorbani/pocketpal-ai, context 2048, fp16)."""

from dataclasses import replace

import pytest
from fit_memory import memory_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from weighin_analysis.errors import SizeError
from weighin_analysis.memory.kv_cache import KvType, kv_cache_bytes
from weighin_analysis.memory.llama_cpp import MICRO_BATCH_TOKENS
from weighin_analysis.memory.runtimes import llama_cpp_backend
from weighin_analysis.models.catalogue import catalogue, entry
from weighin_analysis.models.entry import ModelEntry

MIB = 1 << 20


@pytest.mark.parametrize(
    ("model", "mebibytes"),
    [
        ("Qwen2.5-1.5B", 56),
        ("Qwen3-1.7B", 224),
        ("SmolLM2-1.7B", 384),
        ("Phi-3.5-mini", 768),
        ("Phi-4-mini", 256),
        ("LFM2.5-1.2B", 24),  # six of its sixteen layers have attention
        ("Qwen3.5-0.8B", 24),
    ],
)
def test_the_cache_is_exactly_what_was_logged(model: str, mebibytes: int) -> None:
    for micro_batch in (None, MICRO_BATCH_TOKENS):
        assert kv_cache_bytes(entry(model), 2048, KvType.FP16, micro_batch_tokens=micro_batch) == mebibytes * MIB


def test_windowed_layers_keep_the_window_and_one_micro_batch_in_llama_cpp() -> None:
    gemma = entry("Gemma-3-1B")
    assert gemma.shape is not None
    windows = [gemma.shape.architecture.window_of_layer(layer) for layer in range(26)]
    local, whole = windows.count(512), windows.count(None)
    assert (local, whole) == (22, 4)
    total = kv_cache_bytes(gemma, 2048, KvType.FP16, micro_batch_tokens=MICRO_BATCH_TOKENS)
    assert total == 30 * MIB
    assert total - whole * 2 * 256 * 2048 * 2 == 22 * MIB  # what the log of the windowed layers says


def test_layers_of_two_widths_are_counted_between_what_each_back_end_keeps() -> None:
    """Gemma 4 E2B, docs/memory.md: 12 windowed layers 256 wide, 3 others 512 wide; OpenCL widens the values of all."""
    counted = kv_cache_bytes(entry("Gemma-4-E2B"), 2048, KvType.FP16, micro_batch_tokens=MICRO_BATCH_TOKENS)
    rows = [row for row in memory_rows() if row.model == "Gemma-4-E2B" and llama_cpp_backend(row.runtime)]
    kept = {row.kv_cache_bytes + row.kv_cache_not_logged_bytes for row in rows}
    assert kept == {24 * MIB, 30 * MIB}
    assert counted == 30 * MIB


def test_other_runtimes_keep_the_whole_context_in_windowed_layers() -> None:
    assert kv_cache_bytes(entry("Gemma-3-1B"), 2048, KvType.FP16) == 52 * MIB
    assert kv_cache_bytes(entry("Gemma-3-1B"), 2048, KvType.FP32) == 104 * MIB


def test_cells_come_in_steps_of_256_in_llama_cpp() -> None:
    def cache(context: int) -> int:
        return kv_cache_bytes(entry("Qwen2.5-1.5B"), context, KvType.FP16, micro_batch_tokens=MICRO_BATCH_TOKENS)

    assert cache(1) == cache(256) == 7 * MIB
    assert cache(257) == cache(512) == 14 * MIB


def test_a_window_of_every_layer_is_not_used_by_llama_cpp() -> None:
    mistral = entry("Mistral-7B-v0.1")  # window 4096 in every layer
    whole = kv_cache_bytes(mistral, 8192, KvType.FP16)
    assert kv_cache_bytes(mistral, 8192, KvType.FP16, micro_batch_tokens=MICRO_BATCH_TOKENS) == whole == 1024 * MIB


def test_an_encoder_keeps_nothing() -> None:
    assert kv_cache_bytes(entry("DistilBERT"), 512, KvType.FP32) == 0


def test_a_model_of_which_it_is_not_known_is_refused_and_named() -> None:
    unknown = replace(entry("LFM2.5-1.2B"), kv_cache=None)
    with pytest.raises(SizeError, match=r"LFM2\.5-1\.2B: .*keys and values"):
        kv_cache_bytes(unknown, 2048, KvType.FP16)


@settings(deadline=None)  # the first call reads the catalogue
@given(st.sampled_from([e for e in catalogue().values() if e.shape or e.kv_cache]), st.integers(1, 1 << 17))
def test_more_context_never_takes_less_and_windows_never_take_more(model: ModelEntry, context: int) -> None:
    whole = kv_cache_bytes(model, -(-context // 256) * 256, KvType.FP16)
    windowed = kv_cache_bytes(model, context, KvType.FP16, micro_batch_tokens=512)
    longer = kv_cache_bytes(model, context + 256, KvType.FP16, micro_batch_tokens=512)
    assert windowed <= whole
    assert windowed <= longer
