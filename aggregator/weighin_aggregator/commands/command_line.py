"""What the commands of ``weighin-aggregator`` take, do and print."""

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from weighin_aggregator.commands.identity import add_token_options, create_token, list_devices, revoke_device
from weighin_aggregator.commands.listen_options import add_listen_options, read_config
from weighin_aggregator.commands.operator_client import operating
from weighin_aggregator.commands.output import answer, utc_text
from weighin_aggregator.commands.upkeep import (
    add_backup_options,
    add_forget_options,
    add_restore_options,
    compact_store,
    forget_device,
    make_backup,
    restore_backup,
)
from weighin_aggregator.errors import StoreBusyError
from weighin_aggregator.limits import DEFAULT_LIMITS
from weighin_aggregator.serve.assembly import Config
from weighin_aggregator.serve.server import running
from weighin_aggregator.serve.serving import find_server
from weighin_aggregator.store.authority import authority_of
from weighin_aggregator.store.schema import MIGRATIONS
from weighin_aggregator.store.snapshot import (
    SNAPSHOTS,
    copy_snapshot,
    numbered_snapshots,
    require_target,
    write_snapshot,
)
from weighin_aggregator.store.store import Stats, Store
from weighin_analysis.fleet.snapshot.folder import MANIFEST


def run(arguments: list[str] | None) -> None:
    """Run one command. Raises AggregatorError."""
    options = _parser().parse_args(arguments)
    _configure_log()
    options.command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weighin-aggregator",
        description="Collect the weigh-ins of a fleet. Acknowledges a run only after it is committed.",
        epilog="example: weighin-aggregator serve --data ./weighin-data --name weighin.example.org",
    )
    parser.add_argument("--version", action="version", version=f"weighin-aggregator {version('weighin-aggregator')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, "init", _init, "make the data directory and the store in it", "init --data ./weighin-data")
    serve = _add(
        commands,
        "serve",
        _serve,
        "take runs until stopped by SIGTERM or Ctrl-C",
        "serve --data ./weighin-data --listen 0.0.0.0:50051 --name weighin.example.org",
    )
    add_listen_options(serve)
    for option, default, what in (
        ("--calls-per-minute", DEFAULT_LIMITS.calls_per_minute, "calls"),
        ("--runs-per-day", DEFAULT_LIMITS.runs_per_day, "runs"),
    ):
        serve.add_argument(
            option, type=_at_least_one, default=default, metavar="N", help=f"{what} of one device; default %(default)s"
        )
    serve.add_argument(
        "--max-runs-per-second",
        type=_at_least_one,
        default=DEFAULT_LIMITS.runs_per_second,
        metavar="N",
        help="runs of all devices together, more wait on their devices; default as many as the machine takes",
    )
    serve.add_argument(
        "--retention-days",
        type=_at_least_zero,
        default=DEFAULT_LIMITS.retention_days,
        metavar="N",
        help="delete runs that were received longer ago; 0 keeps all of them; default %(default)s",
    )
    snapshot = _add(
        commands,
        "snapshot",
        _snapshot,
        "write all facts and what follows from them as Parquet files, also while a server runs",
        "snapshot --data ./weighin-data --out ./snapshot",
    )
    snapshot.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a new or empty folder, or a snapshot to replace"
    )
    _add(
        commands, "stats", _stats, "count what the store holds, also while a server runs", "stats --data ./weighin-data"
    )
    _add_identity_commands(commands)
    _add_upkeep_commands(commands)
    return parser


def _add_identity_commands(commands: Any) -> None:
    tokens = commands.add_parser("token", help="tokens, by which devices enrol").add_subparsers(
        required=True, metavar="COMMAND"
    )
    token = _add(
        tokens,
        "create",
        create_token,
        "print a new token for devices to enrol with, also while a server runs",
        "token create --data ./weighin-data --group lab-a --uses 50 --ttl 24h",
    )
    add_token_options(token)
    revoke = _add(
        commands,
        "revoke",
        revoke_device,
        "take nothing more from a device, at once, also while a server runs",
        "revoke --data ./weighin-data 019c1c38-a400-7000-8000-00000000000a",
    )
    revoke.add_argument("device", metavar="DEVICE", help="its id, as `devices` lists it")
    _add(
        commands,
        "devices",
        list_devices,
        "list the devices that enrolled, also while a server runs",
        "devices --data ./weighin-data",
    )


