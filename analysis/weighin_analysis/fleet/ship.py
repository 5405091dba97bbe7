"""The ship table: for every tier that occurs the class to ship, how far it reaches, and what is left to a server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weighin_analysis.fleet.coverage import BoolArray, Cells, FloatArray, remainder, share_of, weighted_median
from weighin_analysis.fleet.standing import ClassRows, Standing, fastest
from weighin_analysis.fleet.values import Level, Share, ShipRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The scheme to ship a class in: that in which most devices run it comfortably; the medians are over these."""

    scheme: str
    download_bytes: int | None
    median_decode_tokens_per_second: float | None
    median_time_to_first_token_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassStanding:
    """How every device stands towards a class by its best row, whatever its scheme.

    ``decode`` is its fastest rate and ``comfortable_decode`` the fastest that is comfortable; NaN where there is none.
    ``choice`` is None where no device runs the class comfortably.
    """

    size_class: str
    comfortable: Standing
    usable: Standing
    decode: FloatArray
    comfortable_decode: FloatArray
    choice: Choice | None


def class_standing(
    size_class: str,
    rows: ClassRows,
    best: Mapping[Level, Standing],
    schemes: Sequence[str],
    downloads: Mapping[tuple[str, str], int | None],
    weights: FloatArray,
) -> ClassStanding:
    """Return how devices stand by the rows of a class; ``weights`` has what each device stands for."""
    comfortable = rows.reaches(Level.COMFORTABLE)
    return ClassStanding(
        size_class=size_class,
        comfortable=best[Level.COMFORTABLE],
        usable=best[Level.USABLE],
        decode=_rates(rows, np.ones(len(rows.place), dtype=np.bool_), len(weights)),
        comfortable_decode=_rates(rows, comfortable, len(weights)),
        choice=_choice(size_class, rows, comfortable, schemes, downloads, weights),
    )


def ship_table(
    limits_version: str, classes: Sequence[ClassStanding], judged: BoolArray, cells: Cells
) -> tuple[ShipRow, ...]:
    """Return a row per tier that occurs, the largest first, then the devices without one; none without a device.

    ``classes`` are sorted by size and ``judged`` are the devices with a verdict on any of them.
    """
    among = cells.among(judged)
    larger = {level: Standing.nobody(len(judged)) for level in Level}
    rows = []
    for one in reversed(classes):
        reaching = {
            Level.COMFORTABLE: larger[Level.COMFORTABLE] | one.comfortable,
            Level.USABLE: larger[Level.USABLE] | one.usable,
        }
        comfortable, beyond = (every[Level.COMFORTABLE] for every in (reaching, larger))
        tier_count = int((comfortable.point & ~beyond.point).sum())
        tier_share = share_of((comfortable.reached() - beyond.reached()).among(judged), among)
        reach, usable_reach = (share_of(reaching[level].reached().among(judged), among) for level in Level)
        larger = reaching
        if tier_count and one.choice and tier_share and reach and usable_reach:
            rows.append(ShipRow(
                limits_version=limits_version,
                size_class=one.size_class,
                scheme=one.choice.scheme,
                download_bytes=one.choice.download_bytes,
                tier_count=tier_count,
                tier_share=tier_share,
                reach=reach,
                usable_reach=usable_reach,
                server=remainder(reach),
                median_decode_tokens_per_second=one.choice.median_decode_tokens_per_second,
                median_time_to_first_token_seconds=one.choice.median_time_to_first_token_seconds,
            ))  # fmt: skip
    return (*rows, *_without_tier(limits_version, larger[Level.COMFORTABLE], judged, among))


def _without_tier(limits_version: str, any_class: Standing, judged: BoolArray, among: Cells) -> list[ShipRow]:
    """Return the row of shipping nothing: a server does all, for the devices without a tier there is no other way."""
    reached = share_of(any_class.reached().among(judged), among)
    if reached is None:
        return []
    nothing = Share(value=0.0, low=0.0, high=0.0)
    return [
        ShipRow(
            limits_version=limits_version,
            size_class=None,
            scheme=None,
            download_bytes=None,
            tier_count=int((judged & ~any_class.point).sum()),
            tier_share=remainder(reached),
            reach=nothing,
            usable_reach=nothing,
            server=remainder(nothing),
            median_decode_tokens_per_second=None,
            median_time_to_first_token_seconds=None,
        )
    ]


def _choice(
    size_class: str,
    rows: ClassRows,
    comfortable: BoolArray,
    schemes: Sequence[str],
    downloads: Mapping[tuple[str, str], int | None],
    weights: FloatArray,
) -> Choice | None:
    of_scheme = [fastest(rows, comfortable & (rows.scheme == number), len(weights)) for number in range(len(schemes))]
    # Schemes come from the fewest bits: of equals the smaller download.
    number = max(range(len(schemes)), key=lambda number: len(of_scheme[number]), default=0)
    best = of_scheme[number] if of_scheme else np.zeros(0, dtype=np.int64)
    if not len(best):
        return None
    weight = weights[rows.place[best]]
    return Choice(
        scheme=schemes[number],
        download_bytes=downloads.get((size_class, schemes[number])),
        median_decode_tokens_per_second=weighted_median(rows.decode[best], weight),
        median_time_to_first_token_seconds=weighted_median(rows.first[best], weight),
    )


def _rates(rows: ClassRows, chosen: BoolArray, device_count: int) -> FloatArray:
    """Return the fastest decode rate of every device among some of the rows."""
    rates = np.full(device_count, np.nan)
    best = fastest(rows, chosen, device_count)
    rates[rows.place[best]] = rows.decode[best]
    return rates
