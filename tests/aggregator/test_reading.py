"""What is read of many runs at once is what the contract reads of each, whatever the bytes."""

from collections.abc import Sequence
from pathlib import Path

import example_runs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weighin.v1 import measurement_pb2, run_pb2, services_pb2
from weighin_aggregator.intake import examine as intake
from weighin_aggregator.intake.examine import Accepted, Refused, examine, examine_all
from weighin_aggregator.intake.reading import columns_of, read
from weighin_aggregator.intake.records import to_batch
from weighin_aggregator.intake.validate import are_sound
from weighin_aggregator.limits import DEFAULT_LIMITS
from weighin_aggregator.store.store import utc_now

RECORDED = run_pb2.Run.FromString((Path(__file__).parents[1] / "data" / "standard.run").read_bytes())
patient = settings(deadline=None)

Chunks = Sequence[bytes]
NEGATIVE = b"\xff" * 9 + b"\x01"
SERIES: Chunks = (b"\x08\x01", b"\x18\x02", b"\x20\x01", b"\x30\x01", b"\x3a\x08" + bytes(3) + b"\x3f" * 5)
STRAY_SERIES: Chunks = (
    b"\x08\x81\x00",  # a number longer than it need be
    b"\x08\x00",
    b"\x08\x63",
    b"\x10\x03",
    b"\x10" + NEGATIVE,
    b"\x20\xff\xff\xff\xff\x7f",  # more than 32 bits
    b"\x20\x81\x80\x80\x80\x10",  # more than 32 bits, of which 1 is left
    b"\x28" + NEGATIVE,
    b"\x28\x3a",
    b"\x30\x02",
    b"\x3a\x00",
    b"\x3a\x04" + b"\x3a\x45\x3a\x45",
    b"\x3a\x05" + bytes(5),
    b"\x3a\x7f",  # goes on behind the end
    b"\x3a\xff\xff\xff\xff\x0f",
    b"\x3d\x00\x00\x80\x3f",  # a sample that is not packed
    b"\x45\x00\x00\x00\x3f",
    b"\x45\x00\x00\xc0\x7f",
    b"\x45",
    b"\xf8\x3f\x01",  # a field that the contract does not have
    b"\x80",
)
MEASUREMENT: Chunks = (b"\x12\x03cpu", b"\x18\x01", b"\x20\x20")
STRAY_MEASUREMENT: Chunks = (
    b"\x12\x00",
    b"\x12\x02\xff\xfe",
    b"\x12\x09/home/one",
    b"\x18\x02",
    b"\x20\x01",
    b"\x28\x07",
    b"\x38\x05",
    b"\x38\x00",
    b"\x38" + NEGATIVE,
    b"\x38" + b"\xff" * 8 + b"\x7f",
    b"\x41" + bytes(8),
    b"\x49" + bytes(6) + b"\xf8\x7f",
    b"\x49" + bytes(8),
    b"\x0a\x02\x20\x02",  # a second half of a case
    b"\x32\x00",
    b"\x32\xff",
    b"\xf8\x3f\x01",
    b"\x33\x34",  # a group
)


def delimited(tag: int, data: bytes) -> bytes:
    return bytes([tag]) + varint(len(data)) + data


def varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + varint(number >> 7)


@st.composite
def edited(draw: st.DrawFn, chunks: Chunks, stray: Chunks) -> bytes:
    """Join chunks, after some were put in, put in place of others, taken away or moved."""
    found = list(chunks)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(found)))
        match draw(st.integers(0, 3)):
            case 0:
                found.insert(at, draw(st.sampled_from(stray)))
            case 1:
                found[at : at + 1] = [draw(st.sampled_from(stray))]
            case 2:
                del found[at : at + 1]
            case _:
                found[at:] = reversed(found[at:])
    return b"".join(found)


@st.composite
def runs(draw: st.DrawFn) -> bytes:
    """A run of a few measurements that were put together by hand."""
    case = delimited(0x0A, RECORDED.measurements[0].case.SerializeToString())
    head = run_pb2.Run()
    head.CopyFrom(RECORDED)
    head.ClearField("measurements")
    measurements = [
        draw(edited([case, *MEASUREMENT, *(delimited(0x32, one) for one in series)], STRAY_MEASUREMENT))
        for series in draw(st.lists(st.lists(edited(SERIES, STRAY_SERIES), min_size=1, max_size=3), max_size=3))
    ]
    return head.SerializeToString() + b"".join(delimited(0x72, one) for one in measurements)


def word(enum: object, number: int, prefix: str) -> str:
    return str(enum.Name(number)).removeprefix(prefix).lower()  # type: ignore[attr-defined]


