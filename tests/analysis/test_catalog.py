import json
from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.architecture import ArchitectureKind, FeedForward
from weighin_analysis.catalog import (
    architecture,
    architectures,
    class_rank,
    parse_architecture,
    size_class_of,
    size_classes,
)
from weighin_analysis.data_files import read_data
from weighin_analysis.errors import CatalogError
from weighin_analysis.limits import current_limits

FILE: dict[str, object] = {
    "model": "mine",
    "layers": 2,
    "hidden": 64,
    "ffn": 128,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "vocab": 1000,
    "tied_embeddings": True,
}


def test_every_model_lies_in_exactly_one_class() -> None:
    classes = size_classes()
    assert classes[0].lower == 0
    assert classes[-1].upper is None
    for smaller, larger in pairwise(classes):
        assert smaller.upper == larger.lower
        assert smaller.lower < larger.lower
    assert len({c.name for c in classes}) == len(classes)


def test_every_reference_lies_in_the_band_that_it_stands_for() -> None:
    references = {c.name: c.reference for c in size_classes() if c.reference}
    assert list(references) == ["0.1B", "0.3B", "0.5B", "1B", "2B", "4B", "7B"]
    for size_class, name in references.items():
        shape = architecture(name)
        assert size_class_of(shape.parameter_count).name == size_class
        assert shape.kind is ArchitectureKind.DECODER


def test_larger_classes_rank_higher() -> None:
    assert [class_rank(c.name) for c in size_classes()] == list(range(len(size_classes())))


@given(st.integers(0, 10**13))
def test_the_class_of_a_number_of_parameters_holds_it(parameters: int) -> None:
    found = size_class_of(parameters)
    assert found.lower <= parameters
    assert found.upper is None or parameters < found.upper


@pytest.mark.parametrize("border", [c.lower for c in size_classes()])
def test_the_lower_border_belongs_to_the_class(border: int) -> None:
    assert size_class_of(border).lower == border


def test_an_unknown_architecture_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(CatalogError, match=r"'SmolLM2-136M'.*SmolLM2-135M"):
        architecture("SmolLM2-136M")


@pytest.mark.parametrize("name", ["Mixtral-8x7B", "LFM2-700M"])
def test_a_model_that_no_architecture_describes_is_not_given_one(name: str) -> None:
    assert name not in architectures()
    with pytest.raises(CatalogError, match=f"{name} has no architecture that tells all of its weights"):
        architecture(name)


def test_an_unknown_data_file_is_refused() -> None:
    with pytest.raises(CatalogError, match=r"suite_odd\.toml"):
        read_data("suite_odd.toml")


def test_the_names_of_the_table_are_the_names_of_the_architectures() -> None:
    assert all(shape.name == name for name, shape in architectures().items())


def test_an_architecture_is_read_from_a_file() -> None:
    shape = parse_architecture(json.dumps(FILE | {"parameters": 123, "licence": "any"}))
    assert (shape.name, shape.kind, shape.layers, shape.tied_embeddings) == ("mine", ArchitectureKind.DECODER, 2, True)
    assert parse_architecture(json.dumps(FILE | {"arch": "encoder"})).kind is ArchitectureKind.ENCODER


def test_an_architecture_has_no_norms_and_no_window_unless_its_file_says_so() -> None:
    shape = parse_architecture(json.dumps(FILE))
    assert (shape.feed_forward, shape.query_key_norm, shape.sandwich_norm) == (FeedForward.SWIGLU, False, False)
    assert (shape.sliding_window, shape.global_layer_interval) == (None, None)
    assert parse_architecture(json.dumps(FILE | {"arch": "encoder"})).feed_forward is FeedForward.GELU


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("feed_forward", word) for word in FeedForward),
        ("query_key_norm", True),
        ("sandwich_norm", True),
        ("sliding_window", 512),
        ("sliding_window", None),
        ("global_layer_interval", 6),
        ("global_layer_interval", None),
    ],
)
def test_what_a_file_says_of_the_blocks_is_what_the_architecture_has(key: str, value: object) -> None:
    assert getattr(parse_architecture(json.dumps(FILE | {key: value})), key) == value


def test_a_reference_can_be_written_as_a_file() -> None:
    """Whoever compares a shape of their own with a reference starts from it."""
    for shape in architectures().values():
        table = asdict(shape)
        table |= {"model": table.pop("name"), "arch": table.pop("kind")}
        assert parse_architecture(json.dumps(table)) == shape


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        (json.dumps(FILE | {"arch": "mamba"}), "arch: 'mamba'"),
        (json.dumps(FILE | {"arch": ["decoder"]}), "arch: "),
        (json.dumps(FILE | {"layers": 0}), "layers: "),
        (json.dumps(FILE | {"layers": 1.5}), "layers: "),
        (json.dumps(FILE | {"layers": 10**400}), "layers: "),
        (json.dumps(FILE | {"vocab": True}), "vocab: "),
        (json.dumps(FILE | {"ffn": "128"}), "ffn: "),
        (json.dumps({k: v for k, v in FILE.items() if k != "kv_heads"}), "kv_heads: "),
        (json.dumps(FILE | {"model": 5}), "model must be a text"),
        (json.dumps(FILE | {"tied_embeddings": 1}), "tied_embeddings true or false"),
        (json.dumps(FILE | {"feed_forward": "relu"}), "feed_forward: 'relu' is none of swiglu, geglu, gelu"),
        (json.dumps(FILE | {"feed_forward": None}), "feed_forward: "),
        (json.dumps(FILE | {"feed_forward": ["gelu"]}), "feed_forward: "),
        (json.dumps(FILE | {"query_key_norm": 1}), "query_key_norm: must be true or false"),
        (json.dumps(FILE | {"sandwich_norm": None}), "sandwich_norm: must be true or false"),
        (json.dumps(FILE | {"sliding_window": 0}), "sliding_window: "),
        (json.dumps(FILE | {"sliding_window": True}), "sliding_window: "),
        (json.dumps(FILE | {"sliding_window": "512"}), "sliding_window: "),
        (json.dumps(FILE | {"global_layer_interval": 2.5}), "global_layer_interval: "),
        (json.dumps(FILE | {"global_layer_interval": 2**31}), "global_layer_interval: "),
    ],
)
def test_a_wrong_file_is_refused_with_the_field_that_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(CatalogError, match=complaint) as refused:
        parse_architecture(text)
    assert "\n" not in str(refused.value)


def test_the_usable_limits_are_no_stricter_than_the_comfortable_ones() -> None:
    limits = current_limits()
    better, worse = limits.decoder_comfortable, limits.decoder_usable
    assert better.decode_tokens_per_second > worse.decode_tokens_per_second > 0
    assert 0 < better.time_to_first_token_seconds < worse.time_to_first_token_seconds
    assert 0 < limits.encoder_comfortable.latency_seconds < limits.encoder_usable.latency_seconds
    assert 0 < limits.memory_share < 1
    assert 0 < limits.interval_probability < 1
