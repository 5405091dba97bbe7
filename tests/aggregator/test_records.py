"""From runs to rows: medians, hardware ids, and absence."""

import math
import statistics
from datetime import datetime

import example_runs
import numpy as np
from google.protobuf import timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from weighin.v1 import device_pb2, run_pb2
from weighin_aggregator.intake.examine import Accepted, examine
from weighin_aggregator.intake.reading import reread
from weighin_aggregator.intake.records import Sending, medians, to_batch
from weighin_aggregator.limits import DEFAULT_LIMITS
from weighin_aggregator.store.store import utc_now

floats = st.floats(width=32)


@given(st.lists(st.lists(floats, min_size=1, max_size=9), min_size=1, max_size=20))
def test_a_median_is_that_of_its_own_series_and_absent_where_a_sample_is_impossible(series: list[list[float]]) -> None:
    flat = np.array([sample for samples in series for sample in samples], np.float32)
    offsets = np.cumsum([0, *map(len, series)], dtype=np.int32)
    for samples, median in zip(series, medians(flat, offsets).to_pylist(), strict=True):
        if all(math.isfinite(sample) and sample > 0 for sample in samples):
            assert median == np.float32(statistics.median(samples))
        else:
            assert median is None


def hardware_id(run: run_pb2.Run) -> str:
    item = Accepted(run_id=example_runs.run_id(1), sequence=1, sha256=bytes(32), raw=b"", run=reread(run))
    batch = to_batch([item], example_runs.DEVICE_ID, utc_now())
    (row,) = batch.tables["hardware"].to_pylist()
    assert batch.tables["run"]["hardware_id"].to_pylist() == [row["hardware_id"]]
    return str(row["hardware_id"])


def test_the_same_machine_keeps_its_hardware_id_while_its_free_memory_changes() -> None:
    busy = example_runs.example_run(2)
    busy.device.memory.available_bytes -= 1 << 30
    busy.device.storage.free_bytes -= 64 << 20
    assert hardware_id(busy) == hardware_id(example_runs.example_run(1))


def test_another_driver_is_other_hardware() -> None:
    updated = example_runs.example_run(1)
    updated.device.accelerators[0].driver_version = "6.2.0"
    assert hardware_id(updated) != hardware_id(example_runs.example_run(1))


def test_what_varies_between_runs_of_one_machine_and_what_its_call_said_lies_with_the_run() -> None:
    run = example_runs.example_run(1)
    run.device.accelerators[0].memory_available_bytes = 5 << 30
    run.device.accelerators.add(kind=device_pb2.ACCELERATOR_KIND_NPU)
    envelope = example_runs.envelope(run, example_runs.run_id(1))
    envelope.attempt_count = 3
    item = examine(envelope, DEFAULT_LIMITS)
    assert isinstance(item, Accepted)
    sending = Sending(
        send_time=timestamp_pb2.Timestamp(seconds=1_770_000_060), spool_dropped_count=2, spool_quarantined_count=1
    )
    (row,) = to_batch([item], example_runs.DEVICE_ID, utc_now(), sending).tables["run"].to_pylist()
    assert row["accelerator_memory_available_bytes"] == [5 << 30, None]
    assert row["attempt_count"] == 3
    assert row["send_time"] == datetime(2026, 2, 2, 2, 41)
    assert (row["spool_dropped_count"], row["spool_quarantined_count"]) == (2, 1)


def test_the_blocks_of_a_run_of_the_first_contract_are_those_that_it_ran() -> None:
    run = example_runs.example_run(1)
    run.schema_version = 1
    for case in (*(one.case for one in run.measurements), *(one.case for one in run.failures)):
        case.architecture.ClearField("feed_forward")
    item = examine(example_runs.envelope(run, example_runs.run_id(1)), DEFAULT_LIMITS)
    assert isinstance(item, Accepted)
    tables = to_batch([item], example_runs.DEVICE_ID, utc_now()).tables
    blocks = {
        (row["architecture"]["kind"], row["architecture"]["feed_forward"])
        for name in ("measurement", "case_failure")
        for row in tables[name].to_pylist()
    }
    assert blocks == {("decoder", "swiglu"), ("encoder", "gelu")}
    assert tables["run"]["schema_version"].to_pylist() == [1]


def test_a_run_without_anything_optional_becomes_rows_with_nulls() -> None:
    run = example_runs.example_run()
    for name in ("before", "after", "probe_gaps", "measurements"):
        run.ClearField(name)
    run.device.Clear()
    item = Accepted(run_id=example_runs.run_id(1), sequence=1, sha256=bytes(32), raw=b"", run=reread(run))
    tables = to_batch([item], example_runs.DEVICE_ID, utc_now()).tables
    (row,) = tables["run"].to_pylist()
    assert (row["before"], row["storage_free_bytes"], row["read_bandwidth_bytes_per_second"]) == (None, None, None)
    (hardware,) = tables["hardware"].to_pylist()
    assert {key for key, value in hardware.items() if value not in (None, [])} == {"hardware_id"}
    assert (tables["measurement"].num_rows, tables["series"].num_rows, tables["probe_gap"].num_rows) == (0, 0, 0)
