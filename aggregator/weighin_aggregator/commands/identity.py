"""The commands about devices: tokens, revocation, and who is enrolled. All work with and without a server."""

import argparse
import re
from datetime import datetime
from functools import partial

from weighin_aggregator.commands.listen_options import read_name
from weighin_aggregator.commands.operator_client import operating
from weighin_aggregator.commands.output import answer, utc_text
from weighin_aggregator.errors import DeviceUnknownError, StoreBusyError, UsageError
from weighin_aggregator.identity import register
from weighin_aggregator.identity.peer import is_lower_case_uuid
from weighin_aggregator.identity.register import KnownDevice
from weighin_aggregator.identity.terms import Terms, make_token
from weighin_aggregator.serve.ports import joined
from weighin_aggregator.serve.serving import find_server
from weighin_aggregator.store.authority import authority_of
from weighin_aggregator.store.store import Store, utc_now

_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
_TTL = re.compile(r"(\d{1,6})([mhd])", re.ASCII)


def add_token_options(parser: argparse.ArgumentParser) -> None:
    """Add what an operator offers with a token."""
    parser.add_argument("--group", required=True, help="a name for the devices that enrol with it, for example lab-a")
    parser.add_argument(
        "--uses", type=int, default=1, metavar="N", help="how many devices may enrol; default %(default)s"
    )
    parser.add_argument("--ttl", default="24h", metavar="TIME", help="how long: 30m, 24h or 7d; default %(default)s")
    parser.add_argument(
        "--address",
        metavar="NAME:PORT",
        help="where devices will enrol: name and enrolment port of the server; only while none runs, which knows",
    )


def create_token(options: argparse.Namespace) -> None:
    """Print a new token, once."""
    terms = Terms(group=options.group, use_count=options.uses, lifetime_seconds=_seconds(options.ttl))
    if (broken := terms.broken()) is not None:
        raise UsageError(f"--{broken}")
    text, expire_time = _token(options, terms)
    document = {
        "token": text,
        "group": terms.group,
        "uses": terms.use_count,
        "expire_time": utc_text(expire_time.replace(microsecond=0)),
    }
    answer(options, document, text)


def _token(options: argparse.Namespace, terms: Terms) -> tuple[str, datetime]:
    address = None if options.address is None else _address(options.address)
    try:
        with Store.open(options.data, create=address is not None) as store:
            if address is None:
                raise UsageError("no server runs on this data directory: say where devices will enrol with --address")
            authority = authority_of(options.data, store)
            text, stored = make_token(terms, address, authority.fingerprint, utc_now())
            store.transact(partial(register.add_token, token=stored))
            return text, stored.expire_time
    except StoreBusyError as busy:
        server = find_server(options.data, busy)
        if address is not None:
            raise UsageError(
                "a server runs on this data directory and knows its address: leave out --address"
            ) from None
        with operating(server) as operator:
            return operator.make_token(terms)


def _seconds(text: str) -> int:
    found = _TTL.fullmatch(text)
    if found is None:
        raise UsageError("--ttl must be a number of minutes, hours or days, for example 30m, 24h or 7d")
    return int(found[1]) * _SECONDS[found[2]]


def _address(text: str) -> str:
    name, _, port = text.rpartition(":")
    if not (port.isdecimal() and 1 <= int(port) <= 0xFFFF):
        raise UsageError("--address must be NAME:PORT, for example weighin.example.org:50052")
    return joined(read_name(name, "--address"), int(port))


def revoke_device(options: argparse.Namespace) -> None:
    """Take nothing more from a device."""
    device = options.device
    if not is_lower_case_uuid(device):
        raise UsageError("DEVICE must be a device id: a lower-case UUID, as `devices` lists them")
    try:
        with Store.open(options.data) as store:
            if not store.transact(partial(register.revoke, device_id=device, now=utc_now())):
                raise DeviceUnknownError(f"no device {device} is enrolled; list them with: devices")
    except StoreBusyError as busy:
        with operating(find_server(options.data, busy)) as operator:
            operator.revoke(device)
    answer(options, {"revoked": device}, f"revoked {device}: nothing more is taken from it")


def list_devices(options: argparse.Namespace) -> None:
    """Print who is enrolled."""
    try:
        with Store.open(options.data) as store:
            devices = store.transact(register.read_devices)
    except StoreBusyError as busy:
        with operating(find_server(options.data, busy)) as operator:
            devices = operator.devices()
    answer(options, {"devices": [_document(device) for device in devices]}, _table(devices))


def _document(device: KnownDevice) -> dict[str, str | None]:
    return {
        "device_id": device.device_id,
        "group": device.group,
        "enroll_time": utc_text(device.enroll_time),
        "revoke_time": utc_text(device.revoke_time),
        "last_receive_time": utc_text(device.last_receive_time),
    }


def _table(devices: list[KnownDevice]) -> str:
    if not devices:
        return "no device is enrolled; make a token with: weighin-aggregator token create"
    rows = [("device", "enrolled", "last run", "revoked", "group")]
    for device in devices:
        times = (device.enroll_time, device.last_receive_time, device.revoke_time)
        enrolled, last_run, revoked = ("-" if one is None else f"{one:%Y-%m-%d %H:%M}" for one in times)
        rows.append((device.device_id, enrolled, last_run, revoked, device.group))
    return "\n".join(f"{row[0]:36}  {row[1]:16}  {row[2]:16}  {row[3]:16}  {row[4]}" for row in rows)
