"""How an operator's command finds the server that owns a data directory.

The file is only a hint: it is believed when its process is the one that owns the directory. What a killed server leaves
behind is therefore harmless. Who can read the data directory, and so the secret in it, is the operator.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from weighin_aggregator.errors import StoreBusyError
from weighin_aggregator.identity.private_file import write_private

SECRET_METADATA = "weighin-operator-secret"  # noqa: S105 - the name of it
_FILE_NAME = "serving.json"
# How often it is tried to write it where there is no room.
_RETRY_SECONDS = 5.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A server: its process id, where it listens (HOST:PORT; no enrolment in plain text), and the operator's secret."""

    pid: int
    run_address: str
    enroll_address: str | None
    operator_address: str
    operator_secret: str


@asynccontextmanager
async def announced(data: Path, serving: Serving) -> AsyncIterator[None]:
    """Say in the data directory that this process serves it, for as long as it does.

    A full disk keeps operators' commands from finding the server, not devices: it is said once there is room.
    """
    path = data / _FILE_NAME
    error = _write(path, serving)
    if error is not None:
        _log.warning("not_announced", file=_FILE_NAME, why=error.strerror or str(error))
    trying = None if error is None else asyncio.create_task(_keep_trying(path, serving))
    try:
        yield
    finally:
        if trying is not None:
            trying.cancel()
            await asyncio.gather(trying, return_exceptions=True)
        with suppress(OSError):
            path.unlink()


async def _keep_trying(path: Path, serving: Serving) -> None:
    while _write(path, serving) is not None:
        await asyncio.sleep(_RETRY_SECONDS)
    _log.info("announced", file=_FILE_NAME)


def _write(path: Path, serving: Serving) -> OSError | None:
    try:
        write_private(path, json.dumps(asdict(serving)).encode())
    except OSError as error:
        return error
    return None


def find_server(data: Path, busy: StoreBusyError) -> Serving:
    """Return the server that owns the directory. Raises StoreBusyError when the holder is none that can be asked."""
    with suppress(OSError, ValueError, TypeError):
        serving = Serving(**json.loads((data / _FILE_NAME).read_text()))
        if busy.pid == serving.pid:
            return serving
    raise StoreBusyError(
        f"{busy}; if it is a server, as on a full disk, its log says why it cannot be asked", busy.pid
    ) from busy
