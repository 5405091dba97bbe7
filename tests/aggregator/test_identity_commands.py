"""The commands about devices, run as an operator runs them, with and without a server."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import aggregator_process
import grpc
import pytest
from aggregator_process import Server, command
from enrolling import Device

from weighin_aggregator.commands import command_line
from weighin_aggregator.errors import (
    AggregatorError,
    AuthorityError,
    DeviceUnknownError,
    StoreError,
    StoreMissingError,
    UsageError,
)

UNKNOWN = "0b6f1c1e-6a51-4d0c-9d7e-2f4f5a7c9b10"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with aggregator_process.serving(folder / "data", folder / "log", mode=()) as server:
        yield server


def data_of(server: Server) -> Path:
    return server.log.parent / "data"


def authority_of(data: Path) -> bytes:
    return (data / "authority" / "ca.pem").read_bytes()


def answer(*arguments: str | Path) -> str:
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def _unconfigured_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs in this process leaves the log of other tests alone."""
    monkeypatch.setattr(command_line, "_configure_log", lambda: None)


def failure(kind: type[AggregatorError], *arguments: str | Path) -> str:
    """The text of the error that ends a command, in this process: a process of its own takes a second."""
    with pytest.raises(kind) as caught:
        command_line.run([*map(str, arguments)])
    return str(caught.value)


