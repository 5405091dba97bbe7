"""Baseline devices: those at the quartiles of a fleet, and the speeds at its quartiles."""

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np

from weighin_analysis.card import Verdict
from weighin_analysis.fleet.coverage.shares import BoolArray, Cells, FloatArray, weighted_quantiles
from weighin_analysis.fleet.coverage.ship import ClassStanding
from weighin_analysis.fleet.coverage.standing import Standing
from weighin_analysis.fleet.coverage.values import BaselineDevice, ClassSpeed, Level
from weighin_analysis.fleet.grading.grade import VERDICTS

PERCENTILES = (25, 50, 75)

_FACTS = "device_id", "name", "source", "form_factor", "memory_total_bytes"


def baseline_devices(
    connection: duckdb.DuckDBPyConnection,
    limits_version: str,
    classes: Sequence[ClassStanding],
    judged: BoolArray,
    cells: Cells,
) -> tuple[BaselineDevice, ...]:
    """Return the devices at the percentiles, from the weakest: by tier, then by the decode rate there.

    A device without a tier stands by its rate on the smallest class that it has one for. ``classes`` are sorted by
    size, ``judged`` are the devices in question and the table ``coverage_devices`` names them.
    """
    weights = cells.weights(judged)
    tier, shown = (np.full(len(judged), -1) for _ in range(2))
    rate = np.full(len(judged), np.nan)
    for number, one in enumerate(classes):
        decode = one.best.decode_tokens_per_second
        comfortable = one.best.reaching(Level.COMFORTABLE)
        tier[comfortable] = number
        placed = comfortable | ((shown < 0) & np.isfinite(decode))
        shown[placed] = number
        rate[placed] = decode[placed]
    devices = np.flatnonzero(weights > 0)
    order = devices[np.lexsort((np.nan_to_num(rate[devices]), tier[devices]))]
    ranks = weighted_quantiles(
        np.arange(len(order), dtype=np.float64), weights[order], [percentile / 100 for percentile in PERCENTILES]
    )
    found = []
    for percentile, rank in zip(PERCENTILES, ranks or (), strict=False):
        place = int(order[int(rank)])
        found.append(
            BaselineDevice(
                limits_version=limits_version,
                percentile=percentile,
                **_facts(connection, place),
                tier=classes[tier[place]].size_class if tier[place] >= 0 else None,
                size_class=classes[shown[place]].size_class if shown[place] >= 0 else None,
                decode_tokens_per_second=float(rate[place]) if shown[place] >= 0 else None,
            )
        )
    return tuple(found)


def class_speed(size_class: str, best: Standing, weights: FloatArray) -> ClassSpeed | None:
    """Return how fast devices run a class that fits into their memory; None where that is known of none."""
    runs = best.judged & (best.verdict != VERDICTS.index(Verdict.DOES_NOT_FIT))
    weight = weights[runs]
    decode = _quartiles(best.decode_tokens_per_second[runs], weight)
    prefill = _quartiles(best.prefill_tokens_per_second[runs], weight)
    first = _quartiles(-best.time_to_first_token_seconds[runs], weight)  # the longest time is the slowest
    return decode and ClassSpeed(
        size_class=size_class,
        device_count=int(runs.sum()),
        decode_tokens_per_second=decode,
        prefill_tokens_per_second=prefill,
        time_to_first_token_seconds=first and (-first[0], -first[1], -first[2]),
    )


def _quartiles(values: FloatArray, weights: FloatArray) -> tuple[float, float, float] | None:
    """Return the quartiles of what is known, smallest first."""
    found = weighted_quantiles(values, weights, (0.25, 0.5, 0.75))
    return (found[0], found[1], found[2]) if found else None


def _facts(connection: duckdb.DuckDBPyConnection, place: int) -> dict[str, Any]:
    facts = connection.execute(
        f"SELECT {', '.join(_FACTS)} FROM devices JOIN coverage_devices USING (run_number) WHERE place = $1",  # noqa: S608
        [place],
    ).fetchone()
    assert facts is not None
    return dict(zip(_FACTS, facts, strict=True))
