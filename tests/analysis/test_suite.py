import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.catalog import architecture
from weighin_analysis.errors import CatalogError
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import SUITE_NAMES, Lengths, ProbeSize, Suite, load_suite, plan_probe, suite_case

# Runs of one suite and version are compared across years: whoever changes what a suite runs, or one of the shapes in
# it, raises its version and adds a line here. Lines are never changed.
PINNED = {("quick", 1): "991edef9c9d5a9fe2d7263282f94c00275206a7d2d9d0f5d79d14f85a26c733b"}

counts = st.integers(1, 300)
shapes = st.builds(
    Architecture,
    name=st.just("any"),
    kind=st.sampled_from(ArchitectureKind),
    layers=counts,
    hidden=st.integers(16, 20_000),
    ffn=st.integers(16, 60_000),
    heads=counts,
    kv_heads=counts,
    head_dim=st.sampled_from([32, 64, 128, 256]),
    vocab=st.integers(1, 400_000),
    tied_embeddings=st.booleans(),
)


@pytest.mark.parametrize("name", SUITE_NAMES)
def test_a_suite_is_what_its_version_always_was(name: str) -> None:
    suite = load_suite(name)
    assert suite.sha256.hex() == PINNED[suite.name, suite.version]


def altered(value: Any) -> Iterator[Any]:
    """Every value that differs from ``value`` in exactly one place."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            for other in altered(getattr(value, field.name)):
                yield replace(value, **{field.name: other})
    elif isinstance(value, tuple):
        yield value[:-1]
        yield value[::-1]
        for i, item in enumerate(value):
            for other in altered(item):
                yield (*value[:i], other, *value[i + 1 :])
    elif isinstance(value, Enum):
        yield from (other for other in type(value) if other is not value)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, str):
        yield value + "x"
    elif value is None:  # no optional field of a suite is a text
        yield 1
    else:
        yield value + 1


def test_every_change_of_a_suite_changes_its_hash() -> None:
    suite = load_suite("quick")
    others: list[Suite] = list(altered(suite))
    assert len(others) > 50
    hashes = [other.sha256 for other in others]
    assert suite.sha256 not in hashes
    assert len(set(hashes)) == len(hashes)


def test_an_unknown_suite_is_refused_with_the_known_names() -> None:
    with pytest.raises(CatalogError, match=r"'slow'.*quick"):
        load_suite("slow")


def test_lengths_survive_json() -> None:
    lengths = load_suite("quick").lengths
    table = {field.name: getattr(lengths, field.name) for field in fields(lengths)}
    assert Lengths.from_table(json.loads(json.dumps(table))) == lengths


@given(shape=shapes, scheme=st.sampled_from(Scheme), layers=st.integers(1, 10**9), head=st.integers(1, 10**9))
def test_a_layer_probe_is_a_part_of_the_model(shape: Architecture, scheme: Scheme, layers: int, head: int) -> None:
    probe_layers, short_layers, columns = plan_probe(shape, scheme, ProbeSize(layers_bytes=layers, head_bytes=head))
    assert 0 <= short_layers < probe_layers
    assert 1 <= probe_layers <= shape.layers
    if shape.kind is ArchitectureKind.ENCODER:
        assert columns == 0
    else:
        assert 1 <= columns <= shape.vocab
        assert columns == shape.vocab or columns % 256 == 0


@given(shape=shapes, scheme=st.sampled_from(Scheme), layers=st.integers(1, 10**9), head=st.integers(1, 10**9))
def test_a_layer_probe_has_the_fewest_layers_and_the_most_columns(
    shape: Architecture, scheme: Scheme, layers: int, head: int
) -> None:
    probe_layers, _, columns = plan_probe(shape, scheme, ProbeSize(layers_bytes=layers, head_bytes=head))
    layer_bytes = shape.layer_weight_count * scheme.stored_bytes_per_weight
    column_bytes = shape.hidden * scheme.stored_bytes_per_weight
    assert probe_layers == shape.layers or probe_layers * layer_bytes >= layers
    assert probe_layers == 1 or (probe_layers - 1) * layer_bytes < layers
    if columns > 256:
        assert columns * column_bytes <= head
    if 0 < columns < shape.vocab:
        assert (columns + 256) * column_bytes > head


@dataclass(frozen=True)
class Expected:
    probe_layers: int
    head_columns: int


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SmolLM2-135M", Expected(30, 49_152)),  # 66 MB: the whole model is less than a probe
        ("Qwen2.5-0.5B", Expected(11, 114_176)),
        ("Llama-3.2-1B", Expected(3, 49_920)),
        ("Llama-3.1-8B", Expected(1, 24_832)),
    ],
)
def test_the_probes_of_the_quick_suite_are_those_that_were_tried(name: str, expected: Expected) -> None:
    case = suite_case(architecture(name), Scheme.INT4_BLOCK32, load_suite("quick").probe)
    assert Expected(case.probe_layers, case.head_columns) == expected
