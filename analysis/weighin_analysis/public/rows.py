"""Throughput as others published it: a CSV file, one measurement a line, read into typed values or refused.

Nothing is repaired and nothing is left out: a file with one row that cannot be true is refused, naming line and column.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TypeVar

from weighin_analysis.errors import PublicDataError

COLUMNS = (
    "device",
    "device_class",
    "compute_unit",
    "memory_gb",
    "mem_bandwidth_gbps",
    "bandwidth_source",
    "runtime",
    "backend",
    "model",
    "parameters",
    "is_moe",
    "active_parameters",
    "quantization",
    "model_size_bytes",
    "size_source",
    "phase",
    "test",
    "context",
    "tokens_per_s",
    "confidence",
    "source",
    "notes",
)
_MOST_CHARACTERS = 1_000  # in a field; a longer one is a quote that was never closed
_MOST_SHOWN = 40
# Of anything that a row counts or measures, and of its GB of memory: a store can hold it, and nothing real comes near.
_MOST = 1e15
_MOST_MEMORY_GB = 1e6

_Kind = TypeVar("_Kind", bound=StrEnum)


class PublicPhase(StrEnum):
    """What a row tells of: one token per step, the prompt in parallel, or that the model did not load."""

    DECODE = "decode"
    PREFILL = "prefill"
    OUT_OF_MEMORY = "oom"


class Confidence(StrEnum):
    """How a row is known: a structured log or a maintained table, a vendor or an aggregate, an anecdote."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicRow:
    """One published measurement; ``line`` is where it ends in its file.

    ``memory_bytes`` is None where nobody told; so is ``context_tokens``. ``bandwidth_bytes_per_second`` is nominal:
    what a data sheet says, never a fact about the device. ``active_parameters`` are those that a token passes, where
    they are fewer than ``parameters``. ``model_size_bytes`` is the file or its buffers, by ``size_source``.
    ``tokens_per_second`` is None where the model did not load.
    """

    line: int
    device: str
    device_class: str
    compute_unit: str
    memory_bytes: int | None
    bandwidth_bytes_per_second: float | None
    bandwidth_source: str
    runtime: str
    backend: str
    model: str
    parameters: int
    is_mixture_of_experts: bool
    active_parameters: int | None
    quantization: str
    model_size_bytes: int | None
    size_source: str
    phase: PublicPhase
    test: str
    context_tokens: int | None
    tokens_per_second: float | None
    confidence: Confidence
    source: str
    notes: str


def read_rows(path: Path) -> tuple[PublicRow, ...]:
    """Return the rows of a throughput CSV; PublicDataError, naming line and column, for one that cannot be read."""
    return decode_rows(read_content(path), str(path))


def read_content(path: Path) -> bytes:
    """Return what a file holds; PublicDataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise PublicDataError(f"cannot read {path}: {error.strerror}") from error


def decode_rows(content: bytes, name: str) -> tuple[PublicRow, ...]:
    """Return the rows of the content of a throughput CSV that is called ``name`` in errors; see ``read_rows``."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PublicDataError(f"{name} is not a text file in UTF-8: byte {error.start} cannot be read") from error
    return parse_rows(text, name)


def parse_rows(text: str, name: str) -> tuple[PublicRow, ...]:
    """Return the rows of a throughput CSV that is called ``name`` in errors; see ``read_rows``."""
    return tuple(_row(fields) for fields in _fields(text, name))


