"""The judgements of weighin. The core needs numpy only; the fleet and the commands over it need the extra [report]."""

from os import PathLike
from typing import TYPE_CHECKING

from weighin_analysis.errors import AnalysisError

if TYPE_CHECKING:
    from weighin_analysis.opened import OpenSnapshot

__all__ = ["AnalysisError", "open"]


def open(snapshot: str | PathLike[str]) -> "OpenSnapshot":  # noqa: A001 (read as weighin_analysis.open)
    """Open the folder of a snapshot; SnapshotError, in one line, where it is missing, damaged or of another version."""
    # Imported here: the core is light, and needs none of what a fleet needs.
    from pathlib import Path  # noqa: PLC0415

    from weighin_analysis.opened import OpenSnapshot  # noqa: PLC0415

    return OpenSnapshot(Path(snapshot))
