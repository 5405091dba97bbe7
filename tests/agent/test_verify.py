import json
from pathlib import Path

import pytest
from agent_process import agent, models_left_behind, only_document, spooled_runs

from weighin_agent.verify import Step, StepKind, own_layers_plan, suite_layers, unseen_plan
from weighin_analysis.catalog import architecture
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import SuiteCase, load_suite, suite_case

SUITE = load_suite("standard")
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


def case_of(name: str, scheme: Scheme = Scheme.INT4_BLOCK32) -> SuiteCase:
    return suite_case(architecture(name), scheme, SUITE.probe)


def names(plan: list[Step]) -> list[tuple[str, int, str]]:
    """The steps as (kind, load, first letter of the architecture, or nothing for the layers of the suite)."""
    return [(s.kind, s.load, "" if len(s.cases) > 1 else s.cases[0].architecture.name[0]) for s in plan]


# The order of the steps.


def test_loads_of_different_models_take_turns() -> None:
    """So that a machine that becomes slower does so for all of them."""
    cases = [case_of("SmolLM2-135M"), case_of("Qwen2.5-0.5B")]
    turns = [("own_layers", load, letter) for load in (0, 1, 2) for letter in ("S", "Q")]
    assert names(own_layers_plan(cases, 3)) == turns


def test_the_layers_of_the_suite_are_timed_before_and_after_every_load_of_an_unseen_model() -> None:
    cases = [case_of("SmolLM2-135M"), case_of("Qwen2.5-0.5B")]
    assert names(unseen_plan(SUITE, cases, 2)) == [
        ("suite_layers", 0, ""),
        ("alone", 0, "S"),
        ("alone", 0, "Q"),
        ("suite_layers", 1, ""),
        ("alone", 1, "S"),
        ("alone", 1, "Q"),
        ("suite_layers", 2, ""),
    ]


def test_each_scheme_has_layers_of_its_own() -> None:
    cases = [case_of("SmolLM2-135M"), case_of("SmolLM2-135M", Scheme.INT8_DYNAMIC)]
    plan = unseen_plan(SUITE, cases, 1)
    layers = [step.scheme for step in plan if step.kind is StepKind.SUITE_LAYERS]
    assert layers == [Scheme.INT4_BLOCK32, Scheme.INT8_DYNAMIC] * 2


def test_the_layers_of_the_suite_are_its_own_cases_of_the_scheme() -> None:
    found = suite_layers(SUITE, Scheme.INT8_DYNAMIC)
    own = [c for c in SUITE.cases if c.scheme is Scheme.INT8_DYNAMIC and c.head_columns and not c.anchor]
    assert list(found) == own
    assert len(found) > 1


def test_a_scheme_that_the_suite_never_uses_is_timed_on_all_of_its_shapes() -> None:
    found = suite_layers(SUITE, Scheme.INT8_BLOCK32)
    assert {case.scheme for case in found} == {Scheme.INT8_BLOCK32}
    assert {c.architecture for c in found} == {c.architecture for c in suite_layers(SUITE, Scheme.INT4_BLOCK32)}


# The command.


def test_verify_runs_the_full_model_beside_its_probe_for_every_architecture_and_scheme(tmp_path: Path) -> None:
    decoder, encoder = tmp_path / "decoder.json", tmp_path / "encoder.json"
    decoder.write_text(json.dumps(SMALL))
    encoder.write_text(json.dumps(SMALL | {"arch": "encoder", "model": "SmallEncoder"}))
    schemes = ["--scheme", "int4_block32", "--scheme", "int8_dynamic"]
    shapes = ["--architecture", str(decoder), "--architecture", str(encoder)]
    done = agent("verify", "--json", "--state", tmp_path / "state", "--repeats", "1", *shapes, *schemes)
    assert done.stderr == ""
    document = only_document(done.stdout)
    assert done.returncode == (0 if document["passed"] else 1)  # models this small are nobody's aim
    assert set(document) == {"cells", "decode", "prefill", "interval_coverage", "passed", "repeats"}
    assert document["repeats"] == 1
    assert 0 <= document["interval_coverage"] <= 1
    for phase in ("decode", "prefill"):
        errors = document[phase]
        assert 0 <= errors["median_abs_error"] <= errors["p90_abs_error"]
        assert 0 <= errors["median_scatter"] <= errors["p90_scatter"]
        assert errors["passed"] == (
            errors["median_abs_error"] <= errors["allowed_median"] and errors["p90_abs_error"] <= errors["allowed_p90"]
        )
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
        assert found["loads"] == 1
        assert found["scatter"] >= 0
        assert 0 < found["low"] <= found["predicted_seconds"] <= found["high"]
        assert found["error"] == pytest.approx(found["predicted_seconds"] / found["actual_seconds"] - 1)
    assert spooled_runs(tmp_path / "state") == []  # a check of the method is no run
    assert models_left_behind(tmp_path / "state") == []


def test_an_unseen_model_is_predicted_from_the_layers_of_the_suite(tmp_path: Path) -> None:
    path = tmp_path / "unseen.json"
    path.write_text(json.dumps(SMALL | {"model": "Unseen", "hidden": 160, "ffn": 416}))
    options = ["--json", "--repeats", "2", "--state", str(tmp_path / "state"), "--architecture", str(path)]
    done = agent("verify", "--unseen", *options, suite="several_shapes")
    assert done.stderr == ""
    document = only_document(done.stdout)
    assert done.returncode == (0 if document["passed"] else 1)
    points = [(c["architecture"], c["phase"], c["token_count"], c["context_depth"]) for c in document["cells"]]
    lengths = [("decode", 1, 16), ("decode", 1, 512), ("prefill", 8, 0), ("prefill", 512, 0)]
    assert sorted(points) == [("Unseen", *length) for length in lengths]
    for found in document["cells"]:
        assert found["loads"] == 2
        assert 0 < found["low"] < found["predicted_seconds"] < found["high"]
    assert document["decode"]["allowed_p90"] is None
    assert models_left_behind(tmp_path / "state") == []


def test_too_few_other_shapes_predict_nothing(tmp_path: Path) -> None:
    path = tmp_path / "unseen.json"
    path.write_text(json.dumps(SMALL))
    done = agent(
        "verify", "--unseen", "--repeats", "1", "--state", tmp_path / "state", "--architecture", path, suite="brief"
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "shapes" in line


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


def test_an_unknown_architecture_is_refused_with_the_nearest_ones(tmp_path: Path) -> None:
    done = agent("verify", "--state", tmp_path / "state", "--architecture", "GPT-9")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "unknown model 'GPT-9'; nearest are GPT-" in line


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    """Their loads would count as loads of one model."""
    shapes = ["--architecture", "SmolLM2-135M", "--architecture", "SmolLM2-135M"]
    done = agent("verify", "--state", tmp_path / "state", *shapes)
    assert (done.returncode, done.stderr) == (2, "weighin-agent: --architecture: two have the same name\n")


def test_an_encoder_has_no_relatives_in_the_suite(tmp_path: Path) -> None:
    done = agent("verify", "--unseen", "--state", tmp_path / "state", "--architecture", "DistilBERT")
    assert done.returncode == 2
    assert "weighin-agent: --unseen: an encoder" in done.stderr


def test_a_case_that_cannot_be_measured_is_told_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(SMALL | {"model": "Odd", "head_dim": 31}))
    done = agent("verify", "--json", "--state", tmp_path / "state", "--architecture", path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("weighin-agent: Odd int4_block32: runtime_error: ")
    assert models_left_behind(tmp_path / "state") == []
