"""From runs as they travel to rows as they are stored. Nothing else knows both.

The arrays are built where a call is handled, so that the Python objects behind them are gone before the one thread
that writes needs the interpreter.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.message import Message

from weighin.v1 import device_pb2, measurement_pb2, run_pb2
from weighin_aggregator.intake import columns
from weighin_aggregator.intake.examine import Accepted
from weighin_aggregator.intake.hardware import lasting_part
from weighin_aggregator.intake.reading import MeasurementColumns, columns_of
from weighin_aggregator.intake.wire import Flags, Integers

Row = tuple[Any, ...]


class _Enum(Protocol):
    """What generated enums offer: their names and numbers."""

    def items(self) -> Sequence[tuple[str, int]]: ...


def _words(enum: _Enum) -> Mapping[int, str | None]:
    """Map each number to its lower-case word, without the prefix that all names of an enum share; None for 0.

    The prefix is what stands before "UNSPECIFIED".
    """
    prefix = next(name for name, number in enum.items() if number == 0).removesuffix("UNSPECIFIED")
    return {number: name.removeprefix(prefix).lower() if number else None for name, number in enum.items()}


_SOURCES = _words(run_pb2.Source)
_POWER_SOURCES = _words(run_pb2.PowerSource)
_CACHE_KINDS = _words(device_pb2.CacheKind)
_VIRTUALIZATION_KINDS = _words(device_pb2.VirtualizationKind)
_FORM_FACTORS = _words(device_pb2.FormFactor)
_ACCELERATOR_KINDS = _words(device_pb2.AcceleratorKind)
_GAP_REASONS = _words(device_pb2.ProbeGapReason)
_ARCHITECTURE_KINDS = _words(measurement_pb2.ArchitectureKind)
_FEED_FORWARDS = _words(measurement_pb2.FeedForward)
_SCHEMES = _words(measurement_pb2.Scheme)
_PHASES = _words(measurement_pb2.Phase)
_PARTS = _words(measurement_pb2.SeriesPart)
_CLOCKS = _words(measurement_pb2.ClockKind)
_FAILURES = _words(measurement_pb2.CaseFailureReason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What a call says about itself: the device's clock at sending, None where it told none, and what its spool lost.

    The counts are since the agent was installed.
    """

    send_time: timestamp_pb2.Timestamp | None = None
    spool_dropped_count: int = 0
    spool_quarantined_count: int = 0


_NOTHING_SAID = Sending()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The accepted runs of one call of one device: their hashes by run_id, and their rows by table."""

    device_id: str
    sha256_by_run_id: Mapping[str, bytes]
    tables: Mapping[str, pa.Table]


def to_batch(
    accepted: Sequence[Accepted], device_id: str, receive_time: datetime, sending: Sending = _NOTHING_SAID
) -> Batch:
    """All rows of the given runs. ``receive_time`` is the server's clock, UTC without a zone.

    Raises ValueError for numbers that no accepted run holds: its measurements are not ``plain``.
    """
    hardware = [lasting_part(item.run.head.device) for item in accepted]
    hardware_rows = {part: _hardware_row(device_pb2.Device.FromString(part)) for part in set(hardware)}
    runs = [
        _run_row(item, device_id, receive_time, hardware_rows[part][0], sending)
        for item, part in zip(accepted, hardware, strict=True)
    ]
    failures = [
        _failure_row(item.run_id, ord_, failure)
        for item in accepted
        for ord_, failure in enumerate(item.run.head.failures)
    ]
    gaps = [
        (item.run_id, ord_, gap.fact, _GAP_REASONS[gap.reason], gap.detail)
        for item in accepted
        for ord_, gap in enumerate(item.run.head.probe_gaps)
    ]
    run_ids = pa.array([item.run_id for item in accepted], pa.string())
    measurements = columns_of(tuple(item.run for item in accepted))
    if not (measurements.plain.all() and measurements.series.plain.all()):
        raise ValueError("a run that was accepted cannot be read")
    tables = {
        "run": _table(runs, columns.RUN),
        "hardware": _table(list(hardware_rows.values()), columns.HARDWARE),
        "measurement": _measurement_table(run_ids, measurements),
        "series": _series_table(run_ids, measurements),
        "case_failure": _table(failures, columns.CASE_FAILURE),
        "probe_gap": _table(gaps, columns.PROBE_GAP),
    }
    hashes = {item.run_id: item.sha256 for item in accepted}
    return Batch(device_id=device_id, sha256_by_run_id=hashes, tables=tables)


def _table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    if not rows:
        return schema.empty_table()
    arrays = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _present(message: Message, name: str) -> Any:
    """Read an optional field, None where it is absent."""
    return getattr(message, name) if message.HasField(name) else None


def _microseconds(time: timestamp_pb2.Timestamp) -> int:
    """Since 1970, as DuckDB's TIMESTAMP counts; finer digits are dropped."""
    return time.seconds * 1_000_000 + time.nanos // 1_000


