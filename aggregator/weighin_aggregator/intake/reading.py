"""Runs as the server reads them: the head as a message, and the measurements of many runs together as columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from weighin.v1 import run_pb2
from weighin_aggregator.intake.wire import Flags, Integers, Scan, Spans

SAMPLE_BYTES = 4
_PACKAGE = "weighin.reading"
# The numbers of the fields in the contract.
_CASE, _EXECUTION_PROVIDER, _PHASE, _TOKEN_COUNT, _CONTEXT_DEPTH, _SERIES = 1, 2, 3, 4, 5, 6
_PEAK_MEMORY_BYTES, _OUTPUT_CORRELATION, _OUTPUT_RELATIVE_RMS = 7, 8, 9
_PART, _ROUND, _SERIES_PHASE, _SERIES_TOKEN_COUNT, _SERIES_CONTEXT_DEPTH, _CLOCK = 1, 2, 3, 4, 5, 6
_SAMPLE_SECONDS, _FOREIGN_CPU_SHARE = 7, 8


def _form() -> Any:
    """Derive a form of the contract in which every measurement of a run is bytes."""
    files = (run_pb2.DESCRIPTOR, *run_pb2.DESCRIPTOR.dependencies)
    form = descriptor_pb2.FileDescriptorProto(
        name="weighin/reading.proto", package=_PACKAGE, syntax="proto3", dependency=[file.name for file in files]
    )
    run = form.message_type.add()
    run_pb2.Run.DESCRIPTOR.CopyToProto(run)
    (measurements,) = (field for field in run.field if field.name == "measurements")
    measurements.ClearField("type_name")
    measurements.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(form.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Run"))


_Form = _form()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """A run. Of ``head`` all fields are as in the contract but the measurements, which are serialized.

    Compared by identity: what follows from it is remembered.
    """

    head: run_pb2.Run
    measurements: Sequence[bytes]


def read(data: bytes) -> Reading | None:
    """Read a run, None where its bytes are not as protobuf itself writes them.

    A head that comes out as it went in holds no unknown field, no field twice and none in another encoding.
    """
    try:
        form = _Form.FromString(data)
    except DecodeError:
        return None
    form.DiscardUnknownFields()
    return _reading(form) if form.SerializeToString() == data else None


def reread(run: run_pb2.Run) -> Reading:
    """Read a run that the contract has decoded."""
    return _reading(_Form.FromString(run.SerializeToString()))


def _reading(form: Any) -> Reading:
    return Reading(head=form, measurements=list(form.measurements))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesColumns:
    """All series of some runs, with their samples in one array: those of ``i`` end at ``sample_ends[i]``.

    ``owner`` is the index of the measurement, ``ord`` counts within it.
    """

    plain: Flags
    owner: Integers
    ord: Integers
    part: Integers
    round: Integers
    phase: Integers
    token_count: Integers
    context_depth: Integers
    clock: Integers
    foreign_cpu_share: npt.NDArray[np.float32]
    has_foreign_cpu_share: Flags
    sample_ends: Integers
    sample_seconds: npt.NDArray[np.float32]

    @property
    def sample_counts(self) -> Integers:
        """How many samples each has."""
        return np.diff(self.sample_ends, prepend=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementColumns:
    """All measurements of some runs. ``owner`` is the index of the run, ``ord`` counts within it.

    ``plain`` tells which could be read; the others have meaningless values. Cases are serialized.
    """

    plain: Flags
    owner: Integers
    ord: Integers
    case: Sequence[bytes]
    execution_provider: Sequence[bytes]
    phase: Integers
    token_count: Integers
    context_depth: Integers
    peak_memory_bytes: Integers
    has_peak_memory_bytes: Flags
    output_correlation: npt.NDArray[np.float64]
    has_output_correlation: Flags
    output_relative_rms: npt.NDArray[np.float64]
    has_output_relative_rms: Flags
    series: SeriesColumns


@lru_cache(1)
def columns_of(readings: tuple[Reading, ...]) -> MeasurementColumns:
    """Read the measurements of runs. The last answer is kept: the runs of a call are judged, then turned into rows."""
    measurements = [one for reading in readings for one in reading.measurements]
    buffer = b"".join(measurements)
    scan = Scan.over(buffer, _spans([len(one) for one in measurements]))
    case, execution_provider = scan.delimited(_CASE), scan.delimited(_EXECUTION_PROVIDER)
    phase, token_count, context_depth = map(scan.int32, (_PHASE, _TOKEN_COUNT, _CONTEXT_DEPTH))
    series = _series(buffer, *scan.repeated(_SERIES))
    peak_memory_bytes, has_peak_memory_bytes = scan.optional_int64(_PEAK_MEMORY_BYTES)
    output_correlation, has_output_correlation = scan.optional_double(_OUTPUT_CORRELATION)
    output_relative_rms, has_output_relative_rms = scan.optional_double(_OUTPUT_RELATIVE_RMS)
    counts = [len(reading.measurements) for reading in readings]
    return MeasurementColumns(
        plain=scan.end(),
        owner=np.repeat(np.arange(len(readings)), counts),
        ord=_numbered(np.array(counts, np.int64)),
        case=case.of(buffer),
        execution_provider=execution_provider.of(buffer),
        phase=phase,
        token_count=token_count,
        context_depth=context_depth,
        peak_memory_bytes=peak_memory_bytes,
        has_peak_memory_bytes=has_peak_memory_bytes,
        output_correlation=output_correlation,
        has_output_correlation=has_output_correlation,
        output_relative_rms=output_relative_rms,
        has_output_relative_rms=has_output_relative_rms,
        series=series,
    )


def _series(buffer: bytes, owner: Integers, spans: Spans) -> SeriesColumns:
    scan = Scan.over(buffer, spans)
    part, round_, phase = map(scan.int32, (_PART, _ROUND, _SERIES_PHASE))
    token_count, context_depth, clock = map(scan.int32, (_SERIES_TOKEN_COUNT, _SERIES_CONTEXT_DEPTH, _CLOCK))
    samples = scan.delimited(_SAMPLE_SECONDS)
    foreign_cpu_share, has_foreign_cpu_share = scan.optional_float(_FOREIGN_CPU_SHARE)
    sizes = samples.ends - samples.starts
    sample_ends = np.cumsum(sizes // SAMPLE_BYTES)
    return SeriesColumns(
        plain=scan.end() & (sizes % SAMPLE_BYTES == 0),
        owner=owner,
        ord=_numbered(np.bincount(owner)),
        part=part,
        round=round_,
        phase=phase,
        token_count=token_count,
        context_depth=context_depth,
        clock=clock,
        foreign_cpu_share=foreign_cpu_share,
        has_foreign_cpu_share=has_foreign_cpu_share,
        sample_ends=sample_ends,
        sample_seconds=_samples(scan.data, samples.starts, sizes // SAMPLE_BYTES),
    )


def _samples(data: npt.NDArray[np.uint8], starts: Integers, counts: Integers) -> npt.NDArray[np.float32]:
    at = np.repeat(starts, counts) + SAMPLE_BYTES * _numbered(counts)
    samples: npt.NDArray[np.float32] = data[at[:, None] + np.arange(SAMPLE_BYTES)].view("<f4")[:, 0]
    return samples


def _spans(sizes: Sequence[int]) -> Spans:
    """Lay messages of these sizes one after the other."""
    ends = np.cumsum(sizes, dtype=np.int64)
    return Spans(starts=ends - np.array(sizes, np.int64), ends=ends)


def _numbered(counts: Integers) -> Integers:
    """Count from 0 within each of some groups."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
