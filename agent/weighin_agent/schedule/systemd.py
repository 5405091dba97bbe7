"""A service and a timer for the systemd of a user (systemd.service(5), systemd.timer(5), systemd.exec(5))."""

from collections.abc import Sequence

SERVICE = "weighin-agent.service"
TIMER = "weighin-agent.timer"


def service_unit(command: Sequence[str]) -> str:
    """Return the unit that runs ``command`` once, at the lowest priority.

    Only those restrictions that a user's systemd can impose without namespaces, which many devices do not let
    ordinary users make.
    """
    return f"""\
[Unit]
Description=Weigh this device in, if it is due, idle and on mains power

[Service]
Type=oneshot
ExecStart={" ".join(map(quoted, command))}
TimeoutStartSec=15min
Nice=19
IOSchedulingClass=idle
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
"""


def timer_unit() -> str:
    """Return the timer: every hour, at a random minute, and once after the device was off at that time."""
    return """\
[Unit]
Description=Look every hour whether to weigh this device in

[Timer]
OnCalendar=hourly
RandomizedDelaySec=45min
Persistent=true

[Install]
WantedBy=timers.target
"""


def quoted(word: str) -> str:
    """Quote a word of ExecStart: no character of it means anything to systemd (systemd.service(5), "Quoting")."""
    for special, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("%", "%%"), ("$", "$$")):
        word = word.replace(special, escaped)
    return f'"{word}"'
