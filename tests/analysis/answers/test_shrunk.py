"""What each technique changes of a model that is shipped, and what it leaves as it was."""

from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.requirement import Setting, requirement
from weighin_analysis.answers.shrunk import WhatIfResult, apply_all, told
from weighin_analysis.errors import AnalysisError, CatalogError, SizeError, WhatIfError
from weighin_analysis.memory.runtimes import Runtime
from weighin_analysis.models.catalogue import catalogue, entry
from weighin_analysis.shrinking.what_if import parse_what_if
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis
from weighin_analysis.sizes.download import published_sizes, schemes_of

T = TypeVar("T")
SETTING = Setting(context_tokens=2048, prompt_tokens=512)
TEXTS = (
    "quantize=q4",
    "quantize=Q4_0",
    "prune=0.5",
    "prune=2:4",
    "prune-layers=2",
    "prune-heads=4",
    "prune-ffn=0.5",
    "prune-hidden=0.5",
    "distill=DistilBERT",
    "lora=8",
    "lora=8:all:merged",
    "share-layers=1",
    "tie-embeddings",
    "embedding-width=64",
)


def known(value: T | None) -> T:
    assert value is not None
    return value


def shipped(name: str, file_format: Format = Format.ONNX, scheme: str = "fp32") -> Candidate:
    return Candidate(entry=entry(name), format=file_format, scheme=scheme)


def result(text: str, candidate: Candidate, *, setting: Setting = SETTING) -> WhatIfResult:
    return apply_all([parse_what_if(text)], candidate, setting)[0]


LLAMA = shipped("Llama-3.1-8B", Format.GGUF, "Q4_K_M")


@pytest.mark.parametrize("texts", [("prune-layers=1",), ("prune-ffn=0.25", "prune-layers=1")])
def test_a_model_that_lost_layers_is_exported_as_the_whole_one_was(texts: tuple[str, ...]) -> None:
    """Gemma 3's table is stored in 8 bits; the usual export would double what is left."""
    for found in apply_all(map(parse_what_if, texts), shipped("Gemma-3-1B", scheme="q4"), SETTING):
        assert known(found.after.download_bytes) < known(found.before.download_bytes)
        assert (
            known(found.after.download).parts["token_embedding"]
            == known(found.before.download).parts["token_embedding"]
        )


@pytest.mark.parametrize("text", ["prune=0.9", "prune=2:4", "lora=16:all:merged"])
@pytest.mark.parametrize("candidate", [shipped("BERT"), LLAMA], ids=["BERT", "Llama"])
def test_what_leaves_matrices_as_large_as_they_were_saves_nothing(text: str, candidate: Candidate) -> None:
    found = result(text.replace("all", "q,k,v,o,up,down"), candidate)
    assert found.after == found.before
    assert found.work_after == found.work_before


def test_unstructured_pruning_has_no_kernel_in_any_runtime() -> None:
    for candidate in (shipped("BERT"), LLAMA, shipped("Gemma-2B", Format.LITERT, "int4")):
        assert not result("prune=0.5", candidate).reasons.kernel_exists


def test_quantization_saves_bytes_and_no_multiplication() -> None:
    found = result("quantize=q4", shipped("Qwen2.5-0.5B"))
    assert known(found.work_after).multiply_adds == known(found.work_before).multiply_adds
    assert known(found.work_after).weight_bytes_read < known(found.work_before).weight_bytes_read
    assert known(found.after.memory).kv_cache == known(found.before.memory).kv_cache
    assert known(found.after.memory).weights < known(found.before.memory).weights


def test_an_embedding_that_stays_wide_limits_what_quantization_saves() -> None:
    """An eighth of the bits of fp32, and still more than a third of the bytes: 136 million weights stay in fp32."""
    found = result("quantize=q4", shipped("Qwen2.5-0.5B"))
    assert known(found.after.download_bytes) > known(found.before.download_bytes) / 3


@pytest.mark.parametrize("text", ["prune-layers=8", "prune-heads=8", "prune-ffn=0.25", "prune-hidden=0.25"])
def test_structured_pruning_saves_download_memory_and_work(text: str) -> None:
    found = result(text, LLAMA)
    assert known(found.after.download_bytes) < known(found.before.download_bytes)
    assert known(found.after.memory_bytes) < known(found.before.memory_bytes)
    assert known(found.work_after).multiply_adds < known(found.work_before).multiply_adds
    assert known(found.work_after).weight_bytes_read < known(found.work_before).weight_bytes_read


def test_rows_that_the_blocks_of_a_scheme_do_not_divide_can_cost_more_than_was_pruned() -> None:
    """28 heads of 96 are 10.5 blocks of 256, so that Q2_K_S falls back to a wider type."""
    found = result("prune-heads=4", shipped("Phi-3-mini", Format.GGUF, "Q2_K_S"))
    assert known(found.after.download_bytes) / known(found.before.download_bytes) == pytest.approx(1.01, abs=0.005)
    assert "wider type" in found.reasons.download


