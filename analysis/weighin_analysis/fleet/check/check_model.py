"""Which share of a fleet runs one model, and how fast: from the estimates of the reference models on every device.

In every runtime, execution provider and scheme the two reference models that are nearest in size speak for the model,
by the law of ``public/predictors.py``; memory and download are those that `size` tells. The share and its interval are
those of ``coverage/shares.py``. docs/check.md says how far this is from what the agent on the device answers.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.check import size_class_name
from weighin_analysis.answers.found import candidate_of, find_model, setting_of
from weighin_analysis.answers.speed import DEPTH_SD_PER_DOUBLING, decode_depth
from weighin_analysis.answers.words import beyond_context
from weighin_analysis.card import Verdict
from weighin_analysis.catalog import architectures
from weighin_analysis.errors import CatalogError, EstimateError, QuestionError
from weighin_analysis.fleet.check.model_speed import Speeds, bytes_read, kv_bytes_per_element, speeds
from weighin_analysis.fleet.check.ways import Group, Way, ways
from weighin_analysis.fleet.coverage.population import Population
from weighin_analysis.fleet.coverage.scope import choose, chosen_sources
from weighin_analysis.fleet.coverage.shares import (
    NEGLIGIBLE_SHARE,
    BoolArray,
    Cells,
    FloatArray,
    reached,
    share_of,
    weighted_quantiles,
)
from weighin_analysis.fleet.coverage.values import ModelCheck, ModelShares, Share
from weighin_analysis.fleet.grading.expressions import text_list
from weighin_analysis.fleet.grading.grade import NO_VERDICT, REACH_COLUMNS, VERDICTS, EstimateColumns, Grades, grade
from weighin_analysis.fleet.grading.regrade import require_workload
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.limits import Limits, load_limits
from weighin_analysis.models.entry import ModelEntry, ModelKind

_QUARTILES = (0.25, 0.5, 0.75)
# Also of runs that are not the newest: a join over all estimates would cost more than a group without a row.
_GROUPS = """
    SELECT runtime, execution_provider, scheme, architecture, max(bytes_read_per_token)::DOUBLE AS bytes_read
    FROM estimates
    WHERE list_contains({sources}, source) AND architecture_kind = 'decoder' AND counts
        AND bytes_read_per_token > 0
    GROUP BY ALL ORDER BY ALL
