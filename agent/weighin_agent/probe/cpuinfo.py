"""Parsing of /proc/cpuinfo: what kind of processor this is. Pure; nothing here raises on any text.

The file also carries a serial number on some ARM boards: it is read past, never kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from weighin_agent.probe.arm_cores import CORES, SINGLE_THREADED_MAKERS, THREADED_CORES, VENDORS
from weighin_agent.probe.text import clean_processor_name, clean_text, parse_hexadecimal, parse_whole_number

# The kernel's name of every instruction set that decides which matrix kernel a runtime takes, and ours.
INSTRUCTION_SETS = {
    "sse4_2": "sse4_2",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512vl": "avx512vl",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "neon": "neon",
    "asimd": "neon",  # the 64-bit kernel's name of the same
    "asimddp": "dotprod",
    "asimdhp": "fp16",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}

_NAME_KEYS = ("model name", "cpu model", "cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuInfo:
    """One mapping of lower-case keys per logical processor, by its number, and what is said of all of them."""

    processors: Mapping[int, Mapping[str, str]]
    common: Mapping[str, str]

    def values(self, key: str, allowed: Iterable[int]) -> tuple[str, ...]:
        """Return the distinct values of ``key`` over the allowed processors, first seen first."""
        of_each = [self.processors[number].get(key) for number in sorted(allowed) if number in self.processors]
        found = [value for value in of_each if value] or [self.common.get(key, "")]
        return tuple(dict.fromkeys(value for value in found if value))


def parse_cpuinfo(text: str) -> CpuInfo:
    """Split the file into its blocks, one per logical processor."""
    processors: dict[int, dict[str, str]] = {}
    common: dict[str, str] = {}
    for block in text.replace("\r", "").split("\n\n"):
        pairs = [line.partition(":") for line in block.split("\n") if ":" in line]
        facts = {key.strip().lower(): value.strip() for key, _, value in pairs}
        # Old ARM kernels also write "Processor: ARMv7 ..." in a block about the whole chip: only a number counts.
        number = parse_whole_number(facts.get("processor", ""))
        if number is None:
            common |= facts
        else:
            processors[number] = facts
    return CpuInfo(processors=processors, common=common)


def parse_model(info: CpuInfo, allowed: Iterable[int]) -> str | None:
    """Return the processor's name; the names of all kinds of core where there are several."""
    allowed = tuple(allowed)
    names = [name for part in _arm_parts(info, allowed) if (name := CORES.get(part[0], {}).get(part[1]))]
    # An ARM kernel's "model name" is the instruction set ("ARMv7 Processor rev 3 (v7l)"), so the part goes first.
    if not names and not _arm_parts(info, allowed):
        names = [name for key in _NAME_KEYS for name in info.values(key, allowed)[:1]][:1]
    return clean_processor_name(" + ".join(dict.fromkeys(names)))


def parse_vendor(info: CpuInfo, allowed: Iterable[int]) -> str | None:
    """Return who designed the processor, as the processor or the MIDR register says."""
    allowed = tuple(allowed)
    implementers = dict.fromkeys(VENDORS.get(part[0], "") for part in _arm_parts(info, allowed))
    return clean_text(" + ".join(filter(None, implementers)) or "".join(info.values("vendor_id", allowed)[:1]))


def parse_instruction_sets(info: CpuInfo, allowed: Iterable[int]) -> tuple[str, ...] | None:
    """Return the instruction sets that every allowed processor has, sorted; None if the file lists none at all."""
    allowed = tuple(allowed)
    lines = info.values("flags", allowed) or info.values("features", allowed)
    if not lines:
        return None
    shared = set.intersection(*(set(line.split()) for line in lines))
    return tuple(sorted({ours for kernels, ours in INSTRUCTION_SETS.items() if kernels in shared}))


def parse_physical_core_count(info: CpuInfo, allowed: Iterable[int]) -> int | None:
    """Count the distinct pairs of package and core; None where the file does not name them (all ARM)."""
    chosen = [info.processors[number] for number in allowed if number in info.processors]
    cores = {(facts.get("physical id"), facts["core id"]) for facts in chosen if "core id" in facts}
    return len(cores) if cores and all("core id" in facts for facts in chosen) else None


def has_one_thread_per_core(info: CpuInfo, allowed: Iterable[int]) -> bool:
    """Whether every core is of a kind that runs one thread only: ARM's own, but for three, and Apple's."""
    parts = _arm_parts(info, tuple(allowed))
    return bool(parts) and all(
        part in CORES.get(maker, {}) and maker in SINGLE_THREADED_MAKERS and (maker, part) not in THREADED_CORES
        for maker, part in parts
    )


def has_hypervisor_flag(info: CpuInfo) -> bool | None:
    """Whether an x86 processor says that a hypervisor runs it; None on other processors, which cannot say."""
    flags = info.values("flags", info.processors)
    return any("hypervisor" in line.split() for line in flags) if flags else None


def _arm_parts(info: CpuInfo, allowed: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return the distinct pairs of implementer and part, first seen first."""
    parts = []
    for number in sorted(allowed) or [-1]:
        facts = {**info.common, **info.processors.get(number, {})}
        implementer, part = (parse_hexadecimal(facts.get(f"cpu {name}", "")) for name in ("implementer", "part"))
        if implementer is not None and part is not None:
            parts.append((implementer, part))
    return tuple(dict.fromkeys(parts))
