"""What would change the answer of a check: another scheme, a shorter context, more free memory, a smaller model."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.check import CheckRow, Question, better, check
from weighin_analysis.card import Verdict
from weighin_analysis.catalog import size_classes
from weighin_analysis.evidence import Evidence
from weighin_analysis.models.catalogue import entry as catalogue_entry
from weighin_analysis.models.entry import ModelEntry, ModelKind
from weighin_analysis.sizes.artefact import Format

# Below this a context holds hardly more than a question.
_LEAST_CONTEXT_TOKENS = 512
# What publishers offer for little memory in the formats of other runtimes.
_SMALL_SCHEMES = {Format.GGUF: "Q4_K_M", Format.MLC: "q4f16_1", Format.LITERT: "int4"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that would give a better answer, in words, and that answer."""

    change: str
    verdict: Verdict


def changes(
    question: Question, evidence: Evidence, rows: tuple[CheckRow, ...], *, memory_total_bytes: int | None
) -> tuple[Change, ...]:
    """Return what would give a better verdict than the best of ``rows``, the answer to ``question``.

    ``memory_total_bytes`` is the main memory of the device, None where it does not tell.
    """
    if not rows or rows[0].verdict is Verdict.COMFORTABLE:
        return ()
    found = [
        *_other_schemes(question, evidence),
        *_shorter_contexts(question, evidence),
        *_more_memory(question, evidence, rows[0], memory_total_bytes),
        *_smaller_models(question, evidence),
    ]
    return tuple(one for one in found if better(one.verdict, rows[0].verdict))


def _other_schemes(question: Question, evidence: Evidence) -> Iterator[Change]:
    """Yield the best answer of any scheme and execution provider, where the question leaves some out."""
    if question.any_scheme and question.execution_provider is None:
        return
    small = _SMALL_SCHEMES.get(question.candidate.format)
    candidate = question.candidate if small is None else replace(question.candidate, scheme=small)
    opened = replace(question, candidate=candidate, any_scheme=small is None, execution_provider=None, file_size=None)
    for row in check(opened, evidence)[:1]:
        if row.runs and row.verdict:
            where = f"{row.requirement.candidate.scheme} on {row.execution_provider}"
            yield Change(change=f"as {where}", verdict=row.verdict)


def _shorter_contexts(question: Question, evidence: Evidence) -> Iterator[Change]:
    """Yield the longest context that fits, halving it."""
    context = question.context_tokens // 2
    while context >= _LEAST_CONTEXT_TOKENS:
        for row in check(replace(question, context_tokens=context), evidence)[:1]:
            if row.runs and row.verdict:
                yield Change(change=f"with a context of {context:,} tokens", verdict=row.verdict)
                return
        context //= 2


def _more_memory(
    question: Question, evidence: Evidence, row: CheckRow, memory_total_bytes: int | None
) -> Iterator[Change]:
    """Yield how much memory other programs would have to give back, where the device has as much."""
    facts, needs, free = evidence.facts, row.requirement.memory_bytes, row.memory_free_bytes
    if row.verdict is not Verdict.DOES_NOT_FIT or needs is None or free is None or memory_total_bytes is None:
        return
    wanted = math.ceil(needs / evidence.limits.memory_share)
    if free != facts.memory_available_bytes or wanted > memory_total_bytes:
        return  # a card's own memory is not filled by other programs as a rule
    roomy = replace(evidence, facts=replace(facts, memory_available_bytes=wanted))
    for better_row in check(question, roomy)[:1]:
        if better_row.runs and better_row.verdict:
            missing = (wanted - free) / 2**30
            yield Change(change=f"after closing programs that hold {missing:.1f} GiB", verdict=better_row.verdict)


def _smaller_models(question: Question, evidence: Evidence) -> Iterator[Change]:
    """Yield the largest size class below the model whose usual model is comfortable, else usable."""
    entry = question.candidate.entry
    if entry.kind is not ModelKind.DECODER or entry.parameters is None:
        return
    usable = None
    for smaller in _usual_models_below(entry.parameters):
        asked = replace(
            question, candidate=Candidate(entry=smaller, format=Format.ONNX, scheme=""), any_scheme=True, file_size=None
        )
        for row in check(asked, evidence)[:1]:
            if row.runs and row.verdict and usable is None:
                usable = Change(change=f"a smaller model, such as {smaller.name}", verdict=row.verdict)
            if row.verdict is Verdict.COMFORTABLE:
                yield Change(change=f"a smaller model, such as {smaller.name}", verdict=row.verdict)
                return
    if usable:
        yield usable


def _usual_models_below(parameters: int) -> Iterator[ModelEntry]:
    for size_class in reversed(size_classes()):
        name = size_class.reference or size_class.representative
        if name is not None:
            entry = catalogue_entry(name)
            if entry.parameters is not None and entry.parameters < parameters:
                yield entry
