"""The rules of the contract that protobuf itself cannot state.

Every rule yields ``path: what must hold``. The value that broke it is never repeated: it may be anything.
A sample that is zero, negative or not finite breaks no rule here: it is a fact, kept and judged later.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np
from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.message import DecodeError

from weighin.v1 import measurement_pb2, run_pb2
from weighin_aggregator.intake import validate_device
from weighin_aggregator.intake.reading import MeasurementColumns, Reading, SeriesColumns, columns_of
from weighin_aggregator.intake.rules import (
    at_least,
    at_most_entries,
    free_text,
    is_free_text,
    one_line,
    positive,
    share,
    stated,
    stated_values,
    version,
)
from weighin_aggregator.intake.wire import Flags, Integers
from weighin_aggregator.limits import Limits

_SHA256_BYTES = 32
# The years 1 to 9999 and 10,000 years: what a protobuf Timestamp and Duration may hold.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_LONGEST_SECONDS = 315_576_000_000
_NANOS = range(1_000_000_000)

_SOURCES = stated_values(run_pb2.Source)
_ARCHITECTURE_KINDS = stated_values(measurement_pb2.ArchitectureKind)
_FEED_FORWARDS = stated_values(measurement_pb2.FeedForward)
_SCHEMES = stated_values(measurement_pb2.Scheme)
_PHASES = stated_values(measurement_pb2.Phase)
_PARTS = stated_values(measurement_pb2.SeriesPart)
_CLOCKS = stated_values(measurement_pb2.ClockKind)
_FAILURES = stated_values(measurement_pb2.CaseFailureReason)
_POWER_SOURCES = stated_values(run_pb2.PowerSource) | {run_pb2.POWER_SOURCE_UNSPECIFIED}
# Most runs hold the cases of one suite. A case that keeps the rules has less than 1 KB, and no other is remembered.
_REMEMBERED_CASES, _REMEMBERED_CASE_BYTES = 1_024, 1_024
_ARCHITECTURE_COUNTS = ("layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab")


def violations(run: run_pb2.Run, limits: Limits) -> list[str]:
    """List the first broken rules of a run, at most ``limits.violations``; empty when it keeps them all."""
    return list(islice(_run(run, limits), limits.violations))


def are_sound(readings: Sequence[Reading], limits: Limits) -> list[bool]:
    """Tell of each run whether ``violations`` would find nothing, as is true of nearly all.

    All measurements together are looked at as columns, in a fraction of the time that the generators of so many rules
    take. A run that is not plain, or that holds what is not remembered, is not found sound, whatever it holds.
    """
    # Sizes first, as in ``_run``.
    heads = [
        len(one.measurements) <= limits.measurements
        and bool(one.measurements or one.head.failures)
        and not any(_head_sizes(one.head, limits))
        and not any(_head(one.head, limits))
        and not any(_failures(one.head.failures, limits))
        for one in readings
    ]
    columns = columns_of(tuple(readings))
    series = columns.series
    threads = np.array([_threads_of_sound_case(case, limits) for case in columns.case], np.int64)
    unsound = ~_are_sound_measurements(columns, limits) | (threads == 0)
    unsound[series.owner[~_are_sound_series(series, threads)]] = True
    samples = np.bincount(columns.owner[series.owner], series.sample_counts, len(readings))
    refused = samples > limits.samples
    refused[columns.owner[unsound]] = True
    return [head and not bad for head, bad in zip(heads, refused.tolist(), strict=True)]


def _run(run: run_pb2.Run, limits: Limits) -> Iterator[str]:
    # Sizes first: nothing below walks through more than they allow.
    too_many = [*_head_sizes(run, limits), *_sample_count(run, limits)]
    if too_many:
        yield from too_many
        return
    yield from _head(run, limits)
    if not run.measurements and not run.failures:
        yield "measurements: must not be empty when there are no failures"
    for index, measurement in enumerate(run.measurements):
        yield from _measurement(f"measurements[{index}]", measurement, limits)
    yield from _failures(run.failures, limits)


def _head(run: run_pb2.Run, limits: Limits) -> Iterator[str]:
    yield from stated("source", run.source, _SOURCES)
    yield from _observe_time(run)
    yield from _elapsed(run)
    yield from version("agent_version", run.agent_version, limits)
    yield from free_text("suite", run.suite, limits)
    yield from at_least("suite_version", run.suite_version, 1)
    yield from _sha256("suite_sha256", run.suite_sha256)
    if run.HasField("device"):
        yield from validate_device.device(run.device, limits)
    else:
        yield "device: must be present"
    yield from validate_device.probe_gaps(run.probe_gaps, limits)
    for name in ("before", "after"):
        if run.HasField(name):
            yield from _conditions(name, getattr(run, name))


def _head_sizes(run: run_pb2.Run, limits: Limits) -> Iterator[str]:
    yield from at_most_entries("measurements", run.measurements, limits.measurements)
    yield from at_most_entries("failures", run.failures, limits.failures)
    yield from at_most_entries("probe_gaps", run.probe_gaps, limits.probe_gaps)
    yield from validate_device.sizes(run.device, limits)


def _sample_count(run: run_pb2.Run, limits: Limits) -> Iterator[str]:
    # A series holds at least one sample, so this bounds the series too.
    samples = sum([len(series.sample_seconds) or 1 for m in run.measurements for series in m.series])
    if samples > limits.samples:
        yield f"measurements: must hold at most {limits.samples} samples in all series together"


def _observe_time(run: run_pb2.Run) -> Iterator[str]:
    """Demand a time; a clock that is years off is a fact and passes."""
    if not run.HasField("observe_time"):
        yield "observe_time: must be present"
    elif not is_timestamp(run.observe_time):
        yield "observe_time: must be a valid timestamp"


def is_timestamp(time: timestamp_pb2.Timestamp) -> bool:
    """Tell whether a time is within what the format promises."""
    return _FIRST_SECOND <= time.seconds <= _LAST_SECOND and time.nanos in _NANOS


def _elapsed(run: run_pb2.Run) -> Iterator[str]:
    if not run.HasField("elapsed"):
        yield "elapsed: must be present"
    elif not _is_positive_duration(run.elapsed):
        yield "elapsed: must be a valid duration of at least 0 seconds"


def _is_positive_duration(duration: duration_pb2.Duration) -> bool:
    return 0 <= duration.seconds <= _LONGEST_SECONDS and duration.nanos in _NANOS


def _sha256(path: str, value: bytes) -> Iterator[str]:
    if len(value) != _SHA256_BYTES:
        yield f"{path}: must be {_SHA256_BYTES} bytes"


def _sha256_or_empty(path: str, value: bytes) -> Iterator[str]:
    if value and len(value) != _SHA256_BYTES:
        yield f"{path}: must be {_SHA256_BYTES} bytes or empty"


def _conditions(path: str, conditions: run_pb2.Conditions) -> Iterator[str]:
    yield from at_least(f"{path}.memory_available_bytes", conditions.memory_available_bytes, 0)
    yield from share(f"{path}.foreign_cpu_share", conditions.foreign_cpu_share)
    yield from share(f"{path}.steal_cpu_share", conditions.steal_cpu_share)
    yield from stated(f"{path}.power_source", conditions.power_source, _POWER_SOURCES)
    if conditions.HasField("frequency_hertz"):
        yield from at_least(f"{path}.frequency_hertz", conditions.frequency_hertz, 1)
    if not math.isfinite(conditions.temperature_celsius):
        yield f"{path}.temperature_celsius: must be finite"
    if conditions.HasField("canary"):
        yield from positive(f"{path}.canary.matrix_flops", conditions.canary.matrix_flops)
        yield from positive(f"{path}.canary.read_bytes_per_second", conditions.canary.read_bytes_per_second)


def _case(path: str, case: measurement_pb2.Case, limits: Limits) -> Iterator[str]:
    data = case.SerializeToString()
    is_small = len(data) <= _REMEMBERED_CASE_BYTES
    for broken in _broken_by_serialized_case(data, limits) if is_small else _case_violations(case, limits):
        yield f"{path}.{broken}"


@lru_cache(_REMEMBERED_CASES)
def _broken_by_serialized_case(data: bytes, limits: Limits) -> tuple[str, ...]:
    return tuple(_case_violations(measurement_pb2.Case.FromString(data), limits))


def _case_violations(case: measurement_pb2.Case, limits: Limits) -> Iterator[str]:
    yield from _architecture("architecture", case.architecture, limits)
    yield from stated("scheme", case.scheme, _SCHEMES)
    yield from free_text("execution_provider", case.execution_provider, limits)
    yield from at_least("threads", case.threads, 1)
    if not 1 <= case.probe_layers <= max(1, case.architecture.layers):
        yield "probe_layers: must be at least 1 and at most the layers of the architecture"
    if not 0 <= case.short_probe_layers < max(1, case.probe_layers):
        yield "short_probe_layers: must be at least 0 and below probe_layers"
    if not 0 <= case.head_columns <= max(0, case.architecture.vocab):
        yield "head_columns: must be at least 0 and at most the vocabulary of the architecture"


def _architecture(path: str, architecture: measurement_pb2.Architecture, limits: Limits) -> Iterator[str]:
    yield from free_text(f"{path}.name", architecture.name, limits)
    yield from stated(f"{path}.kind", architecture.kind, _ARCHITECTURE_KINDS)
    for name in _ARCHITECTURE_COUNTS:
        yield from at_least(f"{path}.{name}", getattr(architecture, name), 1)
    yield from stated(f"{path}.feed_forward", architecture.feed_forward, _FEED_FORWARDS)
    if architecture.HasField("sliding_window"):
        yield from at_least(f"{path}.sliding_window", architecture.sliding_window, 1)
    if architecture.HasField("global_layer_interval"):
        yield from at_least(f"{path}.global_layer_interval", architecture.global_layer_interval, 1)


def _are_sound_measurements(columns: MeasurementColumns, limits: Limits) -> Flags:
    """Tell where ``_measurement`` would find nothing, the rules of cases and of series left aside."""
    is_decode = columns.phase == measurement_pb2.PHASE_DECODE
    correlation, relative_rms = columns.output_correlation, columns.output_relative_rms
    names = {name: is_free_text(name.decode("latin-1"), limits) for name in set(columns.execution_provider)}
    sound: Flags = (
        columns.plain
        & np.array([names[name] for name in columns.execution_provider], np.bool_)
        & _is_any_of(columns.phase, _PHASES)
        & np.where(is_decode, columns.token_count == 1, columns.token_count >= 1)
        & (is_decode | (columns.context_depth == 0))
        & (~columns.has_peak_memory_bytes | (columns.peak_memory_bytes >= 1))
        & (~columns.has_output_correlation | ((correlation >= -1) & (correlation <= 1)))
        & (~columns.has_output_relative_rms | ((relative_rms >= 0) & (relative_rms < math.inf)))
        & (np.bincount(columns.series.owner, minlength=len(columns.owner)) > 0)
    )
    return sound


def _are_sound_series(series: SeriesColumns, threads: Integers) -> Flags:
    """Tell where ``_series`` would find nothing. ``threads`` are those of each measurement."""
    share = series.foreign_cpu_share
    sound: Flags = (
        series.plain
        & _is_any_of(series.part, _PARTS)
        & _is_any_of(series.phase, _PHASES)
        & (series.token_count >= 1)
        & _is_any_of(series.clock, _CLOCKS)
        & ((series.clock != measurement_pb2.CLOCK_KIND_THREAD_CPU) | (threads[series.owner] == 1))
        & (series.sample_counts > 0)
        & ((share >= 0) & (share <= 1))  # 0 where it is absent
    )
    return sound


def _is_any_of(numbers: Integers, allowed: frozenset[int]) -> Flags:
    return np.isin(numbers, sorted(allowed))


def _threads_of_sound_case(data: bytes, limits: Limits) -> int:
    """Return the threads of a serialized case, 0 where it breaks a rule or is too large to be remembered."""
    return _threads_of_small_case(data, limits) if len(data) <= _REMEMBERED_CASE_BYTES else 0


@lru_cache(_REMEMBERED_CASES)
def _threads_of_small_case(data: bytes, limits: Limits) -> int:
    try:
        case = measurement_pb2.Case.FromString(data)
    except DecodeError:
        return 0
    case.DiscardUnknownFields()
    is_canonical = case.SerializeToString() == data
    return case.threads if is_canonical and not any(_measured_case("", case, limits)) else 0


def _measurement(path: str, measurement: measurement_pb2.Measurement, limits: Limits) -> Iterator[str]:
    yield from _measured_case(f"{path}.case", measurement.case, limits)
    yield from free_text(f"{path}.execution_provider", measurement.execution_provider, limits)
    yield from _workload(path, measurement)
    if measurement.HasField("peak_memory_bytes"):
        yield from at_least(f"{path}.peak_memory_bytes", measurement.peak_memory_bytes, 1)
    if not -1 <= measurement.output_correlation <= 1:
        yield f"{path}.output_correlation: must be from -1 to 1"
    if not 0 <= measurement.output_relative_rms < math.inf:
        yield f"{path}.output_relative_rms: must be finite and at least 0"
    if not measurement.series:
        yield f"{path}.series: must not be empty"
    yield from _all_series(path, measurement.series, measurement.case.threads)


def _measured_case(path: str, case: measurement_pb2.Case, limits: Limits) -> Iterator[str]:
    yield from _case(path, case, limits)
    yield from _sha256(f"{path}.layers_graph_sha256", case.layers_graph_sha256)
    for name in ("short_layers_graph_sha256", "head_graph_sha256"):
        yield from _sha256_or_empty(f"{path}.{name}", getattr(case, name))


def _workload(path: str, measurement: measurement_pb2.Measurement) -> Iterator[str]:
    yield from stated(f"{path}.phase", measurement.phase, _PHASES)
    if measurement.phase == measurement_pb2.PHASE_DECODE and measurement.token_count != 1:
        yield f"{path}.token_count: must be 1 in decode"
    yield from at_least(f"{path}.token_count", measurement.token_count, 1)
    if measurement.phase == measurement_pb2.PHASE_PREFILL and measurement.context_depth != 0:
        yield f"{path}.context_depth: must be 0 in prefill"
    yield from at_least(f"{path}.context_depth", measurement.context_depth, 0)


def _all_series(path: str, all_series: Sequence[measurement_pb2.Series], threads: int) -> Iterator[str]:
    for index, series in enumerate(all_series):
        yield from _series(f"{path}.series[{index}]", series, threads)


def _series(path: str, series: measurement_pb2.Series, threads: int) -> Iterator[str]:
    yield from stated(f"{path}.part", series.part, _PARTS)
    yield from at_least(f"{path}.round", series.round, 0)
    yield from stated(f"{path}.phase", series.phase, _PHASES)
    yield from at_least(f"{path}.token_count", series.token_count, 1)
    yield from at_least(f"{path}.context_depth", series.context_depth, 0)
    yield from stated(f"{path}.clock", series.clock, _CLOCKS)
    if series.clock == measurement_pb2.CLOCK_KIND_THREAD_CPU and threads != 1:
        yield f"{path}.clock: must be the wall clock when a case has more than one thread"
    if not series.sample_seconds:
        yield f"{path}.sample_seconds: must not be empty"
    yield from share(f"{path}.foreign_cpu_share", series.foreign_cpu_share)


def _failures(failures: Sequence[measurement_pb2.CaseFailure], limits: Limits) -> Iterator[str]:
    for index, failure in enumerate(failures):
        yield from _failure(f"failures[{index}]", failure, limits)


def _failure(path: str, failure: measurement_pb2.CaseFailure, limits: Limits) -> Iterator[str]:
    case = failure.case
    yield from _case(f"{path}.case", case, limits)
    # A case that was never started has no graphs.
    for name in ("layers_graph_sha256", "short_layers_graph_sha256", "head_graph_sha256"):
        yield from _sha256_or_empty(f"{path}.case.{name}", getattr(case, name))
    yield from stated(f"{path}.reason", failure.reason, _FAILURES)
    yield from one_line(f"{path}.detail", failure.detail, limits)
