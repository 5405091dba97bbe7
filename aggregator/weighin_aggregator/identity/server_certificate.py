"""The certificate of the server: kept in a file, renewed in time or whenever the file is replaced, while serving.

The operator who removes the file gets a fresh key and certificate at the next connection.
"""

import threading
from datetime import datetime
from pathlib import Path

import structlog

from weighin_aggregator.errors import AuthorityError
from weighin_aggregator.identity import certificates
from weighin_aggregator.identity.authority import FOLDER, Authority
from weighin_aggregator.identity.certificates import Credential
from weighin_aggregator.identity.private_file import write_private

FILE_NAME = "server.pem"
_Stamp = tuple[int, int, int]

_log = structlog.get_logger()


class ServerCertificate:
    """What the server shows, now. ``current`` may be called from any thread, as gRPC does at every handshake."""

    def __init__(self, authority: Authority, data: Path, name: str) -> None:
        """Take the file of the data directory where it is still good, else make one. Raises AuthorityError."""
        self._authority = authority
        self._path = data / FOLDER / FILE_NAME
        self._name = name
        self._lock = threading.Lock()
        try:
            self._stamp = _stamp(self._path)
            found = self._read()
        except OSError as error:
            raise AuthorityError(f"cannot use {self._path}: {error.strerror or error}") from error
        self._credential = found or self._first()

    def current(self) -> Credential:
        """Return the credential to show from now on; the same object while nothing has changed."""
        with self._lock:
            try:
                self._follow_file()
            except OSError as error:
                _log.error("server_certificate_not_replaced", error=error.strerror)
            return self._credential

    def _follow_file(self) -> None:
        stamp = _stamp(self._path)
        if stamp is None or self._authority.clock() >= renew_time(self._credential):
            self._credential = self._issue()
        elif stamp != self._stamp:
            self._stamp = stamp
            replaced = self._read()
            if replaced is None:
                _log.error("server_certificate_refused", why="the file is no fresh key and certificate of this server")
            else:
                self._credential = replaced
                _log.info("server_certificate_replaced", expire_time=replaced.expire_time.isoformat())

    def _read(self) -> Credential | None:
        """Read the file; None where it is missing or not good for this server now."""
        if not self._path.exists():
            return None
        found = certificates.read_server(self._path.read_bytes(), self._authority.certificate_pem)
        if found is None or found.name != self._name or self._authority.clock() >= renew_time(found):
            return None
        return found

    def _first(self) -> Credential:
        """Issue one to begin with; a full disk, which cannot keep it, does not keep devices away."""
        credential = self._authority.serve(self._name)
        try:
            self._keep(credential)
        except OSError as error:
            _log.error("server_certificate_not_kept", error=error.strerror)
        return credential

    def _issue(self) -> Credential:
        credential = self._authority.serve(self._name)
        self._keep(credential)
        return credential

    def _keep(self, credential: Credential) -> None:
        write_private(self._path, credential.key_pem + credential.chain_pem)
        self._stamp = _stamp(self._path)
        _log.info("server_certificate_issued", expire_time=credential.expire_time.isoformat())


def renew_time(credential: Credential) -> datetime:
    """When to renew: after two thirds of its life, so that a third is left to find out why that failed."""
    return credential.begin_time + (credential.expire_time - credential.begin_time) * 2 / 3


def _stamp(path: Path) -> _Stamp | None:
    """Tell one file under this path from the next; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
