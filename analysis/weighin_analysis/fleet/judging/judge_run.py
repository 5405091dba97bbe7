"""One run judged: its card, as rows of the views ``estimates``, ``verdicts`` and ``tiers``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Card, CardRow, Estimate, Verdict, best_decoders
from weighin_analysis.catalog import class_rank
from weighin_analysis.estimate import FORMULA_VERSION
from weighin_analysis.evidence import DeviceFacts, accelerator_memory_bytes
from weighin_analysis.fleet.grading.grade import EstimateColumns, Grades, grade, log_sd
from weighin_analysis.fleet.snapshot.rows import Row
from weighin_analysis.judge import judge, limited_by, tier_of
from weighin_analysis.limits import Limits, current_limits
from weighin_analysis.plausible import (
    MainMemory,
    Plausibility,
    clock_is_suspect,
    is_plausible_row,
    plausibility,
    plausibility_rules,
)
from weighin_analysis.snapshot import Hardware, RunRecord
from weighin_analysis.verdict import STOPPED

RUNTIME = "onnxruntime"
_QUANTITIES = (
    "decode_tokens_per_second",
    "prefill_tokens_per_second",
    "time_to_first_token_seconds",
    "latency_seconds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRun:
    """A run with its card, whose rows have numbers that can be; and what its rows have in common.

    ``plausibility`` has a value per measurement of the run.
    """

    run: RunRecord
    device_id: str
    facts: DeviceFacts
    card: Card
    plausibility: tuple[Plausibility, ...]

    @property
    def keys(self) -> dict[str, Any]:
        """The columns that every row of a run begins with."""
        return {
            "run_id": self.run.run_id,
            "run_number": self.run.run_number,
            "device_id": self.device_id,
            "source": self.run.source,
        }


def judge_run(device_id: str, run: RunRecord, hardware: Hardware) -> JudgedRun:
    """Judge a run under the current limits, by those of its measurements that can be true."""
    facts, memory = _facts(run, hardware), _main_memory(run, hardware)
    told = _plausibility(run, memory)
    card = judge(
        [one for one, said in zip(run.measurements, told, strict=True) if said.counts],
        facts,
        conditions=[state for state in (run.before, run.after) if state],
        gated_cases=[failure.case for failure in run.failures if failure.reason == "memory_gate"],
        failed_cases=[failure.case for failure in run.failures],
    )
    rows = tuple(row for row in card.rows if _is_possible(row) and is_plausible_row(row, memory))
    if rows != card.rows:
        card = replace(card, rows=rows, tier=tier_of(rows), limited_by=limited_by(rows, facts, current_limits()))
    return JudgedRun(run=run, device_id=device_id, facts=facts, card=card, plausibility=told)


def _main_memory(run: RunRecord, hardware: Hardware) -> MainMemory:
    return MainMemory(
        read_bandwidth_bytes_per_second=run.read_bandwidth_bytes_per_second,
        last_level_cache_bytes=hardware.last_level_cache_bytes,
    )


def _plausibility(run: RunRecord, memory: MainMemory) -> tuple[Plausibility, ...]:
    """Return a value per measurement; what a device with a wrong clock sends is of no known day."""
    times = {name: getattr(run, name) for name in ("receive_time", "observe_time", "send_time")}
    if clock_is_suspect(**times):
        return (Plausibility.CLOCK_SUSPECT,) * len(run.measurements)
    return tuple(plausibility(one, memory) for one in run.measurements)


def _facts(run: RunRecord, hardware: Hardware) -> DeviceFacts:
    # The run states the free memory of the accelerators in the order in which the hardware lists them.
    listed = zip(hardware.accelerators, run.accelerator_memory_available_bytes, strict=False)
    return DeviceFacts(
        memory_available_bytes=run.memory_available_bytes,
        read_bandwidth_bytes_per_second=run.read_bandwidth_bytes_per_second,
        core_count=hardware.physical_core_count,
        accelerator_memory_bytes=accelerator_memory_bytes(
            (one.shares_main_memory, free, one.memory_total_bytes) for one, free in listed
        ),
        software_providers=frozenset(ep.name for ep in hardware.execution_providers if ep.is_software),
    )


def _is_possible(row: CardRow) -> bool:
    """Tell whether every number of a row can be one: a time that overflowed, or came to nothing, is no time."""
    values = [getattr(row, name) for name in _QUANTITIES]
    return all(math.isfinite(one.high) and one.low > 0 for one in values if one is not None)


def estimate_rows(judged: JudgedRun, limits: Limits) -> list[dict[str, Any]]:
    """Return the rows of ``estimates``."""
    return [
        {
            **judged.keys,
            "size_class": row.size_class,
            "architecture": row.architecture,
            "architecture_kind": row.architecture_kind,
            "scheme": row.scheme,
            "execution_provider": row.execution_provider,
            "runtime": RUNTIME,
            "threads": row.threads,
            **{name: value for quantity in _QUANTITIES for name, value in _ends(quantity, row).items()},
            "memory_bytes": row.memory_bytes,
            "memory_available_bytes": judged.facts.memory_for(row.execution_provider),
            "download_bytes": row.download_bytes,
            "bytes_read_per_token": row.bytes_read_per_token,
            "basis": row.basis,
            "counts": row.counts,
            "notes": list(row.notes),
            "prompt_tokens": limits.prompt_tokens,
            "decode_context_depth": limits.decode_context_depth,
            "memory_context_tokens": limits.memory_context_tokens,
            "encoder_tokens": limits.encoder_tokens,
            "interval_probability": limits.interval_probability,
            "formula_version": judged.card.formula_version,
        }
        for row in judged.card.rows
    ]


def _ends(quantity: str, row: CardRow) -> dict[str, float | None]:
    value: Estimate | None = getattr(row, quantity)
    if value is None:
        return dict.fromkeys((quantity, f"{quantity}_low", f"{quantity}_high"))
    return {quantity: value.value, f"{quantity}_low": value.low, f"{quantity}_high": value.high}


def verdict_rows(judged: JudgedRun, limits: Limits) -> list[dict[str, Any]]:
    """Return the rows of ``verdicts``."""
    grades = _grades(judged, limits)
    return [
        {
            **judged.keys,
            "size_class": row.size_class,
            "architecture": row.architecture,
            "architecture_kind": row.architecture_kind,
            "scheme": row.scheme,
            "execution_provider": row.execution_provider,
            "counts": row.counts,
            "verdict": row.verdict,
            "comfortable_probability": float(comfortable),
            "usable_probability": float(usable),
            "reasons": list(row.reasons),
            "limits_version": judged.card.limits_version,
            "formula_version": judged.card.formula_version,
        }
        for row, comfortable, usable in zip(
            judged.card.rows, grades.comfortable_probability, grades.usable_probability, strict=True
        )
    ]


def _grades(judged: JudgedRun, limits: Limits) -> Grades:
    rows, probability = judged.card.rows, limits.interval_probability
    free = [judged.facts.memory_for(row.execution_provider) for row in rows]
    decode, decode_sd = _columns(rows, "decode_tokens_per_second", probability)
    first, first_sd = _columns(rows, "time_to_first_token_seconds", probability)
    latency, latency_sd = _columns(rows, "latency_seconds", probability)
    return grade(
        EstimateColumns(
            is_decoder=np.array([row.architecture_kind == ArchitectureKind.DECODER for row in rows], dtype=np.bool_),
            decode_tokens_per_second=decode,
            decode_tokens_per_second_log_sd=decode_sd,
            time_to_first_token_seconds=first,
            time_to_first_token_seconds_log_sd=first_sd,
            latency_seconds=latency,
            latency_seconds_log_sd=latency_sd,
            memory_bytes=np.array([row.memory_bytes for row in rows], dtype=np.float64),
            memory_available_bytes=np.array([math.nan if one is None else one for one in free], dtype=np.float64),
            stopped=np.array([STOPPED in row.notes for row in rows], dtype=np.bool_),
        ),
        limits,
    )


def _columns(rows: Sequence[CardRow], quantity: str, probability: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a quantity and their standard deviations of ln(value)."""
    nothing = (math.nan, math.nan, math.nan)
    found: list[Estimate | None] = [getattr(row, quantity) for row in rows]
    ends = [(one.value, one.low, one.high) if one else nothing for one in found]
    value, low, high = np.array(ends, dtype=np.float64).reshape(-1, 3).T
    return value, log_sd(low, high, probability)


