"""The state of a device around a run, and whether it casts doubt on the numbers: clean, or disturbed and why."""

from collections.abc import Sequence
from dataclasses import dataclass

# Others that use more of the processor than this slow a round visibly; nothing was seen below it.
FOREIGN_SHARE = 0.05
# The same for what a hypervisor gives to others.
STEAL_SHARE = 0.05
# Consecutive canaries on idle virtual machines differ by up to a quarter.
CANARY_DRIFT = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The state of a device at one moment; the two canaries are short loads of known size. None is not readable."""

    memory_available_bytes: int | None
    foreign_cpu_share: float | None
    steal_cpu_share: float | None
    power_source: str | None
    frequency_hertz: int | None
    temperature_celsius: float | None
    canary_matrix_flops: float | None
    canary_read_bytes_per_second: float | None


def disturbances(moments: Sequence[Conditions], foreign_cpu_share: float | None) -> tuple[str, ...]:
    """Return a sentence for everything that casts doubt on a run; a run without any is clean.

    ``moments`` are the conditions before and after the run, as far as they are known; ``foreign_cpu_share`` is the
    median share of the processor that others used while its rounds ran.
    """
    found: list[str] = []
    during = foreign_cpu_share or 0.0
    around = max((moment.foreign_cpu_share or 0.0 for moment in moments), default=0.0)
    if during > FOREIGN_SHARE:
        found.append(f"Other programs used {during:.0%} of the processor while it ran.")
    elif around > 2 * FOREIGN_SHARE:  # half a second that need not stand for the run
        found.append(f"Other programs used {around:.0%} of the processor around the run.")
    steal = max((moment.steal_cpu_share or 0.0 for moment in moments), default=0.0)
    if steal > STEAL_SHARE:
        found.append(f"The hypervisor gave {steal:.0%} of the processor to others around the run.")
    for what, field in (("computed", "canary_matrix_flops"), ("read memory", "canary_read_bytes_per_second")):
        speeds = [getattr(moment, field) for moment in moments if getattr(moment, field)]
        change = speeds[-1] / speeds[0] - 1 if speeds else 0.0
        if abs(change) > CANARY_DRIFT:
            direction = "slower" if change < 0 else "faster"
            found.append(f"The device {what} {abs(change):.0%} {direction} after the run than before it.")
    if any(moment.power_source == "battery" for moment in moments):
        found.append("It ran on battery: on the mains it may be faster.")
    return tuple(found)
