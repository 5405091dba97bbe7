"""The server: opened, served and closed in the right order."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import structlog
from google.protobuf.internal import api_implementation

from weighin_aggregator.errors import AggregatorError, StoreError
from weighin_aggregator.serve.assembly import Assembly, Config
from weighin_aggregator.serve.health import HealthReporter
from weighin_aggregator.serve.serving import Serving, announced
from weighin_aggregator.store.store import Store

# Time for answers that are already decided to leave the process.
_CLOSE_SECONDS = 1.0
# The committer asks for the interpreter after every call into DuckDB and would wait up to 5 ms for it each time.
_SWITCH_INTERVAL_SECONDS = 0.0005
# A call of 100 runs makes tens of thousands of objects, none of them in a cycle: looking at those that are still in use
# every 700 of them finds nothing.
_COLLECTED_OBJECTS = 50_000

_log = structlog.get_logger()


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Serving]:
    """Serve inside the ``async with`` block; gives the addresses. Raises ListenError, AuthorityError, StoreError.

    Leaving the block answers everybody who was promised something, then closes the store, unless the committer is still
    inside it.
    """
    _require_native_protobuf()
    with ExitStack() as closing:
        store = closing.enter_context(Store.open(config.data, create=True))
        health = HealthReporter()
        parts = Assembly(config, store, health)
        health.set(True)
        parts.committer.start()
        for server in parts.servers:
            await server.start()
        _tune_interpreter()
        _log.info("serving", address=parts.serving.run_address)
        parts.upkeep.start()
        try:
            async with announced(config.data, parts.serving):
                yield parts.serving
        finally:
            health.stop()
            drained = await parts.calls.drain(config.limits.drain_seconds)
            await parts.upkeep.stop()
            await parts.operator.stop()
            await asyncio.gather(*(server.stop(_CLOSE_SECONDS) for server in parts.servers))
            stopped = await asyncio.to_thread(parts.committer.stop, _CLOSE_SECONDS)
            if not stopped:
                # Nothing that was acknowledged depends on this: the log is read at the next start.
                closing.pop_all()
            _finish(store, drained and stopped)


def _require_native_protobuf() -> None:
    """Refuse the pure-Python implementation: a nested message can exhaust its stack."""
    kind = api_implementation.Type()
    if kind != "upb":
        raise AggregatorError(f"protobuf runs on its {kind!r} implementation; install one with the native 'upb'")


def _tune_interpreter() -> None:
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    # Modules and classes live as long as the process: the collector need not look at them again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_OBJECTS)


def _finish(store: Store, drained: bool) -> None:
    if not drained:
        # The committer may be inside the store: leave it alone.
        _log.warning("stopped_before_drained")
        return
    try:
        store.checkpoint()
    except StoreError as error:
        _log.error("checkpoint_failed", error=str(error))
    _log.info("stopped")
