"""What the spool remembers beside its runs: counts of losses, how often each run was sent, when to try again."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from weighin_agent.fleet.sealed import seal, unseal


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to leave the aggregator alone.

    ``failure_count`` counts failed calls since the last that was answered. ``next_attempt_time_seconds`` is Unix time,
    None when nothing forbids a call now. ``asked_by_aggregator`` is true when the aggregator named the delay.
    """

    failure_count: int = 0
    next_attempt_time_seconds: float | None = None
    asked_by_aggregator: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Counts since installation and tries by run_id.

    ``dropped_count``: runs given up because of the caps. ``discarded_count``: files that left the quarantine.
    ``removing``: files that are counted as gone but may still lie in the spool after a crash.
    """

    dropped_count: int = 0
    discarded_count: int = 0
    removing: tuple[str, ...] = ()
    attempt_counts: Mapping[str, int] = field(default_factory=dict)
    mismatch_counts: Mapping[str, int] = field(default_factory=dict)
    backoff: Backoff = Backoff()

    def with_attempts(self, run_ids: Iterable[str]) -> "Ledger":
        """One more try for each of ``run_ids``."""
        return replace(self, attempt_counts=_counted(self.attempt_counts, run_ids))

    def with_mismatch(self, run_id: str) -> "Ledger":
        """One more answer that the bytes of ``run_id`` arrived altered."""
        return replace(self, mismatch_counts=_counted(self.mismatch_counts, [run_id]))

    def only(self, run_ids: Iterable[str]) -> "Ledger":
        """Forget the tries of runs that have left the spool."""
        wanted = frozenset(run_ids)
        return replace(
            self,
            attempt_counts={key: count for key, count in self.attempt_counts.items() if key in wanted},
            mismatch_counts={key: count for key, count in self.mismatch_counts.items() if key in wanted},
        )


def encode_ledger(ledger: Ledger) -> bytes:
    """Write the ledger as a sealed file."""
    record = {
        "dropped_count": ledger.dropped_count,
        "discarded_count": ledger.discarded_count,
        "removing": list(ledger.removing),
        "attempt_counts": dict(ledger.attempt_counts),
        "mismatch_counts": dict(ledger.mismatch_counts),
        "backoff": {
            "failure_count": ledger.backoff.failure_count,
            "next_attempt_time_seconds": ledger.backoff.next_attempt_time_seconds,
            "asked_by_aggregator": ledger.backoff.asked_by_aggregator,
        },
    }
    return seal(json.dumps(record, indent=1).encode() + b"\n")


def decode_ledger(data: bytes) -> Ledger:
    """Read the ledger in a sealed file. Raises ValueError where it is damaged."""
    # The seal vouches for the content: past it, only another version of the agent can have written something else.
    try:
        record = json.loads(unseal(data))
        return Ledger(
            **{**record, "removing": tuple(record["removing"]), "backoff": Backoff(**record["backoff"])},
        )
    except (KeyError, TypeError) as error:
        raise ValueError("written by another version") from error


def _counted(counts: Mapping[str, int], keys: Iterable[str]) -> dict[str, int]:
    return {**counts, **{key: counts.get(key, 0) + 1 for key in keys}}
