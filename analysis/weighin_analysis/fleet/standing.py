"""How every device of a fleet stands towards a size class: arrays with a place per device, from the rows of verdicts.

Of the rows of a device (schemes, execution providers) the best counts: it reaches a level where any row does, with the
largest of their probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Verdict
from weighin_analysis.fleet.coverage import BoolArray, FloatArray, Reached, reached
from weighin_analysis.fleet.values import Level

# A level is reached by these verdicts.
REACHING = {Level.COMFORTABLE: (Verdict.COMFORTABLE,), Level.USABLE: (Verdict.COMFORTABLE, Verdict.USABLE)}

_ROWS = """
    SELECT place, list_position($2::VARCHAR[], graded.scheme)::INTEGER - 1 AS scheme,
        list_position($3::VARCHAR[], verdict)::INTEGER - 1 AS verdict,
        coalesce(comfortable_probability, (verdict = 'comfortable')::DOUBLE) AS comfortable,
        coalesce(usable_probability, (verdict IN ('comfortable', 'usable'))::DOUBLE) AS usable,
        coalesce(decode_tokens_per_second, 'nan'::DOUBLE) AS decode,
        coalesce(prefill_tokens_per_second, 'nan'::DOUBLE) AS prefill,
        coalesce(time_to_first_token_seconds, 'nan'::DOUBLE) AS first
    FROM {verdicts} AS graded JOIN coverage_devices USING (run_id)
        LEFT JOIN estimates USING (run_id, size_class, architecture, scheme, execution_provider)
    WHERE size_class = $1 AND graded.architecture_kind = $4 AND graded.counts AND verdict IS NOT NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRows:
    """The verdicts on decoders of a class that count, one per row; NaN is a speed that is not known.

    ``place`` is the device's, ``scheme`` and ``verdict`` are indices into the fleet's schemes and into Verdict.
    """

    place: NDArray[np.int64]
    scheme: NDArray[np.int64]
    verdict: NDArray[np.int64]
    comfortable: FloatArray
    usable: FloatArray
    decode: FloatArray
    prefill: FloatArray
    first: FloatArray

    def reaches(self, level: Level) -> BoolArray:
        """Return which rows reach a level by their point estimates."""
        return np.isin(self.verdict, [list(Verdict).index(one) for one in REACHING[level]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Whether devices reach a level: ``point`` by the estimates, ``probability`` as their intervals tell.

    Both are of the best row of a device, and False and 0 for a device that is not ``judged``.
    """

    judged: BoolArray
    point: BoolArray
    probability: FloatArray

    @classmethod
    def nobody(cls, device_count: int) -> "Standing":
        """Return the standing of devices of which nothing is known."""
        nothing = np.zeros(device_count, dtype=np.bool_)
        return cls(judged=nothing, point=nothing, probability=np.zeros(device_count))

    def __or__(self, other: "Standing") -> "Standing":
        """Return where devices stand of which the better of two counts."""
        return Standing(
            judged=self.judged | other.judged,
            point=self.point | other.point,
            probability=np.maximum(self.probability, other.probability),
        )

    def reached(self) -> Reached:
        """Return what every device adds to a share."""
        return reached(self.point, self.probability)


def read_rows(
    connection: duckdb.DuckDBPyConnection, verdicts: str, size_class: str, schemes: Sequence[str]
) -> ClassRows:
    """Read the verdicts on a class of the devices of the table ``coverage_devices``."""
    parameters = [size_class, list(schemes), [str(one) for one in Verdict], str(ArchitectureKind.DECODER)]
    found = connection.execute(_ROWS.format(verdicts=verdicts), parameters).fetchnumpy()
    found = {name: np.asarray(values) for name, values in found.items()}
    return ClassRows(
        place=found["place"].astype(np.int64),
        scheme=found["scheme"].astype(np.int64),
        verdict=found["verdict"].astype(np.int64),
        comfortable=found["comfortable"].astype(np.float64),
        usable=found["usable"].astype(np.float64),
        decode=found["decode"].astype(np.float64),
        prefill=found["prefill"].astype(np.float64),
        first=found["first"].astype(np.float64),
    )


def standing(rows: ClassRows, level: Level, device_count: int, chosen: BoolArray | None = None) -> Standing:
    """Return how devices stand by some of the rows, or by all."""
    rows_chosen = np.ones(len(rows.place), dtype=np.bool_) if chosen is None else chosen
    place = rows.place[rows_chosen]
    judged, point = (np.zeros(device_count, dtype=np.bool_) for _ in range(2))
    probability = np.zeros(device_count)
    judged[place] = True
    point[place[rows.reaches(level)[rows_chosen]]] = True
    stated = rows.comfortable if level is Level.COMFORTABLE else rows.usable
    np.maximum.at(probability, place, np.clip(np.nan_to_num(stated[rows_chosen]), 0.0, 1.0))
    return Standing(judged=judged, point=point, probability=probability)


def best_rows(rows: ClassRows, chosen: BoolArray) -> NDArray[np.int64]:
    """Return, for every device with a known decode rate among some of the rows, the index of its fastest of these."""
    index = np.flatnonzero(chosen & np.isfinite(rows.decode))
    index = index[np.argsort(rows.decode[index], kind="stable")]
    place = rows.place[index]
    # The last of a device is its fastest.
    fastest = np.full(int(place.max(initial=-1)) + 1, -1, dtype=np.int64)
    fastest[place] = index
    return np.asarray(fastest[fastest >= 0])
