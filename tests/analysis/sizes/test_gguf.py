import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from download_rows import DownloadRow, download_rows, median_and_p90
from hypothesis import given, settings
from hypothesis import strategies as st

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.errors import SizeError
from weighin_analysis.models.catalogue import entry
from weighin_analysis.models.entry import CountBasis, ModelEntry, ModelKind
from weighin_analysis.models.shape import Shape
from weighin_analysis.models.tensors import Role, parameter_count
from weighin_analysis.sizes.artefact import DownloadSize, SizeBasis
from weighin_analysis.sizes.ggml import GgmlType
from weighin_analysis.sizes.gguf import SCHEMES, USUAL, Build, download_size, stored_tensors
from weighin_analysis.sizes.mixtures import DYNAMIC, MIXTURES

DATA = Path(__file__).parents[2] / "data"

# Names of the rows that differ from those of the catalogue: the same tensors in each case.
CATALOGUE_NAMES = {
    "Bonsai 8B": "Qwen3-8B",  # trained at one bit in that shape
    "LFM2-VL 1.6B": "LFM2-1.2B",  # its language model; the vision tower is a file apart
    "Gemma-3-1B-it": "Gemma-3-1B",
    "Phi-3.5-mini-instruct": "Phi-3.5-mini",
    "Phi-4-mini-instruct": "Phi-4-mini",
}
# Left out, each because what it names is no scheme of GGUF: two rows have another runtime's labels, one was made to a
# number of bits with types of its own.
NO_SCHEME = {"q3_k", "q4_k", "2.70bpw"}


def shape(*, layers: int = 16, hidden: int = 1024, ffn: int = 2048, kv_heads: int = 4) -> Shape:
    return Shape(
        architecture=Architecture(
            name="made up",
            kind=ArchitectureKind.DECODER,
            layers=layers,
            hidden=hidden,
            ffn=ffn,
            heads=16,
            kv_heads=kv_heads,
            head_dim=64,
            vocab=1000,
            tied_embeddings=False,
        )
    )


def model(made_up: Shape) -> ModelEntry:
    return ModelEntry(
        name="made up",
        kind=ModelKind.DECODER,
        parameters=parameter_count(made_up),
        count_basis=CountBasis.COMPUTED,
        source="none",
        shape=made_up,
    )


def types(made_up: Shape, scheme: str, role: Role, build: Build = USUAL) -> list[GgmlType]:
    return [one.type for one in stored_tensors(made_up, MIXTURES[scheme], build) if one.tensor.role is role]


def of_row(name: str, scheme: str) -> DownloadSize:
    scheme = {"BF16/F16": "BF16"}.get(scheme, scheme)
    return download_size(entry(CATALOGUE_NAMES.get(name, name)), scheme)


def gguf_rows() -> Iterator[tuple[DownloadRow, DownloadSize]]:
    for row in download_rows(lambda row: row.format.startswith("GGUF") and row.quantization not in NO_SCHEME):
        yield row, of_row(row.model, row.quantization)


def test_published_files_weigh_what_is_counted_without_any_fitted_constant() -> None:
    errors = [row.error(size.bytes) for row, size in gguf_rows() if size.basis is SizeBasis.COUNTED]
    median, p90 = median_and_p90(errors)
    assert len(errors) >= 38
    assert median <= 0.002
    assert p90 <= 0.005


def test_all_published_rows_that_name_a_scheme_meet_the_promise() -> None:
    errors = [row.error(size.bytes) for row, size in gguf_rows()]
    median, p90 = median_and_p90(errors)
    assert len(errors) == 46
    assert median <= 0.03
    assert p90 <= 0.10


def test_the_interval_of_a_fitted_size_holds_the_published_files() -> None:
    fitted = [(row, size) for row, size in gguf_rows() if size.basis is SizeBasis.FITTED]
    assert len(fitted) == 8
    assert all(size.low <= row.size_bytes <= size.high for row, size in fitted)


