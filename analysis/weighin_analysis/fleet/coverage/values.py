"""What a fleet says, as values: shares of devices with their intervals, and what follows for what to ship.

Shares are 0 to 1. An interval counts the size of the sample and the uncertainty of the estimates (docs/coverage.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from weighin_analysis.card import Verdict


class Level(StrEnum):
    """What a device must reach at least to count."""

    COMFORTABLE = "comfortable"
    USABLE = "usable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of devices with the interval that holds it with the probability that the sample states."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The devices behind a statement.

    ``sources`` counts them by source and ``left_out`` those of sources that were not asked for; no source is ever mixed
    in silently. ``effective_device_count`` is Kish's, of the judged devices: the size of an unweighted sample that says
    as much. ``covered_population_share`` is the share of the population in whose cells a device is judged; 1 without
    weights.
    ``unplaced_device_count`` are devices that belong to no cell of the population; no weighted share counts them.
    ``unjudged_device_count`` are devices on which no decoder could be judged; no share counts them. These counts are
    None where so few devices may not be shown (``suppress.py``).
    """

    device_count: int
    sources: Mapping[str, int]
    left_out: Mapping[str, int]
    weighted: bool
    effective_device_count: float
    covered_population_share: float
    unplaced_device_count: int | None
    unjudged_device_count: int | None
    disturbed_device_count: int | None
    interval_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageRow:
    """The share of devices that run a size class at a level, in one scheme or (``scheme`` None) in any.

    ``judged_count`` devices have a verdict on it and ``reached_count`` of them reach the level by their point estimate;
    ``unjudged_count`` have none, and the share says nothing of them; it is None where so few may not be shown.
    ``share`` is None where no device is judged, and where a part of the population that judged devices stand for has
    none that is judged on this; ``covered_population_share`` is the part that has one.
    """

    limits_version: str
    size_class: str
    scheme: str | None
    level: Level
    covered_population_share: float
    judged_count: int
    reached_count: int
    unjudged_count: int | None
    share: Share | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipRow:
    """One choice: ship this class to the devices that run it, and leave the rest to a server.

    ``tier_count`` devices have exactly this tier; ``reach`` is the share of this tier or a larger one, ``usable_reach``
    that of the ``usable_count`` devices on which this class or a larger one is at least usable, ``server`` what
    ``reach`` leaves. Most
    devices that run it comfortably do so with ``scheme``; the rates are medians over all of them, each with its best.
    ``size_class`` is None for shipping nothing, the only choice for the ``tier_count`` devices without a tier.
    """

    limits_version: str
    size_class: str | None
    scheme: str | None
    download_bytes: int | None
    tier_count: int
    usable_count: int
    tier_share: Share
    reach: Share
    usable_reach: Share
    server: Share
    median_decode_tokens_per_second: float | None
    median_time_to_first_token_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineDevice:
    """The device at a percentile of the fleet, from the weakest: by its tier, then by its decode rate."""

    limits_version: str
    percentile: int
    device_id: str
    name: str | None
    source: str
    form_factor: str | None
    memory_total_bytes: int | None
    tier: str | None
    size_class: str | None
    decode_tokens_per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSpeed:
    """How fast the devices run a class, each with its best scheme: quartiles from the slowest device to the fastest."""

    size_class: str
    device_count: int
    decode_tokens_per_second: tuple[float, float, float]
    prefill_tokens_per_second: tuple[float, float, float] | None
    time_to_first_token_seconds: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictCount:
    """How many devices of a tier have this verdict on a class, each by its best row; ``tier`` is None for none."""

    limits_version: str
    tier: str | None
    size_class: str
    verdict: Verdict
    device_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """How many devices pass a gate that exists elsewhere; ``unknown_count`` lack a fact that it asks for."""

    gate: str
    passed_count: int
    failed_count: int
    unknown_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Everything that a fleet says under one or more versions of the limits.

    ``notes`` are what a reader of these shares must know, in words: cells without a device, several suites.
    """

    sample: Sample
    limits_versions: tuple[str, ...]
    formula_version: str
    rows: tuple[CoverageRow, ...]
    ship: tuple[ShipRow, ...]
    baselines: tuple[BaselineDevice, ...]
    speeds: tuple[ClassSpeed, ...]
    gates: tuple[GateRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShares:
    """Which devices run a model in one scheme, or in any; ``judged_count`` devices have a verdict on it.

    ``format`` and ``scheme`` are None for any. ``memory_bytes`` is the most of any execution provider.
    """

    format: str | None
    scheme: str | None
    download_bytes: int | None
    memory_bytes: int | None
    judged_count: int
    comfortable: Share | None
    usable: Share | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCheck:
    """What a fleet says of one model, with memory counted for ``context_tokens``.

    ``verdicts`` counts the devices by their best verdict, and ``unjudged_count`` those without one. Quartiles are of
    the devices that it fits on, the slowest first, each with its fastest scheme; None where there is none.
    ``storage_short_count`` devices have less free storage than the smallest download. ``left_out`` are devices of
    sources that were not asked for. ``covered_population_share`` is the share of the population in whose cells a device
    has a verdict, None without weights.
    """

    model: str
    parameters: int | None
    size_class: str
    context_tokens: int
    limits_version: str
    sources: Mapping[str, int]
    left_out: Mapping[str, int]
    covered_population_share: float | None
    any_scheme: ModelShares
    schemes: tuple[ModelShares, ...]
    verdicts: Mapping[str, int]
    unjudged_count: int
    decode_tokens_per_second: tuple[float, float, float] | None
    time_to_first_token_seconds: tuple[float, float, float] | None
    storage_short_count: int
    notes: tuple[str, ...]
