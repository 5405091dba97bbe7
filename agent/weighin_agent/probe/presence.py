"""Whether a person is at the machine, by when a key or a pointer was last moved. Nothing else is read of it."""

import ctypes
import re
from collections.abc import Callable

from weighin_agent.probe.system import System

_LOGINCTL = ("loginctl", "show-session", "--property=IdleHint")
_IOREG = ("/usr/sbin/ioreg", "-c", "IOHIDSystem", "-d", "4", "-r", "-k", "HIDIdleTime")
_TIMEOUT_SECONDS = 5.0
# As long as desktops wait before they dim their screens.
_AWAY_SECONDS = 300.0
_HINT = re.compile(r"^IdleHint=(yes|no)$", re.MULTILINE)
_HID_IDLE = re.compile(r'"HIDIdleTime" = ([0-9]{1,20})\b', re.ASCII)


def person_present(system: System) -> bool | None:
    """Whether a person uses this machine now; None if the system does not tell."""
    reader = _READERS.get(system.name)
    return reader(system) if reader else None


def parse_idle_hint(text: str) -> bool | None:
    """Whether somebody is present, from what systemd-logind says of all sessions together."""
    found = _HINT.search(text)
    return found[1] == "no" if found else None


def parse_hid_idle_seconds(text: str) -> float | None:
    """Return the seconds since the last input from ioreg, which counts nanoseconds; None where it says none."""
    found = [int(number) / 1e9 for number in _HID_IDLE.findall(text)]
    return min(found, default=None)


def _ask_logind(system: System) -> bool | None:
    return parse_idle_hint(system.ask(_LOGINCTL, _TIMEOUT_SECONDS).text)


def _ask_ioreg(system: System) -> bool | None:
    idle_seconds = parse_hid_idle_seconds(system.ask(_IOREG, _TIMEOUT_SECONDS).text)
    return None if idle_seconds is None else idle_seconds < _AWAY_SECONDS


class _LastInput(ctypes.Structure):
    """LASTINPUTINFO of user32; both times are milliseconds since the start of Windows, modulo 2^32."""

    _fields_ = (("size", ctypes.c_uint32), ("tick", ctypes.c_uint32))


def _ask_user32(_system: System) -> bool | None:
    libraries = getattr(ctypes, "windll", None)  # Windows alone has it
    last = _LastInput(size=ctypes.sizeof(_LastInput))
    if libraries is None or not libraries.user32.GetLastInputInfo(ctypes.byref(last)):
        return None
    idle_milliseconds = (libraries.kernel32.GetTickCount() - last.tick) & 0xFFFFFFFF
    return bool(idle_milliseconds < 1000 * _AWAY_SECONDS)


_READERS: dict[str, Callable[[System], bool | None]] = {
    "Linux": _ask_logind,
    "Darwin": _ask_ioreg,
    "Windows": _ask_user32,
}