def test_files_that_no_rule_was_checked_on_weigh_what_is_counted() -> None:
    errors = []
    for row, size in rows_of("gguf_held_out.csv"):
        # Bits per weight are told of the tensors alone.
        inside = size.tokenizer_bytes if "bits" in row["size_as_published"] else 0
        errors.append((size.bytes - inside) / int(row["size_bytes"]) - 1)
    median, p90 = median_and_p90(errors)
    assert len(errors) == 68
    assert median <= 0.001
    assert p90 <= 0.01
    assert max(map(abs, errors)) <= 0.015


@cache
def rows_of(file_name: str) -> tuple[tuple[dict[str, str], DownloadSize], ...]:
    with (DATA / file_name).open(encoding="utf-8", newline="") as file:
        return tuple((row, of_row(row["model"], row["scheme"])) for row in csv.DictReader(file))


def may_be(size: DownloadSize, size_bytes: int, as_published: str) -> bool:
    """Whether a size lies in the interval, as exactly as its source tells it; GiB and bits are of the tensors alone."""
    told, unit = as_published.split(maxsplit=1)
    rounding = 0.0 if unit == "B" else size_bytes * 10 ** -len(told.partition(".")[2]) / float(told) / 2
    apart = size.tokenizer_bytes if unit == "GiB" or "bits" in unit else 0
    return size.low - rounding <= size_bytes + apart <= size.high + rounding


def outside(rows: Iterable[tuple[dict[str, str], DownloadSize]]) -> dict[tuple[str, str], float]:
    """By how much files lie outside the interval, as fractions of what is told."""
    return {
        (row["model"], row["scheme"]): int(row["size_bytes"]) / size.bytes - 1
        for row, size in rows
        if not may_be(size, int(row["size_bytes"]), row["size_as_published"])
    }


def test_files_of_many_uploaders_lie_in_the_interval_but_the_one_that_holds_a_vision_tower() -> None:
    assert len(rows_of("gguf_found.csv")) == 108
    assert outside(rows_of("gguf_found.csv")) == pytest.approx({("Gemma-3-4B", "Q4_K_M"): 0.339}, abs=0.001)


def test_held_out_files_lie_in_the_interval_but_those_of_a_model_with_fewer_entries_in_its_vocabulary() -> None:
    beyond = outside(rows_of("gguf_held_out.csv"))
    assert len(beyond) == 10
    assert {model for model, _ in beyond} == {"Mixtral-8x22B"}
    assert all(-0.0005 < difference < 0 for difference in beyond.values())


def test_half_of_the_files_of_many_uploaders_weigh_what_is_told_within_a_thousandth() -> None:
    median, p90 = median_and_p90([size.bytes / int(row["size_bytes"]) - 1 for row, size in rows_of("gguf_found.csv")])
    assert median <= 0.001
    assert p90 <= 0.06


def test_files_that_name_larger_ends_or_experts_weigh_what_is_counted() -> None:
    own = {"MXFP4", *(scheme for scheme in MIXTURES if scheme.endswith(("K_L", "K_XL")))} - {"Q3_K_L"}
    errors = [
        abs(size.bytes / int(row["size_bytes"]) - 1)
        for row, size in rows_of("gguf_found.csv")
        if row["scheme"] in own and "ollama" not in row["source"]
    ]
    assert len(errors) >= 10
    assert max(errors) <= 0.002


