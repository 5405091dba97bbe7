"""What each system's own scheduler needs to start the agent every hour; the agent itself decides whether to weigh in.

Looking every hour, and weighing in where one is due and nobody is disturbed, finds the quiet hour of a device that a
fixed time of day would miss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weighin_agent.schedule.launchd import LABEL, agent_plist
from weighin_agent.schedule.systemd import SERVICE, TIMER, service_unit, timer_unit
from weighin_agent.schedule.windows_task import TASK_NAME, task_xml


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file of a scheduler: where it lies and what it holds."""

    path: Path
    data: bytes
    encoding: str = "utf-8"

    @property
    def text(self) -> str:
        """What it holds, for a person."""
        return self.data.decode(self.encoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one system's scheduler is told: ``files`` are written, then the commands of ``start`` are run in order.

    ``stop`` undoes it, before the files are removed. ``by_hand`` is what a person can do where a command fails, and
    ``remark`` what is worth knowing where all went well.
    """

    files: tuple[PlannedFile, ...]
    start: tuple[tuple[str, ...], ...]
    stop: tuple[tuple[str, ...], ...]
    by_hand: str
    remark: str


def systemd_plan(command: Sequence[str], configuration_folder: Path) -> Plan:
    """Plan a timer of the user's own systemd; ``configuration_folder`` is $XDG_CONFIG_HOME."""
    folder = configuration_folder / "systemd" / "user"
    enable = ("systemctl", "--user", "enable", "--now", TIMER)
    return Plan(
        files=(
            PlannedFile(path=folder / SERVICE, data=service_unit(command).encode()),
            PlannedFile(path=folder / TIMER, data=timer_unit().encode()),
        ),
        start=(("systemctl", "--user", "daemon-reload"), enable),
        stop=(("systemctl", "--user", "disable", "--now", TIMER),),
        by_hand=f"log in as this user on a system that runs systemd, then `{' '.join(enable)}`",
        remark="it runs while this user is logged in; `loginctl enable-linger` lets it run always",
    )


def launchd_plan(command: Sequence[str], home: Path, user_number: int) -> Plan:
    """Plan a launch agent of the user on macOS."""
    file = PlannedFile(path=home / "Library" / "LaunchAgents" / f"{LABEL}.plist", data=agent_plist(command))
    start = ("launchctl", "bootstrap", f"gui/{user_number}", str(file.path))
    return Plan(
        files=(file,),
        start=(start,),
        stop=(("launchctl", "bootout", f"gui/{user_number}/{LABEL}"),),
        by_hand=f"log in at the screen as this user, then `{' '.join(start)}`",
        remark="it runs while this user is logged in",
    )


def windows_plan(command: Sequence[str], folder: Path) -> Plan:
    """Plan a scheduled task of the user on Windows; ``folder`` keeps the file that it is made from."""
    encoding = "utf-16"  # as `schtasks` writes it itself, with its mark at the begin
    file = PlannedFile(
        path=folder / f"{TASK_NAME}.xml", data=task_xml(command, encoding).encode(encoding), encoding=encoding
    )
    start = ("schtasks", "/Create", "/TN", TASK_NAME, "/XML", str(file.path), "/F")
    return Plan(
        files=(file,),
        start=(start,),
        stop=(("schtasks", "/Delete", "/TN", TASK_NAME, "/F"),),
        by_hand=f"as this user, `{' '.join(start)}`",
        remark="it runs while this user is logged in",
    )
