"""What the commands of ``weighin-aggregator`` take, do and print."""

import argparse
import asyncio
import contextlib
import ipaddress
import json
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from weighin_aggregator.errors import StoreBusyError, UsageError
from weighin_aggregator.schema import MIGRATIONS
from weighin_aggregator.server import SNAPSHOTS, Config, running
from weighin_aggregator.serving import find_server, request_snapshot, request_stats
from weighin_aggregator.snapshot import copy_snapshot, numbered_snapshots, require_target, write_snapshot
from weighin_aggregator.store import Stats, Store
from weighin_analysis.fleet.folder import MANIFEST

DEFAULT_LISTEN = "127.0.0.1:50051"


def run(arguments: list[str] | None) -> None:
    """Run one command. Raises AggregatorError."""
    options = _parser().parse_args(arguments)
    _configure_log()
    options.command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weighin-aggregator",
        description="Collect the weigh-ins of a fleet. Acknowledges a run only after it is committed.",
        epilog="example: weighin-aggregator serve --data ./weighin-data --insecure",
    )
    parser.add_argument("--version", action="version", version=f"weighin-aggregator {version('weighin-aggregator')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, "init", _init, "make the data directory and the store in it", "init --data ./weighin-data")
    serve = _add(
        commands,
        "serve",
        _serve,
        "take runs until stopped by SIGTERM or Ctrl-C",
        "serve --data ./weighin-data --insecure --listen 127.0.0.1:50051",
    )
    serve.add_argument(
        "--insecure", action="store_true", help="plain text, on a loopback address only (required today)"
    )
    serve.add_argument(
        "--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="default %(default)s; port 0 takes any free one"
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
    return parser


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
    """One JSON object per event on standard error."""
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


def _answer(options: argparse.Namespace, document: dict[str, Any], text: str) -> None:
    print(json.dumps(document) if options.json else text, flush=True)  # noqa: T201 - what the command is run for


def _init(options: argparse.Namespace) -> None:
    with Store.open(options.data, create=True):
        pass
    document = {"data": str(options.data), "schema_version": len(MIGRATIONS)}
    _answer(options, document, f"store ready in {options.data}")


def _serve(options: argparse.Namespace) -> None:
    host, port = _loopback(options.listen)
    if not options.insecure:
        raise UsageError("serve needs --insecure: mutual TLS arrives later; plain text works on loopback only")
    config = Config(data=options.data, host=host, port=port)
    asyncio.run(_serve_until_stopped(options, config))


async def _serve_until_stopped(options: argparse.Namespace, config: Config) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(config) as address:
        _answer(options, {"listening": address}, f"listening on {address}")
        await stop.wait()


def _loopback(listen: str) -> tuple[str, int]:
    """Split HOST:PORT. Raises UsageError unless the host is a loopback address."""
    host, _, port = listen.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        address, number = ipaddress.ip_address(host), int(port)
    except ValueError:
        raise UsageError("--listen must be HOST:PORT with an IP address, for example 127.0.0.1:50051") from None
    if not 0 <= number <= 0xFFFF:
        raise UsageError("--listen must name a port from 0 to 65535")
    if not address.is_loopback:
        raise UsageError(
            "--listen must be a loopback address (127.0.0.1 or [::1]): plain text may not leave the machine"
        )
    return str(address), number


def _snapshot(options: argparse.Namespace) -> None:
    require_target(options.out)

    async def export(folder: Path) -> datetime:
        with Store.open(options.data) as store:
            return store.export(folder)

    refused: Mapping[str, str] = {}
    try:
        refused = asyncio.run(write_snapshot(export, options.out, numbered_snapshots(options.data / SNAPSHOTS))).refused
    except StoreBusyError as busy:
        copy_snapshot(request_snapshot(find_server(options.data, busy)), options.out)
    manifest = json.loads((options.out / MANIFEST).read_text())
    runs, devices = manifest["tables"]["runs"]["rows"], manifest["tables"]["devices"]["rows"]
    text = f"snapshot written to {options.out}: {runs} runs of {devices} devices"
    lines = [f"not judged: run {run_id}: {why}" for run_id, why in refused.items()]
    _answer(options, {"folder": str(options.out), "refused": refused, **manifest}, "\n".join([text, *lines]))


def _stats(options: argparse.Namespace) -> None:
    try:
        with Store.open(options.data) as store:
            stats = store.stats()
    except StoreBusyError as busy:
        stats = request_stats(find_server(options.data, busy))
    last = None if stats.last_receive_time is None else stats.last_receive_time.isoformat() + "Z"
    _answer(options, {**asdict(stats), "last_receive_time": last}, _stats_text(stats, last))


def _stats_text(stats: Stats, last_receive_time: str | None) -> str:
    return (
        f"runs          {stats.runs}\n"
        f"devices       {stats.devices}\n"
        f"measurements  {stats.measurements}\n"
        f"failures      {stats.failures}\n"
        f"last received {last_receive_time or 'never'}"
    )
