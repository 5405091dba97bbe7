"""Whether the machine draws from the mains, and whether it has a battery."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from weighin_agent.probe.files import list_folder, read_line

# What psutil raises where a kernel offers half of what it looks for: a gap here, never the end of a run.
_SENSOR_ERRORS = (psutil.Error, NotImplementedError, OSError, RuntimeError, ValueError)

_SUPPLIES = "sys/class/power_supply"


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSupply:
    """One supply as Linux shows it: the texts of its files, "" where there is none."""

    kind: str
    status: str = ""
    online: str = ""
    scope: str = ""


def is_own_battery(supply: PowerSupply) -> bool:
    """Whether this is the machine's own battery; that of a mouse or a headset has the scope "Device"."""
    return supply.kind == "Battery" and supply.scope != "Device"


def judge_mains(supplies: Iterable[PowerSupply]) -> bool | None:
    """Whether a machine with a battery draws from the mains; None if its supplies do not tell.

    The status of the battery goes first: a port that could charge is "online" on some laptops whatever it does.
    """
    listed = tuple(supplies)
    states = {supply.status for supply in listed if is_own_battery(supply)}
    if "Discharging" in states:
        return False
    if states & {"Charging", "Full", "Not charging"}:
        return True
    online = {supply.online for supply in listed if supply.kind == "Mains"} & {"0", "1"}
    return "1" in online if online else None


def read_supplies(root: Path = Path("/")) -> tuple[PowerSupply, ...]:
    """Read the power supplies that Linux lists."""
    return tuple(
        PowerSupply(
            kind=read_line(folder / "type"),
            status=read_line(folder / "status"),
            online=read_line(folder / "online"),
            scope=read_line(folder / "scope"),
        )
        for folder in list_folder(root / _SUPPLIES)
    )


def has_battery(root: Path = Path("/")) -> bool:
    """Whether Linux lists a battery of the machine's own."""
    return any(is_own_battery(supply) for supply in read_supplies(root))


def read_mains(root: Path = Path("/")) -> bool | None:
    """Whether a Linux machine draws from the mains; one without a battery does."""
    supplies = read_supplies(root)
    return judge_mains(supplies) if any(map(is_own_battery, supplies)) else True


def read_mains_of_a_phone(root: Path = Path("/")) -> bool | None:
    """Whether an Android device draws from the mains; None where it hides its battery from apps, as most do."""
    return judge_mains(read_supplies(root))


def read_mains_portably() -> bool | None:
    """Whether any other machine draws from the mains, as psutil tells; one without a battery does."""
    read = getattr(psutil, "sensors_battery", None)
    try:
        battery = read() if read else None
    except _SENSOR_ERRORS:
        return None
    if battery is None:
        return None if read is None else True
    plugged: bool | None = battery.power_plugged
    return plugged
