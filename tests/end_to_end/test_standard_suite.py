"""The suite that is run by default, once, on a machine that reaches no network."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agent_process import QUICK_RUN_SECONDS, agent_line, models_left_behind, only_document, spooled_runs
from google.protobuf import json_format

from weighin.v1 import run_pb2
from weighin_analysis.card import Basis
from weighin_analysis.catalog import size_classes
from weighin_analysis.suite import Processor, load_suite

pytestmark = pytest.mark.slow

SUITE = load_suite("standard")
MOST_CHILD_BYTES = 400e6


def without_network() -> list[str]:
    """The start of a command line for a process that has no network but its own loopback, where that is permitted."""
    prefix = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    try:
        permitted = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return []
    return prefix if permitted else []


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("standard") / "state"


@pytest.fixture(scope="module")
def document(state: Path) -> dict[str, Any]:
    """The document of a run of the standard suite on the CPU; about a minute."""
    line = agent_line("run", "--ep", "cpu", "--json", "--no-submit", "--state", state)
    network = without_network() if sys.platform == "linux" else []
    done = subprocess.run([*network, *line], capture_output=True, text=True, timeout=QUICK_RUN_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return only_document(done.stdout)


@pytest.fixture(scope="module")
def run(document: dict[str, Any]) -> run_pb2.Run:
    return json_format.ParseDict(document["run"], run_pb2.Run())


def test_it_is_the_suite_of_a_run_that_names_none(run: run_pb2.Run) -> None:
    assert (run.suite, run.suite_version, run.suite_sha256) == (SUITE.name, SUITE.version, SUITE.sha256)
    assert list(run.failures) == []


def test_every_case_was_measured_in_the_time_it_has(run: run_pb2.Run) -> None:
    measured = {(m.case.architecture.name, m.case.probe_layers, m.case.head_columns) for m in run.measurements}
    planned = {(c.architecture.name, c.probe_layers, c.head_columns) for c in SUITE.cases_on(Processor.CPU)}
    assert measured == planned


def test_every_size_class_with_a_reference_has_a_row_that_was_run(document: dict[str, Any]) -> None:
    references = {size.name: size.reference for size in size_classes() if size.reference}
    assert len(references) >= 7
    run = {Basis.MEASURED, Basis.LAYER_PROBE}
    rows = {
        row["size_class"]: row["architecture"]
        for row in document["card"]
        if row["scheme"] == "int4_block32" and row["basis"] in run
    }
    assert rows == references


def test_no_process_that_measures_took_more_than_four_hundred_megabytes(run: run_pb2.Run) -> None:
    peaks = {f"{m.case.architecture.name} scheme {m.case.scheme}": m.peak_memory_bytes for m in run.measurements}
    assert {case: peak for case, peak in peaks.items() if peak > MOST_CHILD_BYTES} == {}
    assert min(peaks.values()) > 50e6


def test_nothing_but_the_run_is_left_behind(state: Path, document: dict[str, Any]) -> None:
    (spooled,) = spooled_runs(state)
    assert document["run_id"] in spooled.name
    assert models_left_behind(state) == []
