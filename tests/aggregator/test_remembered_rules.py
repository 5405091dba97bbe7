"""What is checked or converted once for many runs comes out as if each run had been there alone."""

import random
from collections.abc import Sequence
from pathlib import Path

import example_runs
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from weighin.v1 import measurement_pb2, run_pb2
from weighin_aggregator.intake import rules, validate, validate_device
from weighin_aggregator.intake.examine import Accepted
from weighin_aggregator.intake.reading import reread
from weighin_aggregator.intake.records import to_batch
from weighin_aggregator.limits import DEFAULT_LIMITS
from weighin_aggregator.store.store import utc_now

RECORDED = (Path(__file__).parents[1] / "data" / "standard.run").read_bytes()
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 33, (1 << 31) - 1])
TEXTS = st.sampled_from(["", "cpu", "cuda", "10.0.0.1", "a" * 129, "é", "019c1c38-a400-7000-8000-00000000000a", "x\n"])
HASHES = st.sampled_from([b"", bytes(31), bytes(32)])
REALS = st.floats(width=32)
patient = settings(deadline=None)


def forget() -> None:
    """Let nothing that was checked before be remembered."""
    for remembering in (
        rules._broken_by_version,
        rules._broken_by_name,
        rules._broken_by_line,
        validate._broken_by_serialized_case,
        validate._threads_of_small_case,
        validate_device._broken_by_lasting_part,
    ):
        remembering.cache_clear()


@st.composite
def measurements(draw: st.DrawFn) -> measurement_pb2.Measurement:
    """A sound measurement in which a few fields hold something else."""
    run = run_pb2.Run.FromString(RECORDED)
    measurement = run.measurements[draw(st.integers(0, len(run.measurements) - 1))]
    series, case = measurement.series[0], measurement.case
    for message, name, values in draw(
        st.lists(
            st.sampled_from(
                [
                    *((case, name, NUMBERS) for name in ("threads", "probe_layers", "short_probe_layers", "scheme")),
                    *((case, name, HASHES) for name in ("layers_graph_sha256", "head_graph_sha256")),
                    (case, "short_layers_graph_sha256", HASHES),
                    (case, "execution_provider", TEXTS),
                    (case.architecture, "vocab", NUMBERS),
                    (case.architecture, "sliding_window", NUMBERS),
                    (case.architecture, "name", TEXTS),
                    (measurement, "execution_provider", TEXTS),
                    *((measurement, name, NUMBERS) for name in ("token_count", "context_depth", "peak_memory_bytes")),
                    (measurement, "phase", NUMBERS),
                    *((measurement, name, REALS) for name in ("output_correlation", "output_relative_rms")),
                    *((series, name, NUMBERS) for name in ("part", "round", "phase", "token_count", "clock")),
                    (series, "context_depth", NUMBERS),
                    (series, "foreign_cpu_share", REALS),
                ]
            ),
            max_size=3,
        )
    ):
        setattr(message, name, draw(values))
    match draw(st.integers(0, 9)):
        case 0:
            measurement.ClearField("series")
        case 1:
            series.ClearField("sample_seconds")
    return measurement


@patient
@given(measurements())
def test_the_quick_look_at_a_run_passes_exactly_those_that_break_no_rule(
    measurement: measurement_pb2.Measurement,
) -> None:
    run = run_pb2.Run.FromString(RECORDED)
    run.measurements[1].CopyFrom(measurement)
    broken = validate.violations(run, DEFAULT_LIMITS)
    assert validate.are_sound([reread(run)], DEFAULT_LIMITS) == [not broken]


@patient
@given(st.lists(st.tuples(TEXTS, measurements()), min_size=1, max_size=4))
def test_a_run_breaks_the_same_rules_after_others_as_by_itself(
    drawn: Sequence[tuple[str, measurement_pb2.Measurement]],
) -> None:
    runs = []
    for model, measurement in drawn:
        run = run_pb2.Run.FromString(RECORDED)
        run.device.cpu.model = model
        run.device.memory.available_bytes = len(model) - 3
        run.measurements[0].CopyFrom(measurement)
        runs.append(run)
    alone = []
    for run in runs:
        forget()
        alone.append(validate.violations(run, DEFAULT_LIMITS))
    assert [validate.violations(run, DEFAULT_LIMITS) for run in runs] == alone
    assert [validate.violations(run, DEFAULT_LIMITS) for run in runs] == alone


@patient
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_runs_of_one_call_become_the_rows_of_each_by_itself(chance: random.Random, count: int) -> None:
    accepted = []
    for number in range(count):
        run = run_pb2.Run.FromString(RECORDED) if chance.random() < 0.5 else example_runs.example_run(number)
        run.device.memory.read_bandwidth_bytes_per_second = chance.uniform(1e9, 1e11)
        run.device.storage.free_bytes = chance.randrange(1 << 40)
        if chance.random() < 0.5:
            run.device.memory.total_bytes = chance.randrange(1 << 36, (1 << 36) + 3)
        for measurement in chance.sample(list(run.measurements), min(3, len(run.measurements))):
            measurement.case.threads = chance.randrange(1, 4)
            measurement.token_count = chance.randrange(1, 4)
        accepted.append(
            Accepted(
                run_id=example_runs.run_id(number),
                sequence=number + 1,
                sha256=bytes(32),
                raw=run.SerializeToString(),
                run=reread(run),
            )
        )
    now = utc_now()
    together = to_batch(accepted, example_runs.DEVICE_ID, now).tables
    alone = [to_batch([item], example_runs.DEVICE_ID, now).tables for item in accepted]
    for name, rows in together.items():
        each = pa.concat_tables([tables[name] for tables in alone]).to_pylist()
        if name == "hardware":  # of which there is one row for all runs that ran on it
            each = list({row["hardware_id"]: row for row in each}.values())
            assert sorted(rows.to_pylist(), key=str) == sorted(each, key=str)
        else:
            assert rows.to_pylist() == each
