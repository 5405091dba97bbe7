"""`weighin-analysis size`: what a model is, what it weighs to download, and what it takes in memory."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.found import (
    FoundModel,
    candidate_of,
    check_question,
    find_model,
    setting_of,
    what_if_results,
)
from weighin_analysis.answers.requirement import Requirement, Setting, requirement, runtime_problem
from weighin_analysis.answers.shrunk import WhatIfResult
from weighin_analysis.answers.words import (
    LINKS_BITS_PER_SECOND,
    NEXT_STEP,
    active_words,
    beyond_context,
    duration,
    requirement_document,
    requirement_lines,
    tokens,
    what_if_documents,
    what_if_lines,
)
from weighin_analysis.commands.question import add_question
from weighin_analysis.errors import QuestionError
from weighin_analysis.memory.runtimes import Runtime
from weighin_analysis.models.entry import ModelKind
from weighin_analysis.naming.identify import say_parameters
from weighin_analysis.numbers import gb, gib
from weighin_analysis.sizes.artefact import Format
from weighin_analysis.sizes.download import download_seconds, schemes_of

EXAMPLE = "weighin-analysis size Gemma-2B --scheme q4f16 --context 4096"
# What publishers offer most; --format shows every scheme of one.
_SHOWN: dict[Format, tuple[str, ...]] = {
    Format.ONNX: ("q4", "q4f16", "int8", "fp16"),
    Format.GGUF: ("Q4_0", "Q4_K_M", "Q6_K", "Q8_0", "F16"),
    Format.MLC: ("q4f16_1",),
    Format.LITERT: ("int4", "int8"),
}
_Rows = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A model and what it takes; ``setting`` and ``chosen`` are None and the rest is empty where that is not known.

    ``chosen`` alone is None where the name states a scheme that weighin does not know. ``notes`` are on the question.
    """

    found: FoundModel
    setting: Setting | None
    links_bits_per_second: tuple[float, ...]
    chosen: Requirement | None
    others: tuple[Requirement, ...]
    what_ifs: tuple[WhatIfResult, ...]
    notes: tuple[str, ...] = ()


def size(options: argparse.Namespace) -> tuple[str, int]:
    """Return what to print, and 0 where the model is known, else 1. AnalysisError where it cannot be told."""
    found = find_model(options.model)
    check_question(options.format, options.scheme, options.what_if or ())
    sized = _sized(found, options)
    text = json.dumps(document(sized), indent=2) if options.json else "\n".join(_lines(sized))
    return text, 0 if found.known else 1


def _sized(found: FoundModel, options: argparse.Namespace) -> Sized:
    links = (1e6 * options.link_mbit,) if options.link_mbit else LINKS_BITS_PER_SECOND
    if found.entry is None or not found.published:
        return Sized(found=found, setting=None, links_bits_per_second=links, chosen=None, others=(), what_ifs=())
    setting = setting_of(found.entry, options.context, options.runtime)
    form = options.format or (options.runtime.file_format if options.runtime and found.format is None else None)
    candidate = candidate_of(found, form, options.scheme)
    if options.runtime and (problem := runtime_problem(options.runtime, candidate.format)):
        raise QuestionError(problem)
    beyond = beyond_context(found.entry, setting.context_tokens)
    unsized = found.unknown_scheme and options.scheme is None and options.format in {None, found.format}
    if unsized and options.what_if:
        raise QuestionError(f"what-if: {found.scheme_problem}; give --scheme to start from another one")
    own = found.file_size if (candidate.format, candidate.scheme) == (found.format, found.scheme) else None
    others = [requirement(one, setting) for one in _others(candidate, form, options.scheme)]
    return Sized(
        found=found,
        setting=setting,
        links_bits_per_second=links,
        chosen=None if unsized else requirement(candidate, setting, file_size=own),
        others=tuple(one for one in others if one.download is not None),
        what_ifs=what_if_results(options.what_if or (), candidate, setting, file_size=own),
        notes=(beyond,) if beyond else (),
    )


def _others(candidate: Candidate, form: Format | None, scheme: str | None) -> Iterator[Candidate]:
    """Yield the model in the usual schemes of every format, or in all of the one that was named; none beside one."""
    shown = _SHOWN if form is None else {form: schemes_of(form)}
    for one, schemes in shown.items() if scheme is None else ():
        for name in schemes:
            yield replace(candidate, format=one, scheme=name)


