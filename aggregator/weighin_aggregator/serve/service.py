"""Around every call of the contract: bytes in, bytes out, every failure with a status that we chose.

The handlers take the bytes themselves, because gRPC answers a message that does not decode with a status and a text of
its own. The store is reached through the committer only.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import duckdb
import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from weighin_aggregator.errors import StoreError
from weighin_aggregator.refusal import Reason, Refusal
from weighin_aggregator.store.commit import Committer
from weighin_aggregator.store.store import Store

Context = grpc.aio.ServicerContext[bytes, bytes]
Handler = Callable[[bytes, Context], Awaitable[bytes]]
_Answer = TypeVar("_Answer")
_Message = TypeVar("_Message", bound=Message)

_log = structlog.get_logger()


class Calls:
    """The calls that run now, of all services together."""

    def __init__(self) -> None:
        self._stopping = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def handlers(self, service: str, methods: Mapping[str, Handler]) -> grpc.GenericRpcHandler:
        """Return what a server registers. Methods that are not here are answered UNIMPLEMENTED by gRPC itself."""
        return grpc.method_handlers_generic_handler(
            service, {name: self._handler(handle) for name, handle in methods.items()}
        )

    async def drain(self, timeout_seconds: float) -> bool:
        """Refuse new calls and wait for those that run; False if they took longer than allowed."""
        self._stopping = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    def _handler(self, handle: Handler) -> "grpc.RpcMethodHandler[bytes, bytes]":
        async def answer(data: bytes, context: Context) -> bytes:
            self._running += 1
            self._idle.clear()
            try:
                return await self._guarded(handle, data, context)
            finally:
                self._running -= 1
                if self._running == 0:
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
            _let_go(refusal)
        except Exception as error:  # noqa: BLE001 - whatever nobody foresaw leaves as one fixed text; the log keeps the rest
            error_id = secrets.token_hex(8)
            _log.exception("internal_error", error_id=error_id)
            status = Refusal(Reason.INTERNAL_ERROR, error_id).status()
            _let_go(error)
        # Not context.abort: it keeps its exception, and so the call (see _let_go).
        context.set_code(status.code)
        context.set_details(status.details)
        context.set_trailing_metadata(status.trailing_metadata)
        return b""


def _let_go(error: BaseException) -> None:
    """Forget which frames an error passed, ours with the call among them.

    One of the committer's frames knows the future that holds the error: until garbage is collected, all of them would
    stay. gRPC refuses new streams of a connection of which too many finished calls are kept.
    """
    passed: BaseException | None = error
    while passed is not None:
        passed.__traceback__ = None
        passed = passed.__cause__ or passed.__context__


def decoded(kind: type[_Message], data: bytes) -> _Message:
    """Decode a request. Raises Refusal."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise Refusal(Reason.MALFORMED_REQUEST) from error


async def in_transaction(committer: Committer, call: Callable[[duckdb.DuckDBPyConnection], _Answer]) -> _Answer:
    """Return what a call returns, after its transaction is on disk. Raises Refusal."""
    return await in_committer(committer, lambda store: store.transact(call))


async def in_committer(committer: Committer, call: Callable[[Store], _Answer], *, needs_room: bool = True) -> _Answer:
    """Return what a call returns; one that only reads needs no room on the disk. Raises Refusal.

    What must follow its COMMIT belongs into the call: behind the ``await`` it is left out where the caller hangs up.
    """
    try:
        return await asyncio.wrap_future(committer.between_commits(call, needs_room=needs_room))
    except StoreError as error:
        raise Refusal(Reason.STORE_UNAVAILABLE) from error
