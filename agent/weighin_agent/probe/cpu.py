"""The central processor, on Linux and Android."""

from pathlib import Path

from weighin_agent.device import Cache, Cpu, ProbeGapReason
from weighin_agent.probe.caches import has_unequal_caches, read_caches, sum_up_caches
from weighin_agent.probe.cgroup import cpu_quota_cores
from weighin_agent.probe.cpuinfo import (
    CpuInfo,
    has_one_thread_per_core,
    parse_cpuinfo,
    parse_instruction_sets,
    parse_model,
    parse_physical_core_count,
    parse_vendor,
)
from weighin_agent.probe.files import read_line, read_source
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.system import System
from weighin_agent.probe.text import clean_text, parse_whole_number

_CPU_FOLDER = "sys/devices/system/cpu"


def read_cpu(gaps: Gaps, system: System) -> Cpu:
    """Read the processor, counted as far as this process may run on it."""
    root, allowed = system.root, system.processors or frozenset()
    source = read_source(root / "proc/cpuinfo")
    info = parse_cpuinfo(source.text)
    instruction_sets = gaps.need(
        "cpu.instruction_sets",
        parse_instruction_sets(info, allowed),
        source.absence,
        "the kernel lists no instruction sets",
    )
    _note_quota(gaps, root, len(allowed))
    return Cpu(
        # A name that the kernel does not give may still come from the last reader: no gap here.
        model=parse_model(info, allowed),
        vendor=gaps.need(
            "cpu.vendor", parse_vendor(info, allowed), source.absence, "the kernel does not name the maker"
        ),
        architecture=gaps.need(
            "cpu.architecture",
            clean_text(system.architecture),
            ProbeGapReason.NOT_OFFERED,
            "the kernel does not name its architecture",
        ),
        physical_core_count=_physical_core_count(gaps, root, info, allowed),
        logical_core_count=gaps.need(
            "cpu.logical_core_count",
            len(allowed) or None,
            ProbeGapReason.NOT_OFFERED,
            "the system does not say which processors this process may run on",
        ),
        instruction_sets=instruction_sets or (),
        caches=_caches(gaps, root, allowed),
        max_frequency_hertz=_max_frequency_hertz(gaps, root, allowed),
    )


def _physical_core_count(gaps: Gaps, root: Path, info: CpuInfo, allowed: frozenset[int]) -> int | None:
    # core_id repeats in every cluster of an ARM chip; the list of a core's own threads never does.
    threads = {
        read_line(root / _CPU_FOLDER / f"cpu{number}/topology/thread_siblings_list") for number in sorted(allowed)
    }
    count = len(threads) if threads and "" not in threads else parse_physical_core_count(info, allowed)
    if count is None and has_one_thread_per_core(info, allowed):
        count = len(allowed)
    return gaps.need(
        "cpu.physical_core_count",
        count,
        ProbeGapReason.NOT_OFFERED,
        "the kernel does not say which logical processors share a core",
    )


def _caches(gaps: Gaps, root: Path, allowed: frozenset[int]) -> tuple[Cache, ...]:
    instances = read_caches(root / _CPU_FOLDER, allowed)
    if not instances:
        gaps.add("cpu.caches", ProbeGapReason.NOT_OFFERED, "the kernel does not describe the caches")
    elif has_unequal_caches(instances):
        gaps.add(
            "cpu.caches",
            ProbeGapReason.NOT_OFFERED,
            "the cores have caches of different sizes; the largest of each level and kind is stated",
        )
    return sum_up_caches(instances)


def _max_frequency_hertz(gaps: Gaps, root: Path, allowed: frozenset[int]) -> int | None:
    texts = [read_line(root / _CPU_FOLDER / f"cpu{number}/cpufreq/cpuinfo_max_freq") for number in sorted(allowed)]
    kilohertz = max((parse_whole_number(text) or 0 for text in texts), default=0)
    return gaps.need(
        "cpu.max_frequency_hertz",
        kilohertz * 1000 or None,
        ProbeGapReason.NOT_OFFERED,
        "the kernel does not state a highest clock; most virtual machines have none",
    )


def _note_quota(gaps: Gaps, root: Path, logical_core_count: int) -> None:
    quota = cpu_quota_cores(root)
    if quota is not None and quota < logical_core_count:
        gaps.add(
            "cpu.logical_core_count",
            ProbeGapReason.NOT_OFFERED,
            f"a limit of this container or service allows the time of {quota:g} processors; the counts leave it out",
        )
