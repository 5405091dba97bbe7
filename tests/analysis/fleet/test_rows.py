"""Rows of a snapshot become the values that were sent, and a value that cannot be is refused where it enters."""

import copy
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from example_runs import LAPTOP, example_run, run_id
from example_snapshots import StoredRun, device_id, make_snapshot, raw_rows, stored_runs
from hypothesis import given
from hypothesis import strategies as st

from weighin.v1 import run_pb2
from weighin_analysis.errors import RowError
from weighin_analysis.fleet.snapshot.rows import failure_of, hardware_of, measurement_of, run_of, series_of
from weighin_analysis.measurement import Phase, SeriesPart
from weighin_analysis.scheme import Scheme

Row = dict[str, Any]
READERS: dict[str, Callable[[Row], object]] = {
    "runs": lambda row: run_of(row, [], [], []),
    "hardware": hardware_of,
    "measurements": lambda row: measurement_of(row, []),
    "series": series_of,
    "case_failures": failure_of,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    """The first row of every table of facts."""
    folder = make_snapshot(tmp_path_factory.mktemp("rows"), [(device_id(1), example_run(1))])
    return {table: raw_rows(folder, table, "ALL")[0] for table in READERS}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    """``example_run(1)`` after its way through store and snapshot."""
    (run,) = stored_runs(make_snapshot(tmp_path_factory.mktemp("stored"), [(device_id(1), example_run(1))]))
    return run


def test_every_fact_arrives_as_it_was_sent(stored: StoredRun) -> None:
    sent = example_run(1)
    hardware, run = stored.hardware, stored.run
    assert stored.device_id == device_id(1)
    assert hardware.cpu_model == sent.device.cpu.model
    assert hardware.instruction_sets == tuple(sent.device.cpu.instruction_sets)
    assert [cache.size_bytes for cache in hardware.caches] == [cache.size_bytes for cache in sent.device.cpu.caches]
    assert hardware.accelerators[0].memory_total_bytes is None
    assert [provider.reason for provider in hardware.execution_providers] == [None, "runs on a remote service"]
    assert (run.run_id, run.suite, run.suite_version, run.source) == (run_id(1), "quick", 1, "native")
    assert run.observe_time == datetime.fromtimestamp(sent.observe_time.seconds, UTC)
    assert run.before is not None
    assert run.before.power_source == "mains"
    assert run.before.temperature_celsius is None
    assert run.before.canary_matrix_flops == sent.before.canary.matrix_flops
    assert [(one.case.architecture.name, one.reason) for one in run.failures] == [("Llama-3.2-1B", "timed_out")]


def test_every_sample_arrives_in_its_series(stored: StoredRun) -> None:
    sent = example_run(1)
    measurements = stored.run.measurements
    assert len(measurements) == len(sent.measurements)
    for got, wanted in zip(measurements, sent.measurements, strict=True):
        assert got.case.architecture.name == wanted.case.architecture.name
        assert got.case.layers_graph_sha256 == wanted.case.layers_graph_sha256.hex()
        assert [one.sample_seconds for one in got.series] == [tuple(one.sample_seconds) for one in wanted.series]
    last = measurements[-1]
    assert (last.case.scheme, last.phase, last.token_count) == (Scheme.INT4_BLOCK32, Phase.PREFILL, 512)
    assert [one.part for one in last.series[:2]] == [SeriesPart.LAYERS, SeriesPart.HEAD]


def test_what_was_not_readable_is_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = example_run(1, LAPTOP)
    run.device.cpu.ClearField("model")
    run.device.memory.ClearField("read_bandwidth_bytes_per_second")
    run.after.CopyFrom(run_pb2.Conditions())
    for fact in ("cpu.model", "memory.read_bandwidth_bytes_per_second", "conditions"):
        run.probe_gaps.add(fact=fact, reason=4, detail="the reader took too long")
    (stored,) = stored_runs(make_snapshot(tmp_path_factory.mktemp("gaps"), [(device_id(1), run)]))
    assert stored.hardware.cpu_model is None
    assert stored.run.read_bandwidth_bytes_per_second is None
    assert stored.run.after is not None
    assert stored.run.after.foreign_cpu_share is None


def test_columns_that_are_not_known_do_not_disturb(rows: dict[str, Row]) -> None:
    """A newer aggregator may add facts; additive change needs no new version."""
    for table, read in READERS.items():
        assert read({**rows[table], "something_new": 7}) == read(rows[table])


@pytest.mark.parametrize(
    ("table", "column"),
    [("measurements", "token_count"), ("runs", "sequence"), ("series", "sample_seconds"), ("hardware", "os_family")],
)
def test_a_column_that_is_missing_is_refused(rows: dict[str, Row], table: str, column: str) -> None:
    row = {name: value for name, value in rows[table].items() if name != column}
    with pytest.raises(RowError, match=column):
        READERS[table](row)


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("table", "place", "value"),
    [
        ("measurements", "probe_layers", None),
        ("measurements", "probe_layers", "two"),
        ("measurements", "probe_layers", 0),
        ("measurements", "probe_layers", 2.5),
        ("measurements", "probe_layers", True),
        ("measurements", "head_columns", -1),
        ("measurements", "short_probe_layers", -1),
        ("measurements", "short_layers_graph_sha256", 7),
        ("measurements", "output_correlation", NAN),
        ("measurements", "output_relative_rms", "little"),
        ("measurements", "threads", 0),
        ("measurements", "token_count", None),
        ("measurements", "token_count", 0),
        ("measurements", "context_depth", -1),
        ("measurements", "scheme", ["int4_block32"]),
        ("measurements", "scheme", "int2_block8"),
        ("measurements", "requested_execution_provider", None),
        ("measurements", "execution_provider", 7),
        ("measurements", "layers_graph_sha256", 7),
        ("measurements", "phase", "afterwards"),
        ("measurements", "architecture", None),
        ("measurements", "architecture", "Qwen2.5-0.5B"),
        ("measurements", "architecture.layers", 0),
        ("measurements", "architecture.heads", None),
        ("measurements", "architecture.name", 7),
        ("measurements", "architecture.tied_embeddings", "no"),
        ("measurements", "architecture.feed_forward", "relu"),
        ("measurements", "architecture.feed_forward", None),
        ("measurements", "architecture.query_key_norm", None),
        ("measurements", "architecture.sliding_window", 0),
        ("measurements", "architecture.global_layer_interval", 0),
        ("case_failures", "architecture", None),
        ("case_failures", "architecture.vocab", -5),
        ("case_failures", "probe_layers", 0),
        ("case_failures", "reason", None),
        ("series", "sample_seconds", None),
        ("series", "sample_seconds", [0.1, None]),
        ("series", "sample_seconds", ["0.1"]),
        ("series", "sample_seconds", "0.1"),
        ("series", "round", None),
        ("series", "foreign_cpu_share", "much"),
        ("runs", "memory_available_bytes", "much"),
        ("runs", "memory_available_bytes", -1),
        ("runs", "read_bandwidth_bytes_per_second", "fast"),
        ("runs", "read_bandwidth_bytes_per_second", NAN),
        ("runs", "elapsed_seconds", INFINITE),
        ("runs", "agent_version", None),
        ("runs", "suite_version", "1"),
        ("runs", "receive_time", "yesterday"),
        ("runs", "receive_time", None),
        ("runs", "observe_time", 7),
        ("runs", "accelerator_memory_available_bytes", ["much"]),
        ("runs", "before", "cold"),
        ("runs", "before.temperature_celsius", "cold"),
        ("runs", "before.canary_matrix_flops", NAN),
        ("hardware", "cpu_model", 7),
        ("hardware", "hardware_id", None),
        ("hardware", "physical_core_count", "eight"),
        ("hardware", "instruction_sets", "avx2"),
        ("hardware", "instruction_sets", [7]),
        ("hardware", "caches", ["L1"]),
        ("hardware", "caches", [None]),
        ("hardware", "caches.0.size_bytes", None),
        ("hardware", "accelerators", 7),
        ("hardware", "accelerators.0.shares_main_memory", "yes"),
        ("hardware", "execution_providers.0.measured", "yes"),
        ("hardware", "execution_providers.0.is_software", None),
        ("hardware", "form_factor", 7),
    ],
)
def test_a_value_that_cannot_be_is_refused(rows: dict[str, Row], table: str, place: str, value: object) -> None:
    """Text for a number, a null where there must be a fact, a count of none: all of it would fail far from here."""
    row = copy.deepcopy(rows[table])
    *way, last = place.split(".")
    inner: Any = row
    for step in way:
        inner = inner[int(step) if step.isdecimal() else step]
    inner[last] = value
    READERS[table](rows[table])
    with pytest.raises(RowError):
        READERS[table](row)


def _values() -> st.SearchStrategy[object]:
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.datetimes()
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    )


@given(data=st.data(), table=st.sampled_from(sorted(READERS)), value=_values())
def test_whatever_stands_in_a_column_is_taken_or_refused(
    rows: dict[str, Row], data: st.DataObject, table: str, value: object
) -> None:
    column = data.draw(st.sampled_from(sorted(rows[table])))
    with suppress(RowError):
        READERS[table]({**rows[table], column: value})
