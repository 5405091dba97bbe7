"""The tiers of a fleet: how many devices have which, and every device with its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weighin_analysis.catalog import class_rank
from weighin_analysis.fleet.coverage.scope import chosen_sources, source_counts
from weighin_analysis.fleet.grading.expressions import texts
from weighin_analysis.fleet.grading.regrade import regrade
from weighin_analysis.fleet.query.answer import Answer
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.limits import Limits

# What a device runs out of first follows from any verdict on a decoder, and from nothing else.
JUDGED = "(limited_by IS NOT NULL OR tier IS NOT NULL)"
# What the tiers of one device say, in one sentence.
_HEADLINE = """CASE
    WHEN tier IS NOT NULL THEN concat('Comfortably runs ', tier, ' models in ', tiers.scheme, '.')
    WHEN usable_tier IS NOT NULL
        THEN concat('Runs ', usable_tier, ' models at reading speed, but no measured class comfortably.')
    WHEN limited_by IS NOT NULL THEN 'Runs no measured class fast enough to be useful.'
    ELSE 'Not judged: its run gave no measurement that a class can be judged by.' END"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierCount:
    """The devices of one tier, of which ``tier`` None is none at all; shares are of the devices that were judged.

    ``expected_share`` is what of ``share`` remains when every device counts by the probability that it really is
    comfortable with its tier's class; None without a tier.
    """

    tier: str | None
    device_count: int
    share: float
    expected_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """The tiers of a fleet under one version of limits, the largest first and no tier last.

    ``formula_version`` names all that are behind them, as external devices have their own.
    Of ``device_count`` devices ``judged_count`` have a verdict on some class; no share counts the others. ``sources``
    counts the devices by source, ``left_out`` those of sources that were not asked for. ``devices`` has the rows of the
    view ``tiers`` and the name of each device, the one that was heard of last first.
    """

    limits_version: str
    formula_version: str
    device_count: int
    judged_count: int
    sources: Mapping[str, int]
    left_out: Mapping[str, int]
    counts: tuple[TierCount, ...]
    devices: Answer


def tiers_of(fleet: Fleet, *, limits: Limits | None = None, source: str | None = None) -> Tiers:
    """Return the tiers of a fleet, by the limits of its snapshot where no others are given.

    QuestionError where a source must be chosen, LimitsError where limits ask for other estimates than there are.
    """
    table = f"{'tiers' if limits is None else tiers_table(fleet, limits)} AS tiers"
    chosen = chosen_sources(fleet.connection, source)
    counts = source_counts(fleet.connection)
    sources = {name: count for name, count in counts.items() if name in chosen}
    condition = f"tiers.source IN ({texts(chosen)})"
    rows = fleet.sql(
        f"SELECT tier, count(*), sum(tier_probability) FROM {table} "  # noqa: S608 - our own words
        f"WHERE {condition} AND {JUDGED} GROUP BY tier"
    ).rows()
    judged_count = sum(count for _, count, _ in rows)
    formulas = fleet.sql(f"SELECT DISTINCT formula_version FROM {table} WHERE {condition} ORDER BY 1").rows()  # noqa: S608 - as above
    return Tiers(
        limits_version=fleet.limits_version if limits is None else limits.version,
        formula_version=", ".join(version for (version,) in formulas if version),
        device_count=sum(sources.values()),
        judged_count=judged_count,
        sources=sources,
        left_out={name: count for name, count in counts.items() if name not in chosen},
        counts=tuple(_tier_count(row, judged_count) for row in sorted(rows, key=_rank, reverse=True)),
        devices=fleet.sql(
            f"SELECT tiers.*, devices.name, {_HEADLINE} AS headline FROM {table} JOIN devices USING (run_number) "  # noqa: S608 - as above
            f"WHERE {condition} ORDER BY last_receive_time DESC, tiers.device_id"
        ),
    )


def tiers_table(fleet: Fleet, limits: Limits) -> str:
    """Return the name of the fleet's table of tiers under some limits, which is made where the snapshot has none."""
    return "tiers" if limits.version == fleet.limits_version else regrade(fleet.connection, limits).tiers


def _rank(row: Sequence[Any]) -> int:
    return -1 if row[0] is None else class_rank(row[0])


def _tier_count(row: Sequence[Any], total: int) -> TierCount:
    tier, count, expected = row
    return TierCount(
        tier=tier,
        device_count=count,
        share=count / total,
        expected_share=None if expected is None else expected / total,
    )
