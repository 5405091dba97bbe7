import csv
import tomllib
from dataclasses import replace
from math import log10
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.catalog import size_class_of, size_classes
from weighin_analysis.errors import CatalogError
from weighin_analysis.models.catalogue import catalogue, entry, key
from weighin_analysis.models.catalogue_check import entry_problems, problems
from weighin_analysis.models.catalogue_file import format_entry, parse_catalogue
from weighin_analysis.models.entry import CountBasis, KvCache, ModelEntry, ModelKind, PublishedCount
from weighin_analysis.models.shape import Experts, Shape
from weighin_analysis.models.tensors import active_parameter_count, parameter_count

SHAPE = Shape(
    architecture=Architecture(
        name="Mine-1M",
        kind=ArchitectureKind.DECODER,
        layers=2,
        hidden=64,
        ffn=128,
        heads=4,
        kv_heads=2,
        head_dim=16,
        vocab=1000,
        tied_embeddings=True,
    )
)
MINE = ModelEntry(
    name="Mine-1M",
    kind=ModelKind.DECODER,
    parameters=parameter_count(SHAPE),
    count_basis=CountBasis.COMPUTED,
    source="https://example.org/mine",
    shape=SHAPE,
)
LIST = Path(__file__).parents[2] / "data" / "published_models.csv"
ROWS = list(csv.DictReader(LIST.read_text(encoding="utf-8").splitlines()))
MINIMAL = '[[model]]\nname = "a"\nkind = "decoder"\nparameters = 5\ncount_basis = "rounded"\nsource = "https://a"\n'


# What the catalogue holds.


def test_the_catalogue_has_no_fault() -> None:
    """Every shape counted, no name twice, every source there."""
    assert problems(tuple(catalogue().values())) == []


def test_models_of_every_class_and_from_under_a_million_to_a_trillion_parameters_are_there() -> None:
    counts = [one.parameters for one in catalogue().values() if one.parameters]
    assert len(counts) >= 150
    assert min(counts) < 1_000_000
    assert max(counts) >= 1_000_000_000_000
    assert {size_class_of(count).name for count in counts} == {one.name for one in size_classes()}
    assert {one.kind for one in catalogue().values()} == set(ModelKind)


# Totals that their publishers or the weights themselves tell, none of them taken from the catalogue:
# model cards and papers, and the sums of the tensors of the published files.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("stories15M", 15_191_712),
        ("DistilBERT", 66_362_880),
        ("BERT-base-uncased", 109_482_240),
        ("XLM-RoBERTa-large", 559_890_432),
        ("SmolLM2-135M", 134_515_008),
        ("Gemma-3-270M", 268_098_176),
        ("Pythia-160M", 162_322_944),
        ("Qwen2.5-0.5B", 494_032_768),
        ("Llama-3.2-1B", 1_235_814_400),
        ("OLMo-1B", 1_176_764_416),
        ("Gemma-2B", 2_506_172_416),
        ("Gemma-7B", 8_537_680_896),
        ("BLOOM-7B1", 7_069_016_064),
        ("GPT-NeoX-20B", 20_554_567_680),
        ("Yi-34B", 34_388_917_248),
        ("Mixtral-8x7B", 46_702_792_704),
        ("Mixtral-8x22B", 140_630_071_296),
        ("Command-A", 111_057_580_032),
        ("BLOOM-176B", 176_247_271_424),
        ("Llama-3.1-405B", 405_853_388_800),
    ],
)
def test_the_count_of_a_shape_is_what_was_published(name: str, parameters: int) -> None:
    found = entry(name)
    assert found.shape is not None
    assert parameter_count(found.shape) == found.parameters == parameters


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["model"])
def test_an_independent_list_of_models_agrees(row: dict[str, str]) -> None:
    """Its counts, its keys and values per token, and what a token passes; a rounded number within its rounding."""
    found = entry(row["model"])
    told = int(row["parameters"])
    assert found.parameters == (told if row["count"] != "published" else pytest.approx(told, rel=0.015))
    if row["kv_bytes_per_token_fp16"]:
        cache = found.shape.architecture if found.shape else found.kv_cache
        assert cache is not None
        assert 2 * cache.layers * cache.kv_heads * cache.head_dim * 2 == int(row["kv_bytes_per_token_fp16"])
    if row["active_parameters"] and row["count"] == "computed":
        assert found.active_parameters == int(row["active_parameters"])


