"""What an operator does with a store that serves: backups, forgetting, retention; and what of it the log tells."""

import json
import os
import stat
import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aggregator_process
import duckdb
import example_runs
import grpc
import pytest
from aggregator_process import Client, command, new_run_id, outcomes, refusal, wait_until
from example_runs import DEVICE_ID, OTHER_DEVICE_ID
from stored_runs import rows

from weighin.v1 import services_pb2
from weighin_aggregator.commands.upkeep import alone
from weighin_aggregator.limits import Limits
from weighin_aggregator.store.store import Store, utc_now
from weighin_aggregator.store.upkeep import compact, delete_expired, remove_old_copies

DELETE = "/weighin.v1.RunService/DeleteDeviceData"
PLANTED = "planted words of a device that will be forgotten"


def planted_envelopes(count: int) -> list[services_pb2.RunEnvelope]:
    run = example_runs.example_run()
    run.failures[0].detail = PLANTED
    return [example_runs.envelope(run, new_run_id(), number + 1) for number in range(count)]


def delete_data(client: Client, device_id: str = DEVICE_ID, request_id: str | None = None) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(DELETE)
    request = services_pb2.DeleteDeviceDataRequest(request_id=str(uuid.uuid4()) if request_id is None else request_id)
    call(request.SerializeToString(), metadata=(("weighin-device-id", device_id),), timeout=30)


