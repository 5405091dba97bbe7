"""A serving process from outside: health, stopping, a full disk, and what it writes to its log."""

import asyncio
import gc
import json
import resource
import sys
import threading
from pathlib import Path
from typing import cast

import aggregator_process
import example_runs
import grpc
import pytest
from aggregator_process import Client, Server, command, new_run_id, outcomes, refusal, wait_until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME
from secure_server import UNHURRIED, secure_server

from weighin.v1 import services_pb2, services_pb2_grpc
from weighin_aggregator.limits import Limits
from weighin_aggregator.serve import serving
from weighin_aggregator.serve.assembly import Config
from weighin_aggregator.serve.ports import Endpoint
from weighin_aggregator.serve.server import running
from weighin_aggregator.serve.serving import SECRET_METADATA
from weighin_aggregator.store.backup import Backup
from weighin_aggregator.store.store import Known, Store
from weighin_aggregator.store.upkeep import Upkeep

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health(client: Client, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    status: int = health_pb2_grpc.HealthStub(client.channel).Check(request, timeout=10).status
    return status


def new_envelopes(count: int) -> list[services_pb2.RunEnvelope]:
    run = example_runs.example_run()
    return [example_runs.envelope(run, new_run_id()) for _ in range(count)]


@pytest.mark.parametrize("service", ["", "weighin.v1.RunService"])
def test_a_server_that_can_store_runs_says_that_it_serves(client: Client, service: str) -> None:
    assert health(client, service) == SERVING


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (health_pb2.HealthCheckRequest(service="weighin.v1.Nothing").SerializeToString(), grpc.StatusCode.NOT_FOUND),
        (b"\x0a\x02\xff\xfe", grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["of a service that is not there", "of bytes that do not decode"],
)
def test_the_health_of_nothing_is_told_as_often_as_it_is_asked_for(
    tmp_path: Path, request_bytes: bytes, code: grpc.StatusCode
) -> None:
    with secure_server(tmp_path / "data") as server, server.client(server.enrolled()) as client:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(f"/{SERVICE_NAME}/Check")
        gc.disable()
        try:
            for _ in range(5 * UNHURRIED.streams_per_connection):
                with pytest.raises(grpc.RpcError) as caught:
                    check(request_bytes, timeout=10)
                assert cast("grpc.Call", caught.value).code() is code
        finally:
            gc.enable()


def test_sigterm_stores_everything_that_was_taken_and_leaves_nothing_to_replay(data: Path, tmp_path: Path) -> None:
    server = aggregator_process.start(data, tmp_path / "log")
    acknowledged: list[str] = []
    refusals: list[grpc.StatusCode] = []
    first_answer = threading.Event()

    def send() -> None:
        with aggregator_process.client(server.address) as client:
            while True:
                envelopes = new_envelopes(5)
                try:
                    results = client.submit(*envelopes)
                except grpc.RpcError as error:
                    refusals.append(refusal(error)[0])
                    return
                acknowledged.extend(result.run_id for result in results)
                first_answer.set()

    senders = [threading.Thread(target=send) for _ in range(3)]
    for sender in senders:
        sender.start()
    assert first_answer.wait(30)
    assert server.stop() == 0
    for sender in senders:
        sender.join()
    # A call that meets the very end is cancelled by gRPC itself: it was promised nothing either.
    assert set(refusals) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert not (data / "weighin.duckdb.wal").exists()
    assert not (data / "serving.json").exists()
    counts = json.loads(command("stats", "--data", data, "--json").stdout)
    assert counts["runs"] >= len(acknowledged) > 0


def test_a_server_that_cannot_announce_itself_serves_all_the_same_and_does_so_later(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_RETRY_SECONDS", 0.01)
    announcement = data / "serving.json"
    announcement.mkdir(parents=True)

    async def serve() -> None:
        async with running(Config(data=data, run=Endpoint(host="127.0.0.1", port=0))) as served:
            async with grpc.aio.insecure_channel(served.run_address) as channel:
                check = health_pb2_grpc.HealthStub(channel).Check
                assert (await check(health_pb2.HealthCheckRequest(), timeout=10)).status == SERVING
            announcement.rmdir()
            await asyncio.to_thread(wait_until, announcement.is_file)
            assert json.loads(announcement.read_text())["run_address"] == served.run_address

    asyncio.run(serve())
    assert not announcement.exists()


def test_a_backup_whose_command_is_gone_is_neither_kept_nor_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Ctrl-C: a whole copy with the keys would lie there for a month."""
    back_up = Upkeep.back_up

    async def serve() -> None:
        begun, may_go_on = asyncio.Event(), asyncio.Event()
        made: list[Path] = []

        async def when_told(upkeep: Upkeep) -> tuple[Path, Backup]:
            begun.set()
            await may_go_on.wait()
            written = await back_up(upkeep)
            made.append(written[0])
            return written

        monkeypatch.setattr(Upkeep, "back_up", when_told)
        async with (
            running(Config(data=data, run=Endpoint(host="127.0.0.1", port=0))) as served,
            grpc.aio.insecure_channel(served.operator_address) as channel,
        ):
            operator = services_pb2_grpc.OperatorServiceStub(channel)
            secret = ((SECRET_METADATA, served.operator_secret),)
            call = operator.CreateBackup(services_pb2.CreateBackupRequest(), metadata=secret)
            await asyncio.wait_for(begun.wait(), 30)
            call.cancel()
            may_go_on.set()
            await asyncio.to_thread(wait_until, lambda: bool(made) and not made[0].exists())
            stats = await operator.GetStats(services_pb2.GetStatsRequest(), metadata=secret)
            assert not stats.HasField("last_backup_time")

    asyncio.run(serve())


def test_what_a_death_left_of_a_backup_is_removed_at_the_next_start(data: Path) -> None:
    left, taken = data / "backups/.20260301T000000.000000Z.unfinished", data / "backups/20260301T000000.000000Z"
    for folder in (left, taken):
        folder.mkdir(parents=True)
        (folder / "weighin.duckdb").touch()

    async def serve() -> None:
        async with running(Config(data=data, run=Endpoint(host="127.0.0.1", port=0))):
            await asyncio.to_thread(wait_until, lambda: not left.exists())

    asyncio.run(serve())
    assert taken.is_dir()


def test_an_idle_connection_does_not_hold_up_the_end(data: Path, tmp_path: Path) -> None:
    server = aggregator_process.start(data, tmp_path / "log")
    with aggregator_process.client(server.address) as client:
        answer = health_pb2_grpc.HealthStub(client.channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert answer.status == SERVING
        assert server.stop() == 0


def test_a_store_that_the_committer_is_still_inside_is_not_closed_under_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, leave, closed = threading.Event(), threading.Event(), threading.Event()

    def hang(_: Store, tables: object) -> dict[str, Known]:
        inside.set()
        assert leave.wait(60)
        return {}

    def close(store: Store) -> None:
        closed.set()

    monkeypatch.setattr(Store, "insert", hang)
    monkeypatch.setattr(Store, "close", close)
    request = example_runs.request(new_envelopes(1)).SerializeToString()

    async def serve_and_leave() -> None:
        config = Config(data=data, run=Endpoint(host="127.0.0.1", port=0), limits=Limits(drain_seconds=0.1))
        async with running(config) as server, grpc.aio.insecure_channel(server.run_address) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(aggregator_process.SUBMIT_RUNS)
            answer = call(request, metadata=(("weighin-device-id", example_runs.DEVICE_ID),))
            assert await asyncio.to_thread(inside.wait, 30)
            answer.cancel()

    try:
        asyncio.run(serve_and_leave())
        assert not closed.is_set()
    finally:
        leave.set()


def file_size_limit(server: Server, limit_bytes: int) -> None:
    """Let no file of the process grow over the limit: for its writes, the disk is full."""
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit_bytes, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process's files")
@pytest.mark.parametrize("in_checkpoint", [False, True], ids=["in the log", "in a checkpoint"])
def test_a_full_disk_is_told_and_nothing_acknowledged_is_lost(data: Path, tmp_path: Path, in_checkpoint: bool) -> None:
    with (
        aggregator_process.serving(data, tmp_path / "log") as server,
        aggregator_process.client(server.address) as client,
    ):
        acknowledged = {result.run_id for result in client.submit(*new_envelopes(3))}
        # The log is emptied at 8 MB: below that the log itself meets the limit, above it the file does.
        file_size_limit(server, (20 if in_checkpoint else 1) << 20)
        sent: list[services_pb2.RunEnvelope] = []

        def submit_until_refused() -> None:
            for _ in range(60):
                sent[:] = new_envelopes(100 if in_checkpoint else 3)
                acknowledged.update(result.run_id for result in client.submit(*sent))

        with pytest.raises(grpc.RpcError) as caught:
            submit_until_refused()
        assert refusal(caught.value) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", 60.0)
        assert health(client) == NOT_SERVING
        file_size_limit(server, resource.RLIM_INFINITY)
        wait_until(lambda: health(client) == SERVING)
        again = client.submit(*sent)
        assert {outcome for outcome, _ in outcomes(again)} <= {"STORED", "DUPLICATE"}
        acknowledged.update(result.run_id for result in again)
    counts = json.loads(command("stats", "--data", data, "--json").stdout)
    assert counts["runs"] == len(acknowledged)


def test_the_log_is_structured_and_repeats_nothing_that_was_sent(data: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with aggregator_process.serving(data, log) as server, aggregator_process.client(server.address) as client:
        run = example_runs.example_run()
        run.suite = "<canary>"
        client.submit(example_runs.envelope(run, "canary"), example_runs.envelope(run, new_run_id()))
        client.submit(*new_envelopes(1))
    text = log.read_text()
    assert "canary" not in text
    events = [json.loads(line) for line in text.splitlines()]
    assert [event["event"] for event in events] == ["serving", "runs_submitted", "runs_submitted", "stopped"]
    assert (events[1]["rejected"], events[2]["stored"]) == (2, 1)
    assert events[1]["reasons"] == {"RUN_ID_INVALID": 1, "FIELD_INVALID": 1}
    assert "reasons" not in events[2]


def test_the_log_counts_why_runs_were_not_stored(data: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with aggregator_process.serving(data, log) as server, aggregator_process.client(server.address) as client:
        first, damaged, *others = new_envelopes(4)
        client.submit(first)
        damaged.run_sha256 = bytes(32)
        for envelope in others:
            envelope.run_id = "none"
        client.submit(first, damaged, *others)
        client.submit(first, device_id=example_runs.OTHER_DEVICE_ID)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    _, mixed, reused = [event for event in events if event["event"] == "runs_submitted"]
    assert (mixed["duplicate"], mixed["retry"], mixed["rejected"]) == (1, 1, 2)
    assert mixed["reasons"] == {"CHECKSUM_MISMATCH": 1, "RUN_ID_INVALID": 2}
    assert reused["reasons"] == {"RUN_ID_REUSED": 1}
