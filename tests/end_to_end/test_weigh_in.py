"""The real quick suite, once: what a user gets from `weighin-agent run` on this machine."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from agent_process import agent, models_left_behind, only_document, spooled_runs
from google.protobuf import json_format
from graph_pins import PINS

from weighin.v1 import measurement_pb2, run_pb2, services_pb2
from weighin_agent.fleet.sealed import unseal
from weighin_agent.run import SCHEMA_VERSION
from weighin_analysis.card import Basis, Verdict
from weighin_analysis.catalog import architecture, size_classes
from weighin_analysis.estimate import FORMULA_VERSION
from weighin_analysis.footprint import download_bytes
from weighin_analysis.limits import current_limits
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import SuiteCase, load_suite

pytestmark = pytest.mark.slow

SUITE = load_suite("quick")
MOST_RUN_BYTES = 256 * 1024
ESTIMATES = (
    "decode_tokens_per_second",
    "prefill_tokens_per_second",
    "time_to_first_token_seconds",
    "latency_seconds",
)
Finished = tuple[Path, dict[str, Any], list[str]]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """State folder, document and lines of standard error of a run of the quick suite; about half a minute."""
    state = tmp_path_factory.mktemp("weigh_in") / "state"
    done = agent("run", "--suite", SUITE.name, "--json", "--no-submit", "--state", state)
    assert done.returncode == 0, done.stderr
    return state, only_document(done.stdout), done.stderr.splitlines()


@pytest.fixture(scope="session")
def run(finished: Finished) -> run_pb2.Run:
    return json_format.ParseDict(finished[1]["run"], run_pb2.Run())


@pytest.fixture(scope="session")
def card(finished: Finished) -> list[dict[str, Any]]:
    rows = finished[1]["card"]
    assert isinstance(rows, list)
    return rows


def test_the_document_follows_the_contract_of_the_command_line(finished: Finished) -> None:
    document = finished[1]
    texts = {"run_id", "headline", "limits_version", "formula_version"}
    lists = {"card", "unjudged", "disturbances", "anchors"}
    assert set(document) == texts | lists | {"run", "tier", "limited_by"}
    assert all(isinstance(document[name], str) and document[name] for name in texts)
    assert document["unjudged"] == []
    assert (document["limits_version"], document["formula_version"]) == (current_limits().version, FORMULA_VERSION)
    assert document["tier"] is None or document["tier"] in {c.name for c in size_classes()}
    assert document["limited_by"] in {"memory", "bandwidth", "compute"}


def test_every_case_of_the_suite_has_a_row_that_was_run(card: list[dict[str, Any]]) -> None:
    run = [row for row in card if row["basis"] in {Basis.MEASURED, Basis.LAYER_PROBE}]
    assert [(row["architecture"], row["scheme"]) for row in run] == [
        (case.architecture.name, case.scheme) for case in SUITE.cases if not case.anchor
    ]


def test_every_size_class_with_a_shape_has_a_row(card: list[dict[str, Any]]) -> None:
    """Those that the suite leaves out are computed from those that it runs."""
    rows = [row["size_class"] for row in card if row["architecture_kind"] == "decoder"]
    assert rows == [size.name for size in size_classes() if size.reference or size.representative]


def test_every_row_has_the_types_of_the_contract(card: list[dict[str, Any]]) -> None:
    for row in card:
        for name in ("size_class", "architecture", "scheme", "execution_provider"):
            assert isinstance(row[name], str)
        for name in ("memory_bytes", "download_bytes", "threads"):
            assert isinstance(row[name], int)
            assert row[name] > 0
        assert row["verdict"] in set(Verdict)
        assert row["basis"] in set(Basis)
        assert all(isinstance(reason, str) for reason in row["reasons"])
        assert row["latency_seconds"] is None or row["architecture_kind"] == "encoder"
        if row["basis"] in {Basis.MEASURED, Basis.LAYER_PROBE}:
            assert (row["decode_tokens_per_second"] is None) == (row["architecture_kind"] == "encoder")
            assert (row["latency_seconds"] is None) == (row["architecture_kind"] == "decoder")
            assert (row["time_to_first_token_seconds"] is None) == (row["architecture_kind"] == "encoder")


def test_every_estimate_lies_in_its_interval(card: list[dict[str, Any]]) -> None:
    for row in card:
        for estimate in (row[name] for name in ESTIMATES if row[name] is not None):
            assert set(estimate) == {"value", "low", "high"}
            assert 0 < estimate["low"] <= estimate["value"] <= estimate["high"] < math.inf


def test_larger_models_take_more_memory(card: list[dict[str, Any]]) -> None:
    decoders = [row for row in card if row["architecture_kind"] == "decoder"]
    for smaller, larger in pairwise(decoders):
        assert smaller["memory_bytes"] < larger["memory_bytes"]


def test_a_download_holds_at_least_all_weights_in_the_scheme(card: list[dict[str, Any]]) -> None:
    """Not in the order of the sizes: a large vocabulary, which stays wide, can outweigh more layers."""
    for row in card:
        assert row["download_bytes"] >= download_bytes(architecture(row["architecture"]), Scheme(row["scheme"]))


def measurements_by_case(run: run_pb2.Run) -> dict[SuiteCase, list[measurement_pb2.Measurement]]:
    """The measurements of each case of the suite; an anchor is told by the full model that ran alone."""
    full_model = measurement_pb2.SERIES_PART_FULL_MODEL
    return {
        case: [
            m
            for m in run.measurements
            if (m.case.architecture.name, m.case.probe_layers) == (case.architecture.name, case.probe_layers)
            and {series.part == full_model for series in m.series} == {case.anchor}
        ]
        for case in SUITE.cases
    }


def test_nothing_failed_and_every_measurement_has_all_its_series(run: run_pb2.Run) -> None:
    assert list(run.failures) == []
    for case, measurements in measurements_by_case(run).items():
        assert measurements
        for measurement in measurements:
            long_prompt = measurement.token_count == SUITE.lengths.decoder_prompt_tokens[2]
            rounds = {series.round for series in measurement.series}
            assert rounds <= set(range(SUITE.rounds.most_count))
            assert rounds == set(range(0, max(rounds) + 1, SUITE.rounds.long_prompt_interval if long_prompt else 1))
            parts = {series.part for series in measurement.series}
            assert parts == parts_of(case, measurement.phase, long_prompt)
            assert len(measurement.series) == len(rounds) * len(parts)
            for series in measurement.series:
                assert len(series.sample_seconds) in (1, 2, SUITE.rounds.decode_samples)
                assert all(0 < seconds < math.inf for seconds in series.sample_seconds)
                assert 0 <= series.foreign_cpu_share <= 1


def parts_of(case: SuiteCase, phase: measurement_pb2.Phase.ValueType, long_prompt: bool) -> set[int]:
    if case.anchor:
        return {measurement_pb2.SERIES_PART_FULL_MODEL}
    layers = {measurement_pb2.SERIES_PART_SHORT_LAYERS} if case.short_probe_layers else set()
    if not (long_prompt and layers):
        layers.add(measurement_pb2.SERIES_PART_LAYERS)
    head = {measurement_pb2.SERIES_PART_HEAD} if case.head_columns else set()
    call = {measurement_pb2.SERIES_PART_CALL} if phase == measurement_pb2.PHASE_DECODE else set()
    return layers | head | call


def test_every_length_of_the_suite_was_measured(run: run_pb2.Run) -> None:
    for case, found in measurements_by_case(run).items():
        decodes = tuple(m.context_depth for m in found if m.phase == measurement_pb2.PHASE_DECODE)
        prompts = tuple(m.token_count for m in found if m.phase == measurement_pb2.PHASE_PREFILL)
        if case.head_columns:
            assert decodes == SUITE.lengths.decode_context_depths
            # A slow device leaves out the long prompt.
            assert prompts in (SUITE.lengths.decoder_prompt_tokens, SUITE.lengths.decoder_prompt_tokens[:2])
        else:
            assert (decodes, prompts) == ((), SUITE.lengths.encoder_prompt_tokens)


def test_the_graphs_that_ran_are_the_pinned_ones(run: run_pb2.Run) -> None:
    pins = PINS.read_text()
    for case, measurements in measurements_by_case(run).items():
        for found in (measurement.case for measurement in measurements):
            assert bool(found.short_layers_graph_sha256) == bool(case.short_probe_layers)
            assert bool(found.head_graph_sha256) == bool(case.head_columns and not case.anchor)
            if not case.anchor:
                assert found.layers_graph_sha256.hex() in pins
                assert found.short_layers_graph_sha256.hex() in pins
                assert found.head_graph_sha256.hex() in pins


def test_the_work_ran_where_it_was_asked_to_and_took_bounded_memory(run: run_pb2.Run) -> None:
    for measurement in run.measurements:
        assert measurement.execution_provider == measurement.case.execution_provider == "cpu"
        assert 50_000_000 < measurement.peak_memory_bytes < 1_000_000_000


def test_the_run_says_what_was_run_when_and_in_which_state(run: run_pb2.Run) -> None:
    assert (run.schema_version, run.source) == (SCHEMA_VERSION, run_pb2.SOURCE_NATIVE)
    assert (run.suite, run.suite_version, run.suite_sha256) == (SUITE.name, SUITE.version, SUITE.sha256)
    assert run.consent_version == 0  # not enrolled: nothing was consented to, and nothing is sent
    assert run.HasField("observe_time")
    assert 1 < run.elapsed.seconds < 600
    for conditions in (run.before, run.after):
        assert conditions.canary.matrix_flops > 0
    known_gaps = {gap.fact for gap in run.probe_gaps}
    for name in ("memory_available_bytes", "foreign_cpu_share", "frequency_hertz", "temperature_celsius"):
        assert run.before.HasField(name) or f"conditions.{name}" in known_gaps


def test_what_is_spooled_is_what_was_printed_and_small(finished: Finished, run: run_pb2.Run) -> None:
    state, document, _ = finished
    (path,) = spooled_runs(state)
    envelope = services_pb2.RunEnvelope.FromString(unseal(path.read_bytes()))
    assert envelope.run_id == document["run_id"]
    assert run_pb2.Run.FromString(envelope.run) == run
    assert path.stat().st_size < MOST_RUN_BYTES


def test_the_device_can_then_be_asked_about_a_model_that_it_never_ran(finished: Finished) -> None:
    state, document, _ = finished
    done = agent("check", "Qwen3-0.6B", "--scheme", "int4_block32", "--json", "--state", state)
    answer = only_document(done.stdout)
    assert (done.returncode, done.stderr) == (0 if answer["runs"] else 1, "")
    assert (answer["run_id"], answer["basis"]) == (document["run_id"], Basis.INTERPOLATED)
    (qwen,) = (row for row in document["card"] if row["architecture"] == "Qwen2.5-0.5B")
    # A fifth larger than the one that was measured.
    rates = answer["decode_tokens_per_second"]["value"] / qwen["decode_tokens_per_second"]["value"]
    assert 0.4 < rates < 1.0


def test_nothing_but_progress_goes_to_standard_error(finished: Finished) -> None:
    _, document, errors = finished
    names = [f"{case.architecture.name} {case.scheme}" for case in SUITE.cases]
    assert [line for line in errors if line in names] == names
    assert errors[-1] == f"run {document['run_id']} is kept in the spool; send it with `weighin-agent submit`"
    assert not any("Traceback" in line or "Warning" in line for line in errors)


def test_no_weights_are_left_on_the_disk(finished: Finished) -> None:
    state, _, _ = finished
    assert models_left_behind(state) == []
    assert sum(path.stat().st_size for path in state.rglob("*") if path.is_file()) < 2 * MOST_RUN_BYTES
