"""The commands that keep a store safe and small: backup, restore, compact, forget."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from weighin_aggregator.commands.operator_client import operating
from weighin_aggregator.commands.output import answer, utc_text
from weighin_aggregator.errors import DeviceUnknownError, StoreBusyError, UsageError
from weighin_aggregator.identity.peer import is_lower_case_uuid
from weighin_aggregator.identity.roster import tombstone
from weighin_aggregator.serve.serving import find_server
from weighin_aggregator.store.backup import Backup, require_new, require_outside, take_backup, write_backup
from weighin_aggregator.store.deletion import delete_device, is_known
from weighin_aggregator.store.restore import restore
from weighin_aggregator.store.store import Store, utc_now
from weighin_aggregator.store.upkeep import WithStore, compact, record_backup

_Answer = TypeVar("_Answer")


def add_backup_options(parser: argparse.ArgumentParser) -> None:
    """Add where the backup goes."""
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder, best on another disk")


def add_restore_options(parser: argparse.ArgumentParser) -> None:
    """Add what is restored."""
    parser.add_argument("backup", type=Path, metavar="FOLDER", help="what `backup` wrote")


def add_forget_options(parser: argparse.ArgumentParser) -> None:
    """Add who is forgotten."""
    parser.add_argument("device", metavar="DEVICE", help="its id, as `devices` lists it")


def make_backup(options: argparse.Namespace) -> None:
    """Write a backup, by the server where one runs."""
    require_new(options.out)
    require_outside(options.data, options.out)
    try:
        with Store.open(options.data) as store:
            backup = write_backup(options.data, options.out, store.begin_copy)
            record_backup(alone(store), backup)
    except StoreBusyError as busy:
        with operating(find_server(options.data, busy)) as operator:
            backup = take_backup(operator.make_backup(), options.out)
    text = f"backup written to {options.out}: {_holds(backup)}"
    answer(options, {"folder": str(options.out), **_document(backup)}, text)


def restore_backup(options: argparse.Namespace) -> None:
    """Put a backup in the place of what is there."""
    restored = restore(options.data, options.backup)
    kept = None if restored.kept is None else str(restored.kept)
    lines = [f"restored {options.backup} into {options.data}: {_holds(restored.backup)}"]
    if kept is not None:
        lines.append(f"what was there is kept in {kept}")
    answer(options, {"kept": kept, **_document(restored.backup)}, "\n".join(lines))


def compact_store(options: argparse.Namespace) -> None:
    """Erase what was deleted."""
    with Store.open(options.data) as store:
        is_smaller = compact(options.data, alone(store))
        size_bytes = store.file_bytes()
    text = f"erased what was deleted; the store has {size_bytes} bytes" if is_smaller else "nothing was deleted"
    answer(options, {"compacted": is_smaller, "file_bytes": size_bytes}, text)


def forget_device(options: argparse.Namespace) -> None:
    """Delete and erase all that is known of a device."""
    device = options.device
    if not is_lower_case_uuid(device):
        raise UsageError("DEVICE must be a device id: a lower-case UUID, as `devices` lists them")
    digest = tombstone(device)
    delete = partial(delete_device, device_id=device, digest=digest, moment=utc_now())
    with Store.open(options.data) as store:
        if not store.transact(partial(is_known, device_id=device, digest=digest)):
            raise DeviceUnknownError(f"nothing is known of device {device}, so nothing was deleted; see `devices`")
        run_count = store.transact(delete)
        compact(options.data, alone(store))
    answer(options, {"deleted_run_count": run_count}, f"forgot the device and its {run_count} runs; backups keep them")


def alone(store: Store) -> WithStore:
    """Give calls a store that nobody else uses."""

    def with_store(call: Callable[[Store], _Answer], /) -> _Answer:
        return call(store)

    return with_store


def _holds(backup: Backup) -> str:
    return f"{backup.rows['run']} runs, {backup.size_bytes} bytes"


def _document(backup: Backup) -> dict[str, Any]:
    return {
        "create_time": utc_text(backup.create_time),
        "schema_version": backup.schema_version,
        "run_count": backup.rows["run"],
        "size_bytes": backup.size_bytes,
    }
