"""docs/deploy.md as somebody follows it: a server, its bundle, three devices without index and checkout, the report.

Every shell command of the document is run, in its order. The document's folders of the system become folders of the
test, `sudo` runs its command as it is, and `systemctl` takes note; what it would start is started from the unit.
"""

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
INSTALLED = ".local/share/weighin-agent"
STATE = ".local/state/weighin"
DEVICES = ("first", "second", "third")
# What the server is built from; the checkout itself stays as it is.
SOURCES = ("proto", "analysis", "agent", "aggregator", "deploy", "tools", "constraints.txt", "Makefile", "LICENSE")
pytestmark = pytest.mark.slow


def blocks() -> dict[str, list[str]]:
    """Return the shell blocks of the document by their section."""
    sections = re.split(r"^## ", (ROOT / "docs" / "deploy.md").read_text(), flags=re.MULTILINE)[1:]
    return {
        section.splitlines()[0]: re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        for section in sections
    }


BLOCKS = blocks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A folder in the place of a machine: its own home, and the environment that its shell has."""

    home: Path
    environment: dict[str, str]

    def shell(self, script: str) -> str:
        """Type a block into a shell that stops at the first error; return what it printed.

        A block that ends with a weigh-in may end with 1 where that says that others left it too little to measure by.
        """
        line = ["/bin/sh", "-eux", "-c", script]
        done = subprocess.run(line, cwd=self.home, env=self.environment, capture_output=True, text=True, check=False)
        ends_with_run = "weighin-agent run" in script.rstrip().rpartition("\n")[2]
        answers = (0, 1) if ends_with_run and "Disturbed: " in done.stdout else (0,)
        assert done.returncode in answers, f"{done.stdout}\n{done.stderr}"
        return done.stdout


def programs(folder: Path) -> Path:
    """`sudo`, which runs its command, and `systemctl`, which writes down how it is called."""
    folder.mkdir()
    for name, line in {"sudo": 'exec "$@"', "systemctl": f'echo "$@" >>{shlex.quote(str(folder / "notes"))}'}.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The machine of the server, and the folder that stands for its `/`."""

    machine: Machine
    root: Path

    def follow(self, block: str) -> str:
        """Type a block of the document."""
        for folder in ("/opt/", "/etc/", "/var/lib/"):
            block = re.sub(rf"(?<![\w.]){folder}", f"{self.root}{folder}", block)
        return self.machine.shell(
            block.replace("0.0.0.0:50051", "127.0.0.1:0").replace("weighin.example.org", "localhost")
        )

    @contextmanager
    def started(self) -> Iterator[None]:
        """Start what `systemctl enable --now` would: the command of the unit, with its environment."""
        unit = (self.root / "etc/systemd/system/weighin-aggregator.service").read_text()
        settings = (self.root / "etc/weighin/aggregator.env").read_text().splitlines()
        data = self.root / "var/lib/weighin"
        data.mkdir(mode=0o700, parents=True)
        words = {"STATE_DIRECTORY": str(data), **dict(line.split("=") for line in settings)}
        found = re.search(r"^ExecStart=/(.*)$", unit, re.MULTILINE)
        assert found
        line = re.sub(r"\$\{(\w+)\}", lambda name: words[name[1]], f"{self.root}/{found[1]}")
        with (
            (self.root / "log").open("w") as log,
            subprocess.Popen(shlex.split(line), env={}, stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            try:
                assert process.stdout
                assert process.stdout.readline().startswith("listening on "), (self.root / "log").read_text()
                yield
            finally:
                process.terminate()
                assert process.wait(timeout=60) == 0, (self.root / "log").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A machine with a checkout, on which the server is installed; it does not run yet."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("the bundle that is tried is that for Linux x64")
    root = tmp_path_factory.mktemp("server")
    home = root / "checkout"
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "opt").mkdir()
    home.mkdir()
    for name in SOURCES:
        (home / name).symlink_to(ROOT / name)
    path = f"{programs(root / 'bin')}{os.pathsep}{os.environ['PATH']}"
    one = Server(machine=Machine(home=home, environment=os.environ | {"PATH": path}), root=root)
    install, settings, _ = BLOCKS["The server"]
    try:
        one.follow(install)
    except AssertionError as error:
        if "No matching distribution" in str(error) and os.environ.get("WEIGHIN_REQUIRE_ALL") != "1":
            pytest.skip("no package index can be reached to install the server")
        raise
    one.follow(settings)
    assert (root / "bin" / "notes").read_text() == "enable --now weighin-aggregator weighin-backup.timer\n"
    return one


@pytest.fixture(scope="module")
def archive(server: Server) -> Path:
    """The bundle, made by the command of the document, but by this environment and not one that make builds anew."""
    (line,) = BLOCKS["What the devices get"]
    plan = subprocess.run(
        ["make", "-n", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    # A make within a make also tells the folder it enters and leaves.
    (recipe,) = (step for step in plan.splitlines() if "tools/bundle.py" in step)
    assert "--platform linux-x64" in recipe
    server.machine.shell(recipe.replace(".venv/bin/python", sys.executable))
    (made,) = (server.machine.home / "dist").glob("weighin-agent-*-linux-x64-*.tar.gz")
    return made


@pytest.fixture(scope="module")
def devices(server: Server, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Machine]]:
    """Three devices that were installed, enrolled and weighed in by the document; the server is still there."""
    with server.started():
        server.follow(BLOCKS["The server"][2])
        token = server.machine.home / "token.txt"
        assert token.stat().st_mode & 0o077 == 0
        found = {name: device(tmp_path_factory.mktemp(name), archive, token) for name in DEVICES}
        first, *others = found.values()
        steps = BLOCKS["Each device"][0]
        first.shell(steps)
        for other in others:
            # The same program as on the first: only what it does on this device is done again.
            (other.home / INSTALLED).parent.mkdir(parents=True)
            (other.home / INSTALLED).symlink_to(first.home / INSTALLED)
        own = "\n".join(line for line in steps.splitlines() if "weighin-agent/bin" in line)
        with ThreadPoolExecutor(len(others)) as pool:  # beside each other: what they measure is not looked at
            for _ in pool.map(lambda other: other.shell(own), others):
                pass
        yield found


def device(home: Path, archive: Path, token: Path) -> Machine:
    """An empty device: no index, no checkout, nothing of this environment but Python itself."""
    for file in (archive, token):
        shutil.copy(file, home)
    path = f"{programs(home / 'bin')}:{sys.base_prefix}/bin:/usr/bin:/bin"
    return Machine(home=home, environment={"HOME": str(home), "PATH": path, "PIP_NO_INDEX": "1"})


def test_the_report_shows_the_three_devices(server: Server, devices: dict[str, Machine]) -> None:
    printed = server.follow(BLOCKS["The report"][0])
    assert re.search(r"^runs +3$", printed, re.MULTILINE)
    assert "3 runs of 3 devices" in printed
    manifest = json.loads((server.machine.home / "snapshot" / "manifest.json").read_text())
    assert {name: manifest["tables"][name]["rows"] for name in ("devices", "runs")} == {"devices": 3, "runs": 3}
    assert (server.machine.home / "report" / "index.html").is_file()


def test_the_program_is_that_of_the_bundle_alone(devices: dict[str, Machine]) -> None:
    code = (
        "import weighin_agent, weighin_analysis, weighin.v1; print(weighin_agent.__file__, weighin_analysis.__file__)"
    )
    home = devices["first"].home
    printed = devices["first"].shell(f"{INSTALLED}/bin/python -c '{code}'")
    assert [path.startswith(str(home)) for path in printed.split()] == [True, True]


def test_the_agent_brings_no_store_no_charts_and_no_aggregator(devices: dict[str, Machine]) -> None:
    python = devices["first"].home / INSTALLED / "bin" / "python"
    for module in ("duckdb", "pyarrow", "altair", "jinja2", "weighin_aggregator"):
        done = subprocess.run([python, "-c", f"import {module}"], env={}, capture_output=True, check=False)
        assert done.returncode == 1, module
        assert b"ModuleNotFoundError" in done.stderr


def test_it_judges_with_the_light_core_and_says_what_the_report_needs(devices: dict[str, Machine]) -> None:
    first = devices["first"]
    first.shell(f"{INSTALLED}/bin/python -c 'import weighin_analysis.judge'")
    program = str(first.home / INSTALLED / "bin" / "weighin-analysis")
    line = [program, "report", "--snapshot", "x", "--out", "y"]
    done = subprocess.run(line, env=first.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == done.stderr.strip().splitlines()[0]
    assert "weighin-analysis[report]" in done.stderr


def fired(machine: Machine, *, on: Path | None = None) -> str:
    """Run the command of the installed service, as its timer does; return what it said. ``on``: supplies of power."""
    unit = (machine.home / ".config/systemd/user/weighin-agent.service").read_text()
    found = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert found
    words = shlex.split(found[1])
    if on is not None:
        assert words[1:4] == ["-P", "-m", "weighin_agent"]
        words[1:4] = [str(shutil.copy(TESTS / "scheduled_agent.py", machine.home)), str(on)]
    done = subprocess.run(words, cwd=machine.home, env=machine.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_schedule_was_started_and_its_command_sees_that_none_is_due(devices: dict[str, Machine]) -> None:
    notes = (devices["first"].home / "bin" / "notes").read_text().splitlines()
    assert notes == ["--user daemon-reload", "--user enable --now weighin-agent.timer"]
    assert re.match(r"no weigh-in now: the newest is 0\.\d h old, and one is due every 24 h", fired(devices["first"]))


def test_a_scheduled_weigh_in_that_is_due_waits_for_the_mains(devices: dict[str, Machine], tmp_path: Path) -> None:
    for name, files in {
        "BAT0": {"type": "Battery", "status": "Discharging"},
        "AC": {"type": "Mains", "online": "0"},
    }.items():
        folder = tmp_path / "sys/class/power_supply" / name
        folder.mkdir(parents=True)
        for file, content in files.items():
            (folder / file).write_text(content + "\n")
    (devices["second"].home / STATE / "newest_run").unlink()
    assert fired(devices["second"], on=tmp_path).startswith("no weigh-in now: on battery power")
