"""What would change the answer of a check: another scheme, a shorter context, more free memory, a smaller model."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.check import CheckRow, Question, better, check
from weighin_analysis.answers.requirement import Requirement
from weighin_analysis.card import Verdict
from weighin_analysis.catalog import size_classes
from weighin_analysis.evidence import Evidence
from weighin_analysis.models.catalogue import catalogue
from weighin_analysis.models.catalogue import entry as catalogue_entry
from weighin_analysis.models.entry import ModelEntry, ModelKind
from weighin_analysis.numbers import gb
from weighin_analysis.sizes.artefact import Format, SizeBasis
from weighin_analysis.sizes.download import published_sizes

# Below this a context holds hardly more than a question.
_LEAST_CONTEXT_TOKENS = 512
# What publishers offer for little memory, of the formats whose runtimes can be judged.
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
    if rows[0].beyond_context:  # nothing else gives the model a longer one
        found = [*_shorter_contexts(question, evidence)]
    else:
        found = [
            *_other_schemes(question, evidence),
            *_other_formats(question, evidence),
            *_shorter_contexts(question, evidence),
            *_more_memory(question, evidence, rows, memory_total_bytes),
            *_smaller_models(question, evidence),
        ]
    return tuple(one for one in found if better(one.verdict, rows[0].verdict))


def published_elsewhere(needed: Requirement) -> str | None:
    """Return in which other formats a model is published, where its size as it is asked for is fitted to others."""
    if needed.download is None or needed.download.basis is not SizeBasis.FITTED:
        return None
    name, form = needed.candidate.entry.name, needed.candidate.format
    others = [found[0] for key, found in published_sizes().items() if key[0] == name and key[1] is not form]
    told = [f"{one.format} {one.scheme}, {gb(one.bytes)}" for one in others]
    return f"published as {'; '.join(told)}: ask for --format {others[0].format}" if others else None


def _other_schemes(question: Question, evidence: Evidence) -> Iterator[Change]:
    """Yield the best answer of any scheme and execution provider, where the question leaves some out."""
    if question.any_scheme and question.execution_provider is None:
        return
    small = _SMALL_SCHEMES.get(question.candidate.format)
    candidate = question.candidate if small is None else replace(question.candidate, scheme=small)
    yield from _as_shipped(question, candidate, evidence, any_scheme=small is None)


def _other_formats(question: Question, evidence: Evidence) -> Iterator[Change]:
    """Yield the answer of each other format in its usual small scheme."""
    for form, scheme in _SMALL_SCHEMES.items():
        if form is not question.candidate.format:
            candidate = replace(question.candidate, format=form, scheme=scheme)
            yield from _as_shipped(question, candidate, evidence, any_scheme=False)


def _as_shipped(question: Question, candidate: Candidate, evidence: Evidence, *, any_scheme: bool) -> Iterator[Change]:
    asked = replace(question, candidate=candidate, any_scheme=any_scheme, execution_provider=None, file_size=None)
    for row in check(asked, evidence)[:1]:
        if row.runs and row.verdict:
            shipped = row.requirement.candidate
            yield Change(
                change=f"as {shipped.format} {shipped.scheme} on {row.execution_provider}", verdict=row.verdict
            )


def _shorter_contexts(question: Question, evidence: Evidence) -> Iterator[Change]:
    """Yield the longest context that gives a better answer: all that the model has, or half the one asked for, ..."""
    most, context = question.candidate.entry.context_tokens, question.context_tokens
    context = most if most and most < context else context // 2
    found = None
    while context >= _LEAST_CONTEXT_TOKENS:
        for row in check(replace(question, context_tokens=context), evidence)[:1]:
            if row.runs and row.verdict and (found is None or better(row.verdict, found.verdict)):
                found = Change(change=f"with a context of {context:,} tokens", verdict=row.verdict)
                yield found
        if found and found.verdict is Verdict.COMFORTABLE:
            return
        context //= 2


def _more_memory(
    question: Question, evidence: Evidence, rows: tuple[CheckRow, ...], memory_total_bytes: int | None
) -> Iterator[Change]:
    """Yield how much memory other programs would have to give back, where the device has as much: the least that helps.

    A card's own memory is not filled by other programs as a rule.
    """
    facts = evidence.facts
    free = facts.memory_available_bytes
    if rows[0].verdict is not Verdict.DOES_NOT_FIT or free is None or memory_total_bytes is None:
        return
    needs = [
        row.requirement.memory_bytes
        for row in rows
        if row.verdict is Verdict.DOES_NOT_FIT and facts.memory_for(row.execution_provider) == free
    ]
    for needed in sorted(one for one in needs if one is not None):
        tenths = math.ceil(10 * (needed / evidence.limits.memory_share - free) / 2**30)
        roomy = free + math.ceil(tenths * 2**30 / 10)
        if roomy > memory_total_bytes:
            return
        more = replace(evidence, facts=replace(facts, memory_available_bytes=roomy))
        for row in check(question, more)[:1]:
            if row.runs and row.verdict:
                yield Change(change=f"after closing programs that hold {tenths / 10:.1f} GiB", verdict=row.verdict)
                return


def _smaller_models(question: Question, evidence: Evidence) -> Iterator[Change]:
    """Yield the largest usual model below this one that is comfortable, else usable."""
    usable = None
    for smaller in _usual_models_below(question.candidate.entry):
        context = min(question.context_tokens, smaller.context_tokens or question.context_tokens)
        asked = replace(
            question,
            candidate=Candidate(entry=smaller, format=Format.ONNX, scheme=""),
            context_tokens=context,
            any_scheme=True,
            file_size=None,
        )
        shorter = "" if context == question.context_tokens else f" with a context of {context:,} tokens"
        for row in check(asked, evidence)[:1]:
            if not row.runs or row.verdict is None:
                continue
            change = Change(change=f"a smaller model, such as {smaller.name}{shorter}", verdict=row.verdict)
            if row.verdict is Verdict.COMFORTABLE:
                yield change
                return
            usable = usable or change
    if usable:
        yield usable


def _usual_models_below(entry: ModelEntry) -> Iterator[ModelEntry]:
    """Yield models of the same kind with fewer parameters, the largest first: of decoders those of the size classes."""
    if entry.kind is ModelKind.ENCODER:
        known = [one for one in catalogue().values() if one.kind is ModelKind.ENCODER and one.shape is not None]
    elif entry.kind is ModelKind.DECODER:
        names = [size_class.reference or size_class.representative for size_class in size_classes()]
        known = [catalogue_entry(name) for name in names if name]
    else:
        known = []
    smaller = [
        one
        for one in known
        if one.parameters is not None and entry.parameters is not None and one.parameters < entry.parameters
    ]
    yield from sorted(smaller, key=lambda one: (-(one.parameters or 0), one.name))
