"""The contract keeps its own rules. That it only ever grows is checked by ``buf breaking`` against a release."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weighin.v1 import device_pb2, measurement_pb2, run_pb2, services_pb2

PROTO = Path(__file__).parents[2] / "proto" / "weighin" / "v1"
FILES: list[Any] = [module.DESCRIPTOR for module in (device_pb2, measurement_pb2, run_pb2, services_pb2)]
MESSAGES: list[Any] = [message for file in FILES for message in file.message_types_by_name.values()]
ENUMS: list[Any] = [enum for file in FILES for enum in file.enum_types_by_name.values()]
FIELDS: list[Any] = [field for message in MESSAGES for field in message.fields]
NUMBERS = {"double", "float", "int32", "int64"}
TYPES = {1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 6: "fixed64", 7: "fixed32", 8: "bool"}
TYPES |= {9: "string", 11: "message", 12: "bytes", 13: "uint32", 14: "enum", 15: "sfixed32", 16: "sfixed64"}
# Units that a name may end with; a number whose name has none says its unit in a comment.
UNITS = ("_bytes", "_seconds", "_per_second", "_count", "_hertz", "_celsius", "_share", "_flops", "_version")


def name_of(descriptor: Any) -> str:
    return str(descriptor.full_name)


def leading_comments() -> Iterator[tuple[str, bool]]:
    """Every declaration of the .proto files as "Message.field" or "Message", and whether a comment stands before it."""
    for path in sorted(PROTO.glob("*.proto")):
        scopes: list[str] = []
        commented = False
        for line in map(str.strip, path.read_text(encoding="utf-8").splitlines()):
            opened = re.match(r"(message|enum|service|oneof)\s+(\w+)\s*\{", line)
            field = re.match(r"(?:optional |repeated )?[\w.]+ (\w+) = \d+;", line)
            named = [scope for scope in scopes if scope]
            if opened:
                scope = opened[2] if opened[1] != "oneof" else ""
                yield ".".join([*named, opened[2]]), commented
                if not line.endswith("}"):
                    scopes.append(scope)
            elif line == "}":
                scopes.pop()
            elif field and scopes:
                yield ".".join([*named, field[1]]), commented
            commented = line.startswith("//")


COMMENTED = dict(leading_comments())


def test_the_files_are_those_of_the_generated_code() -> None:
    assert {f"weighin/v1/{path.name}" for path in PROTO.glob("*.proto")} == {file.name for file in FILES}
    assert {file.package for file in FILES} == {"weighin.v1"}


@pytest.mark.parametrize("enum", ENUMS, ids=name_of)
def test_the_zero_of_an_enum_says_nothing(enum: Any) -> None:
    """A reader that knows fewer words sees 0, and an unset field is 0: neither may mean something."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper()
    assert enum.values_by_number[0].name == f"{prefix}_UNSPECIFIED"
    assert all(value.name.startswith(f"{prefix}_") for value in enum.values)
    assert [value.number for value in enum.values] == list(range(len(enum.values)))


@pytest.mark.parametrize("field", FIELDS, ids=name_of)
def test_no_number_is_unsigned_and_every_name_is_in_lower_case(field: Any) -> None:
    kind = TYPES[field.type]
    assert kind in NUMBERS | {"bool", "string", "message", "bytes", "enum"}
    assert re.fullmatch(r"[a-z][a-z0-9_]*", field.name)
    if field.name.endswith(("_bytes", "_hertz")):
        assert kind == "int64"


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_field_numbers_have_no_holes(message: Any) -> None:
    """A hole would be a field that was removed without being reserved."""
    reserved = re.search(rf"message {message.name} \{{[^}}]*reserved", _text_of(message.file))
    assert reserved or sorted(field.number for field in message.fields) == list(range(1, len(message.fields) + 1))


def _text_of(file: Any) -> str:
    return (PROTO / Path(file.name).name).read_text(encoding="utf-8")


@pytest.mark.parametrize("field", [f for f in FIELDS if TYPES[f.type] in NUMBERS], ids=name_of)
def test_a_number_says_its_unit_in_its_name_or_in_a_comment(field: Any) -> None:
    message = field.containing_type.name
    assert field.name.endswith(UNITS) or COMMENTED[f"{message}.{field.name}"] or COMMENTED[message]


@pytest.mark.parametrize("message", [m for m in MESSAGES if m.fields and m.file.name != "weighin/v1/services.proto"])
def test_a_message_of_facts_says_what_it_is_or_what_its_fields_are(message: Any) -> None:
    fields = [COMMENTED[f"{message.name}.{field.name}"] for field in message.fields]
    assert COMMENTED[message.name] or any(fields)


@pytest.mark.parametrize("name", ["Cpu", "Memory", "Storage", "Accelerator", "RuntimeVersions", "Conditions"])
def test_a_fact_that_may_be_unreadable_can_be_absent(name: str) -> None:
    """Without presence, a fact that was not read would be a zero or an empty text."""
    (message,) = (m for m in MESSAGES if m.name == name)
    scalar = [f for f in message.fields if TYPES[f.type] in NUMBERS | {"string"} and not f.is_repeated]
    assert [f.name for f in scalar if not f.has_presence] == []


def test_the_run_holds_facts_and_no_judgement() -> None:
    words = {"verdict", "tier", "estimate", "size_class", "score", "grade", "comfortable", "low", "high"}
    found = {field.name for field in FIELDS if field.file.name != "weighin/v1/services.proto"}
    assert found & words == set()


def test_nothing_in_a_run_could_name_a_person_or_one_copy_of_a_machine() -> None:
    words = ("serial", "host", "user", "mac", "address", "uuid", "email", "path", "device_id", "owner")
    facts = [field for field in FIELDS if field.file.name != "weighin/v1/services.proto"]
    assert [field.full_name for field in facts if any(word in field.name.split("_") for word in words)] == []
