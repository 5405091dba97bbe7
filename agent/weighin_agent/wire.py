"""The border between a run and the contract: values to weighin.v1 messages, and back. Nothing else here knows both."""

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf import json_format
from google.protobuf.message import Message

from weighin.v1 import device_pb2, measurement_pb2, run_pb2
from weighin_agent.device import Accelerator, Cache, Cpu, Device, ProbeGap
from weighin_agent.run import SCHEMA_VERSION, Canary, CaseFailure, Conditions, Run
from weighin_analysis.architecture import Architecture
from weighin_analysis.measurement import Case, Measurement, Series

_T = TypeVar("_T")


def run_to_message(run: Run) -> run_pb2.Run:
    """Return the run as the message that is submitted. None becomes an unset field."""
    message = run_pb2.Run(
        schema_version=SCHEMA_VERSION,
        source=run_pb2.Source.Value(f"SOURCE_{run.source.name}"),
        agent_version=run.agent_version,
        consent_version=run.consent_version,
        suite=run.suite,
        suite_version=run.suite_version,
        suite_sha256=run.suite_sha256,
        device=_device(run.device),
        probe_gaps=[_probe_gap(gap) for gap in run.probe_gaps],
        before=_conditions(run.before),
        after=_conditions(run.after),
        measurements=[_measurement(measurement) for measurement in run.measurements],
        failures=[_failure(failure) for failure in run.failures],
    )
    message.observe_time.FromDatetime(run.observe_time)
    message.elapsed.FromNanoseconds(round(run.elapsed_seconds * 1e9))
    return message


def message_to_json(message: run_pb2.Run) -> dict[str, object]:
    """Return a run as canonical protobuf JSON: lowerCamelCase names, 64-bit integers as strings."""
    document: dict[str, object] = json_format.MessageToDict(message)
    return document


def message_to_run(message: run_pb2.Run) -> Run:
    """Return the run that ``run_to_message`` made a message of; ValueError where it is of another version."""
    if message.schema_version != SCHEMA_VERSION:
        raise ValueError(f"a run of schema version {message.schema_version}, this program reads {SCHEMA_VERSION}")
    return _value(Run, message)


def _value(kind: type[_T], message: Message) -> _T:
    """Return a value whose fields are those of a message: they have the same names."""
    return kind(**{name: _field(hint, message, name) for name, hint in _hints(kind).items()})  # type: ignore[arg-type]  # a type is hashable


@cache  # a run holds thousands of values of a few kinds
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _field(hint: Any, message: Message, name: str) -> Any:
    """Return one field; an unset one that may be absent is None."""
    if name == "elapsed_seconds":
        return getattr(message, "elapsed").ToNanoseconds() / 1e9  # noqa: B009 - no type tells of this field
    found = getattr(message, name)
    if get_origin(hint) is tuple:
        return tuple(_content(get_args(hint)[0], one) for one in found)
    optional = get_origin(hint) is UnionType
    kind = next(one for one in get_args(hint) if one is not NoneType) if optional else hint
    if issubclass(kind, Enum):
        return None if optional and found == 0 else _member(kind, message, name)
    if optional and not message.HasField(name):
        return None
    return _content(kind, found)


def _content(kind: Any, found: Any) -> Any:
    if is_dataclass(kind):
        return _value(kind, found)  # type: ignore[arg-type]
    if kind is datetime:
        return found.ToDatetime(UTC)
    return found.hex() if kind is str and isinstance(found, bytes) else found


def _member(kind: type[Enum], message: Message, name: str) -> Enum:
    enum = message.DESCRIPTOR.fields_by_name[name].enum_type
    assert enum is not None  # the value's field is one
    number = getattr(message, name)
    if number not in enum.values_by_number or number == 0:
        raise ValueError(f"{name} is {number}, which this program does not know")
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    word = enum.values_by_number[number].name.removeprefix(prefix)
    if word not in kind.__members__:
        raise ValueError(f"{name} is {word}, which this program does not know")
    return kind[word]


def _device(device: Device) -> device_pb2.Device:
    system, virtual, versions = device.operating_system, device.virtualization, device.runtime_versions
    form = device.form_factor
    message = device_pb2.Device(
        cpu=_cpu(device.cpu),
        memory=device_pb2.Memory(
            total_bytes=device.memory.total_bytes,
            available_bytes=device.memory.available_bytes,
            read_bandwidth_bytes_per_second=device.memory.read_bandwidth_bytes_per_second,
            single_thread_read_bandwidth_bytes_per_second=device.memory.single_thread_read_bandwidth_bytes_per_second,
        ),
        storage=device_pb2.Storage(free_bytes=device.storage.free_bytes),
        operating_system=device_pb2.OperatingSystem(
            family=system.family, name=system.name, version=system.version, kernel=system.kernel
        ),
        accelerators=[_accelerator(accelerator) for accelerator in device.accelerators],
        execution_providers=[
            device_pb2.ExecutionProvider(
                name=ep.name, measured=ep.measured, reason=ep.reason, adapter=ep.adapter, is_software=ep.is_software
            )
            for ep in device.execution_providers
        ],
        runtime_versions=device_pb2.RuntimeVersions(
            python=versions.python, onnxruntime=versions.onnxruntime, onnx=versions.onnx, numpy=versions.numpy
        ),
        form_factor=device_pb2.FormFactor.Value(f"FORM_FACTOR_{form.name if form else 'UNSPECIFIED'}"),
    )
    if virtual:
        kind = device_pb2.VirtualizationKind.Value(f"VIRTUALIZATION_KIND_{virtual.kind.name}")
        message.virtualization.CopyFrom(device_pb2.Virtualization(kind=kind, product=virtual.product))
    return message


