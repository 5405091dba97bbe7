"""`make bench-check`: a real run and real full models of tiny shapes, and the table of what was found."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bench_check
import pytest
from bench_accuracy import RawFile
from bench_check import Held, measure, passed, results, summary, table
from tiny_cases import PATIENCE_SECONDS, TINY, tiny_suite

from weighin_analysis.card import Estimate
from weighin_analysis.models.catalogue import entry
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.models.shape import Shape
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import load_suite

TOOL = Path(bench_check.__file__)


def tiny_model(layers: int = 2) -> ModelEntry:
    shape = replace(TINY, layers=layers, name="Tiny" if layers == 2 else f"Tiny of {layers}")
    return replace(
        entry("SmolLM2-135M"), name=shape.name, parameters=shape.parameter_count, shape=Shape(architecture=shape)
    )


def held(stated: float, actual: float, *, in_suite: bool = True) -> Held:
    estimate = Estimate(value=stated, low=stated / 1.2, high=stated * 1.2)
    return Held(model=f"a model at {actual:g}", in_suite=in_suite, stated=estimate, actual=actual)


@pytest.mark.slow
def test_a_run_and_a_full_model_are_measured_once_and_kept(tmp_path: Path) -> None:
    raw = RawFile(tmp_path / "raw.jsonl")
    raw.begin({"suite": "tiny"})
    models = [tiny_model()]
    measure(tiny_suite(), models, Scheme.INT4_BLOCK32, raw, tmp_path)
    lines = raw.read()[1]
    assert [line["key"] for line in lines] == ["run", "Tiny"]
    (found,) = results(models, Scheme.INT4_BLOCK32, lines)
    assert (found.model, found.in_suite) == ("Tiny", True)
    assert found.actual > 0
    assert found.stated.low < found.stated.value < found.stated.high
    measure(tiny_suite(), models, Scheme.INT4_BLOCK32, raw, tmp_path)
    assert raw.read()[1] == lines  # nothing was left to do


def test_a_model_is_held_where_the_stated_interval_has_what_was_measured() -> None:
    inside, above, below = held(10, 11), held(10, 12.1), held(10, 8)
    assert [one.held for one in (inside, above, below)] == [True, False, False]
    assert below.error == pytest.approx(0.25)  # promised too much
    lines = table([inside, above]).splitlines()
    assert lines[1].endswith("yes")
    assert lines[2].endswith("NO")


def test_eight_of_ten_are_enough_and_nothing_is_no_proof() -> None:
    good, bad = held(10, 10), held(10, 20)
    assert passed([good] * 8 + [bad] * 2)
    assert not passed([good] * 7 + [bad] * 3)
    assert not passed([])


def test_the_last_line_tells_which_models_were_not_in_the_suite_and_which_are_missing() -> None:
    found = [held(10, 10), replace(held(10, 20, in_suite=False), model="Tiny")]
    assert summary([tiny_model(), tiny_model(3)], found) == {
        "models": 2,
        "held": 1,
        "not_in_suite": 1,
        "not_in_suite_held": 0,
        "median_abs_error": 0.25,
        "missing": ["Tiny of 3"],
    }


def test_the_models_are_those_that_were_asked_for() -> None:
    """At least ten of the catalogue, at least five of which no case of the suite runs."""
    suite = {case.architecture.name for case in load_suite("standard").cases}
    assert len(bench_check.MODELS) >= 12
    assert len(set(bench_check.MODELS) - suite) >= 5
    assert all(entry(name).shape is not None for name in bench_check.MODELS)


def test_what_was_measured_so_far_is_printed_and_is_no_proof_where_it_is_nothing(tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    RawFile(raw).begin({"suite": "tiny"})
    line = [sys.executable, str(TOOL), "--raw", str(raw), "--write-only"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["models"], len(last["missing"])) == (1, 0, len(bench_check.MODELS))
