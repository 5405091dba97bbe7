import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_cases import tiny_job

from weighin_agent.bench.job import (
    GRAPH_FILES,
    Answer,
    Failed,
    Measured,
    Ready,
    Synthesised,
    decode_answer,
    decode_job,
    encode_answer,
    encode_job,
)
from weighin_agent.run import CaseFailureReason
from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, Series, SeriesPart
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import Suite, load_suite

numbers = st.integers(0, 2**31 - 1)
shares = st.none() | st.floats(0, 1)
shapes = st.builds(
    Architecture,
    name=st.text(),
    kind=st.sampled_from(ArchitectureKind),
    layers=numbers,
    feed_forward=st.sampled_from(FeedForward),
    query_key_norm=st.booleans(),
    sandwich_norm=st.booleans(),
    sliding_window=numbers,
    global_layer_interval=numbers,
)
cases = st.builds(
    Case,
    architecture=shapes,
    scheme=st.sampled_from(Scheme),
    execution_provider=st.text(),
    probe_layers=numbers,
    short_probe_layers=numbers,
    head_columns=numbers,
)
series = st.builds(
    Series,
    part=st.sampled_from(SeriesPart),
    phase=st.sampled_from(Phase),
    clock=st.sampled_from(ClockKind),
    sample_seconds=st.lists(st.floats(0, 1e3), max_size=3).map(tuple),
    foreign_cpu_share=shares,
)
measurements = st.builds(
    Measurement,
    case=cases,
    phase=st.sampled_from(Phase),
    series=st.lists(series, max_size=3).map(tuple),
    peak_memory_bytes=st.none() | numbers,
    output_correlation=shares,
    output_relative_rms=shares,
)
answers = (
    st.builds(Synthesised, case=cases)
    | st.builds(Ready)
    | st.builds(Measured, measurements=st.lists(measurements, max_size=2).map(tuple))
    | st.builds(Failed, reason=st.sampled_from(CaseFailureReason), detail=st.text())
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(case=cases, layer_probe=st.booleans(), loads=st.integers(0, 2), limit=st.none() | numbers)
def test_a_job_survives_its_line(case: Case, layer_probe: bool, loads: int, limit: int | None) -> None:
    job = tiny_job(Path("folder"), case, layer_probe=layer_probe, full_model_loads=loads, memory_limit_bytes=limit)
    line = encode_job(job)
    assert "\n" not in line
    assert decode_job(line) == job


@pytest.mark.parametrize("suite", [load_suite("quick"), load_suite("standard")], ids=lambda suite: suite.name)
def test_the_jobs_of_a_suite_survive_their_line(suite: Suite) -> None:
    job = tiny_job(Path("a folder with spaces"), lengths=suite.lengths, rounds=suite.rounds)
    assert decode_job(encode_job(replace(job, weights=suite.weights))).rounds == suite.rounds
    assert decode_job(encode_job(replace(job, weights=suite.weights))) == replace(job, weights=suite.weights)


@given(answers)
def test_an_answer_survives_its_line(answer: Answer) -> None:
    line = encode_answer(answer)
    assert "\n" not in line
    assert decode_answer(line) == answer


# What runs in turn.

DECODER = replace(tiny_job(Path()).case, probe_layers=2, head_columns=256)


def parts(case: Case, *, layer_probe: bool = True, loads: int = 0) -> dict[str, int]:
    job = tiny_job(Path(), case, layer_probe=layer_probe, full_model_loads=loads)
    assert set(job.parts) <= GRAPH_FILES.keys()
    return {part.value: layers for part, layers in job.parts.items()}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (DECODER, {"layers": 2, "head": 0, "call": 0}),
        (replace(DECODER, short_probe_layers=1), {"layers": 2, "short_layers": 1, "head": 0, "call": 0}),
        (replace(DECODER, head_columns=0), {"layers": 2}),
    ],
    ids=["decoder", "short probe", "encoder"],
)
def test_a_layer_probe_is_its_layers_and_where_it_has_a_head_that_and_a_bare_call(
    case: Case, expected: dict[str, int]
) -> None:
    assert parts(case) == expected


def test_an_anchor_is_the_full_model_alone() -> None:
    assert parts(replace(DECODER, short_probe_layers=1), layer_probe=False, loads=1) == {"full_model": 2}


@pytest.mark.parametrize("loads", [1, 2])
def test_a_verification_runs_full_models_beside_the_layer_probe(loads: int) -> None:
    expected = dict.fromkeys(["full_model", "full_model_twin"][:loads], 2)
    assert parts(DECODER, loads=loads) == expected | {"layers": 2, "head": 0, "call": 0}


# What is no answer.


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Segmentation fault",
        "\x00\xff",
        "5",
        "null",
        "[]",
        '"kind"',
        "{}",
        '{"kind": "Other"}',
        '{"kind": ["Ready"]}',
        '{"kind": "Synthesised"}',
        '{"kind": "Synthesised", "case": {"architecture": 5}}',
        '{"kind": "Failed", "reason": "bored", "detail": ""}',
        '{"kind": "Failed", "reason": "crashed"}',
        '{"kind": "Measured", "measurements": 5}',
        '{"kind": "Measured", "measurements": [5]}',
        '{"kind": "Measured", "measurements": [{"case": {}}]}',
    ],
)
def test_what_is_no_answer_is_refused_with_an_error_that_the_parent_expects(line: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode_answer(line)


@given(kind=st.sampled_from(["Synthesised", "Ready", "Failed", "Measured", "Other"]), rest=json_values, key=st.text())
def test_no_json_brings_the_parent_down(kind: str, rest: object, key: str) -> None:
    documents = [rest, {"kind": kind, key: rest}, {"kind": kind, "measurements": rest, "case": rest, "reason": rest}]
    for document in documents:
        with suppress(ValueError, KeyError, TypeError):
            decode_answer(json.dumps(document))
