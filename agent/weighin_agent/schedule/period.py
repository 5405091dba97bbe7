"""How far apart scheduled weigh-ins are, as a person writes it: "12h" or "7d"."""

import re

from weighin_agent.errors import UsageError

DEFAULT_PERIOD = "1d"
HOUR_SECONDS = 3600.0
_PERIOD = re.compile(r"([1-9][0-9]{0,3})([hd])", re.ASCII)
_HOURS = {"h": 1, "d": 24}
_LONGEST_HOURS = 90 * 24


def period_seconds(text: str) -> float:
    """Return a period in seconds. UsageError unless it is 1h to 90d, in whole hours or days."""
    found = _PERIOD.fullmatch(text)
    hours = int(found[1]) * _HOURS[found[2]] if found else 0
    if not 1 <= hours <= _LONGEST_HOURS:
        raise UsageError(f"{text!r} is no period from 1h to 90d; write 12h or 1d")
    return hours * HOUR_SECONDS


def check_period(text: str) -> str:
    """Return a period as it is written. UsageError unless it is one."""
    period_seconds(text)
    return text