def loaded_weights() -> Iterator[tuple[str, str, float]]:
    with (DATA / "gguf_loaded_weights.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["model"], row["scheme"], float(row["weights_mib"])


def test_the_weights_that_llama_cpp_loads_are_counted_to_the_hundredth_of_a_mebibyte() -> None:
    errors = []
    for name, scheme, weights_mib in loaded_weights():
        if entry(CATALOGUE_NAMES.get(name, name)).shape is None:
            continue
        size = of_row(name, scheme)
        assert size.basis is SizeBasis.COUNTED
        held_twice = 0 if size.parts["head"] else size.parts["token_embedding"]
        errors.append((size.bytes - size.tokenizer_bytes + held_twice) / 2**20 - weights_mib)
    assert len(errors) == 55
    assert max(map(abs, errors)) < 0.03


def test_a_row_that_does_not_divide_into_blocks_takes_a_larger_type() -> None:
    gemma = entry("Gemma-3-1B").shape
    assert gemma is not None
    assert set(types(gemma, "Q4_K_M", Role.GATE)) == {GgmlType.Q5_0}
    assert set(types(gemma, "IQ2_M", Role.GATE)) == {GgmlType.IQ4_NL}
    assert types(gemma, "IQ2_M", Role.TOKEN_EMBEDDING) == [GgmlType.Q8_0]
    assert "do not divide" in download_size(entry("Gemma-3-1B"), "IQ2_M").notes[0]


def test_a_row_that_divides_into_no_block_stays_in_sixteen_bits() -> None:
    assert GgmlType.Q4_K.fitting(100) is GgmlType.F16
    assert GgmlType.Q8_0.fitting(100) is GgmlType.F16


def test_a_table_that_doubles_as_head_is_stored_as_a_head() -> None:
    untied = shape()
    tied = replace(untied, architecture=replace(untied.architecture, tied_embeddings=True))
    assert types(untied, "Q4_K_M", Role.TOKEN_EMBEDDING) == [GgmlType.Q4_K]
    assert types(untied, "Q4_K_M", Role.HEAD) == [GgmlType.Q6_K]
    assert types(tied, "Q4_K_M", Role.TOKEN_EMBEDDING) == [GgmlType.Q6_K]
    assert types(tied, "Q4_K_M", Role.HEAD) == []


def test_a_head_that_is_published_as_a_copy_is_stored_as_one() -> None:
    copied = replace(shape(), copied_head=True)
    copied = replace(copied, architecture=replace(copied.architecture, tied_embeddings=True))
    assert types(copied, "Q4_K_M", Role.TOKEN_EMBEDDING) == [GgmlType.Q4_K]
    assert types(copied, "Q4_K_M", Role.HEAD) == [GgmlType.Q6_K]


def test_the_ends_and_every_third_layer_between_take_more_bits() -> None:
    down = types(shape(), "Q4_K_M", Role.DOWN)
    assert [layer for layer, kind in enumerate(down) if kind is GgmlType.Q6_K] == [0, 1, 4, 7, 10, 13, 14, 15]


def test_one_matrix_for_queries_keys_and_values_has_one_type() -> None:
    fused = replace(shape(), fused_attention=True)
    kinds = {kind for role in (Role.QUERY, Role.KEY, Role.VALUE) for kind in types(fused, "Q4_K_M", role)}
    assert kinds == {GgmlType.Q5_K}


def test_the_interval_holds_files_made_since_the_rule_for_one_matrix_changed() -> None:
    phi = entry("Phi-4-mini")
    assert phi.shape is not None
    size, since_2026 = download_size(phi, "IQ1_S"), Build(fused_as_values=True)
    since = sum(one.bytes for one in stored_tensors(phi.shape, MIXTURES["IQ1_S"], since_2026)) + size.tokenizer_bytes
    assert size.bytes < since <= size.high


def test_an_importance_matrix_changes_the_first_layers_of_few_schemes() -> None:
    assert types(shape(), "Q4_0", Role.DOWN)[:3] == [GgmlType.Q4_1, GgmlType.Q4_1, GgmlType.Q4_0]
    assert set(types(shape(), "Q4_0", Role.DOWN, Build(guided=False))) == {GgmlType.Q4_0}


def test_norms_biases_and_routers_keep_full_precision() -> None:
    mixtral = entry("Mixtral-8x7B").shape
    assert mixtral is not None
    assert set(types(mixtral, "Q2_K", Role.NORM)) == set(types(mixtral, "Q2_K", Role.ROUTER)) == {GgmlType.F32}


def test_eighty_layers_with_shared_keys_take_more_bits_for_values() -> None:
    llama = entry("Llama-3-70B").shape
    assert llama is not None
    assert set(types(llama, "Q4_K_M", Role.VALUE)) == {GgmlType.Q6_K, GgmlType.Q5_K}
    assert set(types(llama, "Q3_K_S", Role.VALUE)) == {GgmlType.Q5_K}


def test_routers_are_smaller_in_files_made_before_they_kept_full_precision() -> None:
    mixtral = entry("Mixtral-8x7B").shape
    assert mixtral is not None
    assert set(types(mixtral, "Q2_K", Role.ROUTER, Build(small_in_16_bits=True))) == {GgmlType.F16}


def test_in_mxfp4_the_experts_alone_take_four_bits() -> None:
    oss = entry("gpt-oss-20b").shape
    assert oss is not None
    assert set(types(oss, "MXFP4", Role.DOWN)) == {GgmlType.MXFP4}
    assert set(types(oss, "MXFP4_MOE", Role.VALUE)) == set(types(oss, "MXFP4", Role.HEAD)) == {GgmlType.Q8_0}
    assert set(types(shape(), "MXFP4", Role.DOWN)) == {GgmlType.Q8_0}


def test_a_model_whose_experts_nobody_tells_has_no_size_in_mxfp4() -> None:
    with pytest.raises(SizeError, match="stores experts alone in 4 bits"):
        download_size(entry("Qwen3.5-35B-A3B"), "MXFP4")


@pytest.mark.parametrize("scheme", DYNAMIC)
def test_a_scheme_of_no_rule_is_told_as_the_nearest_plain_one_and_not_as_counted(scheme: str) -> None:
    below, nearest, above = (download_size(entry("Qwen3-4B"), plain) for plain in DYNAMIC[scheme])
    size = download_size(entry("Qwen3-4B"), scheme)
    assert (size.scheme, size.basis) == (scheme, SizeBasis.FITTED)
    assert below.bytes < size.bytes == nearest.bytes < above.bytes
    assert size.low <= below.bytes < above.bytes <= size.high
    assert "no rule" in size.notes[0]


def test_a_table_of_embeddings_per_layer_may_keep_sixteen_bits() -> None:
    gemma = entry("Gemma-3n-E2B")
    assert gemma.per_layer_embedding_parameters == 30 * 256 * 262_144
    kept = download_size(gemma, "Q4_K_M")
    without = download_size(replace(gemma, per_layer_embedding_parameters=None), "Q4_K_M")
    assert (kept.low, kept.bytes) == (without.low, without.bytes)
    assert without.high < 5_621_616_562 < kept.high  # that of Ollama


def test_eight_experts_leave_keys_and_values_in_eight_bits() -> None:
    mixtral = entry("Mixtral-8x7B").shape
    assert mixtral is not None
    assert set(types(mixtral, "Q4_K_M", Role.VALUE)) == {GgmlType.Q8_0}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_parts_sum_up_within_the_interval(scheme: str) -> None:
    size = download_size(entry("SmolLM2-135M"), scheme)
    assert sum(size.parts.values()) == size.bytes
    assert size.low <= size.bytes <= size.high
    assert 0 < size.tokenizer_bytes < size.bytes


@settings(deadline=None)
@given(
    scheme=st.sampled_from(SCHEMES),
    layers=st.integers(1, 20),
    hidden=st.integers(1, 300).map(lambda n: 8 * n),
    ffn=st.integers(1, 300).map(lambda n: 8 * n),
    kv_heads=st.integers(1, 4),
)
def test_any_shape_has_a_size_between_one_bit_and_four_bytes_per_weight(
    scheme: str, layers: int, hidden: int, ffn: int, kv_heads: int
) -> None:
    made_up = model(shape(layers=layers, hidden=hidden, ffn=ffn, kv_heads=kv_heads))
    assert made_up.parameters is not None
    size = download_size(made_up, scheme)
    assert made_up.parameters / 8 < size.bytes - size.tokenizer_bytes <= 4 * made_up.parameters


def test_an_unknown_scheme_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SizeError, match=r"no scheme 'Q9_K'; it has .*Q4_K_M"):
        download_size(entry("Llama-3.2-1B"), "Q9_K")


def test_an_undisclosed_model_has_no_size() -> None:
    secret = replace(entry("Qwen3.5-2B"), name="secret", parameters=None)
    with pytest.raises(SizeError, match="secret: nobody tells"):
        download_size(secret, "Q4_K_M")


def test_a_model_that_llama_cpp_cannot_run_has_no_size() -> None:
    shared = model(replace(shape(), distinct_layers=1))
    with pytest.raises(SizeError, match="share layers"):
        download_size(shared, "Q4_K_M")
