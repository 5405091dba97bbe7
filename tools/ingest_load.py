"""A server under load: devices that send serialized requests, and what that took."""

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aggregator_process
import example_runs
import grpc
import psutil
from aggregator_process import Client, Server
from enrolling import Device, secure_channel

from weighin.v1 import services_pb2

MODES = {"plain": ("--insecure",), "mutual_tls": ("--calls-per-minute", "1000000", "--runs-per-day", "1000000000")}
_SAMPLE_SECONDS = 0.25

# Sends one request and returns once all of its runs are stored.
Send = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one server did. Latencies are of calls, processor time is per run, ``resident_bytes`` sampled over time."""

    seconds: float
    calls: int
    p50_seconds: float
    p99_seconds: float
    server_cpu_seconds: float
    client_cpu_seconds: float
    resident_bytes: Sequence[int]

    @property
    def growth_bytes(self) -> float:
        """How much more memory the server has at the end than halfway, each by the median of a tenth of the time."""
        tenth, half = max(1, len(self.resident_bytes) // 10), len(self.resident_bytes) // 2
        end, middle = self.resident_bytes[-tenth:], self.resident_bytes[half : half + tenth]
        return statistics.median(end) - statistics.median(middle)


def put_load(mode: str, devices: int, requests: Sequence[bytes], calls_per_second: float | None = None) -> Load:
    """Let devices send all requests to a server with an empty store, each over a connection of its own.

    Without ``calls_per_second`` each sends its next request when its last one is answered. With it a request is due at
    a time of its own, whatever became of those before it, and its latency counts from then.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        data = Path(folder) / "data"
        server = closing.enter_context(aggregator_process.serving(data, Path(folder) / "log", mode=MODES[mode]))
        senders = closing.enter_context(_senders(server, data, devices))
        process = psutil.Process(server.process.pid)
        with _resident_bytes(process) as resident_bytes:
            server_cpu, client_cpu = _cpu_seconds(process), time.process_time()
            start = time.perf_counter()
            waited_seconds = _send_all(senders, requests, calls_per_second)
            seconds = time.perf_counter() - start
            server_cpu, client_cpu = _cpu_seconds(process) - server_cpu, time.process_time() - client_cpu
    cuts = statistics.quantiles(waited_seconds, n=100)
    return Load(
        seconds=seconds,
        calls=len(requests),
        p50_seconds=cuts[49],
        p99_seconds=cuts[98],
        server_cpu_seconds=server_cpu,
        client_cpu_seconds=client_cpu,
        resident_bytes=tuple(resident_bytes),
    )


def _send_all(senders: Sequence[Send], requests: Sequence[bytes], calls_per_second: float | None) -> list[float]:
    """Return how long each request waited for its answer."""
    numbered = iter(enumerate(requests))
    taking = threading.Lock()
    start = time.perf_counter()

    def work(send: Send) -> list[float]:
        waited: list[float] = []
        while True:
            with taking:
                number, request = next(numbered, (0, None))
            if request is None:
                return waited
            due = time.perf_counter()
            if calls_per_second is not None:
                due = start + number / calls_per_second
                time.sleep(max(0.0, due - time.perf_counter()))
            send(request)
            waited.append(time.perf_counter() - due)

    with ThreadPoolExecutor(len(senders)) as threads:
        return [seconds for waited in threads.map(work, senders) for seconds in waited]


@contextmanager
def _senders(server: Server, data: Path, devices: int) -> Iterator[list[Send]]:
    """Connect devices that have enrolled, or that only name themselves in plain text."""
    with ExitStack() as closing:
        if server.enroll_address is None:
            options = (("grpc.use_local_subchannel_pool", 1),)
            channels = [
                closing.enter_context(grpc.insecure_channel(server.address, options=options)) for _ in range(devices)
            ]
        else:
            trusted = (data / "authority" / "ca.pem").read_bytes()
            channels = [
                closing.enter_context(secure_channel(server.address, device.credentials(trusted)))
                for device in _enrolled(server.enroll_address, data, trusted, devices)
            ]
        yield [_sender(Client(channel)) for channel in channels]


def _enrolled(address: str, data: Path, trusted: bytes, count: int) -> list[Device]:
    created = aggregator_process.command(
        "token", "create", "--data", data, "--group", "bench", "--uses", str(count), "--json"
    )
    token = json.loads(created.stdout)["token"]
    devices = [Device() for _ in range(count)]
    for device in devices:
        device.enroll(address, trusted, token)
    return devices


def _sender(client: Client) -> Send:
    def send(request: bytes) -> None:
        results = client.send(request, example_runs.DEVICE_ID).results
        if {result.outcome for result in results} != {services_pb2.OUTCOME_STORED}:
            raise RuntimeError(f"not all runs were stored: {aggregator_process.outcomes(results)}")

    client.send(example_runs.request([]).SerializeToString(), example_runs.DEVICE_ID)  # Connected before it counts.
    return send


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _resident_bytes(process: psutil.Process) -> Iterator[list[int]]:
    """Read the memory of a process again and again, as long as the block runs."""
    found: list[int] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            found.append(process.memory_info().rss)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
