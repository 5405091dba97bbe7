"""RunService: runs in, a result for each out, and fresh certificates for those who send them."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from weighin.v1 import services_pb2
from weighin_aggregator.errors import StoreRefusedError, StoreUnavailableError
from weighin_aggregator.intake.examine import Accepted, Refused, examine_all
from weighin_aggregator.intake.records import Batch, Sending, to_batch
from weighin_aggregator.intake.validate import is_timestamp
from weighin_aggregator.limits import Limits
from weighin_aggregator.refusal import Reason, Refusal
from weighin_aggregator.serve.admission import Admission
from weighin_aggregator.serve.gate import Gate
from weighin_aggregator.serve.service import Context, Handler, decoded
from weighin_aggregator.store.commit import Committer, Decision, Decisions
from weighin_aggregator.store.store import utc_now

RUN_SERVICE = "weighin.v1.RunService"
_RUN_ID_CHARACTERS = 36

_log = structlog.get_logger()


class RunService:
    """The handlers for enrolled devices."""

    def __init__(self, committer: Committer, limits: Limits, gate: Gate) -> None:
        self._committer = committer
        self._limits = limits
        self._gate = gate
        self._admission = Admission(limits.runs_per_second, time.monotonic)

    def methods(self) -> Mapping[str, Handler]:
        """Return the handlers by the name of their method."""
        return {"SubmitRuns": self._submit_runs}

    async def _submit_runs(self, data: bytes, context: Context) -> bytes:
        device = self._gate.admit(context)
        self._gate.require_runs_left(device)
        self._admission.require_left()
        if self._committer.is_full():
            raise Refusal(Reason.OVERLOADED)
        request = _decode(data, self._limits)
        self._admission.take(len(request.envelopes))
        examined = examine_all(request.envelopes, self._limits)
        accepted = [item for item in examined if isinstance(item, Accepted)]
        decisions = await self._store_counted(accepted, device, _sending(request)) if accepted else {}
        results = [
            _result(envelope.run_id, item, decisions)
            for envelope, item in zip(request.envelopes, examined, strict=True)
        ]
        _report(device, results)
        return services_pb2.SubmitRunsResponse(results=results).SerializeToString()

    async def _store_counted(self, accepted: Sequence[Accepted], device: str, sending: Sending) -> Decisions:
        """Store runs and count those that were new. A caller that hangs up leaves all of them counted."""
        self._gate.count_runs(device, len(accepted))
        try:
            decisions = await self._store(accepted, device, sending)
        except Refusal:
            self._gate.give_back_runs(device, len(accepted))
            raise
        stored = sum(decision is Decision.STORED for decision in decisions.values())
        self._gate.give_back_runs(device, len(accepted) - stored)
        return decisions

    async def _store(self, accepted: Sequence[Accepted], device: str, sending: Sending) -> Decisions:
        """Store runs together; when one of them spoils that, one by one, so that it is the only one left out."""
        try:
            return await asyncio.wrap_future(self._committer.submit(_converted(accepted, device, sending)))
        except StoreUnavailableError as error:
            raise Refusal(Reason.STORE_UNAVAILABLE) from error
        except StoreRefusedError as error:
            if len(accepted) == 1:
                # The kind of the error only: its text may repeat what was sent.
                kind = type(error.__cause__ or error).__name__
                _log.error("run_not_storable", device_id=device, run_id=accepted[0].run_id, error=kind)
                return {accepted[0].run_id: Decision.NOT_STORABLE}
        decisions: dict[str, Decision] = {}
        for item in accepted:
            decisions.update(await self._store([item], device, sending))
        return decisions


def _decode(data: bytes, limits: Limits) -> services_pb2.SubmitRunsRequest:
    request = decoded(services_pb2.SubmitRunsRequest, data)
    if len(request.envelopes) > limits.envelopes:
        raise Refusal(Reason.TOO_MANY_RUNS)
    return request


def _sending(request: services_pb2.SubmitRunsRequest) -> Sending:
    """Read what a call says about itself. It refuses no run: a time that is none reads as absent."""
    has_time = request.HasField("send_time") and is_timestamp(request.send_time)
    return Sending(
        send_time=request.send_time if has_time else None,
        spool_dropped_count=request.spool_dropped_count,
        spool_quarantined_count=request.spool_quarantined_count,
    )


def _converted(accepted: Sequence[Accepted], device: str, sending: Sending) -> Batch:
    """Make the rows of runs. Raises StoreRefusedError when they fit no table."""
    try:
        return to_batch(accepted, device, utc_now(), sending)
    except Exception as error:  # Whatever a run does here, the same run would do again at every attempt.
        raise StoreRefusedError(f"no rows can be made: {type(error).__name__}") from error


def _result(run_id: str, item: Accepted | Refused, decisions: Decisions) -> services_pb2.RunResult:
    # An id that is none is cut to the length of one: the answer must not grow with the question.
    result = services_pb2.RunResult(run_id=run_id[:_RUN_ID_CHARACTERS])
    if isinstance(item, Refused):
        result.outcome = services_pb2.OUTCOME_RETRY if item.retry else services_pb2.OUTCOME_REJECTED
        result.reason = item.reason.value
        result.field_violations.extend(item.field_violations)
        return result
    match decisions[item.run_id]:
        case Decision.STORED:
            result.outcome = services_pb2.OUTCOME_STORED
        case Decision.DUPLICATE:
            result.outcome = services_pb2.OUTCOME_DUPLICATE
        case Decision.RUN_ID_REUSED:
            result.outcome = services_pb2.OUTCOME_REJECTED
            result.reason = Reason.RUN_ID_REUSED.value
        case Decision.NOT_STORABLE:
            result.outcome = services_pb2.OUTCOME_REJECTED
            result.reason = Reason.NOT_STORABLE.value
    return result


def _report(device: str, results: Sequence[services_pb2.RunResult]) -> None:
    """Log what became of a call: counts by outcome and by reason, and every id that was used twice."""
    outcomes = Counter(services_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_").lower() for result in results)
    reasons = Counter(result.reason for result in results if result.reason)
    for result in results:
        if result.reason == Reason.RUN_ID_REUSED:
            _log.warning("run_id_reused", device_id=device, run_id=result.run_id)
    _log.info("runs_submitted", device_id=device, **outcomes, **({"reasons": reasons} if reasons else {}))