def _add_upkeep_commands(commands: Any) -> None:
    backup = _add(
        commands,
        "backup",
        make_backup,
        "copy store and keys into a new folder, also while a server runs",
        "backup --data ./weighin-data --out /mnt/backups/monday",
    )
    add_backup_options(backup)
    restoring = _add(
        commands,
        "restore",
        restore_backup,
        "put a backup in the place of what is there, which is kept",
        "restore --data ./weighin-data /mnt/backups/monday",
    )
    add_restore_options(restoring)
    forget = _add(
        commands,
        "forget",
        forget_device,
        "delete and erase all runs of a device and take no more of it; no server may run",
        "forget --data ./weighin-data 019c1c38-a400-7000-8000-00000000000a",
    )
    add_forget_options(forget)
    _add(
        commands,
        "compact",
        compact_store,
        "erase from the disk what was deleted; a server does it by itself, twice a day",
        "compact --data ./weighin-data",
    )


def _at_least_zero(text: str) -> int:
    return _whole(text, 0)


def _at_least_one(text: str) -> int:
    return _whole(text, 1)


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}")
    return number


def _add(
    commands: Any, name: str, command: Callable[[argparse.Namespace], None], purpose: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=purpose,
        description=purpose[0].upper() + purpose[1:] + ".",
        epilog=f"example: weighin-aggregator {example}",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data directory")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(command=command)
    return parser


def _configure_log() -> None:
    """One JSON object per event on standard error, and nothing else there: no warning of a library about its input."""
    warnings.simplefilter("ignore")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _PatientStream(sys.stderr))),
    )


class _PatientStream:
    """Standard error for the log. A line that cannot be written, as on a full disk, must not stop the server."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def _init(options: argparse.Namespace) -> None:
    with Store.open(options.data, create=True) as store:
        authority_of(options.data, store)
    document = {"data": str(options.data), "schema_version": len(MIGRATIONS)}
    answer(options, document, f"store ready in {options.data}")


def _serve(options: argparse.Namespace) -> None:
    limits = replace(
        DEFAULT_LIMITS,
        calls_per_minute=options.calls_per_minute,
        runs_per_day=options.runs_per_day,
        runs_per_second=options.max_runs_per_second,
        retention_days=options.retention_days,
    )
    asyncio.run(_serve_until_stopped(options, read_config(options, limits)))


async def _serve_until_stopped(options: argparse.Namespace, config: Config) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(config) as serving:
        document = {"listening": serving.run_address, "enrolling": serving.enroll_address}
        lines = [f"listening on {serving.run_address}"]
        if serving.enroll_address is not None:
            lines.append(f"enrolling on {serving.enroll_address}")
        answer(options, document, "\n".join(lines))
        await stop.wait()


def _snapshot(options: argparse.Namespace) -> None:
    require_target(options.out)
    refused: Mapping[str, str] = {}
    try:
        # Held until the snapshot is in its place: what is forgotten meanwhile would come back with it.
        with Store.open(options.data) as store:

            async def export(folder: Path) -> datetime:
                return store.export(folder)

            earlier = numbered_snapshots(options.data / SNAPSHOTS)
            refused = asyncio.run(write_snapshot(export, options.out, earlier)).refused
    except StoreBusyError as busy:
        with operating(find_server(options.data, busy)) as operator:
            copy_snapshot(operator.make_snapshot(), options.out)
    manifest = json.loads((options.out / MANIFEST).read_text())
    runs, devices = manifest["tables"]["runs"]["rows"], manifest["tables"]["devices"]["rows"]
    text = f"snapshot written to {options.out}: {runs} runs of {devices} devices"
    lines = [f"not judged: run {run_id}: {why}" for run_id, why in refused.items()]
    answer(options, {"folder": str(options.out), "refused": refused, **manifest}, "\n".join([text, *lines]))


def _stats(options: argparse.Namespace) -> None:
    try:
        with Store.open(options.data) as store:
            stats = store.stats()
    except StoreBusyError as busy:
        with operating(find_server(options.data, busy)) as operator:
            stats = operator.stats()
    document = asdict(stats)
    for name in ("oldest_receive_time", "last_receive_time", "last_backup_time"):
        document[name] = utc_text(document[name])
    answer(options, document, _stats_text(stats, document))


def _stats_text(stats: Stats, document: Mapping[str, Any]) -> str:
    return (
        f"runs            {stats.runs}\n"
        f"devices         {stats.devices} with runs; {stats.enrolled_devices} enrolled, "
        f"{stats.revoked_devices} revoked, {stats.forgotten_devices} forgotten\n"
        f"measurements    {stats.measurements}\n"
        f"failures        {stats.failures}\n"
        f"oldest received {document['oldest_receive_time'] or 'never'}\n"
        f"last received   {document['last_receive_time'] or 'never'}\n"
        f"file            {stats.file_bytes} bytes\n"
        f"last backup     {document['last_backup_time'] or 'never'}"
    )
