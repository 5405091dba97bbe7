"""How a model's needs are told: the keys of a document, and sentences for a person."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from weighin_analysis.answers.requirement import Requirement
from weighin_analysis.answers.shrunk import WhatIfResult, told
from weighin_analysis.sizes.download import download_seconds

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
        spread = f", may be {gb(download.low)} to {gb(download.high)}" if gb(download.low) != gb(download.high) else ""
        beside = f", {gb(sum(one.bytes for one in adapters))} of it adapters" if adapters else ""
        yield f"  download  {gb(needed.download_bytes)} ({download.basis}{spread}{beside}): {times}"
        yield f"  disk      {gb(needed.disk_bytes)} with tokenizer and runtime"
    if memory and needed.memory_bytes is not None:
        runtime = "not known" if memory.runtime is None else gib(memory.runtime)
        yield f"  memory    {gib(needed.memory_bytes)} in {needed.runtime} at a context of {context_tokens:,} tokens:"
        yield (
            f"            weights {gib(memory.weights)}, KV cache {gib(memory.kv_cache)} ({memory.kv_type}), "
            f"activations {gib(memory.activations)}, runtime {runtime}"
        )
    for note in [*(download.notes if download else ()), *(memory.notes if memory else ()), *needed.missing]:
        yield f"  {note}"


def what_if_lines(result: WhatIfResult) -> Iterator[str]:
    """Yield what a technique changes of a model, for a person."""
    after = result.after.candidate
    yield f"what if: {after.entry.name}, {after.format} {after.scheme}"
    for line in told(result):
        yield f"  {line}"


def gb(count: int) -> str:
    """Return bytes as people know downloads: GB of 10^9 bytes, MB below a tenth of one."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def gib(count: int) -> str:
    """Return bytes as people know memory."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """Return a time span with two digits that matter."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
