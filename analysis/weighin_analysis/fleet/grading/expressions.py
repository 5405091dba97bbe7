"""The rule of ``verdict.py`` and the probabilities of ``grade.py`` as SQL expressions of an estimate's columns.

Beside these columns an expression may use ``stopped`` (no speed at all: the memory gate kept the model from being run),
``memory_margin``, ``fits`` and ``grade``, which ``regrade.py`` gives these names. An expression that is written twice
in one query is computed once, unless it stands in a CASE.
"""

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Verdict
from weighin_analysis.fleet.grading.grade import LEAST_LOG_SD, PHI_COEFFICIENTS, PHI_SCALE
from weighin_analysis.judge import BANDWIDTH_BOUND_SHARE
from weighin_analysis.limits import Limits
from weighin_analysis.verdict import STOPPED, UNKNOWN_MEMORY, UNKNOWN_SPEED, Bound, speed_bounds

# A row has no speed at all only where the memory gate kept the model from being run; one that is NaN is no verdict.
IS_STOPPED = "coalesce(decode_tokens_per_second, prefill_tokens_per_second, latency_seconds) IS NULL"
_LEAST_POSITIVE = 1e-300


def memory_margin(limits: Limits) -> str:
    """Return how many times over the memory that may be used holds a model."""
    return f"{number(limits.memory_share)} * memory_available_bytes / memory_bytes"


def grade(limits: Limits) -> str:
    """Return the place of the verdict among the verdicts, from 1; NULL where a speed or its interval is absent."""
    return f"""CASE WHEN NOT fits THEN {_place(Verdict.DOES_NOT_FIT)} WHEN {_known(limits)} THEN CASE
        WHEN {_reached(Verdict.COMFORTABLE, limits)} THEN {_place(Verdict.COMFORTABLE)}
        WHEN {_reached(Verdict.USABLE, limits)} THEN {_place(Verdict.USABLE)} ELSE {_place(Verdict.TOO_SLOW)} END END"""


def _place(verdict: Verdict) -> int:
    return list(Verdict).index(verdict) + 1


def _known(limits: Limits) -> str:
    return _by_kind(
        {
            kind: " AND ".join(_is_estimate(bound.quantity) for bound in speed_bounds(kind, Verdict.USABLE, limits))
            for kind in ArchitectureKind
        }
    )


def _is_estimate(value: str) -> str:
    """Return whether a value is a positive number with an interval: false or NULL where it is not."""
    low, high = f"{value}_low", f"{value}_high"
    return f"{value} > 0 AND {low} > 0 AND {high} >= {low} AND isfinite({value} + {high})"


def _reached(level: Verdict, limits: Limits) -> str:
    return _by_kind(
        {kind: " AND ".join(map(_is_reached, speed_bounds(kind, level, limits))) for kind in ArchitectureKind}
    )


def _is_reached(bound: Bound) -> str:
    return f"{bound.quantity} {'>=' if bound.at_least else '<='} {number(bound.limit)}"


def _by_kind(expressions: Mapping[ArchitectureKind, str]) -> str:
    cases = " ".join(f"WHEN '{kind}' THEN {expression}" for kind, expression in expressions.items())
    return f"CASE architecture_kind {cases} END"


def probability(kind: ArchitectureKind, level: Verdict, limits: Limits) -> str:
    """Return the probability that all speeds reach a level; nothing useful where one is absent."""
    return " * ".join(
        _normal_cdf(_distance(bound, limits.interval_probability)) for bound in speed_bounds(kind, level, limits)
    )


def _distance(bound: Bound, interval_probability: float) -> str:
    """Return how far beyond a bound a value lies, in standard deviations of its logarithm."""
    value, low, high = bound.quantity, f"{bound.quantity}_low", f"{bound.quantity}_high"
    width = 2 * NormalDist().inv_cdf(0.5 + interval_probability / 2)
    beyond = f"ln(greatest({value}, {number(_LEAST_POSITIVE)})) - {number(math.log(bound.limit))}"
    log_sd = f"greatest(ln(greatest({high} / {low}, 1)) / {number(width)}, {number(LEAST_LOG_SD)})"
    return f"({'' if bound.at_least else '-'}({beyond}) / {log_sd})"