@pytest.mark.parametrize(
    ("name", "rounded"),
    [
        ("Qwen3-30B-A3B", 3_300_000_000),
        ("Qwen3-235B-A22B", 22_000_000_000),
        ("Mixtral-8x7B", 12_900_000_000),
        ("Qwen1.5-MoE-A2.7B", 2_700_000_000),
        ("Phi-3.5-MoE", 6_600_000_000),
        ("OLMoE-1B-7B", 1_300_000_000),
    ],
)
def test_a_token_passes_as_many_parameters_of_a_mixture_as_its_publisher_says(name: str, rounded: int) -> None:
    found = entry(name)
    assert found.shape is not None
    assert found.active_parameters is not None
    assert active_parameter_count(found.shape) == pytest.approx(found.active_parameters, rel=0.005)
    assert found.active_parameters == pytest.approx(rounded, rel=0.03)


@pytest.mark.parametrize(
    ("name", "window", "interval"),
    [
        ("Llama-3.2-1B", None, None),
        ("Mistral-7B-v0.1", 4096, None),
        ("Mistral-7B-v0.3", None, None),
        ("Phi-3-mini", 2047, None),
        ("Phi-3.5-mini", None, None),
        ("Gemma-2-9B", 4096, 2),
        ("Gemma-3-1B", 512, 6),
        ("Gemma-3-27B", 1024, 6),
        ("gpt-oss-20b", 128, 2),
    ],
)
def test_windows_are_those_of_the_model(name: str, window: int | None, interval: int | None) -> None:
    shape = entry(name).shape
    assert shape is not None
    assert (shape.architecture.sliding_window, shape.architecture.global_layer_interval) == (window, interval)


def test_queries_and_keys_are_normalised_where_the_model_does_so() -> None:
    normalised = {name for name, one in catalogue().items() if one.shape and one.shape.architecture.query_key_norm}
    assert {"Qwen3-0.6B", "Qwen3-30B-A3B", "Gemma-3-270M", "OLMo-2-7B"} <= normalised
    assert not {"Qwen2.5-0.5B", "Gemma-2-2B", "Llama-3.2-1B", "OLMo-1B"} & normalised


def test_albert_shares_one_layer_and_a_narrow_table() -> None:
    albert, bert = entry("ALBERT-base-v2"), entry("BERT-base-uncased")
    assert albert.shape is not None
    assert bert.shape is not None
    assert (albert.shape.distinct_layers, albert.shape.embedding_width) == (1, 128)
    assert albert.shape.architecture.layer_weight_count == bert.shape.architecture.layer_weight_count
    assert albert.parameters == 11_683_584


def test_only_the_attention_layers_of_a_hybrid_keep_a_cache() -> None:
    assert entry("LFM2-1.2B").kv_cache == KvCache(layers=6, kv_heads=8, head_dim=64)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("DistilBERT", "BERT-base-uncased"),
        ("DistilGPT-2", "GPT-2"),
        ("DistilRoBERTa-base", "RoBERTa-base"),
        ("DeepSeek-R1-Distill-Qwen-1.5B", "DeepSeek-R1"),
    ],
)
def test_a_student_is_smaller_than_the_teacher_that_it_names(student: str, teacher: str) -> None:
    small, large = entry(student), entry(teacher)
    assert small.teacher == large.name
    assert small.parameters is not None
    assert large.parameters is not None
    assert small.parameters < large.parameters


def test_most_counts_are_held_against_a_second_source() -> None:
    held = [one for one in catalogue().values() if one.published is not None]
    assert len(held) >= 150


# Finding a model.


@pytest.mark.parametrize("spelling", ["Gemma-2B", "gemma 2b", " GEMMA_2B ", "gemma/2b", "Gemma-1-2B"])
def test_a_model_is_found_however_its_name_is_spelled(spelling: str) -> None:
    assert entry(spelling).name == "Gemma-2B"


def test_every_name_and_alias_finds_its_own_model() -> None:
    for one in catalogue().values():
        for spelling in (one.name, *one.aliases):
            assert entry(spelling) is one


def test_an_unknown_name_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(CatalogError, match=r"unknown model 'SmolLM2-134M'; nearest are SmolLM2-135M"):
        entry("SmolLM2-134M")
    with pytest.raises(CatalogError, match=r"''; no name is near"):
        entry("")


