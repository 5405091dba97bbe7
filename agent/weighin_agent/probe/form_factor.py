"""What a device is to a person, as its firmware says."""

from pathlib import Path

from weighin_agent.device import FormFactor, ProbeGapReason, Virtualization, VirtualizationKind
from weighin_agent.probe.files import read_line
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.power import has_battery
from weighin_agent.probe.system import System
from weighin_agent.probe.text import parse_whole_number

# SMBIOS, "System Enclosure or Chassis Types"; the grouping follows systemd-hostnamed. Those that say nothing about
# the whole (other, unknown, docking station, expansion chassis ...) are left out.
_CHASSIS = {
    **dict.fromkeys((3, 4, 5, 6, 7, 13, 15, 16, 24, 35, 36), FormFactor.DESKTOP),
    **dict.fromkeys((8, 9, 10, 14, 31, 32), FormFactor.LAPTOP),
    **dict.fromkeys((17, 23, 25, 28, 29), FormFactor.SERVER),
    11: FormFactor.PHONE,
    30: FormFactor.TABLET,
}

# The property "chassis-type" of the root node (devicetree specification, 2.3); "embedded" is a board.
_DEVICE_TREE_CHASSIS = {
    "desktop": FormFactor.DESKTOP,
    "laptop": FormFactor.LAPTOP,
    "convertible": FormFactor.LAPTOP,
    "server": FormFactor.SERVER,
    "tablet": FormFactor.TABLET,
    "handset": FormFactor.PHONE,
    "embedded": FormFactor.SINGLE_BOARD,
}

_VIRTUAL = (VirtualizationKind.VIRTUAL_MACHINE, VirtualizationKind.CONTAINER_IN_VIRTUAL_MACHINE)


def is_virtual(virtualization: Virtualization | None) -> bool:
    """Whether a hypervisor runs this system."""
    return virtualization is not None and virtualization.kind in _VIRTUAL


def form_of_chassis(chassis_type: int | None, battery: bool) -> FormFactor | None:
    """Translate an SMBIOS chassis type; where it says nothing, only a laptop has a battery."""
    form = None if chassis_type is None else _CHASSIS.get(chassis_type)
    return FormFactor.LAPTOP if form is None and battery else form


def judge_form_factor(
    chassis_type: int | None, tree_chassis: str, is_board: bool, battery: bool, virtual: bool
) -> FormFactor | None:
    """Judge by firmware: the chassis of SMBIOS or of the device tree; a device tree alone is that of a board."""
    if virtual:
        return FormFactor.VIRTUAL_MACHINE
    if form := _DEVICE_TREE_CHASSIS.get(tree_chassis) or form_of_chassis(chassis_type, battery):
        return form
    return FormFactor.SINGLE_BOARD if is_board and chassis_type is None else None


def need_form_factor(gaps: Gaps, form: FormFactor | None) -> FormFactor | None:
    """Record a gap if nothing told the form factor."""
    return gaps.need("form_factor", form, ProbeGapReason.NOT_OFFERED, "the firmware does not say what the device is")


def read_form_factor(gaps: Gaps, system: System, virtualization: Virtualization | None) -> FormFactor | None:
    """Read the form factor on Linux."""
    tree = system.root / "proc/device-tree"
    form = judge_form_factor(
        chassis_type=_chassis_type(system.root),
        tree_chassis=read_line(tree / "chassis-type"),
        is_board=bool(read_line(tree / "model")),
        battery=has_battery(system.root),
        virtual=is_virtual(virtualization),
    )
    return need_form_factor(gaps, form)


def _chassis_type(root: Path) -> int | None:
    return parse_whole_number(read_line(root / "sys/class/dmi/id/chassis_type"))
