"""The border between a catalogue file (TOML) and the entries that it holds."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.errors import CatalogError
from weighin_analysis.models.entry import ModelEntry

_MOST_COUNT = 2**53  # what every reader of JSON carries exactly, and a thousand times the largest model
_GIVEN_BY_THE_ENTRY = ("name", "kind")  # of an architecture


def parse_catalogue(text: str) -> tuple[ModelEntry, ...]:
    """Return the entries of a catalogue file in their order.

    A ``[[model]]`` table has the fields of ModelEntry; its ``shape`` those of Shape, whose ``architecture`` leaves out
    the name and the kind that the entry tells. CatalogError names the model and the field that is missing or wrong.
    """
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: not TOML, or a number of thousands of digits
        raise CatalogError(f"the catalogue is not TOML: {error}") from error
    rows = tables.get("model")
    if set(tables) != {"model"} or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CatalogError("a catalogue holds [[model]] tables and nothing else")
    return tuple(_entry(row, place) for place, row in enumerate(rows, start=1))


def format_entry(entry: ModelEntry) -> str:
    """Return the ``[[model]]`` table of an entry, which ends in a line feed; what has its default is left out."""
    told = _told(entry)
    shape = told.pop("shape", None)
    lines = ["[[model]]", *(f"{name} = {_toml(value)}" for name, value in told.items())]
    if shape is not None:
        lines += ["[model.shape]", *(f"{name} = {_toml(value)}" for name, value in _told(shape).items())]
    return "\n".join(lines) + "\n"


def _entry(row: Mapping[str, Any], place: int) -> ModelEntry:
    where = f"model {row.get('name', place)!r}"
    table = dict(row)
    shape = row.get("shape")
    if isinstance(shape, dict) and isinstance(shape.get("architecture"), dict):
        if row.get("kind") not in list(ArchitectureKind):  # a list: the kind may be anything, hashable or not
            raise CatalogError(f"{where}: kind: a shape is that of a decoder or of an encoder")
        given = {name: row.get(name) for name in _GIVEN_BY_THE_ENTRY}
        table["shape"] = shape | {"architecture": shape["architecture"] | given}
    entry = _record(ModelEntry, table, where)
    assert isinstance(entry, ModelEntry)
    return entry


def _record(kind: type, table: Mapping[str, Any], where: str) -> object:
    types = _types(kind)
    unknown = sorted(set(table) - set(types))
    if unknown:
        raise CatalogError(f"{where}: there is no field {unknown[0]!r}")
    values: dict[str, object] = {}
    for field in fields(kind):
        annotation = types[field.name]
        optional = NoneType in get_args(annotation)
        if field.name in table:
            plain = next(one for one in get_args(annotation) if one is not NoneType) if optional else annotation
            values[field.name] = _value(plain, table[field.name], f"{where}: {field.name}")
        elif field.default is MISSING:
            if not optional:
                raise CatalogError(f"{where}: {field.name}: is missing")
            values[field.name] = None
    return kind(**values)


@cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(kind: Any, value: object, where: str) -> object:
    if get_origin(kind) is tuple:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise CatalogError(f"{where}: must be a list of texts")
        return tuple(value)
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, dict):
            raise CatalogError(f"{where}: must be a table")
        return _record(kind, value, where)
    if issubclass(kind, StrEnum):
        if value not in list(kind):
            raise CatalogError(f"{where}: {value!r} is none of {', '.join(kind)}")
        return kind(value)
    if kind is int and (type(value) is not int or not 0 <= value <= _MOST_COUNT):
        raise CatalogError(f"{where}: must be a whole number from 0 to {_MOST_COUNT}")
    if type(value) is not kind:
        raise CatalogError(f"{where}: must be {'true or false' if kind is bool else 'a text'}")
    return value


def _told(record: object) -> dict[str, object]:
    """Return the fields of a dataclass that differ from their default."""
    assert is_dataclass(record)
    given = _GIVEN_BY_THE_ENTRY if isinstance(record, Architecture) else ()
    values = ((field, getattr(record, field.name)) for field in fields(record))
    return {
        field.name: value
        for field, value in values
        if value is not None and value != field.default and field.name not in given
    }


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, str):
        # A JSON string is a TOML string, but for the one control character that JSON leaves as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return "{ " + ", ".join(f"{name} = {_toml(one)}" for name, one in _told(value).items()) + " }"
