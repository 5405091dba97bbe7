import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.catalog import architecture, size_classes
from weighin_analysis.errors import CatalogError
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import SUITE_NAMES, Lengths, ProbeSize, Processor, Suite, load_suite, plan_probe, suite_case

# Runs of one suite and version are compared across years: whoever changes what a suite runs, or one of the shapes in
# it, raises its version and adds a line here. Lines are never changed.
PINNED = {
    ("quick", 1): "991edef9c9d5a9fe2d7263282f94c00275206a7d2d9d0f5d79d14f85a26c733b",
    ("quick", 2): "acbc8053b07a40923183c3ec8a25cec2d10c829cd9bc8e3ef12e43332e920fc9",
    ("standard", 1): "a3e1335eefe2b6698410d2ef1f0721e30ad58a1fad906afd9ef34a26345d23ba",
}

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
    assert 1 <= probe_layers <= shape.layers
    # A second probe tells what scaling would multiply: there is none where nothing is scaled, or nothing is smaller.
    assert short_layers == (0 if probe_layers == shape.layers else probe_layers // 3)
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
    most_bytes = head if layer_bytes <= 2 * layers else head // 2  # beside one very large layer the slice is halved
    if columns > 256:
        assert columns * column_bytes <= most_bytes
    if 0 < columns < shape.vocab:
        assert (columns + 256) * column_bytes > most_bytes


@dataclass(frozen=True)
class Expected:
    probe_layers: int
    short_layers: int
    head_columns: int


@pytest.mark.parametrize("suite_name", SUITE_NAMES)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SmolLM2-135M", Expected(29, 9, 49_152)),  # all but a layer of the model, and its whole head
        ("Qwen2.5-0.5B", Expected(7, 2, 57_088)),
        ("Llama-3.2-1B", Expected(2, 0, 24_832)),
        ("Llama-3.1-8B", Expected(1, 0, 6_144)),
    ],
)
def test_the_probes_of_the_suites_are_those_that_were_tried(name: str, expected: Expected, suite_name: str) -> None:
    case = suite_case(architecture(name), Scheme.INT4_BLOCK32, load_suite(suite_name).probe)
    assert Expected(case.probe_layers, case.short_probe_layers, case.head_columns) == expected


# What the standard suite runs.

STANDARD = load_suite("standard")


def shapes_in(scheme: Scheme, processor: Processor) -> set[str]:
    cases = STANDARD.cases_on(processor)
    return {case.architecture.name for case in cases if case.scheme is scheme and not case.anchor}


@pytest.mark.parametrize("processor", [Processor.CPU, Processor.GPU])
def test_every_size_class_with_a_reference_is_measured_in_four_bits_wherever_it_runs(processor: Processor) -> None:
    references = {size.reference for size in size_classes() if size.reference}
    assert len(references) >= 7
    assert shapes_in(Scheme.INT4_BLOCK32, processor) == references


def test_eight_bits_are_measured_on_the_cpu_and_halves_on_a_gpu() -> None:
    small = {"SmolLM2-135M", "Qwen2.5-0.5B", "Llama-3.2-1B"}
    assert shapes_in(Scheme.INT8_DYNAMIC, Processor.CPU) == small | {"DistilBERT"}
    assert shapes_in(Scheme.FP16, Processor.GPU) == small
    assert shapes_in(Scheme.INT8_DYNAMIC, Processor.GPU) == shapes_in(Scheme.FP16, Processor.CPU) == set()


@pytest.mark.parametrize("suite", [load_suite(name) for name in SUITE_NAMES], ids=lambda suite: suite.name)
def test_an_anchor_is_a_full_model_beside_the_layer_probe_of_the_same_model(suite: Suite) -> None:
    anchors = [case for case in suite.cases if case.anchor]
    assert anchors
    for anchor in anchors:
        shape = anchor.architecture
        assert (anchor.probe_layers, anchor.short_probe_layers) == (shape.layers, 0)
        assert anchor.head_columns == shape.vocab
        before = suite.cases[suite.cases.index(anchor) - 1]
        assert (before.architecture, before.scheme, before.anchor) == (shape, anchor.scheme, False)


def test_the_cases_of_a_suite_are_told_apart_by_themselves_alone() -> None:
    """Its execution keeps what it found by case."""
    for name in SUITE_NAMES:
        cases = load_suite(name).cases
        assert len(set(cases)) == len(cases)
