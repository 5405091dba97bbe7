"""A weigh-in that repeats itself: what is written for each system's scheduler, read back as that system reads it."""

import os
import plistlib
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from agent_process import agent
from hypothesis import given
from hypothesis import strategies as st

from weighin_agent.errors import EnvironmentFailure, UsageError
from weighin_agent.schedule import scheduler
from weighin_agent.schedule.launchd import agent_plist
from weighin_agent.schedule.period import period_seconds
from weighin_agent.schedule.plan import Plan, launchd_plan, systemd_plan, windows_plan
from weighin_agent.schedule.systemd import quoted, service_unit, timer_unit
from weighin_agent.schedule.windows_task import NAMESPACE, task_xml

COMMAND = ("/opt/weigh in/bin/python", "-m", "weighin_agent", "run", "--scheduled", "1d", "--state", "/srv/100% $HOME")
words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


class Systemctl:
    """A `systemctl` that notes how it is called, first on the PATH; it answers only where there is a user manager."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.program = folder / "systemctl"

    def answer(self, exit_code: int) -> None:
        self.program.write_text(f'#!/bin/sh\necho "$@" >>{shlex.quote(str(self.notes))}\nexit {exit_code}\n')
        self.program.chmod(0o755)

    def calls(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemctl:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    found = Systemctl(folder)
    found.answer(0)
    return found


def verify(folder: Path, unit: Path, *, user: bool) -> str:
    """What systemd's own checker says of a unit and of those it names; nothing where all is well."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze, which checks units, is not installed")
    (folder / "run").mkdir(mode=0o700)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run")}
    line = ["systemd-analyze", "verify", "--man=no", *(["--user"] if user else []), str(unit)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode or unit.stem in done.stderr else ""


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_systemd_finds_nothing_wrong_with_the_timer_and_its_service(tmp_path: Path) -> None:
    program = executable(tmp_path / "a folder, 100%" / "python")
    plan = systemd_plan((str(program), *COMMAND[1:]), tmp_path)
    for file in plan.files:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_bytes(file.data)
    assert verify(tmp_path, plan.files[1].path, user=True) == ""


def test_systemd_would_find_what_is_wrong(tmp_path: Path) -> None:
    """So that the test above cannot pass because nothing is looked at."""
    unit = tmp_path / "weighin-agent.service"
    unit.write_text(service_unit((str(tmp_path / "absent"),)))
    assert "absent" in verify(tmp_path, unit, user=True)


def test_the_service_runs_at_the_lowest_priority_and_the_timer_catches_up_at_a_random_minute() -> None:
    service, timer = service_unit(COMMAND), timer_unit()
    for line in ("Type=oneshot", "Nice=19", "IOSchedulingClass=idle", "NoNewPrivileges=yes"):
        assert f"\n{line}\n" in service
    for line in ("Persistent=true", "RandomizedDelaySec=45min"):
        assert f"\n{line}\n" in timer


@given(words)
def test_a_quoted_word_means_itself_to_systemd(word: str) -> None:
    """Undone in the order of systemd: quotes and escapes first, then specifiers, then variables."""
    unquoted = shlex.split(quoted(word).replace("$", "\0"))  # a shell's quotes would read `$`
    assert len(unquoted) == 1
    assert unquoted[0].replace("%%", "%").replace("\0\0", "$") == word


def test_launchd_is_told_the_command_and_not_to_throttle_what_is_measured() -> None:
    agent_of_launchd = plistlib.loads(agent_plist(COMMAND), fmt=plistlib.FMT_XML)
    assert agent_of_launchd["ProgramArguments"] == list(COMMAND)
    assert agent_of_launchd["StartInterval"] == 3600
    assert agent_of_launchd["ProcessType"] == "Interactive"
    assert agent_of_launchd["Nice"] == 19


def task_of(text: str) -> ET.Element:
    return ET.fromstring(text.encode("utf-16"))


def test_the_windows_task_is_of_the_schema_and_off_on_battery() -> None:
    """Of the schema's elements only those of a trigger have an order: its base type first, then the type's own."""
    task = task_of(task_xml(COMMAND, "utf-16"))
    assert task.tag == f"{{{NAMESPACE}}}Task"
    tags = {element.tag.removeprefix(f"{{{NAMESPACE}}}"): element for element in task.iter()}
    order = [child.tag.removeprefix(f"{{{NAMESPACE}}}") for child in tags["TimeTrigger"]]
    assert order == ["StartBoundary", "Repetition", "RandomDelay"]
    for name, text in {
        "Interval": "PT1H",
        "DisallowStartIfOnBatteries": "true",
        "StopIfGoingOnBatteries": "true",
        "MultipleInstancesPolicy": "IgnoreNew",
        "RunLevel": "LeastPrivilege",
        "Command": COMMAND[0],
    }.items():
        assert tags[name].text == text


@given(words)
def test_any_folder_survives_the_way_through_the_task(folder: str) -> None:
    task = task_of(task_xml(("python", "--state", folder), "utf-16"))
    found = task.find(f".//{{{NAMESPACE}}}Arguments")
    assert found is not None
    assert found.text == subprocess.list2cmdline(["--state", folder])


@pytest.mark.parametrize(("text", "hours"), [("1h", 1), ("12h", 12), ("1d", 24), ("90d", 2160)])
def test_a_period_is_hours_or_days(text: str, hours: int) -> None:
    assert period_seconds(text) == hours * 3600


@pytest.mark.parametrize("text", ["", "0h", "91d", "2161h", "1", "d", "1.5h", "-1d", "1d\n", "٣d", "99999d"])
def test_anything_else_is_no_period_and_says_what_is(text: str) -> None:
    with pytest.raises(UsageError, match="write 12h or 1d"):
        period_seconds(text)


def installed_plan(folder: Path, command: Sequence[str] = COMMAND) -> Plan:
    return systemd_plan(command, folder / "configuration")


def test_installing_writes_the_files_and_starts_the_timer(tmp_path: Path, systemctl: Systemctl) -> None:
    plan = installed_plan(tmp_path)
    scheduler.install(plan)
    assert scheduler.installed(plan) == plan.files
    assert systemctl.calls() == ["--user daemon-reload", "--user enable --now weighin-agent.timer"]


def test_installing_again_replaces_what_is_there(tmp_path: Path, systemctl: Systemctl) -> None:
    scheduler.install(installed_plan(tmp_path))
    other = installed_plan(tmp_path, ("/usr/bin/true",))
    scheduler.install(other)
    assert scheduler.installed(other) == other.files


def test_removing_stops_the_timer_and_leaves_no_file(tmp_path: Path, systemctl: Systemctl) -> None:
    plan = installed_plan(tmp_path)
    scheduler.install(plan)
    assert scheduler.remove(plan) == plan.files
    assert systemctl.calls()[-1] == "--user disable --now weighin-agent.timer"
    assert scheduler.installed(plan) == ()
    assert scheduler.remove(plan) == ()


def test_without_a_user_manager_it_says_what_to_do_and_keeps_the_files(tmp_path: Path, systemctl: Systemctl) -> None:
    systemctl.answer(1)
    plan = installed_plan(tmp_path)
    with pytest.raises(EnvironmentFailure, match=r"nothing is scheduled yet: .*systemctl --user enable --now"):
        scheduler.install(plan)
    assert scheduler.installed(plan) == plan.files


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, systemctl: Systemctl) -> None:
    (tmp_path / "configuration").write_text("a file in the place of the folder")
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        scheduler.install(installed_plan(tmp_path))