def test_shared_layers_save_the_download_and_nothing_else_in_onnx_runtime() -> None:
    """It packs a matrix for every node that uses it (docs/shrinking.md)."""
    found = result("share-layers=1", shipped("BERT"))
    assert known(found.after.download_bytes) < known(found.before.download_bytes) / 3
    assert found.after.memory_bytes == found.before.memory_bytes
    assert found.work_after == found.work_before


def test_an_adapter_beside_the_model_adds_its_bytes_everywhere() -> None:
    found = result("lora=8:q,v", LLAMA)
    adapter_bytes = 2 * 32 * 8 * (4096 + 4096 + 4096 + 1024)
    assert found.after.download_bytes == known(found.before.download_bytes) + adapter_bytes
    assert found.after.memory_bytes == known(found.before.memory_bytes) + adapter_bytes
    assert known(found.work_after).weight_bytes_read == known(found.work_before).weight_bytes_read + adapter_bytes
    assert known(found.work_after).multiply_adds == known(found.work_before).multiply_adds + adapter_bytes // 2


def test_a_token_reads_the_active_experts_only() -> None:
    """Mixtral-8x7B passes 12.9 of 46.7 billion parameters."""
    found = result("prune=0.5", shipped("Mixtral-8x7B", Format.GGUF, "Q8_0"))
    assert known(found.work_before).weight_bytes_read / known(found.before.download_bytes) == pytest.approx(
        12.9 / 46.7, rel=0.02
    )


def test_a_student_takes_the_place_of_its_teacher() -> None:
    found = result("distill=DistilBERT", shipped("BERT"))
    assert found.after.candidate == shipped("DistilBERT")


def test_llama_cpp_runs_no_shared_layers() -> None:
    with pytest.raises(SizeError, match=r"llama\.cpp runs no models that share layers"):
        result("share-layers=1", LLAMA)


def test_what_ifs_apply_one_after_the_other() -> None:
    texts = ["prune-layers=16", "quantize=Q8_0", "lora=8"]
    results = apply_all(map(parse_what_if, texts), LLAMA, SETTING)
    assert [one.before for one in results[1:]] == [one.after for one in results[:-1]]
    last = results[-1].after.candidate
    assert (last.entry.parameters, last.scheme, len(last.adapters)) == (4_540_469_248, "Q8_0", 1)


def test_the_exact_size_of_a_file_holds_until_the_file_would_be_another() -> None:
    size = DownloadSize(
        format=Format.GGUF,
        scheme="Q4_K_M",
        bytes=4_920_000_001,
        low=4_920_000_001,
        high=4_920_000_001,
        basis=SizeBasis.FILE,
        parts={"token_embedding": 300_000_000, "head": 430_000_000, "layers": 4_190_000_001, "other": 0},
        tokenizer_bytes=0,
        runtime_bytes=None,
    )
    texts = ["prune=0.5", "lora=8:fp32", "quantize=Q8_0", "quantize=Q4_K_M"]
    found = apply_all(map(parse_what_if, texts), LLAMA, SETTING, file_size=size)
    bases = [one.after.download and one.after.download.basis for one in found]
    assert bases[:2] == [SizeBasis.FILE, SizeBasis.FILE]
    assert SizeBasis.FILE not in bases[2:]


PUBLISHED = sorted((one for one in published_sizes() if entry(one[0]).shape), key=str)


@settings(max_examples=60, deadline=None)  # the first question of each format reads its data
@given(st.sampled_from(PUBLISHED), st.sampled_from(["prune-layers=1", "prune-ffn=0.5", "share-layers=1"]))
def test_no_published_model_grows_by_what_is_pruned(artefact: tuple[str, Format, str], text: str) -> None:
    """Nor where its published file is smaller than its count."""
    try:
        found = result(text, shipped(*artefact))
    except AnalysisError:
        return  # llama.cpp shares no layers, encoders of one layer lose none
    assert known(found.after.download_bytes) <= known(found.before.download_bytes)
    assert (found.after.memory_bytes or 0) <= (found.before.memory_bytes or 0)
    assert known(found.work_after).weight_bytes_read <= known(found.work_before).weight_bytes_read


def test_a_technique_that_removes_nothing_leaves_the_bytes_of_a_published_file() -> None:
    """Qwen3 publishes a second copy of its table, which no export to ONNX keeps."""
    found = result("tie-embeddings", shipped("Qwen3-0.6B", scheme="q4"))
    assert known(found.before.download).basis is SizeBasis.PUBLISHED
    assert found.after.download_bytes == found.before.download_bytes
    assert found.after.memory_bytes == found.before.memory_bytes
    assert found.work_after == found.work_before


