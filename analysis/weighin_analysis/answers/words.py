"""How a model's needs are told: the keys of a document, and sentences for a person."""

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from weighin_analysis.answers.requirement import Requirement
from weighin_analysis.answers.shrunk import WhatIfResult, told
from weighin_analysis.memory.runtimes import MemoryUse
from weighin_analysis.models.entry import ModelEntry, ModelKind
from weighin_analysis.naming.identify import say_parameters
from weighin_analysis.numbers import gb, gib
from weighin_analysis.sizes.artefact import DownloadSize, Format
from weighin_analysis.sizes.download import download_seconds, tokenizer_is_apart

# Times are told at these speeds where no other is asked for: a poor and a good connection, bits per second.
LINKS_BITS_PER_SECOND = (10e6, 100e6)


def requirement_document(needed: Requirement | None, links_bits_per_second: Sequence[float]) -> dict[str, Any]:
    """Return what a model takes in one format and scheme, every key there also where nothing is known."""
    download, memory = (needed.download, needed.memory) if needed else (None, None)
    parts = ("weights", "kv_cache", "activations", "runtime", "total")
    return {
        "scheme": needed.candidate.scheme if needed else None,
        "format": needed.candidate.format if needed else None,
        "runtime": needed.runtime if needed else None,
        "download_bytes": needed.download_bytes if needed else None,
        "download_low_bytes": download.low if download else None,
        "download_high_bytes": download.high if download else None,
        "download_seconds": download_times(needed.download_bytes if needed else None, links_bits_per_second),
        "tokenizer_bytes": download.tokenizer_bytes if download else None,
        "runtime_bytes": download.runtime_bytes if download else None,
        "disk_bytes": needed.disk_bytes if needed else None,
        "memory_bytes": {name: getattr(memory, name) if memory else None for name in parts},
        "memory_low_bytes": memory.low if memory else None,
        "memory_high_bytes": memory.high if memory else None,
        "kv_type": memory.kv_type if memory else None,
        "basis": download.basis if download else None,
        "memory_basis": memory.basis if memory else None,
        "notes": [*(download.notes if download else ()), *(memory.notes if memory else ())],
        "missing": list(needed.missing) if needed else [],
    }


def download_times(size_bytes: int | None, links_bits_per_second: Sequence[float]) -> list[dict[str, float | None]]:
    """Return how long a download takes at each speed of a link."""
    return [
        {
            "link_bits_per_second": link,
            "seconds": None if size_bytes is None else download_seconds(size_bytes, link),
        }
        for link in links_bits_per_second
    ]


def what_if_documents(results: Sequence[WhatIfResult]) -> list[dict[str, Any]]:
    """Return what each technique changes and why."""
    return [
        {
            "model": one.after.candidate.entry.name,
            "format": one.after.candidate.format,
            "scheme": one.after.candidate.scheme,
            "parameters": {
                "before": one.before.candidate.entry.parameters,
                "after": one.after.candidate.entry.parameters,
            },
            "download_bytes": {"before": one.before.download_bytes, "after": one.after.download_bytes},
            "memory_bytes": {"before": one.before.memory_bytes, "after": one.after.memory_bytes},
            "work": {
                "before": asdict(one.work_before) if one.work_before else None,
                "after": asdict(one.work_after) if one.work_after else None,
            },
            "reasons": asdict(one.reasons),
            "quality": one.quality,
        }
        for one in results
    ]


def requirement_lines(
    needed: Requirement, context_tokens: int, links_bits_per_second: Sequence[float]
) -> Iterator[str]:
    """Yield download and memory of a model in one format and scheme, for a person."""
    download, memory, adapters = needed.download, needed.memory, needed.candidate.adapters
    yield f"{needed.candidate.format} {needed.candidate.scheme}"
    if download and needed.download_bytes is not None and needed.disk_bytes is not None:
        times = ", ".join(
            f"{duration(download_seconds(needed.download_bytes, link))} at {link / 1e6:g} Mbit/s"
            for link in links_bits_per_second
        )
        beside = f", {gb(sum(one.bytes for one in adapters))} of it adapters" if adapters else ""
        how = f"{download.basis}{_spread(download.low, download.high, gb)}{beside}"
        yield f"  download  {gb(needed.download_bytes)} ({how}): {times}"
        yield f"  disk      {gb(needed.disk_bytes)}{_on_disk_beside(download)}"
    if memory and needed.memory_bytes is not None:
        how = f"{memory.basis}{_spread(memory.low, memory.high, gib)}"
        encoder = needed.candidate.entry.kind is ModelKind.ENCODER  # keeps nothing of a context
        context = "" if encoder else f" at a context of {tokens(context_tokens)}"
        yield f"  memory    {gib(needed.memory_bytes)} ({how}) in {needed.runtime}{context}"
        yield f"            {', '.join(_memory_parts(memory))}"
    for note in [*(download.notes if download else ()), *(memory.notes if memory else ()), *needed.missing]:
        yield f"  {note}"


def _spread(low: int, high: int, amount: Callable[[float], str]) -> str:
    return f", may be {amount(low)} to {amount(high)}" if amount(low) != amount(high) else ""


def _on_disk_beside(download: DownloadSize) -> str:
    """Return what of the disk is not the model's own download."""
    parts = []
    if tokenizer_is_apart(download):
        parts.append("tokenizer")
    if download.runtime_bytes:
        parts.append("runtime in a browser")
    if download.format is Format.LITERT:
        parts.append("the layers once more, packed for the processor")
    return f" with {' and '.join(parts)}" if parts else ""


def _memory_parts(memory: MemoryUse) -> Iterator[str]:
    yield f"weights {gib(memory.weights)}"
    if memory.kv_cache:  # an encoder keeps none
        yield f"KV cache {gib(memory.kv_cache)} ({memory.kv_type})"
    yield f"activations {gib(memory.activations)}"
    yield f"runtime {'not known' if memory.runtime is None else gib(memory.runtime)}"


def beyond_context(entry: ModelEntry, context_tokens: int) -> str | None:
    """Return a sentence where more tokens are asked for than the model was made for, else None."""
    most = entry.context_tokens
    if most is None or context_tokens <= most:
        return None
    return f"it was made for a context of at most {tokens(most)}"


def what_if_lines(result: WhatIfResult) -> Iterator[str]:
    """Yield what a technique changes of a model, for a person."""
    after = result.after.candidate
    yield f"what if: {after.entry.name}, {after.format} {after.scheme}"
    for line in told(result):
        yield f"  {line}"


NEXT_STEP = (
    "to weigh it all the same, give its file or folder, or add it from its config.json: weighin-analysis catalogue add"
)


def active_words(active_parameters: int | None) -> str:
    """Return the words on the parameters that a token passes, empty where it passes all."""
    return "" if active_parameters is None else f", {say_parameters(active_parameters)} active per token"


def tokens(count: int) -> str:
    """Return a number of tokens in words."""
    return f"{count:,} token{'' if count == 1 else 's'}"


def wrapped(line: str, width: int) -> list[str]:
    """Return a line in pieces of at most ``width`` columns, the later ones indented to where its text begins.

    A word that is longer by itself stays whole. A label, as in "  disk      1.2 GB", is no part of the text.
    """
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * hanging_indent(line),
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    ) or [""]


def hanging_indent(line: str) -> int:
    """Return the column below which a line's text goes on when it is broken."""
    label = _LABEL.match(line)
    return label.end() if label else len(line) - len(line.lstrip()) + 2


_LABEL = re.compile(r"  [a-z ]+?  +(?=\S)|            (?=\S)")


def duration(seconds: float) -> str:
    """Return a time span with two digits that matter."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
