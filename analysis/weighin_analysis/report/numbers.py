"""Numbers as people read them. GiB for memory, GB for downloads and bandwidth; a space before every unit."""

import math

from weighin_analysis.card import Estimate
from weighin_analysis.fleet.coverage.values import Share
from weighin_analysis.numbers import number

_BINARY_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def rounded(value: float, decimals: int) -> str:
    """Return ``value`` at that many decimals, thousands apart."""
    return f"{value:,.{decimals}f}"


def estimate_text(estimate: Estimate, scale: float = 1.0) -> tuple[str, str]:
    """Return value and interval, each number by itself."""
    value, low, high = (number(scale * one) for one in (estimate.value, estimate.low, estimate.high))
    return value, f"{low} to {high}"


def significant_decimals(value: float, digits: int) -> int:
    """Return the decimals that show ``value`` with that many significant digits."""
    return digits - 1 - math.floor(math.log10(abs(value))) if value else 0


def significant(value: float, digits: int = 2) -> str:
    """Return ``value`` with that many significant digits, never with fewer digits than its integer part."""
    return rounded(value, max(0, significant_decimals(value, digits)))


def gib(byte_count: float) -> str:
    """Return memory in GiB."""
    return f"{significant(byte_count / 2**30)} GiB"


def gb(byte_count: float) -> str:
    """Return a download in GB (10^9 bytes)."""
    return f"{significant(byte_count / 1e9)} GB"


def gb_per_second(bytes_per_second: float) -> str:
    """Return a bandwidth in GB/s."""
    return f"{significant(bytes_per_second / 1e9)} GB/s"


def cache_size(byte_count: int) -> str:
    """Return the size of a cache in the largest binary unit that it fills."""
    unit, size = next(((unit, size) for unit, size in _BINARY_UNITS if byte_count >= size), ("bytes", 1))
    return f"{byte_count / size:g} {unit}"


def counted(count: int, noun: str) -> str:
    """Return how many of a thing there are, in words that agree."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def people(covered_share: float, devices: str) -> str:
    """Return for whom devices speak that are weighted to a population of which they cover a share."""
    if covered_share > 1 - 1e-9:
        return f"the population (by {devices})"
    return f"the {percent(covered_share)} of the population that is covered (by {devices})"


def percent(share: float) -> str:
    """Return a share of 0 to 1 in whole percent; a small one is not shown as none, nor a large one as all."""
    if 0 < share <= 0.005:
        return "under 1 %"
    return "over 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def signed_percent(change: float) -> str:
    """Return a change as percent with its sign; what rounds to nothing has none."""
    return "±0 %" if abs(change) < 0.0005 else f"{100 * change:+.1f} %".replace("-", "−")


def share_interval(share: Share) -> tuple[str, str]:
    """Return both ends of the interval of a share, the lower one without its unit."""
    return percent(share.low).removesuffix(" %"), percent(share.high)


def share_text(share: Share) -> tuple[str, str]:
    """Return a share and its interval, which may be none."""
    low, high = share_interval(share)
    return percent(share.value), "" if share.low == share.high else f"{low} to {high}"
