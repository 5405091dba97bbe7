"""Can this device run a model? Asked of the newest run that is kept here, and of what is free now."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from weighin_agent.device import Device
from weighin_agent.errors import UsageError
from weighin_agent.fleet.actions import NewestRun
from weighin_agent.weigh_in import device_facts, disturbances_of, main_memory
from weighin_analysis.answers.changes import Change, changes, published_elsewhere
from weighin_analysis.answers.check import CheckRow, Question, check, size_class_name
from weighin_analysis.answers.found import FoundModel, candidate_of, setting_of, what_if_results
from weighin_analysis.answers.shrunk import WhatIfResult
from weighin_analysis.answers.words import LINKS_BITS_PER_SECOND, requirement_document, what_if_documents
from weighin_analysis.estimate import FORMULA_VERSION
from weighin_analysis.evidence import evidence_of
from weighin_analysis.limits import current_limits
from weighin_analysis.plausible import possible_measurements
from weighin_analysis.sizes.artefact import Format

REMINDER = "Size is not ability: a smaller tuned model may do the task as well, and may need more work on prompts."
NOT_PUBLISHED = "cannot be run on a device: its weights are not public"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked about a model; None leaves it open."""

    found: FoundModel
    format: Format | None = None
    scheme: str | None = None
    context_tokens: int | None = None
    execution_provider: str | None = None
    what_ifs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the device says of a model.

    ``rows`` are the answers in each scheme and on each execution provider, the best first; empty where the model is not
    known or its weights cannot be had. ``run_id`` and ``run_age_seconds`` tell the run that they follow from, None
    where none was asked. ``disturbances`` cast doubt on it. ``storage_free_bytes`` is free now, None where not known.
    """

    found: FoundModel
    context_tokens: int | None
    reasons: tuple[str, ...]
    rows: tuple[CheckRow, ...] = ()
    changes: tuple[Change, ...] = ()
    what_ifs: tuple[WhatIfResult, ...] = ()
    run_id: str | None = None
    run_age_seconds: float | None = None
    disturbances: tuple[str, ...] = ()
    storage_free_bytes: int | None = None
    runs: bool = False


def unanswerable(request: Request) -> Answer | None:
    """Return the answer that needs no run: of a model that is not known, or that nobody can download; else None."""
    found = request.found
    if found.published:
        return None
    reasons = (found.reason, NOT_PUBLISHED) if found.known else (found.reason,)
    return Answer(found=found, context_tokens=request.context_tokens, reasons=reasons)


def answer(request: Request, newest: NewestRun, now: Device, now_time: datetime) -> Answer:
    """Return what the newest run says of a model whose weights can be had, with what is free on the device ``now``.

    UsageError where nothing was measured on the execution provider that is asked for.
    """
    limits, found, run = current_limits(), request.found, newest.run
    asked = candidate_of(found, request.format, request.scheme)
    setting = setting_of(asked.entry, request.context_tokens)
    own = found.file_size if (asked.format, asked.scheme) == (found.format, found.scheme) else None
    results = what_if_results(request.what_ifs, asked, setting, file_size=own)
    candidate = results[-1].after.candidate if results else asked
    narrowed = request.scheme or request.format or found.scheme or candidate.scheme != asked.scheme
    here = own if replace(candidate, adapters=()) == asked else None  # adapters lie beside the file
    question = Question(
        candidate=candidate,
        context_tokens=setting.context_tokens,
        any_scheme=not narrowed,
        execution_provider=request.execution_provider,
        file_size=here,
    )
    # What the run measured, and what is free now: other programs came and went since.
    facts = replace(
        device_facts(run.device),
        memory_available_bytes=now.memory.available_bytes,
        accelerator_memory_bytes=device_facts(now).accelerator_memory_bytes,
    )
    evidence = evidence_of(possible_measurements(run.measurements, main_memory(run.device)), facts, limits)
    rows = check(question, evidence)
    if not rows:
        known = ", ".join(dict.fromkeys(group[0] for group in evidence.groups)) or "nothing"
        wanted = f"--ep {request.execution_provider}" if request.execution_provider else "the newest run"
        raise UsageError(
            f"{wanted}: the newest run measured {known}; run `weighin-agent run --ep all`, or ask for that"
        )
    short = _short_of_disk(rows[0], now.storage.free_bytes, has_file=here is not None)
    elsewhere = published_elsewhere(rows[0].requirement)
    return Answer(
        found=found,
        context_tokens=setting.context_tokens,
        reasons=(*rows[0].reasons, *(reason for reason in (short, elsewhere) if reason)),
        rows=rows,
        changes=changes(question, evidence, rows, memory_total_bytes=now.memory.total_bytes),
        what_ifs=results,
        run_id=newest.run_id,
        run_age_seconds=max(0.0, (now_time - run.observe_time).total_seconds()),
        disturbances=disturbances_of(run),
        storage_free_bytes=now.storage.free_bytes,
        runs=rows[0].runs and short is None,
    )


def _short_of_disk(row: CheckRow, free_bytes: int | None, *, has_file: bool) -> str | None:
    """Return why it cannot be downloaded, None where it can be or is here already."""
    needed = row.requirement.disk_bytes
    if has_file or needed is None or free_bytes is None or needed <= free_bytes:
        return None
    return f"needs {needed / 1e9:.2f} GB of disk to download, {free_bytes / 1e9:.2f} GB are free"


def document(answer: Answer, links_bits_per_second: Sequence[float] = LINKS_BITS_PER_SECOND) -> dict[str, Any]:
    """Return what `check --json` prints: the best row's keys, what is known of the model, and all rows.

    Parameters are those of the model that is judged: with what-ifs, of the changed one.
    """
    found = answer.found
    best = answer.rows[0] if answer.rows else None
    counted = answer.what_ifs[-1].after.candidate.entry if answer.what_ifs else found
    return {
        "model": found.name,
        "known": found.known,
        "disclosed": found.disclosed,
        "published": found.published,
        "reason": found.reason,
        "parameters": counted.parameters,
        "active_parameters": counted.active_parameters,
        "runs": answer.runs,
        **_row_document(found, best, links_bits_per_second),
        "reasons": list(answer.reasons),
        "changes": [asdict(change) for change in answer.changes],
        "candidates": list(found.candidates),
        "context_tokens": answer.context_tokens,
        "storage_free_bytes": answer.storage_free_bytes,
        "rows": [_row_document(found, row, links_bits_per_second) for row in answer.rows],
        "what_ifs": what_if_documents(answer.what_ifs),
        "run_id": answer.run_id,
        "run_age_seconds": answer.run_age_seconds,
        "disturbances": list(answer.disturbances),
        "limits_version": current_limits().version,
        "formula_version": FORMULA_VERSION,
        "reminder": REMINDER,
    }


_ESTIMATES = (
    "decode_tokens_per_second",
    "prefill_tokens_per_second",
    "time_to_first_token_seconds",
    "latency_seconds",
)


def _row_document(found: FoundModel, row: CheckRow | None, links_bits_per_second: Sequence[float]) -> dict[str, Any]:
    """Return one answer under the keys of a card's row, and what a card does not tell; null is not known.

    The rest is what `size` tells, two of its keys renamed: a card's ``basis`` is that of the speed, its
    ``memory_bytes`` the total.
    """
    estimates = {name: getattr(row, name) if row else None for name in _ESTIMATES}
    needed = requirement_document(row.requirement if row else None, links_bits_per_second)
    parts_bytes, size_basis = needed.pop("memory_bytes"), needed.pop("basis")
    entry = row.requirement.candidate.entry if row else found.entry
    return {
        "size_class": size_class_name(entry) if entry and row else found.size_class,
        "architecture": entry.name if entry else None,
        "architecture_kind": entry.kind if entry else None,
        "measured_scheme": row.measured_scheme if row else None,
        "execution_provider": row.execution_provider if row else None,
        "threads": row.threads if row else None,
        "decode_context_depth": row.decode_context_depth if row else None,
        **{name: asdict(value) if value else None for name, value in estimates.items()},
        **needed,
        "memory_bytes": row.requirement.memory_bytes if row else None,
        "memory_parts_bytes": parts_bytes,
        "memory_free_bytes": row.memory_free_bytes if row else None,
        "verdict": row.verdict if row else None,
        "reasons": list(row.reasons) if row else [],
        "basis": row.basis if row else None,
        "size_basis": size_basis,
        "counts": row.counts if row else None,
    }