@pytest.mark.parametrize(
    ("system_name", "names"),
    [
        ("Linux", ["weighin-agent.service", "weighin-agent.timer"]),
        ("Darwin", ["weighin-agent.plist"]),
        ("Windows", ["weighin-agent.xml"]),
    ],
)
def test_every_system_is_told_this_installation_this_state_and_this_period(
    tmp_path: Path, system_name: str, names: list[str]
) -> None:
    plan = scheduler.plan_here(system_name, tmp_path / "state", "12h", {})
    assert [file.path.name for file in plan.files] == names
    told = plan.files[0].text
    for word in ("weighin_agent", "--scheduled", "12h", str(tmp_path / "state")):
        assert word in told


def test_a_system_without_a_known_scheduler_is_told_the_command() -> None:
    with pytest.raises(EnvironmentFailure, match=r"have yours start this every hour: .*run --scheduled 1d"):
        scheduler.plan_here("FreeBSD", Path("state"), "1d")


def test_plans_of_other_systems_start_and_stop_what_they_write(tmp_path: Path) -> None:
    mac = launchd_plan(COMMAND, tmp_path, 501)
    assert mac.start == (("launchctl", "bootstrap", "gui/501", str(mac.files[0].path)),)
    assert mac.stop == (("launchctl", "bootout", "gui/501/weighin-agent"),)
    windows = windows_plan(COMMAND, tmp_path)
    assert windows.files[0].data[:2] in (b"\xff\xfe", b"\xfe\xff")  # the mark of UTF-16
    assert windows.start[0][:4] == ("schtasks", "/Create", "/TN", "weighin-agent")
    assert windows.stop == (("schtasks", "/Delete", "/TN", "weighin-agent", "/F"),)


def test_the_command_prints_the_files_and_changes_nothing(
    tmp_path: Path, systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    shown = agent("schedule", "install", "--print", "--state", tmp_path / "state")
    assert shown.returncode == 0
    assert f"# {tmp_path}/.config/systemd/user/weighin-agent.timer\n" in shown.stdout
    assert not (tmp_path / ".config").exists()
    assert systemctl.calls() == []


def test_the_command_installs_shows_and_removes(
    tmp_path: Path, systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    state = ("--state", tmp_path / "state")
    assert agent("schedule", "show", *state).returncode == 1
    assert agent("schedule", "install", "--every", "7d", *state).returncode == 0
    shown = agent("schedule", "show", "--json", *state)
    assert shown.returncode == 0
    assert '"--scheduled" "7d"' in shown.stdout.replace("\\", "")
    assert agent("schedule", "remove", *state).returncode == 0
    assert agent("schedule", "show", *state).stdout.strip() == "nothing is scheduled"


def test_a_wrong_period_is_bad_usage() -> None:
    done = agent("run", "--scheduled", "tomorrow")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_remove_prints_one_document(tmp_path: Path, systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    removed = agent("schedule", "remove", "--json", "--state", tmp_path)
    assert removed.stdout.strip() == "[]"