def test_what_a_file_weighs_beside_its_count_stays_in_proportion() -> None:
    counted = known(result("prune-layers=16", LLAMA).before.download)
    file = file_of(counted.bytes * 11 // 10)
    (found,) = apply_all([parse_what_if("prune-layers=16")], LLAMA, SETTING, file_size=file)
    plain = known(result("prune-layers=16", LLAMA).after.download_bytes)
    assert known(found.after.download_bytes) / plain == pytest.approx(1.1, abs=0.01)
    assert known(found.after.download).basis is SizeBasis.FITTED


def file_of(size: int) -> DownloadSize:
    """Return a file whose header does not name its table and its head."""
    return DownloadSize(
        format=Format.GGUF,
        scheme="Q4_K_M",
        bytes=size,
        low=size,
        high=size,
        basis=SizeBasis.FILE,
        parts={"token_embedding": 0, "head": 0, "layers": size, "other": 0},
        tokenizer_bytes=0,
        runtime_bytes=None,
    )


@pytest.mark.parametrize("scheme", ["Q4_K_M", "of nobody"])
def test_a_token_reads_no_input_table_of_a_file(scheme: str) -> None:
    """Llama 3.1 has a head of its own: of 8.03 billion weights a token looks up a row of 0.53."""
    file = replace(file_of(4_920_000_000), scheme=scheme)
    candidate = replace(LLAMA, scheme=scheme)
    (found,) = apply_all([parse_what_if("prune=0.5")], candidate, SETTING, file_size=file)
    assert known(found.work_before).weight_bytes_read / file.bytes == pytest.approx(7.5 / 8.03, abs=0.015)


def test_a_narrow_embedding_that_is_the_head_too_shrinks_memory() -> None:
    found = result("embedding-width=64", shipped("Qwen2.5-0.5B", scheme="q4"))
    saved = known(found.before.memory).weights - known(found.after.memory).weights
    assert saved == pytest.approx((151_936 * (896 - 64) - 2 * 896 * 64) * 0.75, abs=1)


def test_a_runtime_has_no_memory_for_a_format_that_it_does_not_run() -> None:
    found = requirement(LLAMA, replace(SETTING, runtime=Runtime.WEBLLM))
    assert (found.memory, found.missing) == (
        None,
        ("webllm runs mlc files and no gguf; name another --runtime or --format",),
    )


def test_a_format_that_no_runtime_runs_has_sizes_and_no_memory() -> None:
    found = result("prune-layers=16", shipped("Llama-3.1-8B", Format.SAFETENSORS, "BF16"))
    assert found.after.memory_bytes is None


def test_a_model_whose_shape_is_not_known_can_be_quantized_without_a_word_on_work() -> None:
    found = result("quantize=Q4_0", shipped("LFM2-1.2B", Format.GGUF, "Q8_0"))
    assert found.work_before is None
    assert found.work_after is None


@pytest.mark.parametrize(
    ("texts", "error", "said"),
    [
        (["distill=Llama-3.2-1B"], WhatIfError, "no student of BERT-base-uncased: it has no teacher"),
        (["distill=DistilGPT-2"], WhatIfError, "was distilled from GPT-2"),
        (["distill=NoSuchModel"], CatalogError, "NoSuchModel"),
        (["prune-layers=6", "distill=DistilBERT"], WhatIfError, "no student of BERT-base-uncased, 6 layers fewer"),
        (["lora=8", "prune-layers=1"], WhatIfError, "give lora after what changes the shape"),
        (["quantize=q17"], SizeError, "q17"),
        (["share-layers=1", "quantize=Q4_0"], SizeError, "Q4_0"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(texts: list[str], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        apply_all(map(parse_what_if, texts), shipped("BERT"), SETTING)


@pytest.mark.parametrize("text", TEXTS)
def test_every_technique_says_that_quality_is_not_judged(text: str) -> None:
    candidate = shipped("BERT" if text == "distill=DistilBERT" else "Qwen2.5-7B", Format.SAFETENSORS, "F32")
    text = text.replace("q4", "F16").replace("Q4_0", "BF16").replace("prune-heads=4", "prune-heads=7")
    lines = told(result(text, candidate))
    assert [line.split(maxsplit=1)[0] for line in lines] == ["download", "memory", "work", "kernel", "quality"]
    assert "not judged" in lines[-1]


def test_an_adapter_that_is_small_beside_its_model_is_seen_in_the_lines() -> None:
    assert told(result("lora=8:fp32", shipped("Llama-2-7B", Format.GGUF, "F16")))[0].startswith(
        "download 13.48 GB -> 13.50 GB. "
    )


def test_memory_is_that_of_the_runtime_that_is_asked_for() -> None:
    on_processor = result("prune=0.5", LLAMA)
    on_gpu = result(
        "prune=0.5", LLAMA, setting=Setting(context_tokens=8, prompt_tokens=8, runtime=Runtime.LLAMA_CPP_GPU)
    )
    assert on_processor.before.runtime is Runtime.LLAMA_CPP
    assert on_gpu.before.runtime is Runtime.LLAMA_CPP_GPU


@settings(max_examples=60, deadline=None)  # the first question of each format reads its data
@given(
    st.sampled_from(sorted(catalogue())), st.sampled_from(list(Format)), st.lists(st.sampled_from(TEXTS), max_size=3)
)
def test_every_model_has_a_result_or_one_line_of_error(name: str, file_format: Format, texts: list[str]) -> None:
    candidate = Candidate(entry=entry(name), format=file_format, scheme=schemes_of(file_format)[0])
    lines = []
    try:
        lines = [line for one in apply_all(map(parse_what_if, texts), candidate, SETTING) for line in told(one)]
    except AnalysisError as error:
        lines = [str(error)]
    assert all(line.isprintable() for line in lines)
