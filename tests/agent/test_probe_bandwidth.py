"""The measurement of memory bandwidth: what it reads, how it counts, and when it says that it may be wrong."""

import itertools

import pytest

from weighin_agent.device import Cache, CacheKind, Cpu
from weighin_agent.probe.bandwidth import measure_read_rates, plan_block, read_bandwidth
from weighin_agent.probe.gaps import Gaps

MIB = 2**20


def cpu_with_last_level_cache(size_bytes: int, instance_count: int = 1) -> Cpu:
    cache = Cache(level=3, kind=CacheKind.UNIFIED, size_bytes=size_bytes, instance_count=instance_count)
    return Cpu(caches=(cache,), physical_core_count=2)


@pytest.mark.parametrize(
    ("cpu", "available_bytes", "block_bytes", "exceeds_caches"),
    [
        (cpu_with_last_level_cache(2 * MIB), 2**34, 256 * MIB, True),
        (cpu_with_last_level_cache(105 * MIB), 2**34, 420 * MIB, True),
        (cpu_with_last_level_cache(32 * MIB, 8), 2**40, 512 * MIB, False),  # the threads fill all eight together
        (cpu_with_last_level_cache(2 * MIB), 400 * MIB, 100 * MIB, True),
        (cpu_with_last_level_cache(96 * MIB), 400 * MIB, 100 * MIB, False),
        (Cpu(), 2**34, 256 * MIB, False),
    ],
)
def test_the_block_exceeds_four_times_the_caches_within_a_quarter_of_the_memory(
    cpu: Cpu, available_bytes: int | None, block_bytes: int, exceeds_caches: bool
) -> None:
    plan = plan_block(cpu, available_bytes)
    assert plan is not None
    assert (plan.block_bytes, plan.exceeds_caches) == (block_bytes, exceeds_caches)


@pytest.mark.parametrize("available_bytes", [None, 0, 3 * MIB])
def test_without_room_nothing_is_measured_and_both_facts_are_gaps(available_bytes: int | None) -> None:
    gaps = Gaps()
    assert read_bandwidth(gaps, Cpu(), available_bytes) == (None, None)
    assert [gap.fact for gap in gaps.all()] == [
        "memory.read_bandwidth_bytes_per_second",
        "memory.single_thread_read_bandwidth_bytes_per_second",
    ]


def test_the_rate_is_the_80th_percentile_of_the_passes() -> None:
    """Passes take 1, 2, 3 ... seconds in turn; three are enough, since together they exceed the budget."""
    instants = itertools.accumulate(itertools.chain.from_iterable((0.5, float(n)) for n in itertools.count(1)))
    many, single = measure_read_rates(8 * MIB, 2, clock=lambda: next(instants))
    assert many == pytest.approx(8 * MIB / 1.4)  # p20 of 1, 2, 3
    assert single == pytest.approx(8 * MIB / 4.4)  # p20 of 4, 5, 6


def test_passes_stop_at_a_dozen_when_the_clock_says_that_they_are_fast() -> None:
    readings = itertools.count()
    measure_read_rates(MIB, 2, clock=lambda: next(readings) * 1e-6)
    assert next(readings) == 2 * 12 * 2  # two readings a pass, twelve passes, two numbers of threads


def test_a_cache_that_may_hold_the_block_is_said_beside_the_rates() -> None:
    gaps = Gaps()
    many, single = read_bandwidth(gaps, cpu_with_last_level_cache(64 * MIB), 32 * MIB)
    assert many is not None
    assert single is not None
    assert all("8 MiB" in gap.detail for gap in gaps.all())
    assert len(gaps.all()) == 2