@given(st.text())
def test_a_random_name_is_found_or_refused_in_one_line(name: str) -> None:
    known = {key(spelling) for one in catalogue().values() for spelling in (one.name, *one.aliases)}
    if key(name) in known:
        assert entry(name).name in catalogue()
        return
    with pytest.raises(CatalogError) as refused:
        entry(name)
    assert len(str(refused.value).splitlines()) == 1


# The file.

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
counts = st.integers(1, 2**53)
entries = st.builds(
    ModelEntry,
    name=words,
    kind=st.sampled_from([ModelKind.DECODER, ModelKind.ENCODER_DECODER]),
    parameters=st.none() | counts,
    count_basis=st.sampled_from(CountBasis),
    source=words,
    active_parameters=st.none() | counts,
    context_tokens=st.none() | counts,
    kv_cache=st.none() | st.builds(KvCache, layers=counts, kv_heads=counts, head_dim=counts),
    aliases=st.lists(words, max_size=3).map(tuple),
    teacher=st.none() | words,
    published=st.none() | st.builds(PublishedCount, parameters=counts, source=words),
    note=words | st.just(""),
)


@given(st.lists(entries, min_size=1, max_size=3))
def test_what_is_written_is_read_again(models: list[ModelEntry]) -> None:
    assert parse_catalogue("\n".join(map(format_entry, models))) == tuple(models)


def test_every_model_is_written_as_it_was_read() -> None:
    known = tuple(catalogue().values())
    assert parse_catalogue("\n".join(map(format_entry, known))) == known


