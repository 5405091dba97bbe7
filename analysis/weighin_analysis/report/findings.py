"""Everything that a report says, as values: coverage, and what only the page shows beside it.

A device counts once, by its newest run. Shares are 0 to 1; times are aware and in UTC.
"""

from dataclasses import dataclass
from datetime import datetime

from weighin_analysis.card import Verdict
from weighin_analysis.fleet.coverage.values import Coverage, VerdictCount
from weighin_analysis.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """What a class takes in memory, from the scheme that takes least to the one that takes most.

    ``run_share`` of the ``estimate_count`` estimates of the class rest on a run of it; the others were computed.
    """

    size_class: str
    least_bytes: int
    most_bytes: int
    run_share: float
    estimate_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeMemory:
    """``share`` of the ``known_count`` devices whose free memory is known have at least ``memory_bytes`` of it."""

    share: float
    memory_bytes: int
    known_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedMark:
    """The best row of one device for one class; ``computed`` where nothing of the class was run."""

    decode_tokens_per_second: float
    prefill_tokens_per_second: float
    verdict: Verdict
    computed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLine:
    """A device in the table of all; ``tiers`` are one per version of the limits, the speed is that of the first."""

    device_id: str
    run_id: str
    run_count: int
    hardware_id: str | None
    name: str | None
    form_factor: str | None
    source: str
    memory_total_bytes: int | None
    accelerator_model: str | None
    disturbed: bool | None
    tiers: tuple[str | None, ...]
    tier_probability: float | None
    usable_tier: str | None
    limited_by: str | None
    decode_tokens_per_second: float | None

    @property
    def judged(self) -> bool:
        """Whether any decoder could be judged: then something limits the device."""
        return self.limited_by is not None

    @property
    def no_tier(self) -> str:
        """What to say in place of a tier that is None."""
        return "none" if self.judged else "not judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many of the counted runs have one version of one thing."""

    what: str
    value: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that a report says, before it is put into words. The first limits are those of everything that has one."""

    time: datetime
    coverage: Coverage
    limits: tuple[Limits, ...]
    run_count: int
    verdict_counts: tuple[VerdictCount, ...]
    needs: tuple[MemoryNeed, ...]
    stock: tuple[FreeMemory, ...]
    mark_class: str | None
    marks: tuple[SpeedMark, ...]
    devices: tuple[DeviceLine, ...]
    tallies: tuple[Tally, ...]
