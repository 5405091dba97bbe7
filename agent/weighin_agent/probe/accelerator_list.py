"""Reads what was found, up to as many accelerators as a run may list."""

from collections.abc import Callable, Sequence

from weighin_agent.device import Accelerator, ProbeGapReason
from weighin_agent.probe.gaps import Gaps

# The aggregator accepts no more.
MOST_ACCELERATORS = 16

# Reads one accelerator that was found; it is given the fact ("accelerators.0") that its gaps name.
AcceleratorReader = Callable[[str], Accelerator]


def read_each(gaps: Gaps, found: Sequence[AcceleratorReader]) -> tuple[Accelerator, ...]:
    """Read the first sixteen, and say how many there are besides."""
    left_out_count = len(found) - MOST_ACCELERATORS
    if left_out_count > 0:
        detail = f"{left_out_count} more were found; only the first {MOST_ACCELERATORS} are listed"
        gaps.add("accelerators", ProbeGapReason.NOT_IMPLEMENTED, detail)
    return tuple(read(f"accelerators.{index}") for index, read in enumerate(found[:MOST_ACCELERATORS]))
