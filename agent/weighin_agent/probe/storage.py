"""Free space where a downloaded model would be kept."""

import shutil
from pathlib import Path

from weighin_agent.device import ProbeGapReason, Storage
from weighin_agent.probe.gaps import Gaps

# An exact figure could tell one machine from another, and nobody needs it.
_GRAIN_BYTES = 64 * 2**20


def read_storage(gaps: Gaps, storage_folder: Path) -> Storage:
    """Read the space free for an ordinary user on the file system of ``storage_folder`` or its nearest parent."""
    try:
        folder = next(path for path in (storage_folder.absolute(), *storage_folder.absolute().parents) if path.exists())
        free_bytes = shutil.disk_usage(folder).free
    except PermissionError:
        gaps.add("storage.free_bytes", ProbeGapReason.PERMISSION_DENIED, "the storage folder may not be looked into")
    except (OSError, StopIteration):
        gaps.add("storage.free_bytes", ProbeGapReason.READ_FAILED, "the file system of the storage folder did not tell")
    else:
        return Storage(free_bytes=free_bytes // _GRAIN_BYTES * _GRAIN_BYTES)
    return Storage()
