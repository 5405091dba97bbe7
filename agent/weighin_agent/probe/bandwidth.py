"""How fast memory is read: the roof of decode, since every token reads every weight once.

A sum over 64-bit integers does less arithmetic per byte than memory can deliver bytes, so its time is the time of
reading. numpy releases the interpreter lock inside it, so threads really read at the same time.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weighin_agent.device import Cpu, ProbeGapReason, last_level_cache
from weighin_agent.probe.gaps import Gaps

_FACTS = ("memory.read_bandwidth_bytes_per_second", "memory.single_thread_read_bandwidth_bytes_per_second")

_LEAST_BLOCK_BYTES = 256 * 2**20  # below, starting the threads would be a visible part of a pass
_MOST_BLOCK_BYTES = 512 * 2**20  # above, a slow device would need seconds
_CACHES_PER_BLOCK = 4  # then at most a quarter of a pass can come from the cache
_LEAST_PASSES, _MOST_PASSES = 3, 12
_BUDGET_SECONDS = 0.45  # for each number of threads

Block = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """How many bytes to read, and whether they are four times what the last-level caches hold together."""

    block_bytes: int
    exceeds_caches: bool


def plan_block(cpu: Cpu, available_bytes: int | None) -> BlockPlan | None:
    """Choose the block; None if there is no room for one. All instances count: together the threads fill them all."""
    cache = last_level_cache(cpu)
    wanted_bytes = 0 if cache is None else _CACHES_PER_BLOCK * cache.size_bytes * cache.instance_count
    ceiling_bytes = min(_MOST_BLOCK_BYTES, (available_bytes or 0) // 4)
    block_bytes = min(max(wanted_bytes, _LEAST_BLOCK_BYTES), ceiling_bytes)
    if block_bytes < 2**20:
        return None
    return BlockPlan(block_bytes=block_bytes, exceeds_caches=0 < wanted_bytes <= block_bytes)


def read_bandwidth(
    gaps: Gaps, cpu: Cpu, available_bytes: int | None, clock: Callable[[], float] = time.perf_counter
) -> tuple[float | None, float | None]:
    """Measure bytes per second with a thread on every physical core, and with one thread.

    Takes about a second and at most a quarter of the available memory, which is free again afterwards.
    """
    plan = plan_block(cpu, available_bytes)
    if plan is None:
        return nothing_measured(gaps, ProbeGapReason.NOT_OFFERED, "too little memory is available to measure")
    thread_count = cpu.physical_core_count or cpu.logical_core_count or 1
    try:
        rates = measure_read_rates(plan.block_bytes, thread_count, clock)
    except (MemoryError, RuntimeError):  # no memory, or no more threads allowed
        return nothing_measured(gaps, ProbeGapReason.READ_FAILED, "the system refused the memory or the threads")
    if not plan.exceeds_caches:
        detail = (
            f"read a block of {plan.block_bytes // 2**20} MiB, which is not known to be four times the last-level "
            "caches: part of it may have come from them"
        )
        for fact in _FACTS:
            gaps.add(fact, ProbeGapReason.NOT_OFFERED, detail)
    return rates


def measure_read_rates(block_bytes: int, thread_count: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Return bytes per second with ``thread_count`` threads and with one, over one block of ``block_bytes``."""
    block: Block = np.empty(block_bytes // 8, dtype=np.uint64)
    slices = np.array_split(block, thread_count)
    with ThreadPoolExecutor(thread_count) as pool:
        # Written first, each slice by a thread of its own: untouched pages would all be one page of zeros in the
        # cache, and on machines with several memory controllers a page lies near the thread that first writes it.
        list(pool.map(lambda part: part.fill(1), slices))
        many = _rate(block.nbytes, lambda: list(pool.map(np.add.reduce, slices)), clock)
    single = many if thread_count == 1 else _rate(block.nbytes, lambda: np.add.reduce(block), clock)
    return many, single


def _rate(pass_bytes: int, read_once: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the 80th percentile of the rate over several passes: other work on the device only ever slows one down."""
    seconds: list[float] = []
    while len(seconds) < _LEAST_PASSES or (len(seconds) < _MOST_PASSES and sum(seconds) < _BUDGET_SECONDS):
        begin = clock()
        read_once()
        seconds.append(clock() - begin)
    return pass_bytes / max(float(np.quantile(seconds, 0.2)), 1e-9)


def nothing_measured(gaps: Gaps, reason: ProbeGapReason, detail: str) -> tuple[None, None]:
    """Record why there is no bandwidth."""
    for fact in _FACTS:
        gaps.add(fact, reason, detail)
    return None, None
