"""`weighin-analysis size`: what a model is, what it weighs to download, and what it takes in memory."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.found import FoundModel, candidate_of, find_model, setting_of, what_if_results
from weighin_analysis.answers.requirement import Requirement, Setting, requirement
from weighin_analysis.answers.shrunk import WhatIfResult
from weighin_analysis.answers.words import (
    LINKS_BITS_PER_SECOND,
    duration,
    gb,
    gib,
    requirement_document,
    requirement_lines,
    what_if_documents,
    what_if_lines,
)
from weighin_analysis.commands.question import add_question
from weighin_analysis.memory.runtimes import Runtime
from weighin_analysis.naming.identify import say_parameters
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
    """A model and what it takes; ``setting`` and ``chosen`` are None and the rest is empty where that is not known."""

    found: FoundModel
    setting: Setting | None
    links_bits_per_second: tuple[float, ...]
    chosen: Requirement | None
    others: tuple[Requirement, ...]
    what_ifs: tuple[WhatIfResult, ...]


def size(options: argparse.Namespace) -> tuple[str, int]:
    """Return what to print, and 0 where the model is known, else 1. AnalysisError where it cannot be told."""
    found = find_model(options.model)
    sized = _sized(found, options)
    text = json.dumps(document(sized), indent=2) if options.json else "\n".join(_lines(sized))
    return text, 0 if found.known else 1


def _sized(found: FoundModel, options: argparse.Namespace) -> Sized:
    links = (1e6 * options.link_mbit,) if options.link_mbit else LINKS_BITS_PER_SECOND
    if found.entry is None or not found.published:
        return Sized(found=found, setting=None, links_bits_per_second=links, chosen=None, others=(), what_ifs=())
    setting = setting_of(found.entry, options.context, options.runtime)
    candidate = candidate_of(found, options.format, options.scheme)
    own = found.file_size if (candidate.format, candidate.scheme) == (found.format, found.scheme) else None
    others = [requirement(one, setting) for one in _others(candidate, options.format, options.scheme)]
    return Sized(
        found=found,
        setting=setting,
        links_bits_per_second=links,
        chosen=requirement(candidate, setting, file_size=own),
        others=tuple(one for one in others if one.download is not None),
        what_ifs=what_if_results(options.what_if or (), candidate, setting, file_size=own),
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
    found, chosen = sized.found, sized.chosen
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
        **requirement_document(chosen, sized.links_bits_per_second),
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
    if chosen is None or sized.setting is None:
        return
    yield ""
    yield from requirement_lines(chosen, sized.setting.context_tokens, sized.links_bits_per_second)
    if sized.others:
        yield ""
        yield from _aligned([_HEADINGS, *(_cells(one, sized.links_bits_per_second[-1]) for one in sized.others)])
    for result in sized.what_ifs:
        yield ""
        yield from what_if_lines(result)


def _facts(found: FoundModel) -> Iterator[str]:
    if found.parameters is not None:
        active = "" if found.active_parameters is None else f", {say_parameters(found.active_parameters)} per token"
        count = f"{say_parameters(found.parameters)} parameters ({found.parameters:,}){active}"
        yield f"{count}: size class {found.size_class}"
    elif found.size_class is not None:
        yield f"size class {found.size_class}: no device runs it"
    if found.known and not found.published:
        yield "its weights cannot be downloaded, so it has no size on a device"


_HEADINGS = ("format", "scheme", "download", "time", "disk", "memory", "weights", "KV cache", "rest")


def _cells(needed: Requirement, link_bits_per_second: float) -> tuple[str, ...]:
    assert needed.download_bytes is not None
    memory = needed.memory
    parts = ("-",) * 4
    if memory and needed.memory_bytes is not None:
        rest = needed.memory_bytes - memory.weights - memory.kv_cache
        parts = gib(needed.memory_bytes), gib(memory.weights), gib(memory.kv_cache), gib(rest)
    return (
        needed.candidate.format,
        needed.candidate.scheme,
        gb(needed.download_bytes),
        duration(download_seconds(needed.download_bytes, link_bits_per_second)),
        gb(needed.disk_bytes or 0),
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
