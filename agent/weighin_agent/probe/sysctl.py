"""Parsing of what macOS's sysctl prints of the processor. Pure; nothing here raises on any text."""

import math
from collections.abc import Iterator, Mapping

from weighin_agent.device import CacheKind
from weighin_agent.probe.caches import CacheInstance
from weighin_agent.probe.text import parse_whole_number

# Apple's names of the instruction sets that decide which matrix kernel a runtime takes, and ours.
_ARM_SETS = {
    "hw.optional.neon": "neon",
    "hw.optional.AdvSIMD": "neon",
    "hw.optional.arm.AdvSIMD": "neon",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_FP16": "fp16",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
}
_X86_SETS = {
    "SSE4.2": "sse4_2",
    "AVX1.0": "avx",
    "FMA": "fma",
    "F16C": "f16c",
    "AVX2": "avx2",
    "AVX512F": "avx512f",
    "AVX512BW": "avx512bw",
    "AVX512VL": "avx512vl",
    "AVX512VNNI": "avx512_vnni",
}

_MOST_KINDS_OF_CORE = range(8)


def parse_sysctl(text: str) -> dict[str, str]:
    """Parse the lines "name: value"; other lines are left out."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def parse_instruction_sets(facts: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the instruction sets, sorted; None if the processor names none at all."""
    x86 = f"{facts.get('machdep.cpu.features', '')} {facts.get('machdep.cpu.leaf7_features', '')}".split()
    found = {ours for theirs, ours in _ARM_SETS.items() if facts.get(theirs) == "1"}
    found |= {ours for theirs, ours in _X86_SETS.items() if theirs in x86}
    return tuple(sorted(found)) or None


def parse_caches(facts: Mapping[str, str]) -> tuple[CacheInstance, ...]:
    """List the caches: per kind of core where there are several, else by how many processors share one."""
    levels = [level for level in _MOST_KINDS_OF_CORE if f"hw.perflevel{level}.physicalcpu" in facts]
    if levels:
        return tuple(cache for level in levels for cache in _caches_of_level(facts, level))
    return tuple(_caches_of_intel(facts))


def parse_physical_core_count(facts: Mapping[str, str]) -> int | None:
    """Count the cores of all kinds: the fastest are level 0 (sysctl.h of macOS 12)."""
    of_kinds = [number_of(facts, f"hw.perflevel{level}.physicalcpu") or 0 for level in _MOST_KINDS_OF_CORE]
    return sum(of_kinds) or number_of(facts, "hw.physicalcpu")


def _caches_of_level(facts: Mapping[str, str], level: int) -> Iterator[CacheInstance]:
    prefix = f"hw.perflevel{level}"
    core_count = number_of(facts, f"{prefix}.physicalcpu") or 0
    shared_by = number_of(facts, f"{prefix}.cpusperl2") or core_count
    for name, cache_level, kind, sharers in (
        ("l1dcachesize", 1, CacheKind.DATA, 1),
        ("l1icachesize", 1, CacheKind.INSTRUCTION, 1),
        ("l2cachesize", 2, CacheKind.UNIFIED, shared_by),
    ):
        yield from _instances(facts, f"{prefix}.{name}", cache_level, kind, core_count, sharers)


def _caches_of_intel(facts: Mapping[str, str]) -> Iterator[CacheInstance]:
    # "hw.cacheconfig" lists how many logical processors share memory, an L1, an L2, an L3 ...
    sharers = [parse_whole_number(word) or 0 for word in facts.get("hw.cacheconfig", "").split()]
    logical_count = number_of(facts, "hw.logicalcpu") or 0
    for name, level, kind in (
        ("l1dcachesize", 1, CacheKind.DATA),
        ("l1icachesize", 1, CacheKind.INSTRUCTION),
        ("l2cachesize", 2, CacheKind.UNIFIED),
        ("l3cachesize", 3, CacheKind.UNIFIED),
    ):
        if level < len(sharers) and sharers[level]:
            yield from _instances(facts, f"hw.{name}", level, kind, logical_count, sharers[level])


def _instances(
    facts: Mapping[str, str], name: str, level: int, kind: CacheKind, processor_count: int, sharers: int
) -> Iterator[CacheInstance]:
    size_bytes = number_of(facts, name)
    if size_bytes and sharers:
        for index in range(min(math.ceil(processor_count / sharers), 1024)):
            yield CacheInstance(level, kind, size_bytes, f"{name} {index}")


def number_of(facts: Mapping[str, str], name: str) -> int | None:
    """Return one fact as a number, None if it is none or 0."""
    return parse_whole_number(facts.get(name, "")) or None
