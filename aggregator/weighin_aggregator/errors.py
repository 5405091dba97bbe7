"""Errors of the aggregator.

AggregatorError
├── UsageError               a command that cannot mean what it says
├── ListenError              an address that cannot be listened on
├── AuthorityError           the keys of the fleet cannot be used
├── DeviceUnknownError       a command about a device that is not known
├── ServerError              the server that owns the store did not do what a command asked for
├── BackupError              a backup that could not be written, or cannot be used
├── SnapshotError            a snapshot that could not be made or put in place
└── StoreError
    ├── StoreMissingError    no store in the data directory
    ├── StoreBusyError       another process owns the data directory
    ├── StoreVersionError    the store was made by a newer aggregator
    ├── DamagedLogError      an entry of the store's log is not what was written
    ├── StoreUnavailableError   the store cannot write now; the same write may succeed later
    │   ├── NoRoomError         the disk is nearly full; nothing was tried, so the store itself is sound
    │   └── CopyOvertakenError  runs were deleted while they were copied
    └── StoreRefusedError    the store will never take these rows

What a client did wrong is no error of this tree: see ``refusal``.
"""


class AggregatorError(Exception):
    """Base of every error that this package raises on purpose; its text is one line for the operator."""


class UsageError(AggregatorError):
    """A command that cannot mean what it says."""


class ListenError(AggregatorError):
    """An address that cannot be listened on."""


class AuthorityError(AggregatorError):
    """The keys of the fleet cannot be used."""


class DeviceUnknownError(AggregatorError):
    """A command about a device that is not enrolled."""


class ServerError(AggregatorError):
    """The server that owns the store did not do what a command asked for."""


class BackupError(AggregatorError):
    """A backup that could not be written, or cannot be used."""


class SnapshotError(AggregatorError):
    """A snapshot that could not be made or put in place."""


class StoreError(AggregatorError):
    """Base of everything that goes wrong with the store."""


class StoreMissingError(StoreError):
    """No store in the data directory."""


class StoreBusyError(StoreError):
    """Another process owns the data directory; ``pid`` is its process id, None where it is not known."""

    def __init__(self, text: str, pid: int | None) -> None:
        super().__init__(text)
        self.pid = pid


class StoreVersionError(StoreError):
    """The store was made by a newer aggregator."""


class DamagedLogError(StoreError):
    """An entry of the store's log is not what was written; its content begins at ``position``, in bytes."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(text)
        self.position = position


class StoreUnavailableError(StoreError):
    """The store cannot write now; the same write may succeed later."""


class NoRoomError(StoreUnavailableError):
    """The disk is nearly full; nothing was tried, so the store itself is sound."""


class CopyOvertakenError(StoreUnavailableError):
    """Runs were deleted while they were copied; a copy that is begun again has none of them."""


class StoreRefusedError(StoreError):
    """The store will never take these rows."""