def complaint(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and the one line of a command that fails."""
    done = command(*arguments)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.returncode, done.stderr.removeprefix("weighin-aggregator: ").rstrip()


def test_a_token_made_while_a_server_runs_enrols_a_device_that_is_then_listed_and_revoked(server: Server) -> None:
    data = data_of(server)
    text = answer("token", "create", "--data", data, "--group", "lab-a")
    assert text.startswith(f"wt1.{server.enroll_address}.")
    assert server.enroll_address is not None
    device = Device()
    device.enroll(server.enroll_address, authority_of(data), text.strip())

    (listed,) = json.loads(answer("devices", "--data", data, "--json"))["devices"]
    assert (listed["device_id"], listed["group"]) == (device.device_id, "lab-a")
    assert listed["enroll_time"].endswith("Z")
    assert (listed["revoke_time"], listed["last_receive_time"]) == (None, None)
    head, row = answer("devices", "--data", data).splitlines()
    assert head.split() == ["device", "enrolled", "last", "run", "revoked", "group"]
    assert row.split()[0] == device.device_id

    for _ in range(2):
        assert answer("revoke", "--data", data, device.device_id) == (
            f"revoked {device.device_id}: nothing more is taken from it\n"
        )
    (listed,) = json.loads(answer("devices", "--data", data, "--json"))["devices"]
    assert listed["revoke_time"].endswith("Z")


def test_everything_works_on_the_store_while_no_server_runs_and_counts_for_the_next_one(
    data: Path, tmp_path: Path
) -> None:
    address = "weighin.example.org:50052"
    made = json.loads(
        answer(*("token", "create", "--data", data, "--group", "a", "--uses", "2", "--ttl", "30m"),
               "--address", address, "--json")
    )  # fmt: skip
    assert made["token"].startswith(f"wt1.{address}.")
    assert (made["group"], made["uses"]) == ("a", 2)
    assert answer("devices", "--data", data).startswith("no device is enrolled; make a token")

    with aggregator_process.serving(data, tmp_path / "log", mode=()) as server:
        assert server.enroll_address is not None
        device = Device()
        device.enroll(server.enroll_address, authority_of(data), made["token"])
    assert answer("revoke", "--data", data, device.device_id).startswith("revoked ")
    (listed,) = json.loads(answer("devices", "--data", data, "--json"))["devices"]
    assert listed["revoke_time"] is not None


@pytest.mark.parametrize("serving", [True, False], ids=["serving", "alone"])
def test_a_device_that_is_not_enrolled_cannot_be_revoked(server: Server, data: Path, serving: bool) -> None:
    if not serving:
        command_line.run(["init", "--data", str(data)])
    where = data_of(server) if serving else data
    told = failure(DeviceUnknownError, "revoke", "--data", where, UNKNOWN)
    assert told == f"no device {UNKNOWN} is enrolled; list them with: devices"


def test_what_is_no_device_id_is_bad_usage(server: Server) -> None:
    told = failure(UsageError, "revoke", "--data", data_of(server), "lab-pc-7")
    assert told == "DEVICE must be a device id: a lower-case UUID, as `devices` lists them"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--uses", "0"), "--uses: must be 1 to 1,000,000"),
        (("--ttl", "30"), "--ttl must be a number of minutes, hours or days, for example 30m, 24h or 7d"),
        (("--ttl", "999d"), "--ttl: must be 1 minute to 366 days"),
        (("--group", ""), "--group: must be 1 to 64 letters, digits, spaces and ( ) @ . + / _ -"),
        (("--address", "weighin.example.org"), "--address must be NAME:PORT, for example weighin.example.org:50052"),
        (
            ("--address", "1.2.3:50052"),
            "--address must have a DNS name or an IP address of the server, as weighin.example.org",
        ),
    ],
)
def test_a_token_that_cannot_be_is_bad_usage(data: Path, arguments: tuple[str, ...], line: str) -> None:
    assert failure(UsageError, "token", "create", "--data", data, "--group", "a", *arguments) == line


def test_a_token_is_of_a_server_whose_address_is_known(data: Path) -> None:
    line = ("token", "create", "--data", data, "--group", "a")
    assert failure(StoreMissingError, *line).startswith(f"no store in {data}; make one with: ")
    assert not data.exists()
    command("init", "--data", data)
    asked = "no server runs on this data directory: say where devices will enrol with --address"
    assert failure(UsageError, *line) == asked


def test_a_running_server_knows_its_address_by_itself(server: Server) -> None:
    arguments = ("--data", data_of(server), "--group", "a", "--address", "weighin.example.org:50052")
    told = failure(UsageError, "token", "create", *arguments)
    assert told == "a server runs on this data directory and knows its address: leave out --address"


def test_a_plain_server_makes_no_token(data: Path, tmp_path: Path) -> None:
    with aggregator_process.serving(data, tmp_path / "log") as server:
        code, line = complaint("token", "create", "--data", data, "--group", "a")
    assert code == 1
    assert line == (
        f"the server at {server.address} made no token: it serves plain text (--insecure), where no device enrols"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--name", "weighin.example.org:50051"), "--name must have a DNS name or an IP address of the server"),
        (("--name", "10.0.0.256"), "--name must have a DNS name or an IP address of the server"),
        (("--name", ""), "--name must have a DNS name or an IP address of the server"),
        (("--enroll-listen", "weighin.example.org:1"), "--enroll-listen must be HOST:PORT with an IP address"),
        (("--listen", "127.0.0.1:65535"), "--enroll-listen is needed: there is no port after 65535"),
        (("--insecure", "--name", "a"), "--insecure goes without --enroll-listen and --name"),
    ],
)
def test_a_server_that_cannot_be_known_does_not_start(data: Path, arguments: tuple[str, ...], line: str) -> None:
    assert failure(UsageError, "serve", "--data", data, *arguments).startswith(line)
    assert not data.exists()


def test_an_enrolment_port_in_use_is_told_with_the_option_that_changes_it(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = command("serve", "--data", data, "--listen", "127.0.0.1:0", "--enroll-listen", address)
    assert (done.returncode, done.stdout) == (1, "")
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert complaints == [
        f"weighin-aggregator: cannot listen on {address}: Address already in use; choose another with --enroll-listen"
    ]


def test_an_unreadable_authority_is_one_line_that_says_what_to_do(data: Path) -> None:
    command_line.run(["init", "--data", str(data)])
    (data / "authority" / "ca.key").write_text("spoilt")
    code, line = complaint("serve", "--data", data, "--listen", "127.0.0.1:0")
    assert code == 1
    assert line.endswith("are no key and its certificate; bring them back from a backup")
    arguments = ("--data", data, "--group", "a", "--address", "a:1")
    assert failure(AuthorityError, "token", "create", *arguments) == line


@pytest.mark.parametrize("lost", [("ca.pem",), ("ca.key",), ("ca.key", "ca.pem")])
@pytest.mark.parametrize("has_enrolled", [True, False])
def test_no_other_authority_is_made_once_devices_or_tokens_name_one(
    data: Path, tmp_path: Path, lost: tuple[str, ...], has_enrolled: bool
) -> None:
    with aggregator_process.serving(data, tmp_path / "log", mode=()) as server:
        assert server.enroll_address is not None
        token = answer("token", "create", "--data", data, "--group", "a").strip()
        if has_enrolled:
            Device().enroll(server.enroll_address, authority_of(data), token)
    for name in lost:
        (data / "authority" / name).unlink()
    left = {path: path.read_bytes() for path in (data / "authority").iterdir()}
    for asked in (
        ("serve", "--listen", "127.0.0.1:0"),
        ("token", "create", "--group", "a", "--address", "a.example:1"),
    ):
        line = failure(AuthorityError, *asked, "--data", data)
        assert "ca." in line
        assert "backup" in line
    assert {path: path.read_bytes() for path in (data / "authority").iterdir()} == left


def test_no_empty_store_is_begun_beside_the_keys_of_a_fleet(data: Path) -> None:
    answer("init", "--data", data)
    (data / "weighin.duckdb").unlink()
    for name in ("init", "serve"):
        line = failure(StoreError, name, "--data", data)
        assert "is gone" in line
        assert "restore" in line
    assert not (data / "weighin.duckdb").exists()


def test_the_log_of_enrolments_holds_no_secret_and_no_address(data: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with aggregator_process.serving(data, log, mode=()) as server:
        assert server.enroll_address is not None
        token = answer("token", "create", "--data", data, "--group", "a").strip()
        secrets = [token.rpartition(".")[2], json.loads((data / "serving.json").read_text())["operator_secret"]]
        Device().enroll(server.enroll_address, authority_of(data), token)
        with pytest.raises(grpc.RpcError):
            Device().enroll(server.enroll_address, authority_of(data), token)
        # Refused in the handshake: gRPC itself must not report the address of whoever tried.
        with aggregator_process.client(server.address) as client, pytest.raises(grpc.RpcError):
            client.submit()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events] == [
        "server_certificate_issued",
        "serving",
        "token_created",
        "enrolled",
        "enrollment_refused",
        "stopped",
    ]
    assert events[4]["reason"] == "ENROLLMENT_TOKEN_INVALID"
    told = json.dumps(events[2:])
    assert not [secret for secret in (*secrets, "127.0.0.1", "wt1.") if secret in told]
