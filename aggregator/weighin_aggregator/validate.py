"""The rules of the contract that protobuf itself cannot state.

Every rule yields ``path: what must hold``. The value that broke it is never repeated: it may be anything.
A sample that is zero, negative or not finite breaks no rule here: it is a fact, kept and judged later.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

from google.protobuf import duration_pb2, timestamp_pb2

from weighin.v1 import measurement_pb2, run_pb2
from weighin_aggregator import validate_device
from weighin_aggregator.limits import Limits
from weighin_aggregator.rules import (
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

_SHA256_BYTES = 32
_SHA256_OR_EMPTY_BYTES = (0, _SHA256_BYTES)
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


def _run(run: run_pb2.Run, limits: Limits) -> Iterator[str]:
    # Sizes first: nothing below walks through more than they allow.
    too_many = list(_sizes(run, limits))
    if too_many:
        yield from too_many
        return
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
    if not run.measurements and not run.failures:
        yield "measurements: must not be empty when there are no failures"
    for index, measurement in enumerate(run.measurements):
        if not is_sound(measurement, limits):
            yield from measurement_violations(f"measurements[{index}]", measurement, limits)
    for index, failure in enumerate(run.failures):
        yield from _failure(f"failures[{index}]", failure, limits)


def _sizes(run: run_pb2.Run, limits: Limits) -> Iterator[str]:
    yield from at_most_entries("measurements", run.measurements, limits.measurements)
    yield from at_most_entries("failures", run.failures, limits.failures)
    yield from at_most_entries("probe_gaps", run.probe_gaps, limits.probe_gaps)
    yield from validate_device.sizes(run.device, limits)
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
    for broken in _broken_by_case(case, limits):
        yield f"{path}.{broken}"


def _broken_by_case(case: measurement_pb2.Case, limits: Limits) -> tuple[str, ...]:
    data = case.SerializeToString()
    if len(data) > _REMEMBERED_CASE_BYTES:
        return tuple(_case_violations(case, limits))
    return _broken_by_serialized_case(data, limits)


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


def is_sound(measurement: measurement_pb2.Measurement, limits: Limits) -> bool:
    """Tell whether ``measurement_violations`` would find nothing, as is true of nearly all measurements.

    Comparison chains take a fraction of the time that the generators of so many rules take.
    """
    case = measurement.case
    threads = case.threads
    is_decode = measurement.phase == measurement_pb2.PHASE_DECODE
    return (
        not _broken_by_case(case, limits)
        and len(case.layers_graph_sha256) == _SHA256_BYTES
        and len(case.short_layers_graph_sha256) in _SHA256_OR_EMPTY_BYTES
        and len(case.head_graph_sha256) in _SHA256_OR_EMPTY_BYTES
        and is_free_text(measurement.execution_provider, limits)
        and measurement.phase in _PHASES
        and (measurement.token_count == 1 if is_decode else measurement.token_count >= 1)
        and (measurement.context_depth >= 0 if is_decode else measurement.context_depth == 0)
        and (measurement.peak_memory_bytes >= 1 or not measurement.HasField("peak_memory_bytes"))
        and -1 <= measurement.output_correlation <= 1
        and 0 <= measurement.output_relative_rms < math.inf
        and len(measurement.series) > 0
        and all(_is_sound_series(series, threads) for series in measurement.series)
    )


def measurement_violations(path: str, measurement: measurement_pb2.Measurement, limits: Limits) -> Iterator[str]:
    """List the rules that a measurement breaks."""
    case = measurement.case
    yield from _case(f"{path}.case", case, limits)
    yield from _sha256(f"{path}.case.layers_graph_sha256", case.layers_graph_sha256)
    for name in ("short_layers_graph_sha256", "head_graph_sha256"):
        yield from _sha256_or_empty(f"{path}.case.{name}", getattr(case, name))
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
    yield from _all_series(path, measurement.series, case.threads)


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


def _is_sound_series(series: measurement_pb2.Series, threads: int) -> bool:
    """Tell whether ``_series`` would find nothing."""
    return (
        series.part in _PARTS
        and series.round >= 0
        and series.phase in _PHASES
        and series.token_count >= 1
        and series.context_depth >= 0
        and series.clock in _CLOCKS
        and (series.clock != measurement_pb2.CLOCK_KIND_THREAD_CPU or threads == 1)
        and len(series.sample_seconds) > 0
        and 0 <= series.foreign_cpu_share <= 1
    )


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


def _failure(path: str, failure: measurement_pb2.CaseFailure, limits: Limits) -> Iterator[str]:
    case = failure.case
    yield from _case(f"{path}.case", case, limits)
    # A case that was never started has no graphs.
    for name in ("layers_graph_sha256", "short_layers_graph_sha256", "head_graph_sha256"):
        yield from _sha256_or_empty(f"{path}.case.{name}", getattr(case, name))
    yield from stated(f"{path}.reason", failure.reason, _FAILURES)
    yield from one_line(f"{path}.detail", failure.detail, limits)
