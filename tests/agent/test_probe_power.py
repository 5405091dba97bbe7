"""Where the power comes from, by files as Linux lays them out and by what psutil tells on other systems."""

from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest

from weighin_agent.probe.power import has_battery, read_mains, read_mains_of_a_phone, read_mains_portably

Battery = namedtuple("Battery", "percent secsleft power_plugged")


def add_supply(root: Path, name: str, **files: str) -> None:
    folder = root / "sys/class/power_supply" / name
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_text(content + "\n")


@pytest.mark.parametrize(
    ("status", "online", "on_mains"),
    [
        ("Discharging", "0", False),
        ("Discharging", "1", False),  # a port that could charge says so whatever it does
        ("Charging", "1", True),
        ("Full", "1", True),
        ("Not charging", "1", True),
        ("Unknown", "1", True),
        ("Unknown", "0", False),
    ],
)
def test_the_battery_of_a_laptop_says_where_the_power_comes_from(
    tmp_path: Path, status: str, online: str, on_mains: bool
) -> None:
    """The name of a battery is its driver's own: "macsmc-battery", "qcom-battmgr-bat", "BAT0" ..."""
    add_supply(tmp_path, "qcom-battmgr-bat", type="Battery", status=status)
    add_supply(tmp_path, "ADP1", type="Mains", online=online)
    assert has_battery(tmp_path)
    assert read_mains(tmp_path) is on_mains


def test_a_battery_that_tells_nothing_beside_no_adapter_is_not_known(tmp_path: Path) -> None:
    add_supply(tmp_path, "BAT0", type="Battery", status="Unknown")
    assert read_mains(tmp_path) is None


def test_the_battery_of_a_mouse_is_not_the_machines(tmp_path: Path) -> None:
    add_supply(tmp_path, "hidpp_battery_0", type="Battery", status="Discharging", scope="Device")
    assert not has_battery(tmp_path)
    assert read_mains(tmp_path) is True


def test_a_machine_without_a_battery_is_on_the_mains_but_a_phone_hides_its_own(tmp_path: Path) -> None:
    assert read_mains(tmp_path) is True
    assert read_mains_of_a_phone(tmp_path) is None


@pytest.mark.parametrize(
    ("battery", "on_mains"),
    [(None, True), (Battery(80, 3600, True), True), (Battery(80, 3600, False), False), (Battery(80, 3600, None), None)],
    ids=["no battery", "charging", "discharging", "not told"],
)
def test_other_systems_tell_it_through_psutil(
    battery: Any, on_mains: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert read_mains_portably() is on_mains


def test_a_sensor_that_fails_or_is_missing_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError

    monkeypatch.setattr(psutil, "sensors_battery", fail, raising=False)
    assert read_mains_portably() is None
    monkeypatch.delattr(psutil, "sensors_battery")
    assert read_mains_portably() is None
