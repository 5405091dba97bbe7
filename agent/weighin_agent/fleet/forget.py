"""How a device leaves: what it sent is deleted on the aggregator too, and then all that it knows of itself."""

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from weighin_agent.errors import DeliveryError, StateError
from weighin_agent.fleet.line import open_line
from weighin_agent.fleet.state import Enrolment, Forgetting, Membership, State

_ALREADY_FORGOTTEN = "DEVICE_FORGOTTEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetReport:
    """Whether the device is forgotten, here and at ``aggregator_address``, None where it was not enrolled.

    If not, ``reason`` is an upper-case constant and ``detail`` one line for a person: the deletion waits for it.
    ``elsewhere`` is where this device was enrolled under another name, or with another aggregator: it cannot prove that
    any more, so what it sent there is not deleted by this.
    """

    forgotten: bool
    aggregator_address: str | None
    reason: str | None
    detail: str | None
    elsewhere: tuple[Membership, ...]


def forget(state: State, now_seconds: Callable[[], float] = time.time) -> ForgetReport:
    """Forget this device: asked for once, each call goes on where the last one ended. Raises StateError.

    The runs that wait go at once, and none is measured for sending from then on. Key and identity go when the
    aggregator has acknowledged the deletion: until then they are the proof of who asks for it.
    """
    if not state.folder.is_dir():
        raise StateError(
            f"there is no state folder {state.folder}, so nothing was forgotten; name the right one with --state, or "
            "set WEIGHIN_STATE_DIR"
        )
    with state.locked():
        forgetting = state.forgetting() or _ask_for_it(state, now_seconds())
        # What cannot be removed here keeps nobody from asking there; in the end it is tried again, and told.
        with suppress(StateError):
            state.erase_spool()
        enrolment = state.enrolment()
        address = enrolment.aggregator_address if enrolment else None
        here = (state.device_id(), address)
        elsewhere = tuple(one for one in state.memberships() if (one.device_id, one.aggregator_address) != here)
        if not forgetting.acknowledged:
            try:
                _delete_there(state, enrolment, forgetting.request_id)
            except DeliveryError as error:
                return ForgetReport(
                    forgotten=False,
                    aggregator_address=address,
                    reason=error.reason,
                    detail=str(error),
                    elsewhere=elsewhere,
                )
            state.save_memberships(elsewhere)
            # Said before the key goes: after a crash in between nobody could ask the aggregator again.
            state.save_forgetting(replace(forgetting, acknowledged=True))
        state.erase()
    return ForgetReport(forgotten=True, aggregator_address=address, reason=None, detail=None, elsewhere=elsewhere)


def _ask_for_it(state: State, now_seconds: float) -> Forgetting:
    forgetting = Forgetting(request_id=str(uuid.uuid4()), request_time_seconds=now_seconds, acknowledged=False)
    state.save_forgetting(forgetting)
    return forgetting


def _delete_there(state: State, enrolment: Enrolment | None, request_id: str) -> None:
    if enrolment is None:
        if state.has_lost_enrolment():
            raise DeliveryError(
                "the record of where this device is enrolled was damaged; enrol there again, then forget",
                reason="ENROLMENT_DAMAGED",
            )
        return
    with open_line(state, enrolment) as line:
        try:
            line.delete_device_data(request_id)
        except DeliveryError as error:
            if error.reason == "DEVICE_REVOKED":
                raise DeliveryError(
                    f"the aggregator at {line.address} has shut this device out and deletes nothing on its word; ask "
                    f"its operator to forget device {state.device_id()} (`weighin-aggregator forget`)",
                    reason=error.reason,
                ) from error
            if error.reason != _ALREADY_FORGOTTEN:
                raise