def files_with(text: str, folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def events(log: Path) -> list[str]:
    return [json.loads(line)["event"] for line in log.read_text().splitlines()]


def succeed(*arguments: str | Path) -> str:
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def devices_in(snapshot: Path) -> list[tuple[object, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT DISTINCT device_id FROM '{snapshot}/runs/*.parquet'").fetchall()


def test_a_backup_of_a_serving_store_holds_every_run_that_was_acknowledged_before(data: Path, tmp_path: Path) -> None:
    acknowledged: list[str] = []
    begun, done = threading.Event(), threading.Event()

    def send(address: str) -> None:
        with aggregator_process.client(address) as client:
            while not done.is_set():
                acknowledged.extend(result.run_id for result in client.submit(*planted_envelopes(5)))
                begun.set()

    with aggregator_process.serving(data, tmp_path / "log") as server:
        sender = threading.Thread(target=send, args=(server.address,))
        sender.start()
        assert begun.wait(30)
        before = list(acknowledged)
        said = json.loads(succeed("backup", "--data", data, "--out", tmp_path / "backup", "--json"))
        done.set()
        sender.join()
        assert json.loads(succeed("stats", "--data", data, "--json"))["runs"] == len(acknowledged)
    assert list((data / "backups").iterdir()) == []
    succeed("restore", "--data", tmp_path / "elsewhere", tmp_path / "backup")
    with Store.open(tmp_path / "elsewhere") as store:
        held = {str(one) for (one,) in store.transact(lambda c: c.execute("SELECT run_id FROM run").fetchall())}
    assert set(before) <= held <= set(acknowledged)
    assert len(held) == said["run_count"]
    assert "backup_written" in events(tmp_path / "log")


def test_a_forgotten_device_is_gone_from_what_comes_after_and_sends_no_more(data: Path, tmp_path: Path) -> None:
    log, first, later = tmp_path / "log", tmp_path / "first", tmp_path / "later"
    with aggregator_process.serving(data, log) as server, aggregator_process.client(server.address) as client:
        late = planted_envelopes(3)
        client.submit(*late[:2])
        client.submit(*example_others(), device_id=OTHER_DEVICE_ID)
        succeed("snapshot", "--data", data, "--out", first)
        assert set(devices_in(first)) == {(DEVICE_ID,), (OTHER_DEVICE_ID,)}

        request_id = str(uuid.uuid4())
        for repeated in (request_id, request_id, None):  # the answer may have been lost, and the request_id with it
            delete_data(client, request_id=repeated)
        assert_forgotten(client, late)
        succeed("snapshot", "--data", data, "--out", later)
        assert devices_in(later) == [(OTHER_DEVICE_ID,)]
        assert files_with(PLANTED, later) == []
    assert files_with(PLANTED, data) != [], "the bytes are still on the disk"
    with aggregator_process.serving(data, log) as server, aggregator_process.client(server.address) as client:
        wait_until(lambda: "store_compacted" in events(log))
        assert_forgotten(client, late)
        delete_data(client)
        succeed("backup", "--data", data, "--out", tmp_path / "backup")
    assert files_with(PLANTED, data) == []
    assert files_with(PLANTED, tmp_path / "backup") == []
    assert json.loads(succeed("stats", "--data", data, "--json"))["runs"] == 2
    assert DEVICE_ID not in [json.loads(line).get("device_id") for line in lines_after(log, "device_forgotten")]


def example_others() -> list[services_pb2.RunEnvelope]:
    return [example_runs.envelope(example_runs.example_run(), new_run_id(), number) for number in (1, 2)]


def assert_forgotten(client: Client, late: Sequence[services_pb2.RunEnvelope]) -> None:
    with pytest.raises(grpc.RpcError) as error:
        client.submit(*late)
    assert refusal(error.value) == (grpc.StatusCode.FAILED_PRECONDITION, "DEVICE_FORGOTTEN", None)


def lines_after(log: Path, event: str) -> list[str]:
    lines = log.read_text().splitlines()
    return lines[[json.loads(line)["event"] for line in lines].index(event) :]


def test_a_deletion_without_a_proper_request_id_deletes_nothing(client: Client) -> None:
    device = str(uuid.uuid4())
    sent = planted_envelopes(1)
    client.submit(*sent, device_id=device)
    with pytest.raises(grpc.RpcError) as error:
        delete_data(client, device, request_id="yes")
    assert refusal(error.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert outcomes(client.submit(*sent, device_id=device)) == [("DUPLICATE", "")]


def test_a_server_deletes_at_its_start_what_it_keeps_no_longer(data: Path, tmp_path: Path) -> None:
    with Store.open(data, create=True) as store:
        store.insert(rows(1, receive_time=utc_now() - timedelta(days=8)))
        store.insert(rows(2, receive_time=utc_now() - timedelta(days=6)))
    mode = ("--insecure", "--retention-days", "7")
    with aggregator_process.serving(data, tmp_path / "log", mode=mode):
        wait_until(lambda: "store_compacted" in events(tmp_path / "log"))
    expired = next(line for line in lines_after(tmp_path / "log", "runs_expired"))
    assert json.loads(expired)["runs"] == 1
    assert json.loads(succeed("stats", "--data", data, "--json"))["runs"] == 1


def test_all_old_runs_expire_however_few_go_at_a_time_and_none_where_all_are_kept(data: Path) -> None:
    with Store.open(data, create=True) as store:
        store.insert(rows(*range(1, 8), receive_time=utc_now() - timedelta(days=400)))
        assert delete_expired(alone(store), Limits(retention_days=0), utc_now()) == 0
        assert delete_expired(alone(store), Limits(deleted_runs=3), utc_now()) == 7
        assert store.stats().runs == 0


def test_there_is_nothing_to_compact_where_nothing_was_deleted(data: Path) -> None:
    with Store.open(data, create=True) as store:
        store.insert(rows(1))
        assert not compact(data, alone(store))


def test_compaction_removes_the_snapshots_and_the_drafts_that_a_killed_server_left(data: Path) -> None:
    draft = data / "snapshots/.20260301T000000Z.weighin-x/runs"
    with Store.open(data, create=True) as store:
        store.insert(rows(1, receive_time=utc_now() - timedelta(days=400)))
        draft.mkdir(parents=True)
        (draft / "1.parquet").write_text(PLANTED)
        assert delete_expired(alone(store), Limits(), utc_now()) == 1
        assert compact(data, alone(store))
    assert files_with(PLANTED, data) == []


def test_a_copy_that_was_kept_goes_when_nobody_has_come_back_to_it_for_a_month(data: Path) -> None:
    now = datetime(2026, 11, 22)
    Store.open(data, create=True).close()
    for name, age_days in (("weighin.duckdb.before-4", 31), ("weighin.duckdb.before-5", 29)):
        (data / name).touch()
        moment = (now - timedelta(days=age_days)).replace(tzinfo=UTC).timestamp()
        os.utime(data / name, (moment, moment))
    remove_old_copies(data, 30, now)
    left = sorted(path.name for path in data.iterdir())
    assert left == ["weighin.duckdb", "weighin.duckdb.before-5", "weighin.duckdb.lock"]


def test_without_a_server_an_operator_backs_up_forgets_and_restores(data: Path, tmp_path: Path) -> None:
    with Store.open(data, create=True) as store:
        store.insert(rows(1, 2, raw=PLANTED.encode()))
        store.insert(rows(3, device_id=OTHER_DEVICE_ID))
    backup = tmp_path / "backup"
    assert "3 runs" in succeed("backup", "--data", data, "--out", backup)
    assert "2 runs" in succeed("forget", "--data", data, DEVICE_ID)
    assert files_with(PLANTED, data) == []
    assert "nothing was deleted" in succeed("compact", "--data", data)
    said = succeed("restore", "--data", data, backup)
    assert "what was there is kept in" in said
    assert json.loads(succeed("stats", "--data", data, "--json"))["runs"] == 1, "who was forgotten stays forgotten"


def test_what_the_program_writes_is_for_its_owner_only(data: Path) -> None:
    data.mkdir(mode=0o755)
    succeed("init", "--data", data)
    assert stat.S_IMODE((data / "weighin.duckdb").stat().st_mode) == 0o600


def test_what_cannot_be_done_beside_a_server_says_who_runs(data: Path, tmp_path: Path) -> None:
    with aggregator_process.serving(data, tmp_path / "log") as server:
        succeed("backup", "--data", data, "--out", tmp_path / "backup")
        for arguments in (("restore", tmp_path / "backup"), ("compact",), ("forget", DEVICE_ID)):
            done = command(arguments[0], "--data", data, *arguments[1:])
            assert done.returncode == 1
            assert f"in use by process {server.process.pid}" in done.stderr
            assert len(done.stderr.splitlines()) == 1


def test_a_backup_into_a_folder_that_is_there_is_refused_in_one_line(data: Path, tmp_path: Path) -> None:
    with aggregator_process.serving(data, tmp_path / "log"):
        done = command("backup", "--data", data, "--out", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"weighin-aggregator: {tmp_path} is there already; name a new folder\n"