"""


def check_model(
    fleet: Fleet,
    model: str,
    *,
    scheme: str | None = None,
    context_tokens: int | None = None,
    limits: Limits | None = None,
    source: str | None = None,
    population: Population | None = None,
) -> ModelCheck:
    """Return which devices run a model, by any name that `size` knows, in a scheme or in the best that they have.

    Without ``context_tokens`` memory is counted at the reference workload's, without ``limits`` those of the snapshot
    hold. CatalogError for a name that is not known, QuestionError for a question that makes no sense or where a source
    must be chosen, EstimateError for a model whose speed does not follow from others', LimitsError where limits ask for
    other estimates.
    """
    entry, candidate = _asked(model, scheme)
    limits = limits or load_limits(fleet.limits_version)
    context = setting_of(entry, context_tokens).context_tokens
    if problem := beyond_context(entry, context):
        raise QuestionError(f"{entry.name}: {problem}; ask for --context {entry.context_tokens} or less")
    connection = fleet.connection
    require_workload(connection, limits)
    sources = chosen_sources(connection, source)
    scope = choose(connection, sources, population)
    groups = _groups(connection, sources)
    found = ways(entry, candidate, groups, context_tokens=context, prompt_tokens=limits.prompt_tokens)
    by_scheme: dict[tuple[str | None, str], _Tally] = {}
    overall = _Tally.of_nobody(scope.device_count)
    for way in found:
        judgement = _judged(connection, way, entry, limits, context)
        for tally in (overall, by_scheme.setdefault(_label(way), _Tally.of_nobody(scope.device_count))):
            tally.add(judgement)
    weights = scope.cells.weights(overall.judged)
    first = weighted_quantiles(-overall.first, weights, _QUARTILES)
    downloads = [way.download_bytes for way in found if way.download_bytes is not None]
    schemes = [
        _shares(scope.cells, [way for way in found if _label(way) == label], tally, overall)
        for label, tally in by_scheme.items()
        if tally.judged.any()
    ]
    return ModelCheck(
        model=entry.name,
        parameters=entry.parameters,
        size_class=size_class_name(entry),
        context_tokens=context,
        limits_version=limits.version,
        sources=scope.sources,
        left_out=scope.left_out,
        covered_population_share=(
            1 - sum(cell.share for cell in scope.cells_without(overall.judged)) if scope.population else None
        ),
        any_scheme=_shares(scope.cells, (), overall, overall),
        schemes=tuple(schemes),
        verdicts={str(one): int((overall.verdict == number).sum()) for number, one in enumerate(VERDICTS)},
        unjudged_count=int((~overall.judged).sum()),
        decode_tokens_per_second=_three(weighted_quantiles(overall.decode, weights, _QUARTILES)),
        time_to_first_token_seconds=_three([-value for value in first] if first else None),
        storage_short_count=_storage_short_count(connection, min(downloads, default=None)),
        notes=(
            *scope.lacks(overall.judged),
            *_extrapolated(connection, size_class_name(entry), overall.judged),
            *dict.fromkeys(note for way in found for note in way.missing),
        ),
    )


def _asked(text: str, scheme: str | None) -> tuple[ModelEntry, Candidate | None]:
    """Return the model that a text means, and how it would be shipped where that is told."""
    found = find_model(text)
    if found.entry is None or not found.published:
        perhaps = f"; perhaps you mean {', '.join(found.candidates)}" if found.candidates else ""
        no_weights = "; its weights cannot be downloaded, so no device runs it" if found.entry else ""
        raise CatalogError(f"{found.name}: {found.reason}{perhaps}{no_weights}")
    if found.entry.kind is not ModelKind.DECODER:
        raise QuestionError(f"{found.name} generates no text, and a fleet is asked about models that do; ask `size`")
    if found.entry.shape is None:
        raise EstimateError(
            f"{found.name}: no speed follows from others, because no dense transformer whose shape is published "
            "describes it; `size` tells what it weighs"
        )
    if scheme is None and found.scheme_problem:
        raise QuestionError(f"{found.scheme_problem}; --scheme names another one")
    asked = scheme is not None or found.scheme is not None
    return found.entry, candidate_of(found, None, scheme) if asked else None


def _label(way: Way) -> tuple[str | None, str]:
    return str(way.format) if way.format else None, way.scheme


def _groups(connection: duckdb.DuckDBPyConnection, sources: Sequence[str]) -> list[Group]:
    """Return the groups of estimates of devices of some sources."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    rows = connection.execute(_GROUPS.format(sources=text_list(sources))).fetchall()
    for runtime, provider, scheme, architecture, weight_bytes in rows:
        if architecture in architectures():
            found.setdefault((runtime, provider, scheme), {})[architecture] = weight_bytes
    return [
        Group(runtime=runtime, execution_provider=provider, scheme=scheme, bytes_read=models)
        for (runtime, provider, scheme), models in found.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A model on the devices at ``place``, each once."""

    place: NDArray[np.int64]
    grades: Grades
    decode_tokens_per_second: FloatArray
    time_to_first_token_seconds: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tally:
    """The best that every device was found to do: arrays that ``add`` writes to, with a place per device.

    ``verdict`` is an index into VERDICTS, their number where there is none; NaN is a speed that is not known, or of a
    model that does not fit.
    """

    verdict: NDArray[np.int64]
    comfortable_margin_sds: FloatArray
    comfortable_probability: FloatArray
    usable_margin_sds: FloatArray
    usable_probability: FloatArray
    decode: FloatArray
    first: FloatArray

    @classmethod
    def of_nobody(cls, device_count: int) -> "_Tally":
        return cls(
            verdict=np.full(device_count, len(VERDICTS)),
            comfortable_margin_sds=np.full(device_count, -np.inf),
            comfortable_probability=np.zeros(device_count),
            usable_margin_sds=np.full(device_count, -np.inf),
            usable_probability=np.zeros(device_count),
            decode=np.full(device_count, np.nan),
            first=np.full(device_count, np.nan),
        )

    @property
    def judged(self) -> BoolArray:
        """Which devices have a verdict."""
        return self.verdict < len(VERDICTS)

    def add(self, found: _Judged) -> None:
        """Let each device have the better of what it has and what was found: by verdict, then by decode."""
        judged = found.grades.verdict != NO_VERDICT
        place, verdict = found.place[judged], found.grades.verdict[judged]
        before = self.verdict[place]
        self.verdict[place] = np.minimum(before, verdict)
        for name in REACH_COLUMNS:
            values = getattr(self, name)
            values[place] = np.maximum(values[place], getattr(found.grades, name)[judged])
        decode, first = found.decode_tokens_per_second[judged], found.time_to_first_token_seconds[judged]
        fits = verdict != VERDICTS.index(Verdict.DOES_NOT_FIT)
        faster = ~(decode <= self.decode[place])
        better = fits & np.isfinite(decode) & ((verdict < before) | ((verdict == before) & faster))
        self.decode[place[better]], self.first[place[better]] = decode[better], first[better]


def _judged(
    connection: duckdb.DuckDBPyConnection, way: Way, model: ModelEntry, limits: Limits, context_tokens: int
) -> _Judged:
    """Return the verdicts on a model on the devices of a way's group."""
    assert model.shape is not None
    shape = model.shape.active_architecture
    depth = decode_depth(context_tokens, limits)
    found = speeds(connection, way.group, model.name, shape, depth, limits)
    memory = way.memory_bytes
    if memory is None:
        kv_bytes = shape.kv_cache_bytes(context_tokens, kv_bytes_per_element(way.group))
        memory = round(bytes_read(way.group, shape)) + kv_bytes
    deeper = DEPTH_SD_PER_DOUBLING * math.log2(depth / limits.decode_context_depth)
    columns = _columns(found, memory, math.hypot(way.log_sd, deeper), way.log_sd, limits)
    return _Judged(
        place=found.place,
        grades=grade(columns, limits),
        decode_tokens_per_second=columns.decode_tokens_per_second,
        time_to_first_token_seconds=columns.time_to_first_token_seconds,
    )


def _columns(found: Speeds, memory_bytes: int, decode_sd: float, prefill_sd: float, limits: Limits) -> EstimateColumns:
    """Return speeds as columns to be graded; the standard deviations are added to those that they have."""
    count = len(found.place)
    absent = np.full(count, np.nan)
    return EstimateColumns(
        is_decoder=np.ones(count, dtype=np.bool_),
        decode_tokens_per_second=found.decode_tokens_per_second,
        decode_tokens_per_second_log_sd=np.hypot(found.decode_log_sd, decode_sd),
        time_to_first_token_seconds=limits.prompt_tokens / found.prefill_tokens_per_second,
        time_to_first_token_seconds_log_sd=np.hypot(found.prefill_log_sd, prefill_sd),
        latency_seconds=absent,
        latency_seconds_log_sd=absent,
        memory_bytes=np.full(count, float(memory_bytes)),
        memory_available_bytes=found.memory_available_bytes,
        stopped=np.zeros(count, dtype=np.bool_),
    )


def _shares(cells: Cells, found: Sequence[Way], tally: _Tally, overall: _Tally) -> ModelShares:
    """Return the shares of the devices that have a verdict; ``found`` are ways of one scheme, none for any scheme.

    There is none where a part of the population has a verdict ``overall``, but not in this scheme.
    """
    judged = tally.judged
    is_told = cells.lack(judged, cells.without(overall.judged)) <= NEGLIGIBLE_SHARE
    among = cells.among(judged)

    def share(margin_sds: FloatArray, probability: FloatArray) -> Share | None:
        return share_of(reached(margin_sds, probability).among(judged), among) if is_told else None

    memory = [way.memory_bytes for way in found if way.memory_bytes is not None]
    form, scheme = _label(found[0]) if found else (None, None)
    return ModelShares(
        format=form,
        scheme=scheme,
        download_bytes=found[0].download_bytes if found else None,
        memory_bytes=max(memory, default=None),
        judged_count=int(judged.sum()),
        comfortable=share(tally.comfortable_margin_sds, tally.comfortable_probability),
        usable=share(tally.usable_margin_sds, tally.usable_probability),
    )


def _extrapolated(connection: duckdb.DuckDBPyConnection, size_class: str, judged: BoolArray) -> Iterator[str]:
    """Yield on how many devices a verdict follows from other classes alone, which `coverage` therefore does not count.

    Published figures are seldom of all classes; what the agent measured speaks for each.
    """
    found = connection.execute(
        "SELECT DISTINCT place FROM estimates JOIN coverage_devices USING (run_number) "
        "WHERE counts AND size_class = $1 AND architecture_kind = 'decoder'",
        [size_class],
    ).fetchnumpy()["place"]
    further = judged.copy()
    further[found.astype(np.int64)] = False
    if further.any():
        yield (
            f"{further.sum():,} of the {judged.sum():,} judged devices have no estimate of class {size_class}: their "
            "verdicts follow from models of other sizes, and coverage of that class does not count them"
        )


def _three(values: Sequence[float] | None) -> tuple[float, float, float] | None:
    return (values[0], values[1], values[2]) if values else None


def _storage_short_count(connection: duckdb.DuckDBPyConnection, download_bytes: int | None) -> int:
    """Return how many of the devices have less free storage than a download takes."""
    (count,) = connection.execute(
        "SELECT count(*) FROM devices SEMI JOIN coverage_devices USING (run_number) WHERE storage_free_bytes < $1",
        [download_bytes],
    ).fetchone() or (0,)
    return int(count)
