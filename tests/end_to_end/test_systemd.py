"""What we give to systemd, run by a real one: the user manager, in namespaces of its own, so that nothing else sees it.

The server's unit runs there without the three settings that only systemd as the first process can grant.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from agent_process import agent
from aggregator_process import wait_until
from example_runs import example_run

from weighin_agent.fleet import actions as fleet
from weighin_agent.fleet.state import State

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = Path("/usr/lib/systemd/systemd")
DEPLOY = ROOT / "deploy"
SERVER = "weighin-aggregator.service"
BACKUP = "weighin-backup.service"
# What only systemd as the first process can grant; a user manager would also try to become `User`.
SYSTEM_ONLY = re.compile(r"^(DynamicUser|User|PrivateTmp|ProtectHome|After|Wants)=.*\n", re.MULTILINE)
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
# sd_booted(3) looks for this folder; systemd needs somebody else to be the first process of its namespace.
BEGIN = (
    "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && {mounts} {systemd} --user --unit=basic.target & wait"
)
pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """A user manager, its folder, and the process whose namespaces it lives in."""

    folder: Path
    environment: dict[str, str]
    first_process: int

    @property
    def units(self) -> Path:
        """Where its units lie."""
        return self.folder / "configuration" / "systemd" / "user"

    def run(self, *words: str | Path) -> str:
        """Run a command beside it; return what it printed."""
        line = ["nsenter", f"--target={self.first_process}", "--mount", "--pid", *map(str, words)]
        done = subprocess.run(line, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def add_settings(self, unit: str, *lines: str) -> None:
        """Add settings to a unit, as `systemctl edit` does."""
        folder = self.units / f"{unit}.d"
        folder.mkdir(parents=True)
        (folder / "test.conf").write_text("\n".join(lines) + "\n")


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    """The folder /sys/class of a laptop on battery."""
    for name, files in {
        "BAT0": {"type": "Battery", "status": "Discharging"},
        "AC": {"type": "Mains", "online": "0"},
    }.items():
        folder = tmp_path / "class" / "power_supply" / name
        folder.mkdir(parents=True)
        for file, content in files.items():
            (folder / file).write_text(content + "\n")
    return tmp_path / "class"


@pytest.fixture
def manager(tmp_path: Path, laptop: Path) -> Iterator[Manager]:
    possible = SYSTEMD.exists() and shutil.which("unshare") and shutil.which("nsenter")
    if not possible or subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces of mounts and processes cannot be made here, or systemd is not installed")
    folder = tmp_path / "manager"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "configuration"),
        "XDG_RUNTIME_DIR": str(folder / "runtime"),
    }
    (folder / "runtime").mkdir(mode=0o700, parents=True)
    begin = BEGIN.format(mounts=f"mount --bind {shlex.quote(str(laptop))} /sys/class &&", systemd=SYSTEMD)
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([*NAMESPACES, "sh", "-c", begin], env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            wait_until((folder / "runtime/systemd/private").exists)
            (first,) = psutil.Process(process.pid).children()
            yield Manager(folder=folder, environment=environment, first_process=first.pid)
        finally:
            process.kill()  # and with it, every process of its namespace


def test_the_server_does_all_its_work_inside_its_unit_and_is_backed_up(manager: Manager, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("weighin-aggregator")
    data = manager.folder / "configuration" / "weighin"  # where a user manager keeps the folder of StateDirectory=
    (tmp_path / "aggregator.env").write_text("LISTEN=127.0.0.1:0\nNAME=localhost\n")
    manager.units.mkdir(parents=True)
    log = tmp_path / "server.log"
    for name in (SERVER, BACKUP):
        text = SYSTEM_ONLY.sub("", (DEPLOY / name).read_text())
        for of_the_system, of_the_test in {
            "/opt/weighin/bin/weighin-aggregator": program,
            "/etc/weighin": tmp_path,
            "/var/lib/weighin": data,
        }.items():
            text = text.replace(of_the_system, str(of_the_test))
        (manager.units / name).write_text(text)
        manager.add_settings(name, "[Service]", f"StandardOutput=append:{log}", f"StandardError=append:{log}")
    manager.run("systemctl", "--user", "start", SERVER)
    wait_until(lambda: log.exists() and "listening on" in log.read_text())
    (tmp_path / "token").write_text(manager.run(program, "token", "create", "--data", data, "--group", "lab"))
    state = tmp_path / "state"
    succeed(agent("enroll", "--token-file", tmp_path / "token", "--accept-consent", "1", "--state", state))
    with fleet.working(State(state)) as spool:
        fleet.keep_run(State(state), spool, example_run().SerializeToString())
    assert "1 run(s) stored" in succeed(agent("submit", "--state", state))
    assert "1 runs of 1 devices" in manager.run(program, "snapshot", "--data", data, "--out", tmp_path / "snapshot")
    manager.run("systemctl", "--user", "start", BACKUP)
    (backup,) = data.with_name("weighin-backups").iterdir()
    assert (backup / "manifest.json").is_file()
    shown = manager.run("systemctl", "--user", "show", SERVER, "--property=ActiveState,NRestarts,NoNewPrivileges")
    assert set(shown.split()) == {"ActiveState=active", "NRestarts=0", "NoNewPrivileges=yes"}
    manager.run("systemctl", "--user", "stop", SERVER)
    assert "Result=success" in manager.run("systemctl", "--user", "show", SERVER, "--property=Result")


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_timer_fires_and_the_weigh_in_waits_for_the_mains(manager: Manager, tmp_path: Path) -> None:
    """The timer's own hour is set to now; all else is as installed. The laptop is on battery."""
    log = tmp_path / "agent.log"
    manager.add_settings("weighin-agent.service", "[Service]", f"StandardError=append:{log}")
    manager.add_settings("weighin-agent.timer", "[Timer]", "RandomizedDelaySec=0", "AccuracySec=1us", "OnActiveSec=0")
    program = Path(sys.executable).with_name("weighin-agent")
    manager.run(program, "schedule", "install", "--state", tmp_path / "state")
    wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
    assert log.read_text().startswith("no weigh-in now: on battery power")
    show = ("systemctl", "--user", "show", "weighin-agent.service", "--property=Result,Nice,NoNewPrivileges")
    wait_until(lambda: "ActiveState=inactive" in manager.run(*show[:-1], "--property=ActiveState"))
    assert set(manager.run(*show).split()) == {"Result=success", "Nice=19", "NoNewPrivileges=yes"}
    manager.run(program, "schedule", "remove", "--state", tmp_path / "state")
    assert "0 timers listed" in manager.run("systemctl", "--user", "list-timers", "--all", "--no-pager")
