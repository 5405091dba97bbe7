"""The card: every judgement about one device that follows from one run."""

from dataclasses import dataclass
from enum import StrEnum


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRow:
    """One reference architecture in one scheme on one execution provider.

    Rates are at the reference workload of the limits. A decoder has a decode rate, a prefill rate and a time to first
    token; an encoder has a latency. What does not apply, or could not be estimated, is None.
    ``memory_bytes`` is in use while it runs; ``reasons`` are short sentences for a person.
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
    verdict: Verdict
    reasons: tuple[str, ...]
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """All rows of a run and what they say together.

    ``tier`` is the largest size class with a comfortable decoder, None if there is none. ``limited_by`` names what the
    device runs out of first: "memory", "bandwidth" or "compute"; None when no decoder was measured. ``unjudged`` names
    the cases that were measured but that no time can be computed from, each with the reason.
    """

    limits_version: str
    formula_version: str
    headline: str
    tier: str | None
    limited_by: str | None
    rows: tuple[CardRow, ...]
    unjudged: tuple[str, ...] = ()
