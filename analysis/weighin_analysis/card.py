"""The card: every judgement about one device that follows from one run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.measurement import Phase
from weighin_analysis.scheme import Scheme


class Verdict(StrEnum):
    """The answer for one row under the limits."""

    COMFORTABLE = "comfortable"
    USABLE = "usable"
    TOO_SLOW = "too_slow"
    DOES_NOT_FIT = "does_not_fit"


class Basis(StrEnum):
    """How a row's numbers were obtained, from strongest to weakest."""

    MEASURED = "measured"
    LAYER_PROBE = "layer_probe"
    INTERPOLATED = "interpolated"
    FORMULA = "formula"
    NEIGHBOURS = "neighbours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with the interval that holds with the probability stated in the limits."""

    value: float
    low: float
    high: float


# A ratio outside this band says that something else is wrong; it corrects nothing and widens the interval.
LEAST_KAPPA, MOST_KAPPA = 0.85, 1.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What a full model says about the predictions of its scheme on its execution provider, in one phase.

    ``sd`` is the standard error of ln(kappa). ``applied`` tells whether predictions are multiplied by kappa: it must
    differ from 1 by more than its error, and by less than what any prediction may be off.
    """

    architecture: str
    scheme: Scheme
    execution_provider: str
    threads: int
    phase: Phase
    kappa: float
    sd: float

    @property
    def applied(self) -> bool:
        """Whether kappa corrects predictions."""
        return self.plausible and abs(math.log(self.kappa)) > self.sd

    @property
    def plausible(self) -> bool:
        """Whether kappa lies in the band in which it may correct anything."""
        return LEAST_KAPPA <= self.kappa <= MOST_KAPPA


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRow:
    """One reference architecture in one scheme on one execution provider.

    Rates are at the reference workload of the limits. A decoder has a decode rate, a prefill rate and a time to first
    token; an encoder has a latency. What does not apply, or could not be estimated, is None.
    ``memory_bytes`` is in use while it runs, ``bytes_read_per_token`` are the weights that each decoded token reads;
    ``reasons`` are short sentences for a person; ``notes`` are those of them that hold under any limits. ``counts`` is
    False where the execution provider's device is a program on the processor: such a row is shown and never counts in a
    tier.
    """

    size_class: str
    architecture: str
    architecture_kind: str
    scheme: str
    execution_provider: str
    threads: int
    decode_tokens_per_second: Estimate | None
    prefill_tokens_per_second: Estimate | None
    time_to_first_token_seconds: Estimate | None
    latency_seconds: Estimate | None
    memory_bytes: int
    download_bytes: int
    bytes_read_per_token: int
    verdict: Verdict
    reasons: tuple[str, ...]
    basis: Basis
    counts: bool = True
    notes: tuple[str, ...] = ()

    @property
    def computed(self) -> bool:
        """Whether its speeds were computed from other models; what the memory gate stopped has no speeds."""
        return self.basis not in {Basis.MEASURED, Basis.LAYER_PROBE} and self.decode_tokens_per_second is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """All rows of a run and what they say together.

    ``tier`` is the largest size class with a comfortable decoder, None if there is none. ``limited_by`` names what the
    device runs out of first: "memory", "bandwidth" or "compute"; None when no decoder was measured. ``unjudged`` names
    the cases that were measured but that no time can be computed from, each with the reason. ``disturbances`` say what
    casts doubt on the run; without any it is clean. ``anchors`` are the full models that were run beside layer probes.
    """

    limits_version: str
    formula_version: str
    headline: str
    tier: str | None
    limited_by: str | None
    rows: tuple[CardRow, ...]
    unjudged: tuple[str, ...] = ()
    disturbances: tuple[str, ...] = ()
    anchors: tuple[Anchor, ...] = ()


def best_decoders(rows: Sequence[CardRow]) -> dict[str, CardRow]:
    """Return {size class: its best decoder row}.

    A row that counts is better than one that does not, then the better verdict, what was run than what was computed,
    and the faster decode.
    """
    best: dict[str, CardRow] = {}
    for row in rows:
        if row.architecture_kind == ArchitectureKind.DECODER:
            best[row.size_class] = min(best.get(row.size_class, row), row, key=_badness)
    return best


def _badness(row: CardRow) -> tuple[bool, int, bool, float]:
    decode = row.decode_tokens_per_second
    return not row.counts, list(Verdict).index(row.verdict), row.computed, -decode.value if decode else 0.0


def shown_rows(rows: Sequence[CardRow]) -> tuple[CardRow, ...]:
    """Return the rows that a person is shown: what was run or tried, and a computed one where it is its class's best.

    Every scheme of every class that was not run would hide what was.
    """
    best = best_decoders(rows)
    return tuple(row for row in rows if not row.computed or row is best.get(row.size_class))
