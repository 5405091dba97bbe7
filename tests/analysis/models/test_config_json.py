import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.errors import CatalogError
from weighin_analysis.models.catalogue import entry
from weighin_analysis.models.config_json import entry_from_config
from weighin_analysis.models.entry import CountBasis, ModelEntry, ModelKind

SOURCE = "https://example.org/config.json"
PUBLISHED: dict[str, dict[str, Any]] = {
    row["name"]: row["config"]
    for row in map(
        json.loads,
        (Path(__file__).parents[2] / "data" / "model_configurations.jsonl").read_text(encoding="utf-8").splitlines(),
    )
}
LLAMA = PUBLISHED["Llama-3.2-1B"]


def read(config: object) -> ModelEntry:
    return entry_from_config(json.dumps(config), "mine", SOURCE)


def complaint_about(config: object) -> str | None:
    """The line that refuses a configuration, None if it is taken."""
    try:
        found = read(config)
    except CatalogError as error:
        return str(error)
    return None if found.parameters else "no parameters"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_configuration_gives_the_shape_of_the_catalogue(name: str) -> None:
    """The catalogue was made from other sources; a copy of the head is not told by a configuration."""
    known = entry(name)
    assert known.shape is not None
    found = entry_from_config(json.dumps(PUBLISHED[name]), name, SOURCE)
    assert found.shape is not None
    assert replace(found.shape, copied_head=known.shape.copied_head) == known.shape
    assert (found.parameters, found.active_parameters) == (known.parameters, known.active_parameters)
    assert (found.kind, found.count_basis, found.source) == (known.kind, CountBasis.COMPUTED, SOURCE)


def test_the_context_is_what_the_configuration_says() -> None:
    assert read(LLAMA).context_tokens == 131_072
    assert read(PUBLISHED["GPT-2"]).context_tokens == 1024


def test_null_reads_like_a_missing_field() -> None:
    assert read(LLAMA | {"head_dim": None}) == read({k: v for k, v in LLAMA.items() if k != "head_dim"})


def test_a_told_head_width_need_not_divide_the_hidden_width() -> None:
    shape = read(LLAMA | {"head_dim": 64, "num_attention_heads": 24, "num_key_value_heads": 8}).shape
    assert shape is not None
    assert shape.architecture.hidden % shape.architecture.heads != 0
    assert shape.architecture.head_dim == 64


def test_missing_key_value_heads_are_as_many_as_heads() -> None:
    shape = read({k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}).shape
    assert shape is not None
    assert shape.architecture.kv_heads == 32


def test_a_window_that_the_context_never_leaves_is_no_window() -> None:
    shape = read(PUBLISHED["Mistral-7B-v0.1"] | {"sliding_window": 32_768}).shape
    assert shape is not None
    assert shape.architecture.sliding_window is None


def test_a_model_with_a_vision_tower_gives_its_text_decoder() -> None:
    found = read(PUBLISHED["Gemma-3-4B"])
    assert (found.kind, found.parameters) == (ModelKind.DECODER, entry("Gemma-3-4B").parameters)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("9" * 10_000, "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "model_type: 'None' is none of albert, bert"),
        ('{"model_type": "mamba"}', "model_type: 'mamba' is none of albert, bert"),
        ('{"model_type": ["llama"]}', "model_type: "),
        ('{"model_type": "gemma3"}', "model_type: 'gemma3' is none of"),
        ('{"model_type": [], "text_config": {}}', r"model_type: '\[\]' is none of"),
        ('{"model_type": "llama"}', "num_attention_heads: must be a whole number"),
    ],
)
def test_a_text_that_is_no_configuration_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(CatalogError, match=f"^mine: .*{complaint}") as refused:
        entry_from_config(text, "mine", SOURCE)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        ("Llama-3.2-1B", "num_hidden_layers", "16"),
        ("Llama-3.2-1B", "num_hidden_layers", 1.5),
        ("Llama-3.2-1B", "num_hidden_layers", True),
        ("Llama-3.2-1B", "num_hidden_layers", 0),
        ("Llama-3.2-1B", "vocab_size", -1),
        ("Llama-3.2-1B", "vocab_size", 10**30),
        ("Llama-3.2-1B", "max_position_embeddings", "long"),
        ("Llama-3.2-1B", "tie_word_embeddings", 1),
        ("Llama-3.2-1B", "attention_bias", "no"),
        ("Llama-3.2-1B", "hidden_act", "relu"),
        ("Llama-3.2-1B", "hidden_act", 5),
        ("Qwen2.5-3B", "use_sliding_window", True),
        ("Qwen3-30B-A3B", "decoder_sparse_step", 2),
        ("Qwen3-30B-A3B", "mlp_only_layers", [0]),
        ("Qwen3-30B-A3B", "num_experts", 0),
        ("Gemma-3-1B", "sliding_window_pattern", 0),
        ("Phi-2", "qk_layernorm", True),
        ("ALBERT-base-v2", "inner_group_num", 2),
        ("DistilBERT", "dim", None),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(model: str, field: str, value: object) -> None:
    with pytest.raises(CatalogError, match=f"mine: config.json: {field}: "):
        read(PUBLISHED[model] | {field: value})


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"head_dim": None, "num_attention_heads": 7}, "head_dim: is missing, and a width of 2048"),
        ({"num_hidden_layers": 2**30}, "layers: must be at most"),
        ({"num_key_value_heads": 3}, "kv_heads: 32 heads cannot share 3"),
    ],
)
def test_a_shape_that_no_model_has_is_refused(changed: dict[str, object], complaint: str) -> None:
    with pytest.raises(CatalogError, match=complaint):
        read(LLAMA | changed)


def test_more_active_experts_than_there_are_is_refused() -> None:
    with pytest.raises(CatalogError, match="experts: of 8 experts, from 1 to all are active, not 9"):
        read(PUBLISHED["Mixtral-8x7B"] | {"num_experts_per_tok": 9})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_any_json_is_refused_in_one_line(value: object) -> None:
    complaint = complaint_about(value)
    assert complaint is not None
    assert len(complaint.splitlines()) == 1


@given(st.text())
def test_any_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(CatalogError) as refused:
        entry_from_config(text, "mine", SOURCE)
    assert len(str(refused.value).splitlines()) == 1


@given(st.data())
def test_a_configuration_with_any_fields_spoiled_is_an_entry_or_one_line(data: st.DataObject) -> None:
    config = dict(PUBLISHED[data.draw(st.sampled_from(sorted(PUBLISHED)))])
    spoiled = data.draw(st.dictionaries(st.sampled_from(sorted(config)), json_values | st.integers(-2, 2**40)))
    complaint = complaint_about(config | spoiled)
    assert complaint is None or complaint.startswith("mine: config.json: ")
    assert complaint is None or len(complaint.splitlines()) == 1
