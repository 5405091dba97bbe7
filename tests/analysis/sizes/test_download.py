import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.errors import SizeError
from weighin_analysis.models.catalogue import catalogue, entry
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes.artefact import Format, SizeBasis
from weighin_analysis.sizes.download import (
    PublishedSize,
    counted_size,
    default_artefact,
    disk_bytes,
    download_seconds,
    download_size,
    published_sizes,
    scheme_of,
    schemes_of,
    transfer_bytes,
)

ARTEFACTS = [artefacts[0] for artefacts in published_sizes().values()]


def name_of(artefact: PublishedSize) -> str:
    return f"{artefact.model}-{artefact.format}-{artefact.scheme}"


@pytest.mark.parametrize("artefact", ARTEFACTS, ids=name_of)
def test_a_published_artefact_has_its_own_bytes_and_names_its_source(artefact: PublishedSize) -> None:
    size = download_size(catalogue()[artefact.model], artefact.format, artefact.scheme)
    assert size.bytes == artefact.bytes
    assert size.basis is SizeBasis.PUBLISHED
    assert size.low <= size.bytes <= size.high
    assert sum(size.parts.values()) == size.bytes
    assert min(size.parts.values()) >= 0
    assert artefact.source in size.notes[-1]
    assert artefact.source.startswith("https://")


@pytest.mark.parametrize("artefact", ARTEFACTS, ids=name_of)
def test_what_is_counted_knows_nothing_of_what_is_published(artefact: PublishedSize) -> None:
    size = counted_size(catalogue()[artefact.model], artefact.format, artefact.scheme)
    assert size.basis in {SizeBasis.COUNTED, SizeBasis.FITTED}
    assert size.bytes != artefact.bytes


def test_several_artefacts_of_one_name_span_the_interval() -> None:
    size = download_size(entry("Gemma-3n-E2B"), Format.LITERT, "int4")
    assert (size.low, size.bytes, size.high) == (3_388_604_416, 3_655_827_456, 3_655_827_456)


def test_a_published_gguf_file_is_told_with_what_other_uploaders_make_of_the_name() -> None:
    size = download_size(entry("Qwen3-0.6B"), Format.GGUF, "Q4_K_M")
    assert size.low < size.bytes == 484_220_320
    assert size.high > 522_653_767  # that of Ollama


def test_every_scheme_of_every_format_is_found_by_its_own_name() -> None:
    for form in Format:
        assert schemes_of(form), form
        assert [scheme_of(form, scheme) for scheme in schemes_of(form)] == list(schemes_of(form))


@pytest.mark.parametrize(
    ("form", "spelling", "scheme"),
    [
        (Format.GGUF, "q4_k_m", "Q4_K_M"),
        (Format.GGUF, "Q4-K-M", "Q4_K_M"),
        (Format.ONNX, "Q4F16", "q4f16"),
        (Format.ONNX, "q8", "int8"),
        (Format.ONNX, "int8_dynamic", "int8"),
        (Format.ONNX, "int4 block32", "q4"),
        (Format.LITERT, "INT4 GPU", "int4"),
        (Format.LITERT, " int4 per-channel ", "int4"),
        (Format.MLC, "Q4F16_1", "q4f16_1"),
        (Format.SAFETENSORS, "bf16", "BF16"),
    ],
)
def test_case_separators_and_other_names_lead_to_the_scheme(form: Format, spelling: str, scheme: str) -> None:
    assert scheme_of(form, spelling) == scheme


@given(st.sampled_from(Format), st.text(max_size=30))
def test_any_other_text_is_one_line_that_names_the_known_schemes(form: Format, text: str) -> None:
    spelling = f"{text}?"  # no scheme's name has a question mark
    with pytest.raises(SizeError) as caught:
        scheme_of(form, spelling)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).endswith(", ".join(schemes_of(form)))


@pytest.mark.parametrize("scheme", Scheme)
def test_every_scheme_that_weighin_measures_has_an_artefact_to_download(scheme: Scheme) -> None:
    form, name = default_artefact(scheme)
    assert download_size(entry("SmolLM2-360M"), form, name).bytes > 0


def test_what_weighin_measures_in_blocks_of_four_bits_is_downloaded_as_q4() -> None:
    assert default_artefact(Scheme.INT4_BLOCK32) == (Format.ONNX, "q4")


def test_a_first_visit_loads_model_tokenizer_and_runtime() -> None:
    size = counted_size(entry("Qwen2.5-0.5B"), Format.ONNX, "q4f16")
    assert size.runtime_bytes == 26_781_914 + 53_057 + 454_425
    assert transfer_bytes(size) == size.bytes + size.tokenizer_bytes + size.runtime_bytes


def test_a_tokenizer_inside_the_file_is_not_loaded_twice() -> None:
    size = counted_size(entry("Gemma-2B"), Format.LITERT, "int4")
    assert size.runtime_bytes is not None
    assert transfer_bytes(size) == size.bytes + size.runtime_bytes


def test_weights_as_published_have_no_runtime_of_their_own() -> None:
    size = counted_size(entry("Gemma-2B"), Format.SAFETENSORS, "BF16")
    assert size.runtime_bytes is None
    assert transfer_bytes(size) == size.bytes + size.tokenizer_bytes


def test_gemma_2b_in_four_bits_takes_under_four_minutes_at_fifty_megabits() -> None:
    size = counted_size(entry("Gemma-2B"), Format.LITERT, "int4")
    assert download_seconds(size.bytes, 50e6) == pytest.approx(8 * size.bytes / 50e6)
    assert 200 < download_seconds(size.bytes, 50e6) < 240


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_link_without_a_rate_downloads_nothing(rate: float) -> None:
    with pytest.raises(SizeError, match="give a rate above 0"):
        download_seconds(1, rate)


def test_a_browser_keeps_one_copy_of_each_file() -> None:
    size = counted_size(entry("Qwen2.5-0.5B"), Format.ONNX, "q4f16")
    assert disk_bytes(size) == transfer_bytes(size)


def test_litert_keeps_the_layers_packed_a_second_time() -> None:
    size = counted_size(entry("Gemma-3-1B"), Format.LITERT, "int8")
    assert disk_bytes(size) == transfer_bytes(size) + size.bytes - size.parts["token_embedding"]


@pytest.mark.parametrize("form", [Format.RKLLM, Format.OPENVINO])
@pytest.mark.parametrize("scheme_place", [0, -1])
def test_no_part_of_any_counted_model_is_below_zero(form: Format, scheme_place: int) -> None:
    """ALBERT's table is narrower than its hidden state: counted by that, it outweighs the whole model."""
    for model in catalogue().values():
        if model.shape is not None:
            parts = download_size(model, form, schemes_of(form)[scheme_place]).parts
            assert min(parts.values()) >= 0, model.name
    albert = download_size(entry("ALBERT-base-v2"), Format.OPENVINO, "FP16")
    assert albert.parts["token_embedding"] == 2 * 30_000 * 128
