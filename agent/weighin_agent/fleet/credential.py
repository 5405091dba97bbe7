"""The files with which a device proves who it is. The key is made here and never leaves the device."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from weighin_agent import files
from weighin_agent.errors import StateError


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when to when a certificate holds, and from when on it is to be renewed; Unix time, seconds."""

    issue_time_seconds: float
    renew_time_seconds: float
    expire_time_seconds: float


@dataclass(frozen=True, slots=True)
class Credential:
    """The credential in ``folder``, read from its files at every use, so that a renewed one counts at once.

    ``key.pem`` stays for the life of the device's identity. A renewal replaces ``certificate.pem`` alone, in one step:
    no crash leaves a key and a certificate that do not belong together.
    """

    folder: Path

    @property
    def key_path(self) -> Path:
        """The private key."""
        return self.folder / "key.pem"

    @property
    def certificate_path(self) -> Path:
        """The device's certificate, followed by that of the authority which signed it."""
        return self.folder / "certificate.pem"

    @property
    def authority_path(self) -> Path:
        """The certificate of the only authority that this device trusts."""
        return self.folder / "authority.pem"

    def key_pem(self) -> bytes | None:
        """Read the key, None where there is none. Raises StateError."""
        return self._read(self.key_path)

    def certificate_pem(self) -> bytes | None:
        """Read the certificate, None where there is none. Raises StateError."""
        return self._read(self.certificate_path)

    def authority_pem(self) -> bytes | None:
        """Read the certificate of the authority, None where there is none. Raises StateError."""
        return self._read(self.authority_path)

    def save_key(self, key_pem: bytes) -> None:
        """Keep a new key, readable by its owner alone; on return it survives a crash. Raises StateError."""
        with self._translated():
            files.make_private_folder(self.folder)
            files.write_durably(self.key_path, key_pem)
            files.sync_folder(self.folder.parent)

    def save_certificate(self, certificate_pem: bytes) -> None:
        """Put a certificate in the place of the one before it. Raises StateError."""
        with self._translated():
            files.write_durably(self.certificate_path, certificate_pem)

    def save_authority(self, authority_pem: bytes) -> None:
        """Remember whom to trust. Raises StateError."""
        with self._translated():
            files.write_durably(self.authority_path, authority_pem)

    def erase(self) -> None:
        """Remove key and certificates. Raises StateError."""
        with self._translated():
            if self.folder.exists():
                shutil.rmtree(self.folder)
                files.sync_folder(self.folder.parent)

    def _read(self, path: Path) -> bytes | None:
        with self._translated():
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(
                f"the credential in {self.folder} cannot be used: {files.told(error)}; see to it, try again"
            ) from error
