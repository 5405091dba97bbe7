"""Estimates held against limits in SQL: the views ``verdicts`` and ``tiers`` under any limits, of a fleet of any size.

Bounds, words and the approximation of Phi are those of ``verdict.py`` and ``grade.py``; here they are expressions, so
that DuckDB grades what it reads, on all cores and in little memory. The queries read the tables of a snapshot by their
names, and give the columns of ``snapshot/views.py``.
"""

import hashlib
from dataclasses import dataclass

import duckdb

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Basis, Verdict
from weighin_analysis.catalog import size_classes
from weighin_analysis.errors import LimitsError
from weighin_analysis.fleet.grading.expressions import (
    IS_STOPPED,
    grade,
    identifier,
    limited_by,
    memory_margin,
    probability,
    reasons,
    text,
    text_list,
    texts,
)
from weighin_analysis.limits import Limits

# What estimates are made for: limits that differ in these need other estimates.
_WORKLOAD = ("prompt_tokens", "decode_context_depth", "memory_context_tokens", "encoder_tokens", "interval_probability")
_DECODER, _ENCODER = ArchitectureKind.DECODER, ArchitectureKind.ENCODER
_LEVELS = (Verdict.COMFORTABLE, Verdict.USABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Regraded:
    """A fleet under other limits: the names of its tables, quoted as SQL wants them."""

    verdicts: str
    tiers: str


def regrade(connection: duckdb.DuckDBPyConnection, limits: Limits) -> Regraded:
    """Grade the tables ``estimates`` and ``devices`` under limits: the verdicts as a view, the tiers as a table.

    LimitsError where the estimates were made for another reference workload.
    """
    require_workload(connection, limits)
    # By their numbers: an answer that is still to be read must not change when other limits have the same version.
    numbers = hashlib.sha256(repr(limits).encode()).hexdigest()
    verdicts, tiers = (identifier(f"{table} under {numbers}") for table in ("verdicts", "tiers"))
    connection.execute(f"CREATE VIEW IF NOT EXISTS {verdicts} AS {verdicts_query(limits)}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {tiers} AS {tiers_query(limits)}")
    return Regraded(verdicts=verdicts, tiers=tiers)


def require_workload(connection: duckdb.DuckDBPyConnection, limits: Limits) -> None:
    """Pass only limits for whose reference workload all estimates were made; LimitsError names what differs."""
    for row in connection.table("estimates").select(", ".join(_WORKLOAD)).distinct().fetchall():
        for name, found in zip(_WORKLOAD, row, strict=True):
            wanted = getattr(limits, name)
            if found != wanted:
                raise LimitsError(
                    f"limits {limits.version} judge at {name} = {wanted:g}, but this snapshot has estimates for "
                    f"{'an unknown one' if found is None else f'{found:g}'}; limits on these need a new snapshot"
                )


def verdicts_query(limits: Limits) -> str:
    """Return the rows of the view ``verdicts``, one for each of the table ``estimates``."""
    of_decoders = [f"{probability(_DECODER, level, limits)} AS {level}" for level in _LEVELS]
    probabilities = [
        f"CASE WHEN grade IS NULL THEN NULL WHEN NOT fits THEN 0 WHEN architecture_kind = '{_DECODER}' THEN {level} "
        f"ELSE {probability(_ENCODER, level, limits)} END AS {level}_probability"
        for level in _LEVELS
    ]
    return f"""
        SELECT run_id, run_number, device_id, source, size_class, architecture, architecture_kind, scheme,
            execution_provider, counts, [{texts(Verdict)}][grade] AS verdict, {", ".join(probabilities)},
            {reasons(limits)} AS reasons, {text(limits.version)} AS limits_version, formula_version
        FROM (SELECT *, {", ".join(of_decoders)} FROM ({graded(limits)}))"""  # noqa: S608  (no text of anybody else)


def tiers_query(limits: Limits) -> str:
    """Return the rows of the view ``tiers``, one for each of the table ``devices``, from ``estimates``.

    Of the rows of a class the best decides: by its verdict, what was run before what was computed, by its decode rate;
    where all that is equal, by name. What limits a device is the smallest margin towards comfortable in the smallest
    class that no decoder reaches it in, else in the largest.
    """
    classes = texts(one.name for one in size_classes())
    return f"""
        WITH classes AS (
            SELECT run_number, any_value(formula_version) AS formula_version,
                [{classes}][max(rank) FILTER (grade <= 2)] AS usable_tier,
                arg_min(kept, {{rank: -rank, place: place}}) FILTER (grade = 1) AS best,
                bit_or(1 << rank) FILTER (grade IS NOT NULL) AS judged,
                judged & ~coalesce(bit_or(1 << rank) FILTER (grade = 1), 0) AS missed,
                [{classes}][floor(log2(if(missed = 0, judged, missed & -missed)))::INTEGER] AS size_class
            FROM ({_decoders("estimates SEMI JOIN devices USING (run_number)", limits)}) GROUP BY run_number),
        reached AS (
            SELECT *, {probability(_DECODER, Verdict.COMFORTABLE, limits)} AS probability
            FROM (SELECT run_number, unnest(best) FROM classes WHERE best IS NOT NULL)),
        limited AS (
            SELECT run_number, unnest(arg_min(kept, {{grade: grade, place: place}}) FILTER (grade IS NOT NULL))
            FROM ({_decoders("estimates SEMI JOIN classes USING (run_number, size_class)", limits)})
            GROUP BY run_number)
        SELECT devices.device_id, run_id, run_number, devices.source, reached.size_class AS tier,
            probability AS tier_probability, usable_tier, reached.scheme, reached.execution_provider,
            {limited_by("limited", limits)} AS limited_by, {text(limits.version)} AS limits_version,
            coalesce(classes.formula_version, (SELECT max(formula_version) FROM estimates)) AS formula_version
        FROM devices LEFT JOIN classes USING (run_number) LEFT JOIN reached USING (run_number)
            LEFT JOIN limited USING (run_number)"""  # noqa: S608


def _decoders(estimates: str, limits: Limits) -> str:
    """Return the estimates that may count in a tier, with what orders them and what is kept of the best."""
    return f"""
        SELECT *, list_position({text_list(one.name for one in size_classes())}, size_class) AS rank,
            basis NOT IN ({texts((Basis.MEASURED, Basis.LAYER_PROBE))}) AND NOT stopped AS computed,
            {{computed: computed, slowness: -coalesce(decode_tokens_per_second, 0), scheme: scheme,
                execution_provider: execution_provider}} AS place,
            {{{", ".join(f"{name}: {name}" for name in _KEPT)}}} AS kept
        FROM ({graded(limits, estimates)})
        WHERE counts AND architecture_kind = '{_DECODER}' AND rank IS NOT NULL"""  # noqa: S608


# Of the row that decides, what its probability and its margins are computed from.
_KEPT = (
    *("size_class", "scheme", "execution_provider", "stopped", "memory_margin", "bytes_read_per_token"),
    *("decode_tokens_per_second", "decode_tokens_per_second_low", "decode_tokens_per_second_high"),
    *("time_to_first_token_seconds", "time_to_first_token_seconds_low", "time_to_first_token_seconds_high"),
)


def graded(limits: Limits, estimates: str = "estimates") -> str:
    """Return the estimates with ``grade``: the place of the verdict among the verdicts, from 1; NULL without one."""
    return f"""
        SELECT *, {grade(limits)} AS grade FROM (
            SELECT *, {IS_STOPPED} AS stopped,
                {memory_margin(limits)} AS memory_margin, NOT stopped AND coalesce(memory_margin >= 1, true) AS fits
            FROM {estimates})"""  # noqa: S608
