"""How every device of a fleet stands towards a size class: arrays with a place per device, from its graded estimates.

Estimates pass by in batches and are graded by `grading`, so that a fleet of a million devices needs little memory.
Of the rows of a device (schemes, execution providers) the best counts: that with the better verdict, then the faster
decode. It reaches a level by the widest of their margins, and with the largest of their probabilities.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Self, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.fleet.coverage.shares import BoolArray, FloatArray, Reached, reached
from weighin_analysis.fleet.coverage.values import Level
from weighin_analysis.fleet.grading.expressions import IS_STOPPED, text_list
from weighin_analysis.fleet.grading.grade import NO_VERDICT, REACH_COLUMNS, EstimateColumns, grade, log_sd
from weighin_analysis.limits import Limits

IntArray = NDArray[np.int64]
ShortFloatArray = NDArray[np.float32]
_T = TypeVar("_T")

# Of this many rows all columns stay in the cache of a processor.
_BATCH_ROWS = 1 << 16
_SPEEDS = ("decode_tokens_per_second", "prefill_tokens_per_second", "time_to_first_token_seconds")
_BOUND = ("decode_tokens_per_second", "time_to_first_token_seconds")
_NUMBERS = (*_SPEEDS, *(f"{name}_{end}" for name in _BOUND for end in ("low", "high")),
            "memory_bytes", "memory_available_bytes")  # fmt: skip
# Joining devices here would take as long as reading; the rows of a run lie together, so numpy finds it once for all.
_ROWS = f"""
    SELECT run_number, class_number, list_position({{schemes}}, scheme)::USMALLINT AS scheme_number,
        list_position({{providers}}, execution_provider)::USMALLINT AS provider_number,
        {", ".join(f"{name}::DOUBLE AS {name}" for name in _NUMBERS)},
        {IS_STOPPED} AS stopped
    FROM (SELECT *, list_position({{classes}}, size_class)::USMALLINT AS class_number FROM estimates
        WHERE architecture_kind = '{ArchitectureKind.DECODER}' AND counts AND class_number IS NOT NULL)
