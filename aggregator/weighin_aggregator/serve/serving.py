"""How an operator's command finds the server that owns a data directory.

The file is only a hint: it is believed when its process is the one that owns the directory. What a killed server leaves
behind is therefore harmless. Who can read the data directory, and so the secret in it, is the operator.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from weighin_aggregator.errors import ListenError, StoreBusyError
from weighin_aggregator.identity.private_file import write_private

SECRET_METADATA = "weighin-operator-secret"  # noqa: S105 - the name of it
_FILE_NAME = "serving.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A server: its process id, where it listens (HOST:PORT; no enrolment in plain text), and the operator's secret."""

    pid: int
    run_address: str
    enroll_address: str | None
    operator_address: str
    operator_secret: str


@contextmanager
def announced(data: Path, serving: Serving) -> Iterator[None]:
    """Say in the data directory that this process serves it, for as long as it does. Raises ListenError."""
    path = data / _FILE_NAME
    try:
        write_private(path, json.dumps(asdict(serving)).encode())
    except OSError as error:
        raise ListenError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_server(data: Path, busy: StoreBusyError) -> Serving:
    """Return the server that owns the directory. Raises ``busy`` again when the holder is no server."""
    try:
        serving = Serving(**json.loads((data / _FILE_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        raise busy from None
    if busy.pid != serving.pid:
        raise busy
    return serving
