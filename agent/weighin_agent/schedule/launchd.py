"""A launch agent for macOS (launchd.plist(5))."""

import plistlib
from collections.abc import Sequence

LABEL = "weighin-agent"
_HOUR_SECONDS = 3600


def agent_plist(command: Sequence[str]) -> bytes:
    """Return the property list that runs ``command`` every hour, counted from login; a Mac asleep runs it on waking."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(command),
            "StartInterval": _HOUR_SECONDS,
            "Nice": 19,
            "LowPriorityIO": True,
            "Umask": 0o077,
            # Any other type is throttled, on Apple silicon down to the efficiency cores: that would be measured.
            "ProcessType": "Interactive",
        }
    )
