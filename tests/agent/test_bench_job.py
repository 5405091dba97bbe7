import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_cases import tiny_job

from weighin_agent.bench.job import (
    Answer,
    Failed,
    Job,
    Measured,
    Progress,
    decode_answer,
    decode_job,
    encode_answer,
    encode_job,
)
from weighin_agent.run import CaseFailureReason
from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, Series, SeriesPart
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import load_suite

numbers = st.integers(0, 2**31 - 1)
shares = st.none() | st.floats(0, 1)
shapes = st.builds(Architecture, name=st.text(), kind=st.sampled_from(ArchitectureKind), layers=numbers)
cases = st.builds(Case, architecture=shapes, scheme=st.sampled_from(Scheme), execution_provider=st.text())
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
)
answers = (
    st.builds(Progress, share=st.floats(0, 1))
    | st.builds(Failed, reason=st.sampled_from(CaseFailureReason), detail=st.text())
    | st.builds(Measured, measurements=st.lists(measurements, max_size=2).map(tuple))
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(case=cases, full_model=st.booleans(), limit=st.none() | numbers)
def test_a_job_survives_its_line(case: Case, full_model: bool, limit: int | None) -> None:
    job = replace(tiny_job(Path("folder"), case), full_model=full_model, memory_limit_bytes=limit)
    line = encode_job(job)
    assert "\n" not in line
    assert decode_job(line) == job


def test_the_jobs_of_the_quick_suite_survive_their_line() -> None:
    suite = load_suite("quick")
    job = Job(
        case=tiny_job(Path()).case,
        folder=Path("a folder with spaces"),
        weights=suite.weights,
        lengths=suite.lengths,
        rounds=suite.rounds,
        full_model=True,
        memory_limit_bytes=None,
        clock=ClockKind.WALL,
    )
    assert decode_job(encode_job(job)) == job


@given(answers)
def test_an_answer_survives_its_line(answer: Answer) -> None:
    line = encode_answer(answer)
    assert "\n" not in line
    assert decode_answer(line) == answer


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
        '{"kind": ["Progress"]}',
        '{"kind": "Progress"}',
        '{"kind": "Progress", "share": "half"}',
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


@given(kind=st.sampled_from(["Progress", "Failed", "Measured", "Other"]), rest=json_values, key=st.text())
def test_no_json_brings_the_parent_down(kind: str, rest: object, key: str) -> None:
    documents = [rest, {"kind": kind, key: rest}, {"kind": kind, "measurements": rest, "share": rest, "reason": rest}]
    for document in documents:
        with suppress(ValueError, KeyError, TypeError):
            decode_answer(json.dumps(document))
