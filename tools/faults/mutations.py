"""Runs that no agent would send, made from one that an agent does send."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from example_runs import example_run
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from faults.devices import SMALL_RUN
from weighin.v1 import run_pb2

_BASE = run_pb2.Run.FromString(SMALL_RUN)
_BASE.failures.extend(example_run().failures)
VALID = _BASE.SerializeToString()

_INTEGERS = (
    0,
    -1,
    1,
    2,
    127,
    255,
    65_537,
    (1 << 31) - 1,
    -(1 << 31),
    (1 << 53) + 1,
    (1 << 62),
    (1 << 63) - 1,
    -(1 << 63),
)
_NUMBERS = (0.0, -0.0, -1.0, 1.0, 1.1, 5e-324, 1e-45, 3.5e38, 1.8e308, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    "",
    " ",
    "x" * 127,
    "x" * 129,
    "x" * 70_000,
    "\0",
    "a\nb",
    "\u202eabc",
    "\U0001f600" * 40,
    "00:11:22:33:44:55",
    "10.0.0.1",
    "/home/somebody",
    "user@host",
    "0b6f1c1e-6a51-4d0c-9d7e-2f4f5a7c9b10",
    "'); DROP TABLE run; --",
    "NULL",
    "%s{0}$(id)",
)
_BYTES = (b"", b"\0" * 31, b"\0" * 32, b"\xff" * 33, b"\0" * 70_000)
_ENUMS = (-1, 0, 1, 99, (1 << 31) - 1)
_MOST_EDITS = 4
_MOST_COPIES = 1_100
_GROUP_START, _GROUP_END = b"\xa3\x06", b"\xa4\x06"


def hostile_run(chance: random.Random) -> bytes:
    """Make the bytes of a run: with fields set to what they should not be, with bytes changed, nested, or none."""
    kind = chance.random()
    if kind < 0.6:
        return _edited_fields(chance)
    if kind < 0.9:
        return edited_bytes(VALID, chance)
    if kind < 0.95:
        depth = chance.randrange(1, 200)
        return VALID + _GROUP_START * depth + _GROUP_END * depth
    return chance.randbytes(chance.randrange(2_000))


def edited_bytes(data: bytes, chance: random.Random) -> bytes:
    """Change, remove and insert a few bytes."""
    edited = bytearray(data)
    for _ in range(chance.randint(1, 2 * _MOST_EDITS)):
        position = chance.randrange(len(edited) + 1)
        match chance.randrange(3):
            case 0:
                edited[position : position + 1] = chance.randbytes(1)
            case 1:
                del edited[position : position + chance.randrange(1, 8)]
            case _:
                edited[position:position] = chance.randbytes(chance.randrange(1, 8))
    return bytes(edited)


def edited_message(run: run_pb2.Run, chance: random.Random) -> bytes:
    """Set a few fields of a run, at any depth, to what they should not be."""
    for _ in range(chance.randint(1, _MOST_EDITS)):
        message = chance.choice(_messages(run))
        fields: Sequence[Any] = message.DESCRIPTOR.fields
        _edit(message, chance.choice(fields), chance)
    return run.SerializeToString()


def _edited_fields(chance: random.Random) -> bytes:
    return edited_message(run_pb2.Run.FromString(VALID), chance)


def _messages(message: Message) -> list[Message]:
    """List a message and all that it holds."""
    found = [message]
    for field, value in message.ListFields():
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for one in value if field.is_repeated else [value]:
                found += _messages(one)
    return found


def _edit(message: Message, field: FieldDescriptor, chance: random.Random) -> None:
    value = getattr(message, field.name)
    if field.is_repeated:
        _edit_many(message, field, chance)
    elif field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
        setattr(message, field.name, _hostile(field)(chance))
    elif message.HasField(field.name) and chance.random() < 0.5:
        message.ClearField(field.name)
    else:
        value.SetInParent()


def _edit_many(message: Message, field: FieldDescriptor, chance: random.Random) -> None:
    values = getattr(message, field.name)
    is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
    match chance.randrange(4):
        case 0:
            message.ClearField(field.name)
        case 1 if values:
            values.extend(list(values)[-1:] * chance.choice((1, 20, _MOST_COPIES)))
        case 2 if values:
            del values[chance.randrange(len(values))]
        case _ if is_message:
            values.add()
        case _:
            values.append(_hostile(field)(chance))


def _hostile(field: FieldDescriptor) -> Callable[[random.Random], object]:
    """Draw a value that the field can carry."""
    pool: Sequence[object]
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            pool = (False, True)
        case FieldDescriptor.CPPTYPE_ENUM:
            pool = _ENUMS
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            pool = _NUMBERS
        case FieldDescriptor.CPPTYPE_STRING:
            pool = _BYTES if field.type == FieldDescriptor.TYPE_BYTES else _TEXTS
        case FieldDescriptor.CPPTYPE_INT32:
            pool = [number for number in _INTEGERS if -(1 << 31) <= number < 1 << 31]
        case _:
            pool = _INTEGERS
    return lambda chance: chance.choice(pool)
