"""Who may call the run port: identity, then quotas, then revocation, all before anything is decoded."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from weighin_aggregator.identity.certificates import Peer
from weighin_aggregator.identity.peer import AuthContext, device_id
from weighin_aggregator.identity.rate import Allowance
from weighin_aggregator.identity.roster import Roster
from weighin_aggregator.limits import Limits
from weighin_aggregator.refusal import Reason, Refusal

_MINUTE_SECONDS, _DAY_SECONDS = 60.0, 86_400.0


class Call(Protocol):
    """What a gate reads of a call; gRPC's context of a call is one."""

    def auth_context(self) -> AuthContext:
        """Tell what is verified about the connection."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Give what the caller says beside the message."""


class Gate(Protocol):
    """Lets a call in, or raises Refusal."""

    def caller(self, call: Call) -> str:
        """Count a call and return the id of the device that makes it, whether or not it is welcome."""

    def require_welcome(self, device: str) -> None:
        """Refuse a device that may do nothing here."""

    def admit(self, call: Call) -> str:
        """Count a call and return the id of the device that makes it."""

    def require_runs_left(self, device: str) -> None:
        """Refuse a device that has stored as many runs as it may."""

    def count_runs(self, device: str, count: int) -> None:
        """Count runs that may be stored: before they are, so that calls that run at once see each other's."""

    def give_back_runs(self, device: str, count: int) -> None:
        """Take back runs that were not stored."""


class PlainGate:
    """For plain text on loopback: a device is whom it says it is, so quotas would bound nobody."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def caller(self, call: Call) -> str:
        """Return the device that the call names."""
        return device_id(call.invocation_metadata() or ())

    def admit(self, call: Call) -> str:
        """Return the device that the call names."""
        device = self.caller(call)
        self.require_welcome(device)
        return device

    def require_welcome(self, device: str) -> None:
        """Refuse a device that was revoked or forgotten."""
        self._roster.require_welcome(device)

    def require_runs_left(self, device: str) -> None:
        """Refuse nobody."""

    def count_runs(self, device: str, count: int) -> None:
        """Count nothing."""

    def give_back_runs(self, device: str, count: int) -> None:
        """Give back nothing."""


class CertifiedGate:
    """For mutual TLS: a device is whom its certificate names."""

    def __init__(
        self,
        identify: Callable[[AuthContext], Peer],
        roster: Roster,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identify = identify
        self._roster = roster
        self._calls = Allowance(
            limit=limits.calls_per_minute, seconds=_MINUTE_SECONDS, callers=limits.counted_callers, clock=clock
        )
        self._runs = Allowance(
            limit=limits.runs_per_day, seconds=_DAY_SECONDS, callers=limits.counted_callers, clock=clock
        )

    def caller(self, call: Call) -> str:
        """Return the device that the certificate names, and count its call."""
        device = self.peer(call).device_id
        _require_left(self._calls, device)
        self._calls.spend(device)
        return device

    def admit(self, call: Call) -> str:
        """Return the enrolled device that the certificate names, and count its call."""
        device = self.caller(call)
        self.require_welcome(device)
        return device

    def require_welcome(self, device: str) -> None:
        """Refuse a device that was revoked or forgotten, or that the store does not know."""
        self._roster.require_enrolled(device)

    def peer(self, call: Call) -> Peer:
        """Return what the certificate says, its key included."""
        verified: Mapping[str, Iterable[bytes]] = call.auth_context()
        return self._identify(verified)

    def require_runs_left(self, device: str) -> None:
        """Refuse a device that has stored as many runs as it may in a day; the call that gets there is taken whole."""
        _require_left(self._runs, device)

    def count_runs(self, device: str, count: int) -> None:
        """Count runs that may be stored."""
        if count:
            self._runs.spend(device, count)

    def give_back_runs(self, device: str, count: int) -> None:
        """Take back runs that were not stored."""
        self._runs.give_back(device, count)


def _require_left(allowance: Allowance, device: str) -> None:
    wait_seconds = allowance.wait_seconds(device)
    if wait_seconds > 0:
        raise Refusal(Reason.QUOTA_EXCEEDED, wait_seconds=wait_seconds)
