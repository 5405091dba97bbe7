"""OperatorService: what an operator's command asks of the server that owns the store."""

import asyncio
import hmac
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from weighin.v1 import services_pb2
from weighin_aggregator.errors import BackupError, SnapshotError, StoreError
from weighin_aggregator.identity import register
from weighin_aggregator.identity.peer import is_lower_case_uuid
from weighin_aggregator.identity.roster import Roster
from weighin_aggregator.identity.terms import Terms, make_token
from weighin_aggregator.limits import Limits
from weighin_aggregator.refusal import Reason, Refusal
from weighin_aggregator.serve.operator_messages import to_devices_message, to_stats_message
from weighin_aggregator.serve.service import Context, Handler, decoded, in_committer, in_transaction
from weighin_aggregator.serve.serving import SECRET_METADATA
from weighin_aggregator.store.backup import Backup
from weighin_aggregator.store.commit import Committer
from weighin_aggregator.store.snapshot import Written, write_numbered_snapshot
from weighin_aggregator.store.store import Store, utc_now
from weighin_aggregator.store.upkeep import Upkeep

OPERATOR_SERVICE = "weighin.v1.OperatorService"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolling:
    """Where devices enrol (HOST:PORT), and the fingerprint of whom they must trust there."""

    address: str
    authority_fingerprint: str


class OperatorService:
    """The handlers for the operator. ``snapshots`` is the folder of his snapshots; a plain server enrols nobody."""

    def __init__(
        self,
        committer: Committer,
        limits: Limits,
        roster: Roster,
        *,
        secret: str,
        snapshots: Path,
        upkeep: Upkeep,
        enrolling: Enrolling | None,
    ) -> None:
        self._committer = committer
        self._limits = limits
        self._roster = roster
        self._secret = secret
        self._snapshots = snapshots
        self._upkeep = upkeep
        self._enrolling = enrolling
        self._making: asyncio.Task[Written | None] | None = None

    def methods(self) -> Mapping[str, Handler]:
        """Return the handlers by the name of their method; each asks for the secret first."""
        handlers = {
            "CreateSnapshot": self._create_snapshot,
            "CreateBackup": self._create_backup,
            "GetStats": self._get_stats,
            "CreateToken": self._create_token,
            "RevokeDevice": self._revoke_device,
            "ListDevices": self._list_devices,
        }
        return {name: self._for_operator(handler) for name, handler in handlers.items()}

    async def stop(self) -> None:
        """Stop what is still being made for an operator."""
        if self._making:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)

    def _for_operator(self, handle: Handler) -> Handler:
        async def guarded(data: bytes, context: Context) -> bytes:
            if not _knows(self._secret, context.invocation_metadata() or ()):
                raise Refusal(Reason.OPERATOR_ONLY)
            return await handle(data, context)

        return guarded

    async def _create_snapshot(self, _: bytes, _context: Context) -> bytes:
        # To judge a large fleet for the first time takes longer than a connection may last. Who asks again waits for
        # that work, or finds it done.
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make_snapshot())
        written = await asyncio.shield(self._making)
        if written is None:
            raise Refusal(Reason.SNAPSHOT_FAILED)
        return services_pb2.CreateSnapshotResponse(folder=str(written.folder)).SerializeToString()

    async def _make_snapshot(self) -> Written | None:
        """Write a snapshot; None where that failed, and the log says why."""
        try:
            # A compaction beside it would not remove what it exported before a deletion.
            async with self._upkeep.copying:
                written = await write_numbered_snapshot(self._export, self._snapshots, self._limits.kept_snapshots)
        except (SnapshotError, StoreError) as error:
            _log.error("snapshot_failed", error=str(error))
            return None
        # How many were refused only: why may repeat what was sent.
        facts = {**asdict(written), "folder": str(written.folder), "refused": len(written.refused)}
        _log.info("snapshot_written", **facts)
        return written

    async def _create_backup(self, _data: bytes, _context: Context) -> bytes:
        making = asyncio.create_task(self._upkeep.back_up())
        try:
            folder, backup = await asyncio.shield(making)
            await self._upkeep.record(backup)
        except asyncio.CancelledError:
            making.add_done_callback(_discard)  # Who asked is gone.
            raise
        except (BackupError, StoreError) as error:
            making.add_done_callback(_discard)
            _log.error("backup_failed", error=str(error))
            raise Refusal(Reason.BACKUP_FAILED) from error
        return services_pb2.CreateBackupResponse(file=str(folder)).SerializeToString()

    async def _export(self, folder: Path) -> datetime:
        return await asyncio.wrap_future(
            self._committer.between_commits(lambda store: store.export(folder), needs_room=True)
        )

    async def _get_stats(self, _data: bytes, _context: Context) -> bytes:
        stats = await in_committer(self._committer, Store.stats, needs_room=False)
        return to_stats_message(stats).SerializeToString()

    async def _create_token(self, data: bytes, _context: Context) -> bytes:
        if self._enrolling is None:
            raise Refusal(Reason.NOT_ENROLLING)
        request = decoded(services_pb2.CreateTokenRequest, data)
        terms = Terms(group=request.group, use_count=request.use_count, lifetime_seconds=request.lifetime_seconds)
        if (broken := terms.broken()) is not None:
            raise Refusal(Reason.FIELD_INVALID, field=broken.partition(":")[0])
        text, stored = make_token(terms, self._enrolling.address, self._enrolling.authority_fingerprint, utc_now())
        await in_transaction(self._committer, partial(register.add_token, token=stored))
        _log.info("token_created", token_id=stored.proof.token_id, group=terms.group, uses=terms.use_count)
        answer = services_pb2.CreateTokenResponse(token=text)
        answer.expire_time.FromDatetime(stored.expire_time)
        return answer.SerializeToString()

    async def _revoke_device(self, data: bytes, _context: Context) -> bytes:
        device = decoded(services_pb2.RevokeDeviceRequest, data).device_id
        if not is_lower_case_uuid(device):
            raise Refusal(Reason.DEVICE_UNKNOWN)
        if not await in_committer(self._committer, partial(self._revoke, device)):
            raise Refusal(Reason.DEVICE_UNKNOWN)
        return services_pb2.RevokeDeviceResponse().SerializeToString()

    def _revoke(self, device: str, store: Store) -> bool:
        """Revoke in the committer's thread: it holds at once, also where the operator's command was interrupted."""
        if not store.transact(partial(register.revoke, device_id=device, now=utc_now())):
            return False
        self._roster.revoked.add(device)
        _log.info("device_revoked", device_id=device)
        return True

    async def _list_devices(self, _data: bytes, _context: Context) -> bytes:
        devices = await in_transaction(self._committer, register.read_devices)
        return to_devices_message(devices).SerializeToString()


def _discard(making: asyncio.Task[tuple[Path, Backup]]) -> None:
    if not making.cancelled() and making.exception() is None:
        folder, _ = making.result()
        asyncio.get_running_loop().run_in_executor(None, partial(shutil.rmtree, folder, ignore_errors=True))


def _knows(secret: str, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
    shown = [value for key, value in metadata if key == SECRET_METADATA]
    return len(shown) == 1 and isinstance(shown[0], str) and hmac.compare_digest(shown[0].encode(), secret.encode())
