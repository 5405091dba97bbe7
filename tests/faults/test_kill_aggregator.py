"""SIGKILL of a serving aggregator at random moments: what was acknowledged is there, once; the rest arrives later.

The truth is a ledger outside the server. WEIGHIN_KILLS and WEIGHIN_SEED make it longer or repeat it. A SIGKILL leaves
the page cache alone, so this says nothing about the loss of power.
"""

import hashlib
import os
import random
import threading
from pathlib import Path

import aggregator_process
import duckdb
import example_runs
import grpc
import pytest
from aggregator_process import Client

from weighin.v1 import services_pb2

KILLS = int(os.environ.get("WEIGHIN_KILLS", "10"))
CLIENTS = 4
RUNS_PER_CALL = 5
LATEST_KILL_SECONDS = 0.5
DELIVERED = {services_pb2.OUTCOME_STORED, services_pb2.OUTCOME_DUPLICATE}


class Device:
    """One client: makes runs, sends them in one call at a time, and forgets a run only when it is acknowledged."""

    def __init__(self, number: int, pool: list[bytes]) -> None:
        self.device_id = f"00000000-0000-4000-8000-{number:012x}"
        self.spool: dict[str, bytes] = {}
        self.acknowledged: dict[str, bytes] = {}
        self.duplicates = 0
        self.refused: list[services_pb2.RunResult] = []
        self._pool = pool
        self._next = number << 32

    def measure(self) -> None:
        """Spool new runs until the next call is full."""
        while len(self.spool) < RUNS_PER_CALL:
            self._next += 1
            self.spool[example_runs.uuid7(1_770_000_000_000, self._next)] = self._pool[self._next % len(self._pool)]

    def deliver(self, client: Client) -> None:
        """Send what is in the spool. Raises grpc.RpcError."""
        envelopes = [example_runs.envelope(run, run_id) for run_id, run in self.spool.items()]
        for result in client.submit(*envelopes, device_id=self.device_id):
            if result.outcome not in DELIVERED:
                self.refused.append(result)
                continue
            self.duplicates += result.outcome == services_pb2.OUTCOME_DUPLICATE
            self.acknowledged[result.run_id] = self.spool.pop(result.run_id)


def send_until_the_server_dies(device: Device, address: str) -> None:
    with aggregator_process.client(address) as client:
        try:
            while not device.refused:
                device.measure()
                device.deliver(client)
        except grpc.RpcError:
            return


def kill_while_they_send(devices: list[Device], data: Path, log: Path, chance: random.Random) -> None:
    server = aggregator_process.start(data, log)
    senders = [threading.Thread(target=send_until_the_server_dies, args=(d, server.address)) for d in devices]
    for sender in senders:
        sender.start()
    # Not a wait for anything: the random moment is the fault.
    threading.Event().wait(chance.uniform(0, LATEST_KILL_SECONDS))
    server.kill()
    for sender in senders:
        sender.join()


@pytest.mark.slow
def test_killing_the_server_loses_no_acknowledged_run_and_stores_none_twice(tmp_path: Path) -> None:
    seed = int(os.environ.get("WEIGHIN_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"WEIGHIN_SEED={seed}")
    chance = random.Random(seed)
    pool = [example_runs.example_run(number).SerializeToString() for number in range(1, 8)]
    devices = [Device(number, pool) for number in range(1, CLIENTS + 1)]
    data, log = tmp_path / "data", tmp_path / "log"

    for _ in range(KILLS):
        kill_while_they_send(devices, data, log, chance)
    left = sum(len(device.spool) for device in devices)
    with aggregator_process.serving(data, log) as server, aggregator_process.client(server.address) as client:
        for device in devices:
            device.deliver(client)

    assert [device.refused for device in devices] == [[]] * CLIENTS
    assert [device.spool for device in devices] == [{}] * CLIENTS
    duplicates = sum(device.duplicates for device in devices)
    ledger = {run_id: run for device in devices for run_id, run in device.acknowledged.items()}
    print(f"{KILLS} kills, {len(ledger)} runs, {left} unacknowledged at the end, {duplicates} sent twice")
    assert len(ledger) > KILLS, "the kills came before anything was sent"
    stored = read_store(data)
    assert {run_id: hashlib.sha256(run).digest() for run_id, run in ledger.items()} == stored


def read_store(data: Path) -> dict[str, bytes]:
    """The hash of the stored bytes by run_id; fails when an id is there twice or a run is not all there."""
    with duckdb.connect(str(data / "weighin.duckdb"), read_only=True) as store:
        rows = store.execute("SELECT run_id::VARCHAR, raw FROM run").fetchall()
        whole = store.execute(
            "SELECT count(*) FILTER (series = 192 AND measurements = 17) FROM "
            "(SELECT run_id, count(*) AS series FROM series GROUP BY ALL) JOIN "
            "(SELECT run_id, count(*) AS measurements FROM measurement GROUP BY ALL) USING (run_id)"
        ).fetchone()
    stored = {run_id: hashlib.sha256(raw).digest() for run_id, raw in rows}
    assert len(stored) == len(rows), "a run is stored twice"
    assert whole == (len(rows),), "a run is torn"
    return stored
