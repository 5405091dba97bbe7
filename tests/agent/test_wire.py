from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest
from filled_run import FILLED
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from weighin.v1 import device_pb2, measurement_pb2, run_pb2
from weighin_agent import device, run
from weighin_agent.run import SCHEMA_VERSION, Run
from weighin_agent.wire import message_to_json, message_to_run, run_to_message
from weighin_analysis import architecture, measurement
from weighin_analysis.scheme import Scheme

# Names that differ between value and message, and the message's fields that no value has.
OTHER_NAMES = {"elapsed_seconds": "elapsed"}
ONLY_ON_THE_WIRE = {"schema_version"}
ENUMS: dict[type[Enum], Any] = {
    device.CacheKind: device_pb2.CacheKind,
    device.VirtualizationKind: device_pb2.VirtualizationKind,
    device.AcceleratorKind: device_pb2.AcceleratorKind,
    device.FormFactor: device_pb2.FormFactor,
    device.ProbeGapReason: device_pb2.ProbeGapReason,
    run.PowerSource: run_pb2.PowerSource,
    run.Source: run_pb2.Source,
    run.CaseFailureReason: measurement_pb2.CaseFailureReason,
    architecture.ArchitectureKind: measurement_pb2.ArchitectureKind,
    architecture.FeedForward: measurement_pb2.FeedForward,
    measurement.Phase: measurement_pb2.Phase,
    measurement.SeriesPart: measurement_pb2.SeriesPart,
    measurement.ClockKind: measurement_pb2.ClockKind,
    Scheme: measurement_pb2.Scheme,
}


MESSAGE = run_to_message(FILLED)


@dataclass(frozen=True)
class Difference:
    path: str
    value: object
    message: object


def differences(value: Any, message: Any, path: str) -> Iterator[Difference]:
    """Every place where a message does not say what the value says."""
    if is_dataclass(value):
        for field in fields(value):
            name = OTHER_NAMES.get(field.name, field.name)
            inner = f"{path}.{field.name}"
            if name not in message.DESCRIPTOR.fields_by_name:
                yield Difference(inner, getattr(value, field.name), "no such field")
            else:
                yield from differences(getattr(value, field.name), getattr(message, name), inner)
    elif isinstance(value, tuple):
        if len(value) != len(message):
            yield Difference(path, value, list(message))
        for i, (one, other) in enumerate(zip(value, message, strict=False)):
            yield from differences(one, other, f"{path}[{i}]")
    elif said(value, message) != expected(value, path):
        yield Difference(path, value, message)


def said(value: Any, message: Any) -> Any:
    if isinstance(value, Enum):
        return ENUMS[type(value)].Name(message)
    if isinstance(value, datetime):
        return message.ToDatetime(tzinfo=UTC)
    return message.ToNanoseconds() / 1e9 if isinstance(message, Duration) else message


def expected(value: Any, path: str) -> Any:
    if isinstance(value, Enum):
        prefix = ENUMS[type(value)].Name(0).removesuffix("UNSPECIFIED")
        return prefix + value.name
    return bytes.fromhex(value) if path.endswith("graph_sha256") else value


def test_every_field_of_a_run_reaches_the_message() -> None:
    assert list(differences(FILLED, MESSAGE, "run")) == []


def test_every_field_of_the_message_is_filled_from_the_run() -> None:
    """A field added to the contract and forgotten in the agent would stay empty for ever."""
    assert list(empty_fields(MESSAGE)) == []


def empty_fields(message: Message) -> Iterator[str]:
    present = {field.name for field, _ in message.ListFields()}
    for field in message.DESCRIPTOR.fields:
        if field.name not in present:
            yield f"{message.DESCRIPTOR.full_name}.{field.name}"
        elif field.message_type and field.message_type.file.package == "weighin.v1":
            inner = getattr(message, field.name)
            for one in [inner] if isinstance(inner, Message) else inner:
                yield from empty_fields(one)


@pytest.mark.parametrize("kind", ENUMS, ids=lambda kind: kind.__name__)
def test_every_word_of_the_agent_is_a_word_of_the_contract(kind: type[Enum]) -> None:
    ours = ENUMS[kind]
    prefix = ours.Name(0).removesuffix("UNSPECIFIED")
    assert {prefix + member.name for member in kind} | {prefix + "UNSPECIFIED"} == set(ours.keys())