def _seconds(duration: duration_pb2.Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _run_row(item: Accepted, device_id: str, receive_time: datetime, hardware_id: str, sending: Sending) -> Row:
    run = item.run.head
    memory = run.device.memory
    return (
        item.run_id,
        device_id,
        item.sequence,
        receive_time,
        _microseconds(run.observe_time),
        _seconds(run.elapsed),
        _SOURCES[run.source],
        run.schema_version,
        run.agent_version,
        run.consent_version,
        run.suite,
        run.suite_version,
        run.suite_sha256.hex(),
        hardware_id,
        item.attempt_count,
        None if sending.send_time is None else _microseconds(sending.send_time),
        sending.spool_dropped_count,
        sending.spool_quarantined_count,
        _present(memory, "available_bytes"),
        _present(memory, "read_bandwidth_bytes_per_second"),
        _present(memory, "single_thread_read_bandwidth_bytes_per_second"),
        _present(run.device.storage, "free_bytes"),
        [_present(accelerator, "memory_available_bytes") for accelerator in run.device.accelerators],
        _conditions(run.before) if run.HasField("before") else None,
        _conditions(run.after) if run.HasField("after") else None,
        item.sha256,
        item.raw,
    )


def _conditions(conditions: run_pb2.Conditions) -> dict[str, Any]:
    has_canary = conditions.HasField("canary")
    return {
        "memory_available_bytes": _present(conditions, "memory_available_bytes"),
        "foreign_cpu_share": _present(conditions, "foreign_cpu_share"),
        "steal_cpu_share": _present(conditions, "steal_cpu_share"),
        "power_source": _POWER_SOURCES[conditions.power_source],
        "frequency_hertz": _present(conditions, "frequency_hertz"),
        "temperature_celsius": _present(conditions, "temperature_celsius"),
        "canary_matrix_flops": conditions.canary.matrix_flops if has_canary else None,
        "canary_read_bytes_per_second": conditions.canary.read_bytes_per_second if has_canary else None,
    }


def _hardware_row(device: device_pb2.Device) -> Row:
    """List what stays the same from run to run of one kind of machine; first comes its id, a hash of all the rest."""
    cpu, system, versions = device.cpu, device.operating_system, device.runtime_versions
    row = (
        _present(cpu, "model"),
        _present(cpu, "vendor"),
        _present(cpu, "architecture"),
        _present(cpu, "physical_core_count"),
        _present(cpu, "logical_core_count"),
        list(cpu.instruction_sets),
        [_cache(cache) for cache in cpu.caches],
        _last_level_cache_bytes(cpu.caches),
        _present(cpu, "max_frequency_hertz"),
        _present(device.memory, "total_bytes"),
        system.family or None,
        _present(system, "name"),
        _present(system, "version"),
        _present(system, "kernel"),
        _VIRTUALIZATION_KINDS[device.virtualization.kind],
        _present(device.virtualization, "product"),
        _present(versions, "python"),
        _present(versions, "onnxruntime"),
        _present(versions, "onnx"),
        _present(versions, "numpy"),
        [_accelerator(accelerator) for accelerator in device.accelerators],
        [_execution_provider(provider) for provider in device.execution_providers],
        _FORM_FACTORS[device.form_factor],
    )
    digest = hashlib.sha256(json.dumps(row).encode()).digest()
    return (str(uuid.UUID(bytes=digest[:16])), *row)


def _cache(cache: device_pb2.Cache) -> dict[str, Any]:
    return {
        "level": cache.level,
        "kind": _CACHE_KINDS[cache.kind],
        "size_bytes": cache.size_bytes,
        "instance_count": cache.instance_count,
    }


def _last_level_cache_bytes(caches: Sequence[device_pb2.Cache]) -> int | None:
    """All instances of the last level together; None when the device lists no cache that holds data."""
    holding = [cache for cache in caches if cache.kind != device_pb2.CACHE_KIND_INSTRUCTION]
    last = max((cache.level for cache in holding), default=None)
    if last is None:
        return None
    return sum(cache.size_bytes * cache.instance_count for cache in holding if cache.level == last)


def _accelerator(accelerator: device_pb2.Accelerator) -> dict[str, Any]:
    names = ("vendor", "model", "memory_total_bytes", "driver_version", "compute_capability", "shares_main_memory")
    facts = {name: _present(accelerator, name) for name in names}
    return {"kind": _ACCELERATOR_KINDS[accelerator.kind], **facts}


def _execution_provider(provider: device_pb2.ExecutionProvider) -> dict[str, Any]:
    return {
        "name": provider.name,
        "measured": provider.measured,
        "reason": provider.reason or None,
        "adapter": _present(provider, "adapter"),
        "is_software": provider.is_software,
    }


def _architecture(architecture: measurement_pb2.Architecture) -> dict[str, Any]:
    return {
        "name": architecture.name,
        "kind": _ARCHITECTURE_KINDS[architecture.kind],
        "layers": architecture.layers,
        "hidden": architecture.hidden,
        "ffn": architecture.ffn,
        "heads": architecture.heads,
        "kv_heads": architecture.kv_heads,
        "head_dim": architecture.head_dim,
        "vocab": architecture.vocab,
        "tied_embeddings": architecture.tied_embeddings,
        "feed_forward": _FEED_FORWARDS[architecture.feed_forward],
        "query_key_norm": architecture.query_key_norm,
        "sandwich_norm": architecture.sandwich_norm,
        "sliding_window": _present(architecture, "sliding_window"),
        "global_layer_interval": _present(architecture, "global_layer_interval"),
    }


def _measurement_table(run_ids: pa.StringArray, measurements: MeasurementColumns) -> pa.Table:
    """One row per measurement. A case is converted once for all of its measurements: a fleet runs the same few."""
    cases = {data: number for number, data in enumerate(dict.fromkeys(measurements.case))}
    case_rows = [_case_row(measurement_pb2.Case.FromString(data)) for data in cases]
    case_numbers = pa.array([cases[data] for data in measurements.case], pa.int32())
    of_cases = _table(case_rows, columns.MEASURED_CASE).take(case_numbers)
    own = {
        "run_id": run_ids.take(pa.array(measurements.owner, pa.int64())),
        "ord": _int32(measurements.ord),
        "execution_provider": pa.array(measurements.execution_provider, pa.string()),
        "phase": _spelled(measurements.phase, _PHASES),
        "token_count": _int32(measurements.token_count),
        "context_depth": _int32(measurements.context_depth),
        "peak_memory_bytes": _where(measurements.has_peak_memory_bytes, measurements.peak_memory_bytes),
        "output_correlation": _where(measurements.has_output_correlation, measurements.output_correlation),
        "output_relative_rms": _where(measurements.has_output_relative_rms, measurements.output_relative_rms),
    }
    arrays = [own[name] if name in own else of_cases[name] for name in columns.MEASUREMENT.names]
    return pa.Table.from_arrays(arrays, schema=columns.MEASUREMENT)


def _case_row(case: measurement_pb2.Case) -> Row:
    return (
        _architecture(case.architecture),
        _SCHEMES[case.scheme],
        case.execution_provider,
        case.threads,
        case.probe_layers,
        case.head_columns,
        case.layers_graph_sha256.hex() or None,
        case.head_graph_sha256.hex() or None,
        case.short_probe_layers,
        case.short_layers_graph_sha256.hex() or None,
    )


def _failure_row(run_id: str, ord_: int, failure: measurement_pb2.CaseFailure) -> Row:
    case = failure.case
    return (
        run_id,
        ord_,
        _architecture(case.architecture),
        _SCHEMES[case.scheme],
        case.execution_provider,
        case.threads,
        case.probe_layers,
        case.head_columns,
        _FAILURES[failure.reason],
        failure.detail,
        case.short_probe_layers,
    )


def _series_table(run_ids: pa.StringArray, measurements: MeasurementColumns) -> pa.Table:
    """One row per series; samples stay one flat array, since most of a run is samples."""
    series = measurements.series
    bounds = np.concatenate(([0], series.sample_ends)).astype(np.int32)
    arrays = [
        run_ids.take(pa.array(measurements.owner[series.owner], pa.int64())),
        _int32(measurements.ord[series.owner]),
        _int32(series.ord),
        _spelled(series.part, _PARTS),
        _int32(series.round),
        _spelled(series.phase, _PHASES),
        _int32(series.token_count),
        _int32(series.context_depth),
        _spelled(series.clock, _CLOCKS),
        _where(series.has_foreign_cpu_share, series.foreign_cpu_share),
        medians(series.sample_seconds, bounds),
        pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(series.sample_seconds, pa.float32())),
    ]
    return pa.Table.from_arrays(arrays, schema=columns.SERIES)


