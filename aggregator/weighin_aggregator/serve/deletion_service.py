"""RunService.DeleteDeviceData: a device asks to be forgotten."""

from collections.abc import Mapping
from functools import partial

import duckdb
import structlog

from weighin.v1 import services_pb2
from weighin_aggregator.identity.peer import is_lower_case_uuid
from weighin_aggregator.identity.roster import Roster, tombstone
from weighin_aggregator.refusal import Reason, Refusal
from weighin_aggregator.serve.gate import Gate
from weighin_aggregator.serve.service import Context, Handler, decoded, in_committer
from weighin_aggregator.store.commit import Committer
from weighin_aggregator.store.deletion import delete_device
from weighin_aggregator.store.store import Store, utc_now

_log = structlog.get_logger()


class DataDeletion:
    """The handler. A device that is forgotten already is told so with success, whatever it lost of the first answer."""

    def __init__(self, committer: Committer, roster: Roster, gate: Gate) -> None:
        self._committer = committer
        self._roster = roster
        self._gate = gate

    def methods(self) -> Mapping[str, Handler]:
        """Return the handler by the name of its method."""
        return {"DeleteDeviceData": self._delete_device_data}

    async def _delete_device_data(self, data: bytes, context: Context) -> bytes:
        device = self._gate.caller(context)
        request = decoded(services_pb2.DeleteDeviceDataRequest, data)
        if not is_lower_case_uuid(request.request_id):
            raise Refusal(Reason.FIELD_INVALID, field="request_id")
        if tombstone(device) not in self._roster.forgotten:
            self._gate.require_welcome(device)
            await in_committer(self._committer, partial(self._forget, device))
        return services_pb2.DeleteDeviceDataResponse().SerializeToString()

    def _forget(self, device: str, store: Store) -> None:
        """Delete in the committer's thread, where no run of the device can come in between."""

        def delete(connection: duckdb.DuckDBPyConnection) -> int:
            return delete_device(connection, device, tombstone(device), utc_now())

        run_count = store.transact(delete)
        self._roster.forget(device)
        # Without its id: the log would keep it for longer than the store.
        _log.info("device_forgotten", runs=run_count)
