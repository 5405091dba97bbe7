"""A server with mutual TLS in this process, and what a test of identity needs of it."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aggregator_process
import grpc
from enrolling import Device, secure_channel

from weighin_aggregator.commands.operator_client import Operator, operating
from weighin_aggregator.identity.terms import Terms
from weighin_aggregator.limits import Limits
from weighin_aggregator.serve.assembly import Config, Secure
from weighin_aggregator.serve.ports import Endpoint
from weighin_aggregator.serve.server import running
from weighin_aggregator.serve.serving import Serving

# Every test of a server calls from one address, often and in vain.
UNHURRIED = Limits(failures_per_minute=100_000, calls_per_minute=100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureServer:
    """A serving aggregator: its data directory, and its addresses as it announces them."""

    data: Path
    serving: Serving

    @property
    def run_address(self) -> str:
        return self.serving.run_address

    @property
    def enroll_address(self) -> str:
        assert self.serving.enroll_address is not None
        return self.serving.enroll_address

    @property
    def authority_pem(self) -> bytes:
        return (self.data / "authority" / "ca.pem").read_bytes()

    @contextmanager
    def operator(self) -> Iterator[Operator]:
        with operating(self.serving) as operator:
            yield operator

    def token(self, *, uses: int = 1, seconds: int = 3600) -> str:
        with self.operator() as operator:
            return operator.make_token(Terms(group="lab-a", use_count=uses, lifetime_seconds=seconds))[0]

    def enrolled(self) -> Device:
        """A new device that has its certificate."""
        device = Device()
        device.enroll(self.enroll_address, self.authority_pem, self.token())
        return device

    @contextmanager
    def connected(self, credentials: grpc.ChannelCredentials) -> Iterator[aggregator_process.Client]:
        """A connection to the run port."""
        with secure_channel(self.run_address, credentials) as channel:
            yield aggregator_process.Client(channel)

    @contextmanager
    def client(self, device: Device) -> Iterator[aggregator_process.Client]:
        """A connection to the run port by the certificate of a device."""
        with self.connected(device.credentials(self.authority_pem)) as client:
            yield client


@contextmanager
def secure_server(data: Path, limits: Limits = UNHURRIED) -> Iterator[SecureServer]:
    """Serve inside the block, in a thread of this process."""
    started, stop = Future[Serving](), threading.Event()
    anywhere = Endpoint(host="127.0.0.1", port=0)
    config = Config(data=data, run=anywhere, secure=Secure(name="127.0.0.1", enroll=anywhere), limits=limits)

    async def serve() -> None:
        async with running(config) as serving:
            started.set_result(serving)
            await asyncio.to_thread(stop.wait)

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield SecureServer(data=data, serving=started.result(60))
    finally:
        stop.set()
        thread.join(60)
