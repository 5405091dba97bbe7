"""What tells whose device it is lies all around the agent, can be read there, and is found nowhere afterwards.

The agent runs as on a device of its own: in namespaces with their own host name, identifiers and user. A relay on its
way to the aggregator keeps every byte.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aggregator_process as aggregator
import duckdb
import pytest
from agent_process import QUICK_RUN_SECONDS, agent_line

from weighin_agent.fleet.consent import CONSENT_VERSION

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "--map-root-user", "--mount", "--uts", "true"], check=False).returncode != 0,
        reason="a device of its own needs user, mount and UTS namespaces",
    ),
]

HOST, USER, SSID = "canaryhost7", "canaryuser7", "CanaryNet7"
CANARIES: Mapping[str, str] = {
    "host name": HOST,
    "user": USER,
    "home": f"/home/{USER}",
    "MAC address": "02:ca:4a:71:e5:7b",
    "serial number": "PF3CANARY7X1Q",
    "machine id": "ca9a41e5ca9a41e5ca9a41e5ca9a41e5",
    "hardware UUID": "ca9a41e5-7b7b-4c4c-8d8d-ca9a41e57b7b",
    "address": "203.0.113.77",
    "network": SSID,
}
# Files of a device, under a folder that is laid over the system's. Only names that the agent may open.
FILES: Mapping[str, str] = {
    "/etc/machine-id": CANARIES["machine id"],
    "/etc/hosts": f"127.0.0.1 localhost\n{CANARIES['address']} {HOST}",
    "/etc/passwd": f"{USER}:x:0:0:{USER}:/home/{USER}:/bin/sh",
    "/sys/class/dmi/id/product_serial": CANARIES["serial number"],
    "/sys/class/dmi/id/product_uuid": CANARIES["hardware UUID"],
    "/sys/class/dmi/id/chassis_type": "10",
    "/sys/class/net/wlan0/address": CANARIES["MAC address"],
}
# Lays the files over the system's, then becomes the command.
_DEVICE = """
hostname "$CANARY_HOST" || exit 70
mount -t tmpfs none /sys/class && cp -r "$CANARY_FILES/sys/class/." /sys/class/ || exit 70
for name in machine-id hosts passwd; do
  touch /etc/$name 2>/dev/null; mount --bind "$CANARY_FILES/etc/$name" /etc/$name || exit 70