def rows_of(run_id: str, run: run_pb2.Run) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Make the rows of a run's measurements and series one by one, without what is computed from them."""
    measurements: list[dict[str, object]] = [
        {
            "run_id": run_id,
            "ord": ord_,
            "threads": one.case.threads,
            "execution_provider": one.execution_provider,
            "phase": word(measurement_pb2.Phase, one.phase, "PHASE_"),
            "token_count": one.token_count,
            "context_depth": one.context_depth,
            "peak_memory_bytes": one.peak_memory_bytes if one.HasField("peak_memory_bytes") else None,
            "output_correlation": one.output_correlation if one.HasField("output_correlation") else None,
            "output_relative_rms": one.output_relative_rms if one.HasField("output_relative_rms") else None,
        }
        for ord_, one in enumerate(run.measurements)
    ]
    series: list[dict[str, object]] = [
        {
            "run_id": run_id,
            "measurement_ord": measurement_ord,
            "ord": ord_,
            "part": word(measurement_pb2.SeriesPart, one.part, "SERIES_PART_"),
            "round": one.round,
            "phase": word(measurement_pb2.Phase, one.phase, "PHASE_"),
            "token_count": one.token_count,
            "context_depth": one.context_depth,
            "clock": word(measurement_pb2.ClockKind, one.clock, "CLOCK_KIND_"),
            "foreign_cpu_share": one.foreign_cpu_share if one.HasField("foreign_cpu_share") else None,
            "sample_seconds": list(one.sample_seconds),
        }
        for measurement_ord, measurement in enumerate(run.measurements)
        for ord_, one in enumerate(measurement.series)
    ]
    return measurements, series


def envelope(number: int, data: bytes) -> services_pb2.RunEnvelope:
    return example_runs.envelope(data, example_runs.run_id(number))


@patient
@given(st.lists(runs(), min_size=1, max_size=4))
@example([RECORDED.SerializeToString()] * 2)
def test_runs_of_a_call_are_judged_and_stored_as_the_contract_reads_each(drawn: Sequence[bytes]) -> None:
    envelopes = [envelope(number, data) for number, data in enumerate(drawn)]
    found = examine_all(envelopes, DEFAULT_LIMITS)
    expected = [intake._read(one, DEFAULT_LIMITS) for one in envelopes]
    assert [one if isinstance(one, Refused) else None for one in found] == [
        one if isinstance(one, Refused) else None for one in expected
    ]
    accepted = [one for one in found if isinstance(one, Accepted)]
    tables = to_batch(accepted, example_runs.DEVICE_ID, utc_now()).tables
    rows = [rows_of(one.run_id, run_pb2.Run.FromString(one.raw)) for one in accepted]
    for name, of_runs in zip(("measurement", "series"), zip(*rows, strict=True), strict=False):
        plainly = [row for of_run in of_runs for row in of_run]
        every = zip(tables[name].to_pylist(), plainly, strict=True)
        stored = [{key: row[key] for key in plain} for row, plain in every]
        assert repr(stored) == repr(plainly)  # A sample that is no number is none of its own equals.


@patient
@given(runs())
def test_only_runs_that_keep_every_rule_are_found_sound(data: bytes) -> None:
    reading = read(data)
    if reading is not None and are_sound([reading], DEFAULT_LIMITS) == [True]:
        assert not isinstance(intake._read(envelope(1, data), DEFAULT_LIMITS), Refused)


def test_what_an_agent_sends_is_read_at_once() -> None:
    reading = read(RECORDED.SerializeToString())
    assert reading is not None
    assert are_sound([reading], DEFAULT_LIMITS) == [True]


def test_a_measurement_of_very_many_series_is_stored_whole() -> None:
    run = run_pb2.Run()
    run.CopyFrom(RECORDED)
    first = run.measurements[0]
    first.series.extend([first.series[0]] * 2_000)
    item = examine(envelope(1, run.SerializeToString()), DEFAULT_LIMITS)
    assert isinstance(item, Accepted)
    table = to_batch([item], example_runs.DEVICE_ID, utc_now()).tables["series"]
    assert table.num_rows == sum(len(one.series) for one in run.measurements)


@patient
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_stop_the_reading_of_others(stray: Sequence[bytes]) -> None:
    recorded = read(RECORDED.SerializeToString())
    assert recorded is not None
    spoiled = type(recorded)(head=recorded.head, measurements=stray)
    columns = columns_of((recorded, spoiled, recorded))
    whole = len(recorded.measurements)
    assert columns.plain[:whole].all()
    assert columns.plain[whole + len(stray) :].all()