def test_a_table_leaves_out_what_has_its_default() -> None:
    table = tomllib.loads(format_entry(MINE))["model"][0]
    assert set(table) == {"name", "kind", "parameters", "count_basis", "source", "shape"}
    assert set(table["shape"]) == {"architecture"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds \\[\\[model\\]\\] tables and nothing else"),
        ("model = 5", "holds \\[\\[model\\]\\] tables"),
        ("model = [5]", "holds \\[\\[model\\]\\] tables"),
        (MINIMAL + "[other]", "and nothing else"),
        ("[[model]", "not TOML"),
        ("a = " + "[" * 100_000, "not TOML"),
        ("a = " + "9" * 10_000, "not TOML"),
        (MINIMAL.replace('name = "a"\n', ""), "model 1: name: is missing"),
        (MINIMAL.replace('"a"', "7"), "model 7: name: must be a text"),
        (MINIMAL.replace("decoder", "mamba"), "model 'a': kind: 'mamba' is none of decoder"),
        (MINIMAL.replace('"decoder"', "[1]"), "model 'a': kind: "),
        (MINIMAL.replace("= 5", "= 5.5"), "model 'a': parameters: must be a whole number"),
        (MINIMAL.replace("= 5", "= true"), "model 'a': parameters: must be a whole number"),
        (MINIMAL.replace("= 5", "= -5"), "model 'a': parameters: must be a whole number"),
        (MINIMAL.replace("= 5", "= 9007199254740993"), "model 'a': parameters: must be a whole number"),
        (MINIMAL + "colour = 1", "model 'a': there is no field 'colour'"),
        (MINIMAL + "aliases = 'b'", "model 'a': aliases: must be a list of texts"),
        (MINIMAL + "aliases = [1]", "model 'a': aliases: must be a list of texts"),
        (MINIMAL + "kv_cache = 1", "model 'a': kv_cache: must be a table"),
        (MINIMAL + "kv_cache = {layers = 1}", "model 'a': kv_cache: kv_heads: is missing"),
        (MINIMAL + "shape = {}", "model 'a': shape: architecture: is missing"),
        (MINIMAL + "shape = {architecture = 1}", "model 'a': shape: architecture: must be a table"),
        (MINIMAL + "shape = {architecture = {layers = 1}}", "model 'a': shape: architecture: hidden: is missing"),
        (
            MINIMAL.replace('"decoder"', '"encoder_decoder"') + "shape = {architecture = {}}",
            "model 'a': kind: a shape is that of a decoder or of an encoder",
        ),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(CatalogError, match=complaint) as refused:
        parse_catalogue(text)
    assert len(str(refused.value).splitlines()) == 1


# The check.


def test_a_model_without_fault_has_no_problem() -> None:
    assert entry_problems(MINE) == []
    assert problems((MINE, *catalogue().values())) == []


def shape(**changed: object) -> Shape:
    """The shape of MINE with other numbers in its architecture."""
    return replace(SHAPE, architecture=replace(SHAPE.architecture, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (replace(MINE, parameters=MINE.parameters + 1), "parameters: 138,049, but its shape has 138,048"),  # type: ignore[operator]
        (replace(MINE, count_basis=CountBasis.ROUNDED, parameters=138_800), "but its shape has 138,048"),
        (replace(MINE, published=PublishedCount(parameters=138_800, source="https://b")), "published: 138,800"),
        (replace(MINE, published=PublishedCount(parameters=138_048, source="somewhere")), "source: "),
        (replace(MINE, source="config.json"), "source: must be a public address"),
        (replace(MINE, source="https://a\nb"), "source: must be a public address"),
        (replace(MINE, name="a\nb"), "name: "),
        (replace(MINE, aliases=(" ",)), "name: "),
        (replace(MINE, teacher="Mine-1M"), "teacher: nothing is distilled from itself"),
        (replace(MINE, shape=None), "shape: must be told"),
        (replace(MINE, parameters=None), "parameters: must be told"),
        (replace(MINE, count_basis=CountBasis.UNDISCLOSED), "parameters: must be told, unless"),
        (replace(MINE, active_parameters=200_000), "active_parameters: must be at most all"),
        (replace(MINE, context_tokens=0), "context_tokens: must be from 1"),
        (replace(MINE, vocab=1000), "follow from the shape"),
        (replace(MINE, shape=shape(layers=0)), "layers: must be at least 1"),
        (replace(MINE, shape=shape(layers=2**50)), "layers: must be at most"),
        (replace(MINE, shape=shape(kv_heads=3)), "kv_heads: 4 heads cannot share 3"),
        (replace(MINE, shape=shape(sliding_window=0)), "sliding_window and global_layer_interval"),
        (replace(MINE, shape=replace(SHAPE, norms_per_layer=2**50)), "norms_per_layer: must be at most"),
        (replace(MINE, shape=replace(SHAPE, distinct_layers=3)), "distinct_layers: must be from 1 to 2"),
        (replace(MINE, shape=replace(SHAPE, embedding_width=0)), "embedding_width: "),
        (replace(MINE, shape=replace(SHAPE, experts=Experts(count=4, active=5))), "experts: of 4 experts"),
        (replace(MINE, shape=replace(SHAPE, experts=Experts(count=4, active=2, dense_layers=3))), "only 2 layers"),
        (replace(MINE, shape=replace(SHAPE, experts=Experts(count=4, active=2, dense_ffn=9))), "told together"),
    ],
)
def test_a_fault_is_told_with_its_field(wrong: ModelEntry, complaint: str) -> None:
    assert any(complaint in problem for problem in entry_problems(wrong))


def test_a_mixture_must_tell_how_many_parameters_a_token_passes() -> None:
    mixture = replace(SHAPE, experts=Experts(count=4, active=1))
    whole = replace(MINE, shape=mixture, parameters=parameter_count(mixture))
    assert any("active_parameters: None" in problem for problem in entry_problems(whole))
    assert entry_problems(replace(whole, active_parameters=active_parameter_count(mixture))) == []


@given(st.integers(1, 10**12), st.integers(1, 6))
def test_a_count_agrees_with_itself_rounded_to_any_digit(parameters: int, digits: int) -> None:
    place = max(0, int(log10(parameters)) + 1 - digits)
    rounded = max(round(parameters, -place), 1)
    known = replace(
        MINE,
        shape=None,
        parameters=parameters,
        count_basis=CountBasis.PUBLISHED,
        published=PublishedCount(parameters=rounded, source="https://b"),
    )
    assert entry_problems(known) == []


@pytest.mark.parametrize(("name", "alias"), [("mine 1m", "b"), ("b", "MINE_1M"), ("b", "one alias")])
def test_a_name_that_two_models_share_is_told_however_it_is_spelled(name: str, alias: str) -> None:
    first = replace(MINE, aliases=("One Alias",))
    second = replace(MINE, name=name, aliases=(alias,))
    assert len(problems((first, second))) == 1
    assert "already belongs to Mine-1M" in problems((first, second))[0]


def test_a_teacher_must_be_in_the_catalogue() -> None:
    assert problems((replace(MINE, teacher="Nobody"),)) == ["Mine-1M: teacher: there is no model 'Nobody'"]