done
exec "$@"
"""
# What any program on the device can find out.
_LOOK = """
import getpass, json, os, pathlib, platform, pwd, socket, sys
found = [platform.node(), socket.gethostname(), getpass.getuser(), str(pathlib.Path.home()), *os.environ.values()]
found += [pwd.getpwuid(os.getuid()).pw_name, *(pathlib.Path(name).read_text() for name in sys.argv[1:])]
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device of its own: its commands run where the canaries are."""

    folder: Path

    def run(self, line: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        own = {
            "CANARY_HOST": HOST,
            "CANARY_FILES": str(self.folder / "files"),
            "USER": USER,
            "LOGNAME": USER,
            "HOME": str(self.home),
            "HOSTNAME": HOST,
            "SSH_CONNECTION": f"{CANARIES['address']} 50000 203.0.113.1 22",
            "WIFI_SSID": SSID,
        }
        device = ["unshare", "--map-root-user", "--mount", "--uts", "sh", "-c", _DEVICE, "sh"]
        done = subprocess.run(
            [*device, *line],
            env=os.environ | own,
            capture_output=True,
            text=True,
            timeout=QUICK_RUN_SECONDS,
            check=False,
        )
        assert done.returncode != 70, done.stderr
        return done

    def agent(self, *arguments: str | Path) -> str:
        """Run a command of the agent, which must succeed; returns what it said."""
        done = self.run(agent_line(*arguments, "--state", self.home / "state", suite="brief"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def home(self) -> Path:
        """The home folder, in which the agent keeps its state."""
        return self.folder / "home" / USER


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """Everything that a weigh-in and its delivery left, as bytes, by where it was found."""

    places: Mapping[str, bytes]
    seen_on_device: str


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Traces:
    """A device weighs itself in, enrols and delivers; then everything is collected."""
    folder = tmp_path_factory.mktemp("privacy")
    device, data, log = Device(folder=folder), folder / "data", folder / "log"
    device.home.mkdir(parents=True)
    for name, content in FILES.items():
        path = folder / "files" / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    device.agent("run", "--ep", "cpu")
    spool = all_files(device.home / "state" / "spool")
    assert aggregator.command("init", "--data", data).returncode == 0
    with aggregator.serving(data, log) as server, relayed(server.address) as (address, wire):
        device.agent("enroll", "--insecure", address, "--accept-consent", str(CONSENT_VERSION))
        preview = device.agent("preview")
        device.agent("submit")
        assert aggregator.command("snapshot", "--data", data, "--out", folder / "snapshot").returncode == 0
    report = ["-c", "from weighin_analysis.cli import main; main()", "report"]
    line = [sys.executable, *report, "--snapshot", str(folder / "snapshot"), "--out", str(folder / "report")]
    subprocess.run(line, check=True, capture_output=True, timeout=QUICK_RUN_SECONDS)
    places = {
        "spool": spool,
        "preview": preview.encode(),
        "wire": bytes(wire),
        "database file": (data / "weighin.duckdb").read_bytes(),
        "database": all_rows(data / "weighin.duckdb"),
        "snapshot": b"".join(rows_of_file(path) for path in sorted((folder / "snapshot").rglob("*.parquet"))),
        "log": log.read_bytes(),
        "report": all_files(folder / "report"),
    }
    seen = device.run([sys.executable, "-c", _LOOK, *FILES])
    assert seen.returncode == 0, seen.stderr
    return Traces(places=places, seen_on_device="\n".join(json.loads(seen.stdout)))


@contextmanager
def relayed(address: str) -> Iterator[tuple[str, bytearray]]:
    """Give an address that leads to another, and every byte that a client sends there."""
    kept, threads = bytearray(), list[threading.Thread]()
    host, _, port = address.rpartition(":")

    def pump(source: socket.socket, target: socket.socket, keep: bool) -> None:
        with source, suppress(OSError):  # the other end may be gone
            while data := source.recv(1 << 16):
                if keep:
                    kept.extend(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # the block has ended
                return
            server = socket.create_connection((host, int(port)))
            for ends in ((client, server, True), (server, client, False)):
                threads.append(threading.Thread(target=pump, args=ends))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", kept
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join()


def all_files(folder: Path) -> bytes:
    """Every byte of the files below a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def all_rows(database: Path) -> bytes:
    """Every value of every table of a store as text: in the file they may be compressed."""
    with duckdb.connect(str(database), read_only=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return b"".join(repr(connection.execute(f'FROM "{name}"').fetchall()).encode() for name in tables)


def rows_of_file(path: Path) -> bytes:
    """Every value of a Parquet file as text."""
    with duckdb.connect() as connection:
        return repr(connection.read_parquet(str(path)).fetchall()).encode()


def forms(canary: str) -> Iterable[bytes]:
    """A text as it may hide: in other letters, without its marks, as bytes, or behind a hash of it."""
    plain = canary.replace(":", "").replace("-", "")
    for text in {canary, canary.upper(), canary.lower(), plain, plain.upper()}:
        yield text.encode()
        for digest in (hashlib.md5, hashlib.sha1, hashlib.sha256):
            found = digest(text.encode())
            yield from (found.digest(), found.hexdigest().encode())
    if all(one in "0123456789abcdef" for one in plain):
        yield bytes.fromhex(plain)


# A test each for all places: workers that share the tests of a parametrisation would each set all this up.
def test_any_program_on_the_device_can_read_the_canaries(traces: Traces) -> None:
    assert [name for name, canary in CANARIES.items() if canary not in traces.seen_on_device] == []


def test_nothing_that_tells_whose_device_it_is_is_found_anywhere(traces: Traces) -> None:
    found = [
        (name, place, form)
        for name, canary in CANARIES.items()
        for form in forms(canary)
        for place, content in traces.places.items()
        if form in content
    ]
    assert found == []


def test_every_place_holds_what_was_measured(traces: Traces) -> None:
    """Else nothing would be found there because nothing is there."""
    places = ("spool", "wire", "database file", "database", "snapshot")
    assert [place for place in places if b"Tiny" not in traces.places[place]] == []
    assert all(traces.places.values())