def _where(present: Flags, values: npt.NDArray[Any]) -> Any:
    """Take the values that are present, NULL in place of the others."""
    return pa.array(values, mask=~present)


def _int32(numbers: Integers) -> pa.Int32Array:
    return pa.array(numbers.astype(np.int32), pa.int32())


def _spelled(numbers: Integers, words: Mapping[int, str | None]) -> pa.StringArray:
    """Write the numbers of an enum as its words: they count from 0 without a gap."""
    return pa.array([words[number] for number in range(len(words))], pa.string()).take(pa.array(numbers, pa.int64()))


def medians(samples: npt.NDArray[np.float32], offsets: npt.NDArray[np.int32]) -> pa.FloatArray:
    """Take the median of each series, seconds; NULL where a sample is not finite or not above 0.

    Series ``i`` is ``samples[offsets[i]:offsets[i + 1]]`` and is never empty. Series of one length are taken together:
    a run has few lengths, and one call of numpy per series would cost more than all the rest.
    """
    sound = np.isfinite(samples) & (samples > 0)
    # In float64 the mean of the two middle samples cannot overflow.
    safe = np.where(sound, samples, 1.0).astype(np.float64)
    counts = np.diff(offsets)
    values = np.empty(len(counts), np.float32)
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        values[rows] = np.median(safe[offsets[rows][:, None] + np.arange(count)], axis=1)
    return pa.array(values, pa.float32(), mask=~np.logical_and.reduceat(sound, offsets[:-1]))
