import json
from pathlib import Path

import pytest
from agent_process import agent, models_left_behind, only_document, spooled_runs
from hypothesis import given
from hypothesis import strategies as st

from weighin_agent.verify import Cell, summarise

SMALL = {
    "model": "Small",
    "layers": 3,
    "hidden": 64,
    "ffn": 128,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 32,
    "vocab": 512,
    "tied_embeddings": True,
    "arch": "decoder",
}


def cell(error: float, *, phase: str = "decode", spread: float = 0.1) -> Cell:
    """A cell whose prediction is off by ``error``, with an interval of +- ``spread`` around it."""
    predicted = 1 + error
    return Cell(
        repeat=0,
        architecture="any",
        scheme="int4_block32",
        phase=phase,
        token_count=1,
        context_depth=16,
        actual_seconds=1.0,
        predicted_seconds=predicted,
        error=error,
        low=predicted - spread,
        high=predicted + spread,
    )


# The summary.


def test_the_errors_of_a_phase_are_its_absolute_ones() -> None:
    found = summarise([*(cell(e) for e in (-0.1, 0.02, 0.04, -0.06, 0.3)), cell(0.5, phase="prefill")])
    assert found.decode.cells == 5
    assert found.decode.median_abs_error == pytest.approx(0.06)
    assert found.decode.p90_abs_error == pytest.approx(0.1 + 0.6 * 0.2)
    assert found.prefill.cells == 1
    assert found.prefill.median_abs_error == pytest.approx(0.5)


def test_coverage_is_how_often_the_actual_time_lay_in_the_interval() -> None:
    errors = (0.0, 0.05, -0.09, 0.11, -0.5)
    assert summarise([cell(e) for e in errors]).interval_coverage == pytest.approx(3 / 5)


def test_nothing_measured_has_no_errors_and_no_coverage() -> None:
    found = summarise([])
    assert (found.decode.cells, found.decode.median_abs_error, found.decode.p90_abs_error) == (0, None, None)
    assert found.interval_coverage is None


@given(errors=st.lists(st.floats(-0.9, 9), min_size=1, max_size=20))
def test_a_tenth_of_the_errors_may_lie_above_the_ninetieth_percentile(errors: list[float]) -> None:
    found = summarise([cell(error) for error in errors]).decode
    assert found.median_abs_error is not None
    assert found.p90_abs_error is not None
    assert 0 <= found.median_abs_error <= found.p90_abs_error <= max(map(abs, errors)) + 1e-12


# The command.


def test_verify_runs_the_full_model_beside_its_probe_for_every_architecture_and_scheme(tmp_path: Path) -> None:
    decoder, encoder = tmp_path / "decoder.json", tmp_path / "encoder.json"
    decoder.write_text(json.dumps(SMALL))
    encoder.write_text(json.dumps(SMALL | {"arch": "encoder", "model": "SmallEncoder"}))
    schemes = ["--scheme", "int4_block32", "--scheme", "int8_dynamic"]
    shapes = ["--architecture", str(decoder), "--architecture", str(encoder)]
    done = agent("verify", "--json", "--state", tmp_path / "state", *shapes, *schemes)
    assert (done.returncode, done.stderr) == (0, "")
    document = only_document(done.stdout)
    assert set(document) == {"cells", "decode", "prefill", "interval_coverage"}
    assert 0 <= document["interval_coverage"] <= 1
    for phase in ("decode", "prefill"):
        assert set(document[phase]) == {"cells", "median_abs_error", "p90_abs_error"}
        assert 0 <= document[phase]["median_abs_error"] <= document[phase]["p90_abs_error"]
    lengths = {
        (c["architecture"], c["scheme"], c["phase"], c["token_count"], c["context_depth"]) for c in document["cells"]
    }
    decodes = {("decode", 1, 16), ("decode", 1, 960)}
    prompts = {("prefill", 32, 0), ("prefill", 128, 0)}
    expected = [("Small", decodes | prompts | {("prefill", 512, 0)}), ("SmallEncoder", prompts)]
    assert lengths == {
        (name, scheme, *point)
        for name, points in expected
        for scheme in ("int4_block32", "int8_dynamic")
        for point in points
    }
    for found in document["cells"]:
        assert 0 < found["low"] <= found["predicted_seconds"] <= found["high"]
        assert found["error"] == pytest.approx(found["predicted_seconds"] / found["actual_seconds"] - 1)
    assert spooled_runs(tmp_path / "state") == []  # a check of the method is no run
    assert models_left_behind(tmp_path / "state") == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file or directory"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "can't decode"),
        (json.dumps(SMALL | {"layers": 0}).encode(), "layers: must be a whole number"),
    ],
    ids=["missing", "not JSON", "not text", "no layers"],
)
def test_an_architecture_file_that_cannot_be_used_is_refused_by_name(
    text: bytes | None, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_bytes(text)
    done = agent("verify", "--state", tmp_path / "state", "--architecture", path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"weighin-agent: --architecture {path}: ")
    assert why in line


def test_an_unknown_architecture_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    done = agent("verify", "--state", tmp_path / "state", "--architecture", "GPT-9")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "unknown architecture 'GPT-9'; known are DistilBERT, SmolLM2-135M" in line


def test_a_case_that_cannot_be_measured_is_told_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(SMALL | {"model": "Odd", "head_dim": 31}))
    done = agent("verify", "--json", "--state", tmp_path / "state", "--architecture", path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("weighin-agent: Odd int4_block32: runtime_error: ")
    assert models_left_behind(tmp_path / "state") == []
