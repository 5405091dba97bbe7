"""The ship table: for every tier that occurs the class to ship, how far it reaches, and what is left to a server."""

from collections.abc import Sequence
from dataclasses import dataclass

from weighin_analysis.fleet.coverage.shares import (
    BoolArray,
    Cells,
    FloatArray,
    Reached,
    remainder,
    share_of,
    weighted_median,
)
from weighin_analysis.fleet.coverage.standing import Standing
from weighin_analysis.fleet.coverage.values import Level, Share, ShipRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The scheme to ship a class in: that in which most devices run it comfortably.

    The medians are over all devices that do, each with its best scheme.
    """

    scheme: str
    download_bytes: int | None
    median_decode_tokens_per_second: float | None
    median_time_to_first_token_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassStanding:
    """How devices stand towards a class, each with its best scheme; ``choice`` is None where none is comfortable."""

    size_class: str
    best: Standing
    choice: Choice | None


def choice_of(
    candidates: Sequence[tuple[str, int | None, Standing]], best: Standing, weights: FloatArray
) -> Choice | None:
    """Return the choice among (scheme, bytes to download, how devices stand), of equals the first.

    ``best`` is how they stand with the best scheme of each, ``weights`` are what they stand for.
    """
    parts = [float(weights[one.reaching(Level.COMFORTABLE)].sum()) for _, _, one in candidates]
    if not any(parts):
        return None
    scheme, download, _ = candidates[parts.index(max(parts))]
    comfortable = best.reaching(Level.COMFORTABLE)
    decode, first = (
        weighted_median(values[comfortable], weights[comfortable])
        # From the slowest device on, as a time's quartiles: of an even number both are of the slower half.
        for values in (best.decode_tokens_per_second, -best.time_to_first_token_seconds)
    )
    return Choice(
        scheme=scheme,
        download_bytes=download,
        median_decode_tokens_per_second=decode,
        median_time_to_first_token_seconds=None if first is None else -first,
    )


def ship_table(
    limits_version: str, classes: Sequence[ClassStanding], judged: BoolArray, cells: Cells
) -> tuple[ShipRow, ...]:
    """Return a row per tier that occurs, the largest first, then that of shipping nothing; none without a device.

    ``classes`` are sorted by size and ``judged`` are the devices with a verdict on any of them.
    """
    among = cells.among(judged)
    rows = []
    so_far = Standing.nobody(len(judged))  # on this class or any larger one
    larger = so_far.reached(Level.COMFORTABLE)
    for one in reversed(classes):
        so_far.reach(one.best)
        these = so_far.reached(Level.COMFORTABLE)
        tier = these - larger
        tier_count = int(tier.point.sum())
        if tier_count and one.choice:
            usable = so_far.reached(Level.USABLE)
            shares = [_share(part, judged, among) for part in (tier, these, usable)]
            counts = tier_count, int(usable.point.sum())
            rows.append(_row(limits_version, one.size_class, one.choice, counts, *shares))
        larger = these
    if not judged.any():
        return ()
    none = remainder(_share(larger, judged, among))
    nothing = Share(value=0.0, low=0.0, high=0.0)
    counts = int(judged.sum() - larger.point.sum()), 0
    return (*rows, _row(limits_version, None, None, counts, none, nothing, nothing))


def _share(devices: Reached, judged: BoolArray, among: Cells) -> Share:
    share = share_of(devices.among(judged), among)
    assert share is not None  # there is a device
    return share


def _row(
    limits_version: str,
    size_class: str | None,
    choice: Choice | None,
    counts: tuple[int, int],
    tier_share: Share,
    reach: Share,
    usable_reach: Share,
) -> ShipRow:
    return ShipRow(
        limits_version=limits_version,
        size_class=size_class,
        scheme=choice.scheme if choice else None,
        download_bytes=choice.download_bytes if choice else None,
        tier_count=counts[0],
        usable_count=counts[1],
        tier_share=tier_share,
        reach=reach,
        usable_reach=usable_reach,
        server=remainder(reach),
        median_decode_tokens_per_second=choice.median_decode_tokens_per_second if choice else None,
        median_time_to_first_token_seconds=choice.median_time_to_first_token_seconds if choice else None,
    )