"""  # noqa: S608  (no text of anybody else)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How devices stand towards a class: one place per device in every array.

    ``verdict`` is an index into VERDICTS, NO_VERDICT where nothing is known of a device; the speeds are of the row with
    this verdict, NaN where they are not known. Margins (``Grades``) are -infinity and probabilities 0 where nothing is
    known; seven digits are enough for both.
    """

    verdict: NDArray[np.int8]
    comfortable_margin_sds: ShortFloatArray
    comfortable_probability: ShortFloatArray
    usable_margin_sds: ShortFloatArray
    usable_probability: ShortFloatArray
    decode_tokens_per_second: FloatArray
    prefill_tokens_per_second: FloatArray
    time_to_first_token_seconds: FloatArray

    @classmethod
    def nobody(cls, device_count: int) -> Self:
        """Return the standing of devices of which nothing is known."""
        return cls(
            verdict=np.full(device_count, NO_VERDICT, dtype=np.int8),
            comfortable_margin_sds=np.full(device_count, -np.inf, dtype=np.float32),
            comfortable_probability=np.zeros(device_count, dtype=np.float32),
            usable_margin_sds=np.full(device_count, -np.inf, dtype=np.float32),
            usable_probability=np.zeros(device_count, dtype=np.float32),
            **{name: np.full(device_count, np.nan) for name in _SPEEDS},
        )

    @property
    def judged(self) -> BoolArray:
        """Which devices have a verdict."""
        return np.asarray(self.verdict != NO_VERDICT)

    def reaching(self, level: Level) -> BoolArray:
        """Return which devices reach a level by their point estimates."""
        return np.asarray(self.margin_sds(level) >= 0)

    def margin_sds(self, level: Level) -> ShortFloatArray:
        """Return by how many standard deviations devices reach a level."""
        return self.comfortable_margin_sds if level is Level.COMFORTABLE else self.usable_margin_sds

    def probability(self, level: Level) -> ShortFloatArray:
        """Return with what probability devices reach a level."""
        return self.comfortable_probability if level is Level.COMFORTABLE else self.usable_probability

    def reached(self, level: Level) -> Reached:
        """Return what every device adds to the share that reaches a level."""
        return reached(self.margin_sds(level), self.probability(level))

    def reach(self, other: Self, place: IntArray | slice = slice(None)) -> None:
        """Reach also what these devices reach by other rows, and leave verdict and speeds as they are."""
        for name in REACH_COLUMNS:
            mine, theirs = getattr(self, name), getattr(other, name)
            mine[place] = np.maximum(mine[place], theirs)

    def __getitem__(self, rows: IntArray | slice) -> Self:
        """Return some of the rows."""
        return type(self)(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    def take(self, other: Self, place: IntArray | slice = slice(None)) -> None:
        """Take the better of this and of other rows, of devices at these places; no device twice."""
        self.reach(other, place)
        known = self.judged[place]
        mine, theirs = self.verdict[place], other.verdict
        faster = ~(other.decode_tokens_per_second <= self.decode_tokens_per_second[place])
        better = other.judged & (~known | (theirs < mine) | ((theirs == mine) & faster))
        for name in ("verdict", *_SPEEDS):
            values = getattr(self, name)
            values[place] = np.where(better, getattr(other, name), values[place])


def standings(
    connection: duckdb.DuckDBPyConnection,
    limits: Limits,
    size_classes: Sequence[str],
    schemes: Sequence[str],
    device_count: int,
) -> dict[tuple[str, str], Standing]:
    """Return {(class, scheme): how the devices of the table ``coverage_devices`` stand} by the decoders that count."""
    providers = [
        name
        for (name,) in connection.execute("SELECT DISTINCT execution_provider FROM estimates ORDER BY 1").fetchall()
    ]
    runs = connection.execute("SELECT run_number FROM coverage_devices ORDER BY place").fetchnumpy()["run_number"]
    numbers = {"classes": text_list(size_classes), "schemes": text_list(schemes), "providers": text_list(providers)}
    reader = connection.execute(_ROWS.format(**numbers)).to_arrow_reader(_BATCH_ROWS)
    found: dict[tuple[str, str], Standing] = {}
    # DuckDB reads, numpy grades, and this thread takes, each a batch ahead of the next.
    for rows in _ahead(_Rows.of(batch, runs, limits) for batch in _ahead(reader)):
        for number, scheme, place, standing in rows.groups(len(schemes), len(providers)):
            key = size_classes[number], schemes[scheme]
            if key not in found:
                found[key] = Standing.nobody(device_count)
            found[key].take(standing, place)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Rows with their verdicts: what each is about, numbered from 0, and the place of its device."""

    class_number: IntArray
    scheme_number: IntArray
    provider_number: IntArray
    place: IntArray
    standing: Standing

    @classmethod
    def of(cls, batch: pa.RecordBatch, runs: IntArray, limits: Limits) -> Self:
        """Return those rows of a batch whose run is one of ``runs``, which are sorted."""
        columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
        place = _places(columns["run_number"], runs)
        if (place < 0).any():
            columns = {name: values[place >= 0] for name, values in columns.items()}
            place = place[place >= 0]
        numbers = {
            name: columns[name].astype(np.int64) - 1 for name in ("class_number", "scheme_number", "provider_number")
        }
        return cls(**numbers, place=place, standing=_graded(columns, limits))

    def groups(self, schemes: int, providers: int) -> Iterator[tuple[int, int, IntArray | slice, Standing]]:
        """Yield class, scheme, places and rows of every group of which a device has at most one row."""
        group = (self.class_number * schemes + self.scheme_number) * providers + self.provider_number
        if not len(group):
            return
        # Small numbers are sorted by their digits, many times faster.
        order = np.argsort(group.astype(np.min_scalar_type(group.max())), kind="stable")
        place, standing = self.place[order], self.standing[order]
        borders = [0, *np.flatnonzero(np.diff(group[order])) + 1, len(order)]
        for start, end in pairwise(borders):
            number, scheme = divmod(int(group[order[start]]) // providers, schemes)
            yield number, scheme, _span(place[start:end]), standing[start:end]


def _places(run_number: IntArray, runs: IntArray) -> IntArray:
    """Return the place of the run of every row, -1 for one that is not among them."""
    if not len(runs):
        return np.full(len(run_number), -1)
    starts = np.flatnonzero(np.diff(run_number, prepend=run_number[:1] - 1))
    first = run_number[starts]
    found = np.minimum(np.searchsorted(runs, first), len(runs) - 1)
    place = np.where(runs[found] == first, found, -1)
    return np.repeat(place, np.diff(starts, append=len(run_number)))


def _span(place: IntArray) -> IntArray | slice:
    """Return places that follow each other as a slice, which is faster."""
    return slice(place[0], place[-1] + 1) if (np.diff(place) == 1).all() else place


def _ahead(batches: Iterator[_T]) -> Iterator[_T]:
    """Yield batches, each while another thread already works on the next one."""
    with ThreadPoolExecutor(max_workers=1) as reading:
        following = reading.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reading.submit(next, batches, None)
            yield batch


def _graded(columns: Mapping[str, FloatArray], limits: Limits) -> Standing:
    """Return rows with their verdicts."""
    absent = np.full(len(columns["stopped"]), np.nan)
    spreads = {
        f"{name}_log_sd": log_sd(columns[f"{name}_low"], columns[f"{name}_high"], limits.interval_probability)
        for name in _BOUND
    }
    grades = grade(
        EstimateColumns(
            is_decoder=np.ones(len(absent), dtype=np.bool_),
            latency_seconds=absent,
            latency_seconds_log_sd=absent,
            stopped=columns["stopped"].astype(np.bool_),
            **{name: columns[name] for name in (*_BOUND, "memory_bytes", "memory_available_bytes")},
            **spreads,
        ),
        limits,
    )
    return Standing(
        verdict=grades.verdict,
        # Of NaN and a number the number is the larger.
        comfortable_margin_sds=np.fmax(grades.comfortable_margin_sds, -np.inf, dtype=np.float32),
        comfortable_probability=np.fmax(grades.comfortable_probability, 0.0, dtype=np.float32),
        usable_margin_sds=np.fmax(grades.usable_margin_sds, -np.inf, dtype=np.float32),
        usable_probability=np.fmax(grades.usable_probability, 0.0, dtype=np.float32),
        **{name: columns[name] for name in _SPEEDS},
    )
