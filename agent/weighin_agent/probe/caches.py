"""Processor caches from the kernel's topology files."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from weighin_agent.device import Cache, CacheKind
from weighin_agent.probe.files import list_folder, read_line
from weighin_agent.probe.text import parse_whole_number

_SIZE = re.compile(r"([0-9]{1,12})([KMG]?)", re.ASCII)
_UNIT_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_KINDS = {"Data": CacheKind.DATA, "Instruction": CacheKind.INSTRUCTION, "Unified": CacheKind.UNIFIED}


@dataclass(frozen=True, slots=True, order=True)
class CacheInstance:
    """One cache as one processor sees it; ``shared_by`` is the kernel's list of the processors that share it."""

    level: int
    kind: CacheKind
    size_bytes: int
    shared_by: str


def parse_cache_size(text: str) -> int | None:
    """Parse the kernel's size, for example "2048K", into bytes."""
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) * _UNIT_BYTES[match[2]] if match else None


def parse_cache(level: str, kind: str, size: str, shared_by: str) -> CacheInstance | None:
    """Make one cache of the texts of its files; None if one does not parse or the size is 0, as on some firmware."""
    number, size_bytes, cache_kind = parse_whole_number(level), parse_cache_size(size), _KINDS.get(kind.strip())
    if not number or not size_bytes or cache_kind is None:
        return None
    return CacheInstance(number, cache_kind, size_bytes, shared_by.strip())


def sum_up_caches(instances: Iterable[CacheInstance]) -> tuple[Cache, ...]:
    """Count the distinct instances of every level and kind, nearest to the core first.

    Cores of different kinds have caches of different sizes: the largest is stated; see `has_unequal_caches`.
    """
    distinct = set(instances)
    caches = []
    for level, kind in sorted({(instance.level, instance.kind) for instance in distinct}):
        alike = [instance for instance in distinct if (instance.level, instance.kind) == (level, kind)]
        size_bytes = max(instance.size_bytes for instance in alike)
        caches.append(Cache(level=level, kind=kind, size_bytes=size_bytes, instance_count=len(alike)))
    return tuple(caches)


def has_unequal_caches(instances: Iterable[CacheInstance]) -> bool:
    """Whether caches of one level and kind differ in size, as on processors with two kinds of core."""
    distinct = set(instances)
    sizes = {(instance.level, instance.kind, instance.size_bytes) for instance in distinct}
    return len(sizes) > len({(instance.level, instance.kind) for instance in distinct})


def read_caches(cpu_folder: Path, allowed: Iterable[int]) -> tuple[CacheInstance, ...]:
    """Read the caches of the allowed processors; a cache that is shared is listed once per processor."""
    found = []
    for number in sorted(allowed):
        for folder in list_folder(cpu_folder / f"cpu{number}" / "cache"):
            # Without a list of sharers, a cache belongs to the processor that names it.
            shared_by = read_line(folder / "shared_cpu_list") or str(number)
            level, kind, size = (read_line(folder / name) for name in ("level", "type", "size"))
            if cache := parse_cache(level, kind, size, shared_by):
                found.append(cache)
    return tuple(found)
