"""Which devices may send: kept in memory so that every call is checked, rebuilt from the store at every start."""

import hashlib
from dataclasses import dataclass

from weighin_aggregator.refusal import Reason, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Ids of devices that enrolled and of those that were revoked, and tombstones of those that were forgotten."""

    enrolled: set[str]
    revoked: set[str]
    forgotten: set[bytes]

    def require_welcome(self, device_id: str) -> None:
        """Raise Refusal for a device that was revoked or forgotten."""
        if device_id in self.revoked:
            raise Refusal(Reason.DEVICE_REVOKED)
        if self.forgotten and tombstone(device_id) in self.forgotten:
            raise Refusal(Reason.DEVICE_FORGOTTEN)

    def require_enrolled(self, device_id: str) -> None:
        """Raise Refusal unless the store knows the device and it is welcome."""
        self.require_welcome(device_id)
        if device_id not in self.enrolled:
            raise Refusal(Reason.CREDENTIAL_INVALID)

    def forget(self, device_id: str) -> None:
        """Keep no more of a device than its tombstone."""
        self.forgotten.add(tombstone(device_id))
        self.enrolled.discard(device_id)
        self.revoked.discard(device_id)


def tombstone(device_id: str) -> bytes:
    """Return what stays of a forgotten device: the SHA-256 of its id (36 characters), 32 bytes."""
    return hashlib.sha256(device_id.encode()).digest()
