"""The scheduler of this system: the plan for it, putting the plan in force, and taking it back."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from weighin_agent.errors import EnvironmentFailure
from weighin_agent.probe.child import run_command
from weighin_agent.schedule.plan import Plan, PlannedFile, launchd_plan, systemd_plan, windows_plan

_TIMEOUT_SECONDS = 30.0


def scheduled_command(state_folder: Path, period: str) -> tuple[str, ...]:
    """Return the command that a scheduler starts: this very installation, on this state folder."""
    python = Path(sys.executable)
    # The other interpreter opens a window every hour.
    windowless = python.with_name("pythonw.exe")
    program = windowless if windowless.is_file() else python
    folder = str(state_folder.absolute())
    return (str(program), "-P", "-m", "weighin_agent", "run", "--scheduled", period, "--state", folder)


def plan_here(system_name: str, state_folder: Path, period: str, environment: Mapping[str, str] = os.environ) -> Plan:
    """Return the plan for this system. EnvironmentFailure where its scheduler is not known."""
    command, home = scheduled_command(state_folder, period), Path.home()
    match system_name:
        case "Linux":
            named = environment.get("XDG_CONFIG_HOME")
            return systemd_plan(command, Path(named) if named else home / ".config")
        case "Darwin":
            return launchd_plan(command, home, os.getuid())
        case "Windows":
            return windows_plan(command, state_folder.absolute())
    raise EnvironmentFailure(
        f"no scheduler is known on {system_name}; have yours start this every hour: {' '.join(command)}"
    )


def install(plan: Plan) -> None:
    """Write the files and start the schedule; one that is there is replaced.

    EnvironmentFailure where the files cannot be written, or where the scheduler does not answer: then they are there.
    """
    if installed(plan):
        _stop(plan)
    try:
        for file in plan.files:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            file.path.write_bytes(file.data)
    except OSError as error:
        raise EnvironmentFailure(f"{error.filename} cannot be written: {error.strerror}; see to it") from error
    for command in plan.start:
        if run_command(command, _TIMEOUT_SECONDS).exit_code != 0:
            raise EnvironmentFailure(
                f"the files are written, but `{' '.join(command)}` did not work here, so nothing is scheduled yet: "
                f"{plan.by_hand}"
            )


def remove(plan: Plan) -> tuple[PlannedFile, ...]:
    """Stop the schedule and remove its files, which are returned. EnvironmentFailure."""
    found = installed(plan)
    if found:
        _stop(plan)
    try:
        for file in found:
            file.path.unlink()
    except OSError as error:
        raise EnvironmentFailure(f"{error.filename} cannot be removed: {error.strerror}; see to it") from error
    return found


def installed(plan: Plan) -> tuple[PlannedFile, ...]:
    """Return those files of the plan that are there, with what they hold now. EnvironmentFailure."""
    try:
        return tuple(
            PlannedFile(path=file.path, data=file.path.read_bytes(), encoding=file.encoding)
            for file in plan.files
            if file.path.is_file()
        )
    except OSError as error:
        raise EnvironmentFailure(f"{error.filename} cannot be read: {error.strerror}; see to it") from error


def _stop(plan: Plan) -> None:
    # A schedule that the scheduler does not know is stopped already.
    for command in plan.stop:
        run_command(command, _TIMEOUT_SECONDS)
