"""The commands of the operator, run as an operator runs them."""

import json
import os
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import aggregator_process
import example_runs
import pytest
from aggregator_process import command
from stored_runs import rows

from weighin_aggregator.store.schema import MIGRATIONS
from weighin_aggregator.store.store import Store

SERVE = ("--insecure", "--listen", "127.0.0.1:0")


def test_init_makes_a_store_and_may_be_repeated(data: Path) -> None:
    for _ in range(2):
        done = command("init", "--data", data, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == {"data": str(data), "schema_version": len(MIGRATIONS)}
    assert (data / "weighin.duckdb").is_file()


@pytest.mark.parametrize("name", ["init", "serve", "snapshot", "stats", "token create", "revoke", "devices"])
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = command(*name.split(), "--help")
    assert done.returncode == 0
    assert f"example: weighin-aggregator {name}" in " ".join(done.stdout.split())


@pytest.mark.parametrize("arguments", [(), ("dance",), ("init",), ("serve", "--data"), ("snapshot", "--data", "x")])
def test_bad_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    assert command(*arguments).returncode == 2


def test_version_is_that_of_the_installed_package() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"weighin-aggregator {version('weighin-aggregator')}\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", [("stats", "--data"), ("serve", *SERVE, "--data"), ("--version",)])
def test_an_answer_that_cannot_be_written_is_one_line(data: Path, arguments: tuple[str, ...]) -> None:
    command("init", "--data", data)
    with Path("/dev/full").open("w") as full:
        done = answering_into(full.fileno(), *arguments, *([data] if "--data" in arguments else []))
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert complaints == ["weighin-aggregator: cannot write to standard output: No space left on device"]
    assert done.returncode == 1


