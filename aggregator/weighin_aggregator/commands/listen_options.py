"""The arguments of ``serve`` that say where it listens and by which name devices know it."""

import argparse
import ipaddress
import re
from pathlib import Path

from weighin_aggregator.errors import UsageError
from weighin_aggregator.limits import Limits
from weighin_aggregator.serve.assembly import Config, Secure
from weighin_aggregator.serve.ports import Endpoint

DEFAULT_LISTEN = "127.0.0.1:50051"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*", re.ASCII)


def add_listen_options(serve: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    serve.add_argument(
        "--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="default %(default)s; port 0 takes any free one"
    )
    serve.add_argument(
        "--enroll-listen", metavar="HOST:PORT", help="where devices enrol; default the port after that of --listen"
    )
    serve.add_argument(
        "--name", help="DNS name or address by which devices reach this server; default the address of --listen"
    )
    serve.add_argument(
        "--insecure", action="store_true", help="plain text without enrolment, on a loopback address only"
    )


def read_config(options: argparse.Namespace, limits: Limits) -> Config:
    """Read what a server needs to know. Raises UsageError."""
    data: Path = options.data
    run = _endpoint(options.listen, "--listen")
    if not options.insecure:
        return Config(data=data, run=run, secure=_secure(options, run), limits=limits)
    if options.enroll_listen is not None or options.name is not None:
        raise UsageError("--insecure goes without --enroll-listen and --name: nobody enrols over plain text")
    if not ipaddress.ip_address(run.host).is_loopback:
        raise UsageError(
            "--listen must be a loopback address (127.0.0.1 or [::1]): plain text may not leave the machine"
        )
    return Config(data=data, run=run, limits=limits)


def _secure(options: argparse.Namespace, run: Endpoint) -> Secure:
    if options.enroll_listen is not None:
        enroll = _endpoint(options.enroll_listen, "--enroll-listen")
    elif run.port == 0xFFFF:
        raise UsageError("--enroll-listen is needed: there is no port after 65535")
    else:
        enroll = Endpoint(host=run.host, port=run.port + 1 if run.port else 0)
    if options.name is not None:
        return Secure(name=read_name(options.name, "--name"), enroll=enroll)
    if ipaddress.ip_address(run.host).is_unspecified:
        raise UsageError(f"--name is needed with --listen {options.listen}: devices must know one name of this server")
    return Secure(name=run.host, enroll=enroll)


def read_name(text: str, option: str) -> str:
    """Read a DNS name or an IP address. Raises UsageError."""
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    # What ends in digits is no name to a resolver, but an address that was mistyped.
    if not _DNS_NAME.fullmatch(text) or text.rpartition(".")[2].isdigit():
        raise UsageError(f"{option} must have a DNS name or an IP address of the server, as weighin.example.org")
    return text.lower()


def _endpoint(text: str, option: str) -> Endpoint:
    """Split HOST:PORT. Raises UsageError unless the host is an IP address."""
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        address, number = ipaddress.ip_address(host), int(port)
    except ValueError:
        raise UsageError(f"{option} must be HOST:PORT with an IP address, for example {DEFAULT_LISTEN}") from None
    if not 0 <= number <= 0xFFFF:
        raise UsageError(f"{option} must name a port from 0 to 65535")
    return Endpoint(host=str(address), port=number)
