"""What a new snapshot takes over from an earlier one: the parts that never change."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from weighin_analysis.errors import SnapshotError
from weighin_analysis.estimate import FORMULA_VERSION
from weighin_analysis.fleet.snapshot.folder import Manifest, checked_files, read_manifest
from weighin_analysis.fleet.snapshot.views import JUDGEMENTS, VIEWS_VERSION
from weighin_analysis.limits import current_limits
from weighin_analysis.plausible import plausibility_rules


def take_over(folder: Path, candidates: Iterable[Path]) -> None:
    """Give an empty folder the parts of the newest of the earlier snapshots that is whole; none where none is.

    Judgements come along only where formula, limits, views and rules of plausibility are still those of today. Parts
    are linked where the file system allows it: nobody ever writes into one.
    """
    found = [(manifest, path) for path in candidates if (manifest := _manifest_of(path))]
    for manifest, path in sorted(found, key=lambda one: one[0].time, reverse=True):
        try:
            checked_files(path, manifest)
        except SnapshotError:  # damaged: its runs are exported again
            continue
        for table, parts in manifest.tables.items():
            if table not in JUDGEMENTS or _judged_as_today(manifest):
                for part in parts:
                    link_or_copy(path / part.file, folder / part.file)
        return


def _manifest_of(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except SnapshotError:  # none there, or of another version
        return None


def _judged_as_today(manifest: Manifest) -> bool:
    found = (
        manifest.formula_version,
        manifest.limits_version,
        manifest.views_version,
        manifest.plausibility_version,
    )
    return found == (FORMULA_VERSION, current_limits().version, VIEWS_VERSION, plausibility_rules().version)


def link_or_copy(file: Path, to: Path) -> None:
    """Put a finished part at another place: as a link where the file system allows it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, to)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, to)
