"""The calls of the contract: bytes in, bytes out, every failure with a status that we chose.

The handlers take the bytes themselves, because gRPC answers a message that does not decode with a status and a text of
its own. The store is reached through the committer only.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import grpc
import structlog
from google.protobuf.message import DecodeError

from weighin.v1 import services_pb2
from weighin_aggregator.commit import Committer, Decision, Decisions
from weighin_aggregator.errors import SnapshotError, StoreError, StoreRefusedError, StoreUnavailableError
from weighin_aggregator.intake import Accepted, Refused, examine
from weighin_aggregator.limits import Limits
from weighin_aggregator.peer import device_id, require_loopback
from weighin_aggregator.records import Batch, Sending, to_batch
from weighin_aggregator.refusal import Reason, Refusal
from weighin_aggregator.serving import to_message
from weighin_aggregator.snapshot import Written, write_numbered_snapshot
from weighin_aggregator.store import Stats, utc_now
from weighin_aggregator.validate import is_timestamp

RUN_SERVICE = "weighin.v1.RunService"
OPERATOR_SERVICE = "weighin.v1.OperatorService"
_RUN_ID_CHARACTERS = 36

Context = grpc.aio.ServicerContext[bytes, bytes]
Handler = Callable[[bytes, Context], Awaitable[bytes]]

_log = structlog.get_logger()


class Services:
    """The handlers of all services. ``snapshots`` is the folder where the operator's snapshots go."""

    def __init__(self, committer: Committer, limits: Limits, snapshots: Path) -> None:
        self._committer = committer
        self._limits = limits
        self._snapshots = snapshots
        self._stopping = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._making: asyncio.Task[Written | None] | None = None

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return what a server registers. Methods that are not here are answered UNIMPLEMENTED by gRPC itself."""
        return (
            grpc.method_handlers_generic_handler(RUN_SERVICE, {"SubmitRuns": self._handler(self._submit_runs)}),
            grpc.method_handlers_generic_handler(
                OPERATOR_SERVICE,
                {"CreateSnapshot": self._handler(self._create_snapshot), "GetStats": self._handler(self._get_stats)},
            ),
        )

    async def drain(self, timeout_seconds: float) -> bool:
        """Refuse new calls and wait for those that run; False if they took longer than allowed."""
        self._stopping = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)
        except TimeoutError:
            return False
        finally:
            if self._making:
                self._making.cancel()
                await asyncio.gather(self._making, return_exceptions=True)
        return True

    def _handler(self, handle: Handler) -> "grpc.RpcMethodHandler[bytes, bytes]":
        async def answer(data: bytes, context: Context) -> bytes:
            self._calls += 1
            self._idle.clear()
            try:
                return await self._guarded(handle, data, context)
            finally:
                self._calls -= 1
                if self._calls == 0:
                    self._idle.set()

        return grpc.unary_unary_rpc_method_handler(answer)

    async def _guarded(self, handle: Handler, data: bytes, context: Context) -> bytes:
        """Turn every failure into a status of the contract."""
        try:
            if self._stopping:
                raise Refusal(Reason.SHUTTING_DOWN)
            return await handle(data, context)
        except Refusal as refusal:
            status = refusal.status()
        except Exception:  # noqa: BLE001 - whatever nobody foresaw leaves as one fixed text; the log keeps the rest
            error_id = secrets.token_hex(8)
            _log.exception("internal_error", error_id=error_id)
            status = Refusal(Reason.INTERNAL_ERROR, error_id).status()
        # Not context.abort: it keeps its exception, which keeps the call, and gRPC refuses new streams of a connection
        # while too many finished ones are kept.
        context.set_code(status.code)
        context.set_details(status.details)
        context.set_trailing_metadata(status.trailing_metadata)
        return b""

    async def _submit_runs(self, data: bytes, context: Context) -> bytes:
        device = device_id(context.invocation_metadata() or ())
        if self._committer.is_full():
            raise Refusal(Reason.OVERLOADED)
        request = _decode(data, self._limits)
        examined = _examine_all(request.envelopes, self._limits)
        accepted = [item for item in examined if isinstance(item, Accepted)]
        decisions = await self._store(accepted, device, _sending(request)) if accepted else {}
        results = [
            _result(envelope.run_id, item, decisions)
            for envelope, item in zip(request.envelopes, examined, strict=True)
        ]
        _report(device, results)
        return services_pb2.SubmitRunsResponse(results=results).SerializeToString()

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

    async def _create_snapshot(self, _: bytes, context: Context) -> bytes:
        require_loopback(context.peer())
        # To judge a large fleet for the first time takes longer than a connection may last. Who asks again waits for
        # that work, or finds it done.
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make_snapshot())
        written = await asyncio.shield(self._making)
        if written is None:
            raise Refusal(Reason.SNAPSHOT_FAILED)
        return services_pb2.CreateSnapshotResponse(folder=str(written.folder)).SerializeToString()

    async def _make_snapshot(self) -> Written | None:
        """Write a snapshot; None where that failed, and the log says why."""
        try:
            written = await write_numbered_snapshot(self._export, self._snapshots, self._limits.kept_snapshots)
        except (SnapshotError, StoreError) as error:
            _log.error("snapshot_failed", error=str(error))
            return None
        # How many were refused only: why may repeat what was sent.
        facts = {**asdict(written), "folder": str(written.folder), "refused": len(written.refused)}
        _log.info("snapshot_written", **facts)
        return written

    async def _export(self, folder: Path) -> datetime:
        moments: list[datetime] = []
        await asyncio.wrap_future(
            self._committer.between_commits(lambda store: moments.append(store.export(folder)), needs_room=True)
        )
        return moments[0]

    async def _get_stats(self, _: bytes, context: Context) -> bytes:
        require_loopback(context.peer())
        counted: list[Stats] = []
        try:
            await asyncio.wrap_future(self._committer.between_commits(lambda store: counted.append(store.stats())))
        except StoreError as error:
            raise Refusal(Reason.STORE_UNAVAILABLE) from error
        return to_message(counted[0]).SerializeToString()


def _decode(data: bytes, limits: Limits) -> services_pb2.SubmitRunsRequest:
    try:
        request = services_pb2.SubmitRunsRequest.FromString(data)
    except DecodeError as error:
        raise Refusal(Reason.MALFORMED_REQUEST) from error
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


def _examine_all(envelopes: Sequence[services_pb2.RunEnvelope], limits: Limits) -> list[Accepted | Refused]:
    """Check every envelope by itself; of two with one run_id the second is refused."""
    seen: set[str] = set()
    examined: list[Accepted | Refused] = []
    for envelope in envelopes:
        if envelope.run_id in seen:
            examined.append(Refused(reason=Reason.RUN_ID_INVALID))
            continue
        seen.add(envelope.run_id)
        examined.append(examine(envelope, limits))
    return examined


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
