"""What the agent says of a device and a run is what the analysis reads from a snapshot, field by field."""

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

import pytest
from example_snapshots import StoredRun, device_id, make_snapshot, stored_runs
from filled_run import FILLED

from weighin_agent.wire import run_to_message
from weighin_analysis.snapshot import Accelerator, Cache, ExecutionProvider


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    """The filled run after its whole way; its numbers are arbitrary, so the rules of the intake are left out."""
    runs = [(device_id(1), run_to_message(FILLED))]
    (stored,) = stored_runs(make_snapshot(tmp_path_factory.mktemp("whole"), runs, examined=False))
    return stored


def test_every_measurement_is_the_same_value_at_both_ends(loaded: StoredRun) -> None:
    assert loaded.run.measurements == FILLED.measurements


def test_every_failed_case_is_the_same_but_for_its_graphs(loaded: StoredRun) -> None:
    no_graphs = {"layers_graph_sha256": "", "short_layers_graph_sha256": "", "head_graph_sha256": ""}
    sent = [(replace(one.case, **no_graphs), one.reason, one.detail) for one in FILLED.failures]  # type: ignore[arg-type]
    assert [(one.case, one.reason, one.detail) for one in loaded.run.failures] == sent


def test_every_fact_of_the_device_is_the_same(loaded: StoredRun) -> None:
    sent, kept = FILLED.device, loaded.hardware
    assert kept.form_factor == sent.form_factor
    assert kept.caches == same_facts(Cache, sent.cpu.caches)
    assert kept.accelerators == same_facts(Accelerator, sent.accelerators)
    assert kept.execution_providers == same_facts(ExecutionProvider, sent.execution_providers)


def same_facts(kind: Any, sent: Iterable[object]) -> tuple[Any, ...]:
    """The agent's values as those of a snapshot, which keeps some of their facts under the same names."""
    names = [field.name for field in fields(kind)]
    return tuple(kind(**{name: getattr(one, name) for name in names}) for one in sent)
