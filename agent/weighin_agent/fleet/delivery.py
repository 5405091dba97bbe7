"""How spooled runs reach the aggregator: what goes together, what an answer means, when to try again.

Nothing is dropped for a transport error, and every write is idempotent, so a call whose answer was lost is sent again.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from weighin.v1 import services_pb2
from weighin_agent.errors import (
    AggregatorAwayError,
    DamagedRunError,
    DeliveryError,
    DeviceRefusedError,
    UnacceptableRequestError,
    UnreadableRunError,
    UnsafeChannelError,
)
from weighin_agent.fleet.client import SUBMIT_DEADLINE_SECONDS, Outcome, RunAnswer
from weighin_agent.fleet.entry import Entry
from weighin_agent.fleet.ledger import Backoff
from weighin_agent.fleet.quarantine import QuarantinedRun
from weighin_agent.fleet.spool import Spool

GIVE_UP_AFTER_SECONDS = 20.0
_BATCH_RUNS = 100
# The aggregator takes 4 MiB; what is left of it is for the fields around the envelopes.
_BATCH_BYTES = (4 << 20) - (64 << 10)
_FIRST_BACKOFF_SECONDS = 2.0
_LONGEST_BACKOFF_SECONDS = 15 * 60.0
# An aggregator may ask for more than our own longest, for a daily quota say, but not for ever.
_LONGEST_ASKED_SECONDS = 24 * 3600.0
_SPREAD = 1.25
_MISMATCH = "CHECKSUM_MISMATCH"
_LAST_MISMATCH = 3
# With less time than this left a call would only be cut off.
_SHORTEST_CALL_SECONDS = 1.0


class Line(Protocol):
    """The way to an aggregator."""

    @property
    def address(self) -> str:
        """HOST:PORT where runs go."""

    def submit(self, request: services_pb2.SubmitRunsRequest, deadline_seconds: float) -> tuple[RunAnswer, ...]:
        """As ``AggregatorClient.submit``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """How one delivery went.

    ``quarantined`` are the runs set aside by it, each with its reason. ``kept_count`` runs are still in the spool;
    then ``kept_reason`` is an upper-case constant and ``kept_detail`` one line for a person, else both are None.
    ``is_stuck``: a person must act before they can go.
    """

    stored_count: int
    duplicate_count: int
    quarantined: tuple[QuarantinedRun, ...]
    kept_count: int
    kept_reason: str | None
    kept_detail: str | None
    is_stuck: bool = False

    @property
    def was_needed(self) -> bool:
        """Whether anything waited; otherwise nobody need have been called."""
        return bool(self.stored_count or self.duplicate_count or self.quarantined or self.kept_count)

    @property
    def has_failed(self) -> bool:
        """Whether more than patience is wanted; that the aggregator is away is none of it."""
        return bool(self.quarantined) or self.is_stuck


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The clocks and the chance of a delivery; tests put their own.

    ``wait`` sleeps for some seconds and returns True when somebody wants to stop, as ``threading.Event.wait`` does;
    ``clock`` is monotonic, ``now_seconds`` Unix time, ``uniform`` draws between two bounds.
    """

    clock: Callable[[], float] = time.monotonic
    now_seconds: Callable[[], float] = time.time
    wait: Callable[[float], bool] = field(default_factory=lambda: threading.Event().wait)
    uniform: Callable[[float, float], float] = random.uniform


def deliver(
    spool: Spool,
    line: Line,
    *,
    give_up_after_seconds: float = GIVE_UP_AFTER_SECONDS,
    heed_own_backoff: bool = False,
    pace: Pace | None = None,
) -> DeliveryReport:
    """Send what is in the spool, trying for up to ``give_up_after_seconds``; what is left then stays in the spool.

    A delay that the aggregator asked for is kept across processes. So is our own backoff with ``heed_own_backoff``,
    for a timer; without it, a person who asks gets one try at once. Raises SpoolError.
    """
    return _Delivery(spool, line, pace or Pace(), give_up_after_seconds).go(heed_own_backoff)


def batches(entries: Iterable[Entry]) -> tuple[tuple[Entry, ...], ...]:
    """Cut runs into calls that the aggregator takes, in order; a run that is too large by itself goes alone."""
    cut: list[list[Entry]] = []
    batch_bytes = 0
    for entry in entries:
        if not cut or len(cut[-1]) == _BATCH_RUNS or batch_bytes + entry.size_bytes > _BATCH_BYTES:
            cut.append([])
            batch_bytes = 0
        cut[-1].append(entry)
        batch_bytes += entry.size_bytes
    return tuple(tuple(batch) for batch in cut)


def backoff_seconds(failure_count: int, asked_seconds: float | None, uniform: Callable[[float, float], float]) -> float:
    """How long to wait after the ``failure_count``-th failed call in a row, seconds.

    Full jitter: devices that lost their aggregator at one moment must not come back at one moment.
    """
    # Beyond 2^30 the cap has long been reached, and a float would overflow one day.
    longest = min(_LONGEST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(failure_count - 1, 30))
    own = uniform(0, longest)
    if asked_seconds is None:
        return own
    return max(own, min(asked_seconds, _LONGEST_ASKED_SECONDS)) * uniform(1, _SPREAD)


def standing_seconds(backoff: Backoff, now_seconds: float, heed_own_backoff: bool) -> float:
    """How long an earlier process would have us wait, seconds; 0 when a call may go out now."""
    if backoff.next_attempt_time_seconds is None or not (backoff.asked_by_aggregator or heed_own_backoff):
        return 0.0
    longest = _LONGEST_ASKED_SECONDS * _SPREAD if backoff.asked_by_aggregator else _LONGEST_BACKOFF_SECONDS
    # More than the longest that is ever set means that the clock was put back meanwhile.
    left = backoff.next_attempt_time_seconds - now_seconds
    return max(0.0, left) if left <= longest else 0.0


def _no_answer(run_id: str) -> RunAnswer:
    """Stand in for an answer that is missing: such a run was not acknowledged, whatever the others got."""
    return RunAnswer(run_id=run_id, outcome=Outcome.RETRY, reason="NO_ANSWER", detail="")


class _Delivery:
    """One delivery under way: the counts so far, and why it stopped."""

    def __init__(self, spool: Spool, line: Line, pace: Pace, give_up_after_seconds: float) -> None:
        self._spool = spool
        self._line = line
        self._pace = pace
        self._end = pace.clock() + give_up_after_seconds
        self._stored_count = 0
        self._duplicate_count = 0
        self._quarantined: list[QuarantinedRun] = []
        self._kept: tuple[str, str] | None = None
        self._is_stuck = False

    def go(self, heed_own_backoff: bool) -> DeliveryReport:
        """Work through the spool."""
        queue = deque(batches(self._spool.pending()))
        delay_seconds = standing_seconds(self._spool.ledger.backoff, self._pace.now_seconds(), heed_own_backoff)
        if queue and self._pause(delay_seconds, self._too_early(delay_seconds)):
            while queue and self._step(queue):
                pass
        return self._report()

    def _step(self, queue: deque[tuple[Entry, ...]]) -> bool:
        """Send the first batch of ``queue``; False when it is time to stop."""
        batch = queue[0]
        try:
            self._send(batch)
        except UnacceptableRequestError as error:
            queue.popleft()
            self._split(batch, error, queue)
        except AggregatorAwayError as error:
            return self._back_off(error)
        except (DeviceRefusedError, UnsafeChannelError) as error:
            self._stop(error)
            return False
        else:
            queue.popleft()
        return True

    def _send(self, batch: Sequence[Entry]) -> None:
        envelopes: dict[Entry, services_pb2.RunEnvelope] = {}
        for entry in batch:
            try:
                envelopes[entry] = self._spool.read(entry)
            except DamagedRunError as error:
                self._set_aside(entry, "DAMAGED", str(error))
            except UnreadableRunError as error:
                self._kept, self._is_stuck = ("UNREADABLE", str(error)), True
        if not envelopes:
            return
        request = services_pb2.SubmitRunsRequest(
            envelopes=envelopes.values(),
            spool_dropped_count=self._spool.dropped_count,
            spool_quarantined_count=self._spool.quarantined_count,
        )
        request.send_time.FromMilliseconds(int(self._pace.now_seconds() * 1000))
        self._spool.note_attempts(entry.run_id for entry in envelopes)
        deadline_seconds = min(SUBMIT_DEADLINE_SECONDS, max(self._end - self._pace.clock(), _SHORTEST_CALL_SECONDS))
        answers = {answer.run_id: answer for answer in self._line.submit(request, deadline_seconds)}
        self._spool.set_backoff(Backoff())
        for entry in envelopes:
            self._settle(entry, answers.get(entry.run_id, _no_answer(entry.run_id)))

    def _settle(self, entry: Entry, answer: RunAnswer) -> None:
        if answer.outcome is Outcome.STORED:
            self._stored_count += 1
            self._spool.acknowledge(entry)
        elif answer.outcome is Outcome.DUPLICATE:
            self._duplicate_count += 1
            self._spool.acknowledge(entry)
        elif answer.outcome is Outcome.REJECTED:
            self._set_aside(entry, answer.reason or "REJECTED", answer.detail)
        elif self._is_beyond_repair(entry, answer):
            self._set_aside(entry, _MISMATCH, f"arrived altered {_LAST_MISMATCH} times")
        else:
            # Kept, and offered again by the next delivery: what this aggregator cannot take now, it can rarely take
            # a second later, and a person is waiting.
            reason = answer.reason or "RETRY"
            self._kept = (reason, f"the aggregator at {self._line.address} wants it later ({reason})")

    def _is_beyond_repair(self, entry: Entry, answer: RunAnswer) -> bool:
        if answer.reason != _MISMATCH:
            return False
        return self._spool.note_mismatch(entry.run_id) >= _LAST_MISMATCH

    def _split(
        self, batch: tuple[Entry, ...], error: UnacceptableRequestError, queue: deque[tuple[Entry, ...]]
    ) -> None:
        """Halve what the aggregator cannot take, down to the one run that is the cause."""
        if len(batch) == 1:
            self._set_aside(batch[0], error.reason, str(error))
            return
        middle = len(batch) // 2
        queue.extendleft((batch[middle:], batch[:middle]))

    def _stop(self, error: DeliveryError) -> None:
        """Give up on what a second try cannot cure; a timer looks again, but not at every turn."""
        self._spool.set_backoff(
            Backoff(
                failure_count=self._spool.ledger.backoff.failure_count + 1,
                next_attempt_time_seconds=self._pace.now_seconds() + _LONGEST_BACKOFF_SECONDS,
            )
        )
        self._kept, self._is_stuck = (error.reason, str(error)), True

    def _back_off(self, error: AggregatorAwayError) -> bool:
        failure_count = self._spool.ledger.backoff.failure_count + 1
        delay_seconds = backoff_seconds(failure_count, error.retry_after_seconds, self._pace.uniform)
        self._spool.set_backoff(
            Backoff(
                failure_count=failure_count,
                next_attempt_time_seconds=self._pace.now_seconds() + delay_seconds,
                asked_by_aggregator=error.retry_after_seconds is not None,
            )
        )
        return self._pause(delay_seconds, (error.reason, str(error)))

    def _pause(self, delay_seconds: float, reason: tuple[str, str]) -> bool:
        """Wait; False when there is no time for it, or somebody wants to stop."""
        if delay_seconds == 0:
            return True
        too_long = self._pace.clock() + delay_seconds + _SHORTEST_CALL_SECONDS > self._end
        if too_long or self._pace.wait(delay_seconds):
            self._kept = reason
            return False
        return True

    def _too_early(self, delay_seconds: float) -> tuple[str, str]:
        who = f"the aggregator at {self._line.address}"
        return (
            "BACKING_OFF",
            f"{who} failed or asked for time; next try in {delay_seconds:.0f} s",
        )

    def _set_aside(self, entry: Entry, reason: str, detail: str) -> None:
        self._quarantined.append(self._spool.quarantine(entry, reason, detail))

    def _report(self) -> DeliveryReport:
        kept_count = len(self._spool.pending())
        reason, detail = self._kept if kept_count and self._kept else (None, None)
        return DeliveryReport(
            stored_count=self._stored_count,
            duplicate_count=self._duplicate_count,
            quarantined=tuple(self._quarantined),
            kept_count=kept_count,
            kept_reason=reason,
            kept_detail=detail,
            is_stuck=self._is_stuck,
        )