# The document.


def document(sized: Sized) -> dict[str, Any]:
    """Return what `size --json` prints; a number that is not known is null."""
    found, needed = sized.found, requirement_document(sized.chosen, sized.links_bits_per_second)
    if sized.setting and sized.chosen is None:
        needed |= {"format": found.format, "scheme": found.unknown_scheme, "missing": [found.scheme_problem]}
    return {
        "model": found.name,
        "known": found.known,
        "disclosed": found.disclosed,
        "reason": found.reason,
        "published": found.published,
        "source": found.entry.source if found.entry else None,
        "parameters": found.parameters,
        "active_parameters": found.active_parameters,
        "size_class": found.size_class,
        "context_tokens": sized.setting.context_tokens if sized.setting else None,
        **needed,
        "notes": [*needed["notes"], *sized.notes],
        "candidates": list(found.candidates),
        "files": [path.name for path in found.file.files] if found.file else [],
        "artefacts": [requirement_document(one, sized.links_bits_per_second) for one in sized.others],
        "what_ifs": what_if_documents(sized.what_ifs),
    }


# The text.


def _lines(sized: Sized) -> Iterator[str]:
    found, chosen = sized.found, sized.chosen
    yield f"{found.name}: {found.reason}"
    yield from _facts(found)
    if found.candidates:
        yield f"perhaps you mean: {', '.join(found.candidates)}"
    if not found.known:
        yield NEXT_STEP
    if sized.setting is None:
        return
    yield ""
    if chosen is None:
        yield f"{found.scheme_problem}; --scheme names another one"
    else:
        yield from requirement_lines(chosen, sized.setting.context_tokens, sized.links_bits_per_second)
    for note in sized.notes:
        yield f"  {note}"
    if sized.others:
        yield ""
        yield from _table(sized.others, sized.setting, sized.links_bits_per_second[-1])
    for result in sized.what_ifs:
        yield ""
        yield from what_if_lines(result)


def _facts(found: FoundModel) -> Iterator[str]:
    if found.parameters is not None:
        count = f"{say_parameters(found.parameters)} parameters ({found.parameters:,})"
        count += active_words(found.active_parameters)
        yield f"{count}: size class {found.size_class}"
    elif found.size_class is not None:
        yield f"size class {found.size_class}: no device runs it"
    if found.known and not found.published:
        yield "its weights cannot be downloaded, so it has no size on a device"


def _table(others: Sequence[Requirement], setting: Setting, link_bits_per_second: float) -> Iterator[str]:
    """Yield a line per format and scheme; with every number of a model of 100 GB it fits 80 columns."""
    encoder = others[0].candidate.entry.kind is ModelKind.ENCODER  # keeps no KV cache
    context = "" if encoder else f", memory at a context of {tokens(setting.context_tokens)}"
    yield f"time at {link_bits_per_second / 1e6:g} Mbit/s{context}:"
    headings = "format", "scheme", "download", "time", "memory", "weights", "KV cache"
    rows = [headings, *(_cells(one, link_bits_per_second) for one in others)]
    yield from _aligned([row[:-1] for row in rows] if encoder else rows)


def _cells(needed: Requirement, link_bits_per_second: float) -> tuple[str, ...]:
    assert needed.download_bytes is not None
    memory = needed.memory
    parts = ("-",) * 3
    if memory and needed.memory_bytes is not None:
        parts = gib(needed.memory_bytes), gib(memory.weights), gib(memory.kv_cache)
    return (
        needed.candidate.format,
        needed.candidate.scheme,
        gb(needed.download_bytes),
        duration(download_seconds(needed.download_bytes, link_bits_per_second)),
        *parts,
    )


def _aligned(rows: _Rows) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        texts = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(texts).rstrip()


def add_size(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command with its arguments."""
    about = "Tell what a model is, what it weighs to download and what it takes in memory, from its name or its files."
    parser = commands.add_parser("size", help="what a model weighs", description=about, epilog=f"example: {EXAMPLE}")
    add_question(parser)
    parser.add_argument("--runtime", type=Runtime, choices=list(Runtime), help="what runs it (default: by the format)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser
