"""Everything that a busy server logs, against everything that must not be in it."""

import json
import uuid
from contextlib import suppress
from pathlib import Path

import aggregator_process
import example_runs
import grpc
from aggregator_process import command, new_run_id
from enrolling import Device, secure_channel

from weighin.v1 import services_pb2, services_pb2_grpc

PLANTED = "planted words of a device"


def test_no_line_of_a_busy_server_holds_a_secret_an_address_or_words_that_were_sent(data: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with aggregator_process.serving(data, log, mode=()) as server:
        assert server.enroll_address is not None
        authority = (data / "authority/ca.pem").read_bytes()
        tokens = [make_token(data) for _ in range(2)]
        device, revoked = Device(), Device()
        for one, token in zip((device, revoked), tokens, strict=True):
            one.enroll(server.enroll_address, authority, token)
        with suppress(grpc.RpcError):
            Device().enroll(server.enroll_address, authority, tokens[0])
        command("revoke", "--data", data, revoked.device_id)
        for one in (revoked, device):
            with secure_channel(server.address, one.credentials(authority)) as channel, suppress(grpc.RpcError):
                send_everything(channel)
        command("backup", "--data", data, "--out", tmp_path / "backup")
        secret = json.loads((data / "serving.json").read_text())["operator_secret"]
        own_address = server.address
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["event"] for line in lines} >= {
        "serving",
        "token_created",
        "enrolled",
        "enrollment_refused",
        "device_revoked",
        "runs_submitted",
        "device_forgotten",
        "backup_written",
        "stopped",
    }
    assert [line.pop("address", None) for line in lines if line["event"] == "serving"] == [own_address]
    text = json.dumps(lines)
    assert PLANTED not in text
    assert secret not in text
    assert "127.0.0.1" not in text
    assert "PRIVATE KEY" not in text
    for token in tokens:
        assert token.rpartition(".")[2] not in text


def make_token(data: Path) -> str:
    return command("token", "create", "--data", data, "--group", "lab-a").stdout.strip()


def send_everything(channel: grpc.Channel) -> None:
    """Send a run, a run that is refused, what is no message, and the wish to be forgotten."""
    run = example_runs.example_run()
    run.failures[0].detail = PLANTED
    good = example_runs.envelope(run, new_run_id())
    run.suite = f"<{PLANTED}>"
    client = aggregator_process.Client(channel)
    client.submit(good, example_runs.envelope(run, PLANTED), device_id=None)
    with suppress(grpc.RpcError):
        client.send(PLANTED.encode(), device_id=None)
    request = services_pb2.DeleteDeviceDataRequest(request_id=str(uuid.uuid4()))
    services_pb2_grpc.RunServiceStub(channel).DeleteDeviceData(request, timeout=30)