def _normal_cdf(x: str) -> str:
    """Return Phi(x) as ``grade.normal_cdf`` does."""
    t = f"(1 / (1 + {number(PHI_SCALE)} * abs({x})))"
    series = "0"
    for coefficient in reversed(PHI_COEFFICIENTS):
        series = f"{t} * ({number(coefficient)} + {series})"
    upper = f"exp(-{x} * {x} / 2) / {number(math.sqrt(2 * math.pi))} * {series}"
    return f"(0.5 + sign({x}) * (0.5 - {upper}))"


def reasons(limits: Limits) -> str:
    """Return the list of what keeps a row from being comfortable, as ``verdict.verdict_of`` says it, then its notes."""
    share = number(limits.memory_share)
    missed = {Verdict.USABLE: Verdict.COMFORTABLE, Verdict.TOO_SLOW: Verdict.USABLE}
    short = [
        f"CASE WHEN grade = {_place(verdict)} AND architecture_kind = '{kind}' AND NOT {_is_reached(bound)} "
        f"THEN {text(bound.shortfall)} END"
        for verdict, level in missed.items()
        for kind in ArchitectureKind
        for bound in speed_bounds(kind, level, limits)
    ]
    return f"""CASE WHEN stopped THEN [{text(STOPPED)}] ELSE list_concat(CASE
        WHEN NOT fits THEN [printf('needs %.1f GiB, %.1f GiB may be used', memory_bytes / {2**30},
            {share} * memory_available_bytes / {2**30})]
        WHEN grade IS NULL THEN [{text(UNKNOWN_SPEED)}]
        ELSE list_filter([CASE WHEN memory_margin IS NULL THEN {text(UNKNOWN_MEMORY)} END, {", ".join(short)}],
            lambda one: one IS NOT NULL) END, notes) END"""


def limited_by(row: str, limits: Limits) -> str:
    """Return what has the smallest margin towards comfortable in a decoder's row; what was not run lacked memory."""
    rate, time = speed_bounds(ArchitectureKind.DECODER, Verdict.COMFORTABLE, limits)
    decode, first = f"{row}.{rate.quantity}", f"{row}.{time.quantity}"
    bandwidth = f"{number(BANDWIDTH_BOUND_SHARE)} * read_bandwidth_bytes_per_second"
    return f"""CASE WHEN {row}.run_number IS NULL THEN NULL WHEN {decode} IS NULL OR {first} IS NULL THEN 'memory'
        WHEN {row}.memory_margin < least({decode} / {number(rate.limit)}, {number(time.limit)} / {first}) THEN 'memory'
        WHEN {decode} / {number(rate.limit)} <= {number(time.limit)} / {first}
            AND {row}.bytes_read_per_token * {decode} > {bandwidth} THEN 'bandwidth' ELSE 'compute' END"""


def number(value: float) -> str:
    """Return a literal of exactly this number: without quotes it would be a decimal fraction."""
    return f"'{value!r}'::DOUBLE"


def text(value: str) -> str:
    """Return a literal of a text."""
    return "'" + value.replace("'", "''") + "'"


def texts(values: Iterable[str]) -> str:
    """Return literals of texts, as a list has them between its brackets."""
    return ", ".join(map(text, values))


def text_list(values: Iterable[str]) -> str:
    """Return a list of texts, which may be empty. To pass one as a parameter, DuckDB's client imports all of pandas."""
    return f"[{texts(values)}]::VARCHAR[]"


def identifier(name: str) -> str:
    """Return a name, quoted."""
    return '"' + name.replace('"', '""') + '"'
