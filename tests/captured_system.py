"""A machine of tests/captured in the place of this one: its files under a folder, its commands' output as it was."""

import json
import shutil
from pathlib import Path

from weighin_agent.device import ProbeGapReason
from weighin_agent.probe.child import ChildAnswer, CommandOutput
from weighin_agent.probe.system import System
from weighin_agent.probe.text import parse_cpu_list

CAPTURED = Path(__file__).parent / "captured"
NOT_CAPTURED = "the command that tells it is not installed"


def lay_out(machine: str, root: Path) -> Path:
    """Copy a captured machine's files to ``root`` and make the files that sysfs.txt lists as "path:content"."""
    shutil.copytree(CAPTURED / machine, root, dirs_exist_ok=True)
    listing = root / "sysfs.txt"
    for line in listing.read_text().splitlines() if listing.exists() else ():
        # The places of PCI devices have colons of their own.
        path, _, content = line.rpartition(":")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content + "\n")
    return root


def facts_of(machine: str) -> dict[str, str]:
    """Return the lines "name:value" of system.txt: what uname and the process's affinity told."""
    lines = (CAPTURED / machine / "system.txt").read_text().splitlines()
    return {name: value for name, _, value in (line.partition(":") for line in lines)}


def captured_system(machine: str, root: Path) -> System:
    """Return a captured machine, laid out under ``root``."""
    facts = facts_of(machine)
    return system_at(
        lay_out(machine, root),
        name=facts["name"],
        architecture=facts["architecture"],
        kernel=facts["kernel"],
        processors=parse_cpu_list(facts["processors"]) if "processors" in facts else None,
    )


def system_at(
    root: Path,
    *,
    name: str = "Linux",
    architecture: str = "x86_64",
    kernel: str = "6.1.0",
    processors: frozenset[int] | None = frozenset({0}),
    nvidia: dict[str, object] | None = None,
) -> System:
    """Return a machine whose files lie under ``root`` and whose commands' output lies there in "commands".

    NVIDIA's driver answers ``nvidia``; without it there is none.
    """

    def ask(command: tuple[str, ...], timeout_seconds: float) -> CommandOutput:
        file = root / "commands" / command[0].replace("\\", "/").rpartition("/")[2]
        if not file.exists():
            return CommandOutput(reason=ProbeGapReason.NOT_OFFERED, detail=NOT_CAPTURED)
        text = file.read_text()
        return CommandOutput(text=property_of(text, command[1]) if file.name == "getprop" else text, exit_code=0)

    def ask_child(module: str, timeout_seconds: float) -> ChildAnswer:
        facts = (nvidia or {"driver": False}) if module.endswith("nvidia_child") else {}
        return ChildAnswer(facts=json.loads(json.dumps(facts)))

    return System(
        name=name,
        architecture=architecture,
        kernel=kernel,
        ask=ask,
        ask_child=ask_child,
        root=root,
        processors=processors,
    )


def property_of(listing: str, name: str) -> str:
    """Return one property of an Android device as `getprop NAME` prints it, from what `getprop` prints of all."""
    lines = (line.partition("]: [") for line in listing.splitlines())
    return next((value.removesuffix("]") + "\n" for key, _, value in lines if key == f"[{name}"), "\n")