def test_a_reader_that_has_seen_enough_gets_no_complaint(data: Path) -> None:
    command("init", "--data", data)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = answering_into(writer, "stats", "--data", data)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def answering_into(output: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is the open file ``output``."""
    line = [sys.executable, "-m", "weighin_aggregator.cli", *map(str, arguments)]
    return subprocess.run(line, stdout=output, stderr=subprocess.PIPE, text=True, check=False, timeout=30)


def test_what_opens_the_store_loads_no_pandas(data: Path) -> None:
    code = (
        "import atexit, sys; from weighin_aggregator.cli import main; "
        "atexit.register(lambda: print('pandas' in sys.modules, file=sys.stderr)); sys.exit(main())"
    )
    line = [sys.executable, "-c", code, "init", "--data", str(data)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "False")


@pytest.mark.parametrize(
    ("option", "least"), [("--retention-days", 0), ("--calls-per-minute", 1), ("--max-runs-per-second", 1)]
)
@pytest.mark.parametrize("value", ["nan", "-1", "1.5", "", "1e3"])
def test_a_number_that_cannot_be_is_told_in_words(data: Path, option: str, least: int, value: str) -> None:
    done = command("serve", "--data", data, f"{option}={value}")
    assert done.returncode == 2
    assert done.stderr.endswith(f"argument {option}: must be a whole number of at least {least}\n")


def test_forgetting_a_device_of_which_nothing_is_known_is_no_success(data: Path) -> None:
    with Store.open(data, create=True) as store:
        store.insert(rows(1))
    done = command("forget", "--data", data, example_runs.OTHER_DEVICE_ID)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing was deleted" in done.stderr
    for _ in range(2):
        assert command("forget", "--data", data, example_runs.DEVICE_ID).returncode == 0


def test_serve_on_all_networks_needs_one_name_that_devices_know(data: Path) -> None:
    done = command("serve", "--data", data, "--listen", "0.0.0.0:0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("weighin-aggregator: --name is needed with --listen 0.0.0.0:0")
    assert done.stderr.count("\n") == 1
    assert not data.exists()


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:0", "192.0.2.1:0", "[::]:0", "example.org:1", "127.0.0.1", "127.0.0.1:70000"]
)
def test_serve_listens_on_a_loopback_address_only(data: Path, listen: str) -> None:
    done = command("serve", "--data", data, "--insecure", "--listen", listen)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("weighin-aggregator: --listen must ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("host", ["localhost", "[::1]"])
def test_serve_listens_on_the_other_names_of_loopback_too(data: Path, tmp_path: Path, host: str) -> None:
    if host == "[::1]" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with (
        aggregator_process.serving(data, tmp_path / "log", host) as server,
        aggregator_process.client(server.address) as client,
    ):
        assert client.submit() == []
        assert command("stats", "--data", data).returncode == 0


def test_a_port_in_use_is_one_clear_line(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = command("serve", "--data", data, "--insecure", "--listen", address)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"weighin-aggregator: cannot listen on {address}: Address already in use; choose another with --listen\n"
    )


def test_a_second_server_on_the_same_data_names_the_process_that_holds_it(data: Path, tmp_path: Path) -> None:
    with aggregator_process.serving(data, tmp_path / "log") as server:
        done = command("serve", "--data", data, *SERVE)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"is in use by process {server.process.pid};" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["stats", "snapshot"])
def test_a_missing_store_is_one_line_that_says_what_to_do(data: Path, tmp_path: Path, name: str) -> None:
    out = ("--out", tmp_path / "out") if name == "snapshot" else ()
    done = command(name, "--data", data, *out)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"make one with: weighin-aggregator init --data {data}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_no_store_is_one_clear_line(data: Path) -> None:
    data.mkdir(mode=0o700)
    (data / "weighin.duckdb").write_bytes(b"not a database" * 1000)
    done = command("stats", "--data", data)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot open" in done.stderr
    assert done.stderr.count("\n") == 1


def test_stats_of_an_empty_store_say_never(data: Path) -> None:
    command("init", "--data", data)
    said = command("stats", "--data", data).stdout
    assert [" ".join(line.split()) for line in said.splitlines() if "never" in line] == [
        "oldest received never",
        "last received never",
        "last backup never",
    ]


@pytest.mark.parametrize("name", ["stats", "snapshot"])
def test_a_server_on_this_machine_is_asked_directly_whatever_proxy_is_set(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in ("http_proxy", "grpc_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    for variable in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    out = ("--out", tmp_path / "out") if name == "snapshot" else ()
    with aggregator_process.serving(data, tmp_path / "log"):
        done = command(name, "--data", data, *out)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_a_server_is_asked_is_one_line(data: Path, tmp_path: Path) -> None:
    with aggregator_process.serving(data, tmp_path / "log"), socket.create_server(("127.0.0.1", 0)) as silent:
        announcement = json.loads((data / "serving.json").read_text())
        announcement["operator_address"] = f"127.0.0.1:{silent.getsockname()[1]}"
        (data / "serving.json").write_text(json.dumps(announcement))
        line = [sys.executable, "-m", "weighin_aggregator.cli", "stats", "--data", str(data)]
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
            silent.accept()[0].close()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "weighin-aggregator: stopped by Ctrl-C\n")


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "ImportError('it began') from KeyboardInterrupt()"])
def test_ctrl_c_while_the_command_still_loads_is_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: str
) -> None:
    (tmp_path / "structlog.py").write_text(f"raise {raised}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = command("init", "--data", data)
    assert (done.returncode, done.stderr) == (130, "weighin-aggregator: stopped by Ctrl-C\n")


def test_ctrl_c_inside_a_statement_of_the_store_is_one_line(data: Path) -> None:
    code = (
        "import signal, sys, threading\n"
        "from weighin_aggregator.cli import main\n"
        "from weighin_aggregator.store import store\n"
        "def attach(connection, path, name):\n"
        "    threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()\n"
        "    endless = 'range(10000000) a, range(10000000) b WHERE a.range * b.range % 7 = 3'\n"
        "    connection.execute(f'SELECT count(*) FROM {endless}')\n"
        "store.attach = attach\n"
        "sys.exit(main())\n"
    )
    assert command("init", "--data", data).returncode == 0
    line = [sys.executable, "-c", code, "stats", "--data", str(data)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "weighin-aggregator: stopped by Ctrl-C\n")


def test_stats_are_the_same_while_serving_and_after(data: Path, tmp_path: Path) -> None:
    with aggregator_process.serving(data, tmp_path / "log") as server:
        with aggregator_process.client(server.address) as client:
            client.submit(*map(example_runs.example_envelope, (1, 2)))
            client.submit(example_runs.example_envelope(3), device_id=example_runs.OTHER_DEVICE_ID)
        while_serving = command("stats", "--data", data, "--json")
        assert (while_serving.returncode, while_serving.stderr) == (0, "")
        assert not (data / "snapshots").exists(), "counting writes nothing"
    after = command("stats", "--data", data, "--json")
    counts = json.loads(after.stdout)
    assert counts.pop("file_bytes") == (data / "weighin.duckdb").stat().st_size
    assert counts == {name: value for name, value in json.loads(while_serving.stdout).items() if name in counts}
    assert counts.pop("oldest_receive_time") < counts.pop("last_receive_time")
    assert counts == {
        "runs": 3,
        "devices": 2,
        "measurements": 51,
        "failures": 3,
        "enrolled_devices": 0,
        "revoked_devices": 0,
        "forgotten_devices": 0,
        "last_backup_time": None,
    }


def test_stats_tell_of_backups_and_of_who_was_forgotten(data: Path, tmp_path: Path) -> None:
    with Store.open(data, create=True) as store:
        store.insert(rows(1))
    command("forget", "--data", data, example_runs.DEVICE_ID)
    command("backup", "--data", data, "--out", tmp_path / "backup")
    counts = json.loads(command("stats", "--data", data, "--json").stdout)
    assert counts["forgotten_devices"] == 1
    assert counts["last_backup_time"].endswith("Z")
