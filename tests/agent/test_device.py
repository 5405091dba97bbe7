"""What follows from the facts of a device alone."""

import pytest

from weighin_agent.device import Cpu, usable_core_count

EIGHT_CORES = Cpu(physical_core_count=8, logical_core_count=16)


@pytest.mark.parametrize(
    ("cpu", "quota_cores", "count"),
    [
        (EIGHT_CORES, None, 8),
        (EIGHT_CORES, 2.0, 2),
        (EIGHT_CORES, 2.9, 2),
        (EIGHT_CORES, 0.5, 1),
        (EIGHT_CORES, 64.0, 8),
        (Cpu(logical_core_count=4), None, 4),
        (Cpu(), None, 1),
        (Cpu(), 3.0, 1),
    ],
)
def test_a_quota_leaves_the_whole_cores_that_it_pays_for(cpu: Cpu, quota_cores: float | None, count: int) -> None:
    """More threads than that would use the quota up early in every period and then all wait together."""
    assert usable_core_count(cpu, quota_cores) == count