def _cpu(cpu: Cpu) -> device_pb2.Cpu:
    return device_pb2.Cpu(
        model=cpu.model,
        vendor=cpu.vendor,
        architecture=cpu.architecture,
        physical_core_count=cpu.physical_core_count,
        logical_core_count=cpu.logical_core_count,
        instruction_sets=cpu.instruction_sets,
        caches=[_cache(cache) for cache in cpu.caches],
        max_frequency_hertz=cpu.max_frequency_hertz,
    )


def _cache(cache: Cache) -> device_pb2.Cache:
    return device_pb2.Cache(
        level=cache.level,
        kind=device_pb2.CacheKind.Value(f"CACHE_KIND_{cache.kind.name}"),
        size_bytes=cache.size_bytes,
        instance_count=cache.instance_count,
    )


def _accelerator(accelerator: Accelerator) -> device_pb2.Accelerator:
    return device_pb2.Accelerator(
        kind=device_pb2.AcceleratorKind.Value(f"ACCELERATOR_KIND_{accelerator.kind.name}"),
        vendor=accelerator.vendor,
        model=accelerator.model,
        memory_total_bytes=accelerator.memory_total_bytes,
        memory_available_bytes=accelerator.memory_available_bytes,
        driver_version=accelerator.driver_version,
        compute_capability=accelerator.compute_capability,
        shares_main_memory=accelerator.shares_main_memory,
    )


def _probe_gap(gap: ProbeGap) -> device_pb2.ProbeGap:
    reason = device_pb2.ProbeGapReason.Value(f"PROBE_GAP_REASON_{gap.reason.name}")
    return device_pb2.ProbeGap(fact=gap.fact, reason=reason, detail=gap.detail)


def _conditions(conditions: Conditions) -> run_pb2.Conditions:
    power, canary = conditions.power_source, conditions.canary
    return run_pb2.Conditions(
        memory_available_bytes=conditions.memory_available_bytes,
        foreign_cpu_share=conditions.foreign_cpu_share,
        steal_cpu_share=conditions.steal_cpu_share,
        power_source=run_pb2.PowerSource.Value(f"POWER_SOURCE_{power.name if power else 'UNSPECIFIED'}"),
        frequency_hertz=conditions.frequency_hertz,
        temperature_celsius=conditions.temperature_celsius,
        canary=_canary(canary) if canary else None,
    )


def _canary(canary: Canary) -> run_pb2.Canary:
    return run_pb2.Canary(matrix_flops=canary.matrix_flops, read_bytes_per_second=canary.read_bytes_per_second)


def _architecture(architecture: Architecture) -> measurement_pb2.Architecture:
    return measurement_pb2.Architecture(
        name=architecture.name,
        kind=measurement_pb2.ArchitectureKind.Value(f"ARCHITECTURE_KIND_{architecture.kind.name}"),
        layers=architecture.layers,
        hidden=architecture.hidden,
        ffn=architecture.ffn,
        heads=architecture.heads,
        kv_heads=architecture.kv_heads,
        head_dim=architecture.head_dim,
        vocab=architecture.vocab,
        tied_embeddings=architecture.tied_embeddings,
        feed_forward=measurement_pb2.FeedForward.Value(f"FEED_FORWARD_{architecture.feed_forward.name}"),
        query_key_norm=architecture.query_key_norm,
        sandwich_norm=architecture.sandwich_norm,
        sliding_window=architecture.sliding_window,
        global_layer_interval=architecture.global_layer_interval,
    )


def _case(case: Case) -> measurement_pb2.Case:
    return measurement_pb2.Case(
        architecture=_architecture(case.architecture),
        scheme=measurement_pb2.Scheme.Value(f"SCHEME_{case.scheme.name}"),
        execution_provider=case.execution_provider,
        threads=case.threads,
        probe_layers=case.probe_layers,
        head_columns=case.head_columns,
        short_probe_layers=case.short_probe_layers,
        layers_graph_sha256=bytes.fromhex(case.layers_graph_sha256),
        short_layers_graph_sha256=bytes.fromhex(case.short_layers_graph_sha256),
        head_graph_sha256=bytes.fromhex(case.head_graph_sha256),
    )


def _measurement(measurement: Measurement) -> measurement_pb2.Measurement:
    return measurement_pb2.Measurement(
        case=_case(measurement.case),
        execution_provider=measurement.execution_provider,
        phase=measurement_pb2.Phase.Value(f"PHASE_{measurement.phase.name}"),
        token_count=measurement.token_count,
        context_depth=measurement.context_depth,
        series=[_series(series) for series in measurement.series],
        peak_memory_bytes=measurement.peak_memory_bytes,
        output_correlation=measurement.output_correlation,
        output_relative_rms=measurement.output_relative_rms,
    )


def _series(series: Series) -> measurement_pb2.Series:
    return measurement_pb2.Series(
        part=measurement_pb2.SeriesPart.Value(f"SERIES_PART_{series.part.name}"),
        round=series.round,
        phase=measurement_pb2.Phase.Value(f"PHASE_{series.phase.name}"),
        token_count=series.token_count,
        context_depth=series.context_depth,
        clock=measurement_pb2.ClockKind.Value(f"CLOCK_KIND_{series.clock.name}"),
        sample_seconds=series.sample_seconds,
        foreign_cpu_share=series.foreign_cpu_share,
    )


def _failure(failure: CaseFailure) -> measurement_pb2.CaseFailure:
    reason = measurement_pb2.CaseFailureReason.Value(f"CASE_FAILURE_REASON_{failure.reason.name}")
    return measurement_pb2.CaseFailure(case=_case(failure.case), reason=reason, detail=failure.detail)