def test_a_value_has_a_field_for_every_field_of_its_message() -> None:
    pairs: list[tuple[type, Descriptor]] = [
        (device.Device, device_pb2.Device.DESCRIPTOR),
        (device.Cpu, device_pb2.Cpu.DESCRIPTOR),
        (device.Memory, device_pb2.Memory.DESCRIPTOR),
        (device.Accelerator, device_pb2.Accelerator.DESCRIPTOR),
        (device.ExecutionProvider, device_pb2.ExecutionProvider.DESCRIPTOR),
        (run.Conditions, run_pb2.Conditions.DESCRIPTOR),
        (architecture.Architecture, measurement_pb2.Architecture.DESCRIPTOR),
        (measurement.Case, measurement_pb2.Case.DESCRIPTOR),
        (measurement.Series, measurement_pb2.Series.DESCRIPTOR),
        (measurement.Measurement, measurement_pb2.Measurement.DESCRIPTOR),
        (Run, run_pb2.Run.DESCRIPTOR),
    ]
    for kind, message in pairs:
        ours = {OTHER_NAMES.get(field.name, field.name) for field in fields(kind)}
        assert ours == {field.name for field in message.fields} - ONLY_ON_THE_WIRE


def test_a_run_says_which_contract_it_follows() -> None:
    assert MESSAGE.schema_version == SCHEMA_VERSION == 2


def absent_everywhere(value: Any) -> Any:
    """The value with None wherever None is allowed."""
    if not is_dataclass(value) or isinstance(value, type):
        return tuple(absent_everywhere(one) for one in value) if isinstance(value, tuple) else value
    hints = get_type_hints(type(value))
    return replace(
        value,
        **{
            f.name: None if NoneType in get_args(hints[f.name]) else absent_everywhere(getattr(value, f.name))
            for f in fields(value)
        },
    )


def test_what_is_absent_is_unset_and_never_zero() -> None:
    message = run_to_message(absent_everywhere(FILLED))
    set_fields = [
        f"{path}.{field.name}"
        for path, part in parts(message, "run")
        for field in part.DESCRIPTOR.fields
        if may_be_absent(field) and part.HasField(field.name)
    ]
    assert set_fields == []
    assert message.before.power_source == run_pb2.POWER_SOURCE_UNSPECIFIED
    assert message.device.form_factor == device_pb2.FORM_FACTOR_UNSPECIFIED


def parts(message: Message, path: str) -> Iterator[tuple[str, Message]]:
    """A message and all messages in it."""
    yield path, message
    for field, value in message.ListFields():
        if field.message_type and field.message_type.file.package == "weighin.v1":
            for one in [value] if isinstance(value, Message) else value:
                yield from parts(one, f"{path}.{field.name}")


def may_be_absent(field: Any) -> bool:
    optional_messages = {"virtualization", "canary"}
    return bool(field.has_presence) and (field.message_type is None or field.name in optional_messages)


def test_a_measured_zero_is_a_zero() -> None:
    idle = replace(FILLED.before, foreign_cpu_share=0.0, memory_available_bytes=0, temperature_celsius=0.0)
    message = run_to_message(replace(FILLED, before=idle)).before
    for name in ("foreign_cpu_share", "memory_available_bytes", "temperature_celsius"):
        assert message.HasField(name)
        assert getattr(message, name) == 0


def test_a_run_survives_canonical_json() -> None:
    assert json_format.ParseDict(message_to_json(MESSAGE), run_pb2.Run()) == MESSAGE


def test_a_message_becomes_the_run_that_it_was_made_of() -> None:
    read = message_to_run(run_pb2.Run.FromString(MESSAGE.SerializeToString()))
    assert run_to_message(read) == MESSAGE
    assert list(differences(read, MESSAGE, "run")) == []
    assert read == FILLED


def test_what_was_absent_is_absent_again() -> None:
    bare = absent_everywhere(FILLED)
    assert message_to_run(run_to_message(bare)) == bare


def test_a_message_of_another_version_or_with_an_unknown_word_is_no_run() -> None:
    other, unknown = run_pb2.Run(), run_pb2.Run()
    other.CopyFrom(MESSAGE)
    other.schema_version = SCHEMA_VERSION + 1
    unknown.CopyFrom(MESSAGE)
    unknown.measurements[0].case.scheme = 99  # type: ignore[assignment]
    for message, text in ((other, "schema version 3"), (unknown, "scheme is 99")):
        with pytest.raises(ValueError, match=text):
            message_to_run(message)
