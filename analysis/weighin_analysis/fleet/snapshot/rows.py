"""The border between rows of the facts of a snapshot and values. Nothing else knows both sides.

A row that holds what cannot be (text for a number, a length below zero, not a number) raises RowError: it would fail
far from here.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_type_hints

from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.conditions import Conditions
from weighin_analysis.errors import RowError
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, Series, SeriesPart
from weighin_analysis.scheme import Scheme
from weighin_analysis.snapshot import Accelerator, Cache, CaseFailure, ExecutionProvider, Hardware, ProbeGap, RunRecord

Row = Mapping[str, Any]
_T = TypeVar("_T")

# What a column may hold where a value wants this type; not isinstance, to which True is a number.
_SCALARS: dict[object, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (float, int), str: (str,)}
# No number is below zero but of degrees; these are divided by, or mean nothing when zero.
_POSITIVE = frozenset(
    {"layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "threads", "probe_layers", "token_count"}
    | {"sliding_window", "global_layer_interval"}
)


@contextmanager
def reading_rows() -> Iterator[None]:
    """Raise RowError, with its cause, for whatever comes of a row that holds what cannot be."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError) as cause:
        raise RowError(f"a row holds what cannot be: {' '.join(str(cause).split())}") from cause


@reading_rows()
def run_with(run: Row, measurements: Sequence[Row], series: Sequence[Row], failures: Sequence[Row]) -> RunRecord:
    """Return a run from its rows, each table in order; without its probe gaps, on which no judgement rests."""
    series_of_measurement: defaultdict[int, list[Series]] = defaultdict(list)
    for row in series:
        series_of_measurement[row["measurement_ord"]].append(series_of(row))
    return run_of(
        run,
        [measurement_of(row, series_of_measurement[row["ord"]]) for row in measurements],
        [failure_of(row) for row in failures],
        [],
    )


@reading_rows()
def run_of(
    row: Row, measurements: Sequence[Measurement], failures: Sequence[CaseFailure], gaps: Sequence[ProbeGap]
) -> RunRecord:
    """Return a run with what belongs to it."""
    return build(
        RunRecord,
        row,
        receive_time=aware(row["receive_time"]),
        observe_time=aware(row["observe_time"]) if row["observe_time"] else None,
        send_time=aware(row["send_time"]) if row["send_time"] else None,
        accelerator_memory_available_bytes=tuple(_optional_ints(row["accelerator_memory_available_bytes"] or ())),
        before=build(Conditions, row["before"]) if row["before"] else None,
        after=build(Conditions, row["after"]) if row["after"] else None,
        measurements=tuple(measurements),
        failures=tuple(failures),
        gaps=tuple(gaps),
    )


def _optional_ints(values: Sequence[Any]) -> list[int | None]:
    """Return the values of a list column as they are; TypeError for one that is no whole number."""
    if not all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values):
        raise TypeError("a list of whole numbers holds something else")
    return list(values)


@reading_rows()
def hardware_of(row: Row) -> Hardware:
    """Return a row of ``hardware``."""
    return build(
        Hardware,
        row,
        instruction_sets=_list_of(str, row["instruction_sets"] or []),
        caches=tuple(build(Cache, one) for one in row["caches"] or ()),
        accelerators=tuple(build(Accelerator, one) for one in row["accelerators"] or ()),
        execution_providers=tuple(build(ExecutionProvider, one) for one in row["execution_providers"] or ()),
    )


@reading_rows()
def failure_of(row: Row) -> CaseFailure:
    """Return a row of ``case_failures``."""
    return build(CaseFailure, row, case=case_of(row, row["execution_provider"]))


@reading_rows()
def measurement_of(row: Row, series: Sequence[Series]) -> Measurement:
    """Return a row of ``measurements`` with its series."""
    case = case_of(row, row["requested_execution_provider"])
    return build(Measurement, row, case=case, phase=Phase(row["phase"]), series=tuple(series))


def case_of(row: Row, execution_provider: str) -> Case:
    """Return the case that a row of ``measurements`` or of ``case_failures`` spells out."""
    shape = row["architecture"]
    return build(
        Case,
        row,
        architecture=build(
            Architecture,
            shape,
            kind=ArchitectureKind(shape["kind"]),
            feed_forward=FeedForward(shape["feed_forward"]),
        ),
        scheme=Scheme(row["scheme"]),
        execution_provider=execution_provider,
        # A case that failed before its graphs were built has none.
        layers_graph_sha256=row.get("layers_graph_sha256") or "",
        short_layers_graph_sha256=row.get("short_layers_graph_sha256") or "",
        head_graph_sha256=row.get("head_graph_sha256") or "",
    )


@reading_rows()
def series_of(row: Row) -> Series:
    """Return a row of ``series``."""
    return build(
        Series,
        row,
        part=SeriesPart(row["part"]),
        phase=Phase(row["phase"]),
        clock=ClockKind(row["clock"]),
        sample_seconds=_list_of(float, row["sample_seconds"]),
    )


def build(kind: Callable[..., _T], row: Row, /, **converted: Any) -> _T:
    """Make a value from the columns of its own names; ``converted`` are those that need more than copying.

    For use within ``reading_rows``: ValueError or LookupError where a column is not what the value wants.
    """
    values = {}
    for name, types in _columns(kind):
        value = converted[name] if name in converted else row[name]
        if types and (type(value) not in types or not _possible(name, value)):
            raise ValueError(f"{name} is {value!r:.40}")
        values[name] = value
    return kind(**values)


@cache
def _columns(kind: Callable[..., object]) -> tuple[tuple[str, tuple[type, ...]], ...]:
    """Return (name, types that its column may hold) of every field of a value; no types where it is no scalar."""
    hints = get_type_hints(kind)
    found: list[tuple[str, tuple[type, ...]]] = []
    for field in dataclasses.fields(cast("Any", kind)):
        hint = hints[field.name]
        wanted = [one for one in get_args(hint) if one is not type(None)] or [hint]
        types = _SCALARS.get(wanted[0], ()) if len(wanted) == 1 else ()
        absent = (type(None),) if type(None) in get_args(hint) else ()
        found.append((field.name, types + absent if types else ()))
    return tuple(found)


def _possible(name: str, value: object) -> bool:
    """Return whether a number may stand in a field of this name."""
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or isinstance(value, bool) or value >= (name in _POSITIVE)


def _list_of(kind: type[_T], values: object) -> tuple[_T, ...]:
    """Return a list of a snapshot, all of one type, as a tuple."""
    if not isinstance(values, list) or not set(map(type, values)) <= {kind}:
        raise ValueError(f"{values!r:.40} is no list of {kind.__name__}")
    return tuple(values)


def aware(time: object) -> datetime:
    """Return a time of a snapshot, which is UTC also where it does not say so, as an aware one."""
    if not isinstance(time, datetime):
        raise TypeError(f"{time!r:.40} is no time")
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
