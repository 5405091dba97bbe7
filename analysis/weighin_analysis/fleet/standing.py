"""How every device of a fleet stands towards a size class: arrays with a place per device, from its graded estimates.

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
from weighin_analysis.fleet.expressions import probability
from weighin_analysis.fleet.regrade import graded
from weighin_analysis.fleet.values import Level
from weighin_analysis.limits import Limits

IntArray = NDArray[np.int64]

# The worst verdict that reaches a level.
WORST = {Level.COMFORTABLE: Verdict.COMFORTABLE, Level.USABLE: Verdict.USABLE}

# The numbers of a class, a scheme and a verdict are their places in lists, from 1.
_GRADED = """
    CREATE OR REPLACE TEMP TABLE coverage_rows AS
    SELECT place, list_position($1::VARCHAR[], size_class)::UTINYINT AS size_class,
        list_position($2::VARCHAR[], scheme)::USMALLINT AS scheme, grade::UTINYINT AS verdict,
        if(fits, coalesce({comfortable}, 0), 0)::FLOAT AS comfortable,
        if(fits, coalesce({usable}, 0), 0)::FLOAT AS usable,
        coalesce(decode_tokens_per_second, 'nan'::DOUBLE) AS decode,
        coalesce(prefill_tokens_per_second, 'nan'::DOUBLE) AS prefill,
        coalesce(time_to_first_token_seconds, 'nan'::DOUBLE) AS first
    FROM ({graded}) JOIN coverage_devices USING (run_id)
    WHERE architecture_kind = '{decoder}' AND counts AND grade IS NOT NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRows:
    """The graded decoders of a class that count, one per row; NaN is a speed that is not known.

    ``place`` is the device's, ``scheme`` and ``verdict`` are indices into the fleet's schemes and into Verdict.
    """

    place: IntArray
    scheme: IntArray
    verdict: IntArray
    comfortable: FloatArray
    usable: FloatArray
    decode: FloatArray
    prefill: FloatArray
    first: FloatArray

    def reaches(self, level: Level) -> BoolArray:
        """Return which rows reach a level by their point estimates."""
        # Verdicts are sorted from best to worst.
        return self.verdict <= list(Verdict).index(WORST[level])


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


def grade_rows(
    connection: duckdb.DuckDBPyConnection, limits: Limits, size_classes: Sequence[str], schemes: Sequence[str]
) -> None:
    """Grade the decoders that count of the table ``coverage_devices``: the table ``coverage_rows``."""
    comfortable, usable = (
        probability(ArchitectureKind.DECODER, verdict, limits) for verdict in (Verdict.COMFORTABLE, Verdict.USABLE)
    )
    query = _GRADED.format(
        comfortable=comfortable, usable=usable, graded=graded(limits), decoder=ArchitectureKind.DECODER
    )
    connection.execute(query, [list(size_classes), list(schemes)])


def read_rows(connection: duckdb.DuckDBPyConnection, number: int) -> ClassRows:
    """Read the rows of the class with this place in the list of ``grade_rows``, from 0, of ``coverage_rows``."""
    found = connection.execute("FROM coverage_rows WHERE size_class = $1", [number + 1]).fetchnumpy()
    columns = {name: np.asarray(values) for name, values in found.items()}
    return ClassRows(
        place=columns["place"],
        scheme=columns["scheme"].astype(np.int64) - 1,
        verdict=columns["verdict"].astype(np.int64) - 1,
        comfortable=columns["comfortable"].astype(np.float64),
        usable=columns["usable"].astype(np.float64),
        decode=columns["decode"],
        prefill=columns["prefill"],
        first=columns["first"],
    )


def standing(rows: ClassRows, level: Level, device_count: int, chosen: BoolArray) -> Standing:
    """Return how devices stand by some of the rows."""
    place = rows.place[chosen]
    judged, point = (np.zeros(device_count, dtype=np.bool_) for _ in range(2))
    probability = np.zeros(device_count)
    judged[place] = True
    point[place[rows.reaches(level)[chosen]]] = True
    np.maximum.at(probability, place, (rows.comfortable if level is Level.COMFORTABLE else rows.usable)[chosen])
    return Standing(judged=judged, point=point, probability=probability)


def fastest(rows: ClassRows, chosen: BoolArray, device_count: int) -> IntArray:
    """Return the indices of some of the rows: of every device the one with the highest decode rate, if it has any."""
    index = np.flatnonzero(chosen & np.isfinite(rows.decode))
    highest = np.zeros(device_count)
    np.maximum.at(highest, rows.place[index], rows.decode[index])
    index = index[rows.decode[index] == highest[rows.place[index]]]
    of_device = np.full(device_count, -1, dtype=np.int64)
    of_device[rows.place[index]] = index  # of equals the last
    return np.asarray(of_device[of_device >= 0])
