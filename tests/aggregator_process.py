"""A real ``weighin-aggregator`` for tests: its commands and its server as child processes, and a plain client."""

import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import example_runs
import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from weighin.v1 import services_pb2

START_SECONDS = 30.0
CALL_SECONDS = 30.0
SUBMIT_RUNS = "/weighin.v1.RunService/SubmitRuns"
PROGRAM = ("-m", "weighin_aggregator.cli")


def command(*arguments: str | Path, timeout_seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(_line(*arguments), capture_output=True, text=True, timeout=timeout_seconds, check=False)


def _line(*arguments: str | Path) -> list[str]:
    return [sys.executable, *PROGRAM, *map(str, arguments)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A serving process and where it listens."""

    process: subprocess.Popen[str]
    address: str
    log: Path
    enroll_address: str | None = None

    def kill(self) -> None:
        """SIGKILL: nothing of the process runs any more when this returns."""
        self.process.kill()
        self.process.wait(timeout=START_SECONDS)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=START_SECONDS)


def start(
    data: Path,
    log: Path,
    host: str = "127.0.0.1",
    *,
    port: int = 0,
    program: Sequence[str] = PROGRAM,
    mode: Sequence[str] = ("--insecure",),
) -> Server:
    """Serve a data directory on a free port; returns when it listens. ``log`` takes its standard error.

    Without a ``mode`` devices enrol, and call with their certificates.
    """
    with log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, *program, "serve", "--data", str(data), *mode, "--listen", f"{host}:{port}"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if readable else ""
    if not line.startswith("listening on "):
        process.kill()
        process.communicate()  # closes its pipe, too: left open, it would fail another test
        raise AssertionError(f"the server did not start: {log.read_text()}")
    enrolling = process.stdout.readline() if "--insecure" not in mode else ""
    process.stdout.close()
    return Server(
        process=process,
        address=line.removeprefix("listening on ").strip(),
        log=log,
        enroll_address=enrolling.removeprefix("enrolling on ").strip() or None,
    )


@contextmanager
def serving(
    data: Path, log: Path, host: str = "127.0.0.1", *, mode: Sequence[str] = ("--insecure",)
) -> Iterator[Server]:
    """Serve inside the block; the process is gone after it."""
    server = start(data, log, host, mode=mode)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


@contextmanager
def client(address: str) -> Iterator["Client"]:
    """Connect for the length of the block."""
    with grpc.insecure_channel(address) as channel:
        yield Client(channel)


class Client:
    """Sends bytes, so that a test can send what no stub would."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self._submit: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SUBMIT_RUNS)

    def send(
        self, data: bytes, device_id: str | None = example_runs.DEVICE_ID, timeout_seconds: float = CALL_SECONDS
    ) -> services_pb2.SubmitRunsResponse:
        """Submit a serialized request. Raises grpc.RpcError."""
        metadata = () if device_id is None else (("weighin-device-id", device_id),)
        answer = self._submit(data, metadata=metadata, timeout=timeout_seconds)
        return services_pb2.SubmitRunsResponse.FromString(answer)

    def submit(
        self, *envelopes: services_pb2.RunEnvelope, device_id: str | None = example_runs.DEVICE_ID
    ) -> list[services_pb2.RunResult]:
        """Submit envelopes in one call. Raises grpc.RpcError."""
        return list(self.send(example_runs.request(envelopes).SerializeToString(), device_id).results)


def refusal(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, float | None]:
    """The status of a refused call, the reason in its ErrorInfo, and the seconds of its RetryInfo, None if absent."""
    call = cast("grpc.Call", error)  # Every error of a call is also the call; the types do not say so.
    reason, seconds = "", None
    status = rpc_status.from_call(call)
    for detail in status.details if status is not None else ():
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            assert info.domain == "weighin"
            reason = info.reason
        if detail.Unpack(retry):
            seconds = retry.retry_delay.ToTimedelta().total_seconds()
    return call.code(), reason, seconds


def new_run_id() -> str:
    """A run_id that no other test uses."""
    return example_runs.uuid7(time.time_ns() // 1_000_000, secrets.randbits(62))


def outcomes(results: Sequence[services_pb2.RunResult]) -> list[tuple[str, str]]:
    """Outcome and reason of each result, in order."""
    return [(services_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_"), result.reason) for result in results]


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 30.0) -> None:
    """Poll until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        select.select([], [], [], 0.02)