@dataclass(frozen=True, slots=True)
class _Fields:
    """The texts of one line, each under its column."""

    name: str
    line: int
    texts: Mapping[str, str]

    def refuse(self, column: str, wanted: str) -> PublicDataError:
        text = self.texts[column]
        shown = repr(text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…")
        return PublicDataError(f"{self.name}, line {self.line}, column {column}: {shown} is not {wanted}")

    def text(self, column: str) -> str:
        if not (found := self.texts[column]):
            raise PublicDataError(f"{self.name}, line {self.line}, column {column} is empty")
        return found

    def number(self, column: str, below: float = _MOST) -> float:
        text = self.text(column)
        try:
            value = float(text if text.isascii() and "_" not in text else "")  # more than float() is a number to few
        except ValueError as error:
            raise self.refuse(column, "a number") from error
        if not 0 < value < below:
            raise self.refuse(column, f"a number above 0 and below {below:,.0f}")
        return value

    def count(self, column: str) -> int:
        text = self.text(column)
        if not (text.isascii() and text.isdigit() and 0 < int(text) < _MOST):
            raise self.refuse(column, f"a whole number above 0 and below {_MOST:,.0f}")
        return int(text)

    def one_of(self, column: str, kind: type[_Kind]) -> _Kind:
        try:
            return kind(self.texts[column])
        except ValueError as error:
            raise self.refuse(column, f"one of {', '.join(kind)}") from error


def _fields(text: str, name: str) -> Iterator[_Fields]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, None)
        if not header:
            raise PublicDataError(f"{name} is empty")
        _check_header(header, name)
        rows = (cells for cells in reader if cells)
        first = next(rows, None)
        if first is None:
            raise PublicDataError(f"{name} has a header and no row")
        for cells in chain([first], rows):
            yield _line(header, cells, name, reader.line_num)
    except csv.Error as error:
        raise PublicDataError(f"{name}, line {reader.line_num}: {error}") from error


def _line(header: list[str], cells: list[str], name: str, line: int) -> _Fields:
    if len(cells) != len(header):
        raise PublicDataError(f"{name}, line {line}: {len(cells)} fields where the header has {len(header)}")
    texts = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    for column, cell in texts.items():
        if len(cell) > _MOST_CHARACTERS:
            raise PublicDataError(f"{name}, line {line}, column {column}: longer than {_MOST_CHARACTERS} characters")
    return _Fields(name, line, texts)


def _check_header(header: list[str], name: str) -> None:
    if missing := [column for column in COLUMNS if column not in header]:
        raise PublicDataError(f"{name}, line 1: column {missing[0]} is missing; a throughput file has {len(COLUMNS)}")
    if len(set(header)) < len(header):
        twice = next(column for column in header if header.count(column) > 1)
        raise PublicDataError(f"{name}, line 1: column {twice[:_MOST_SHOWN]!r} is there twice")


def _row(fields: _Fields) -> PublicRow:
    phase = fields.one_of("phase", PublicPhase)
    parameters = fields.count("parameters")
    active = fields.count("active_parameters") if fields.texts["active_parameters"] else None
    if active is not None and active > parameters:
        raise fields.refuse("active_parameters", f"at most the {parameters} parameters of the model")
    if fields.texts["is_moe"] not in {"0", "1"}:
        raise fields.refuse("is_moe", "0 or 1")
    if phase is PublicPhase.OUT_OF_MEMORY and fields.texts["tokens_per_s"]:
        raise fields.refuse("tokens_per_s", "empty, though the model did not load")
    return PublicRow(
        line=fields.line,
        device=fields.text("device"),
        device_class=fields.text("device_class"),
        compute_unit=fields.text("compute_unit"),
        memory_bytes=(
            round(fields.number("memory_gb", _MOST_MEMORY_GB) * 2**30) if fields.texts["memory_gb"] else None
        ),
        bandwidth_bytes_per_second=(
            fields.number("mem_bandwidth_gbps") * 1e9 if fields.texts["mem_bandwidth_gbps"] else None
        ),
        bandwidth_source=fields.texts["bandwidth_source"],
        runtime=fields.text("runtime"),
        backend=fields.text("backend"),
        model=fields.text("model"),
        parameters=parameters,
        is_mixture_of_experts=fields.texts["is_moe"] == "1",
        active_parameters=active,
        quantization=fields.text("quantization"),
        model_size_bytes=fields.count("model_size_bytes") if fields.texts["model_size_bytes"] else None,
        size_source=fields.texts["size_source"],
        phase=phase,
        test=fields.texts["test"],
        context_tokens=fields.count("context") if fields.texts["context"] else None,
        tokens_per_second=None if phase is PublicPhase.OUT_OF_MEMORY else fields.number("tokens_per_s"),
        confidence=fields.one_of("confidence", Confidence),
        source=fields.text("source"),
        notes=fields.texts["notes"],
    )