def tier_row(judged: JudgedRun, verdicts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of ``tiers``; ``verdicts`` are the rows of ``verdicts`` of the same run."""
    probability = {id(row): one["comfortable_probability"] for row, one in zip(judged.card.rows, verdicts, strict=True)}
    decoders = {name: row for name, row in best_decoders(judged.card.rows).items() if row.counts}
    usable = [name for name, row in decoders.items() if row.verdict in {Verdict.COMFORTABLE, Verdict.USABLE}]
    best = decoders.get(judged.card.tier or "")
    return {
        **judged.keys,
        "tier": judged.card.tier,
        "tier_probability": probability[id(best)] if best else None,
        "usable_tier": max(usable, key=class_rank, default=None),
        "scheme": best.scheme if best else None,
        "execution_provider": best.execution_provider if best else None,
        "limited_by": judged.card.limited_by,
        "limits_version": judged.card.limits_version,
        "formula_version": judged.card.formula_version,
    }


def plausibility_rows(judged: JudgedRun) -> list[dict[str, Any]]:
    """Return the rows of ``plausibility``: the measurements that are not simply plausible."""
    return [
        {
            **judged.keys,
            "ord": ord_,
            "plausibility": said,
            "counts": said.counts,
            "plausibility_version": plausibility_rules().version,
        }
        for ord_, said in enumerate(judged.plausibility)
        if said is not Plausibility.OK
    ]


def unjudged_tier_row(run: Row, limits: Limits) -> dict[str, Any]:
    """Return the row of ``tiers`` of a run that cannot be judged: nothing but its keys."""
    keys = {name: run[name] for name in ("run_id", "run_number", "device_id", "source")}
    return {**keys, "limits_version": limits.version, "formula_version": FORMULA_VERSION}
