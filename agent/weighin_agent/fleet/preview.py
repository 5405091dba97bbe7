"""What the next delivery would say, for a person to see before it does."""

import hashlib
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from weighin.v1 import run_pb2
from weighin_agent.errors import DamagedRunError, UnreadableRunError
from weighin_agent.fleet.consent import with_consent
from weighin_agent.fleet.entry import Entry
from weighin_agent.fleet.spool import Spool
from weighin_agent.fleet.state import State
from weighin_agent.wire import message_to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRun:
    """A run that waits, as it would be sent, in canonical protobuf JSON.

    ``run_sha256`` is in hexadecimal. Both it and ``run`` are None where ``problem`` says why the run cannot be read.
    """

    run_id: str
    sequence: int
    attempt_count: int
    run_sha256: str | None
    run: dict[str, object] | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """All that the next delivery would say, but the time at which it is sent.

    ``aggregator_address`` is None where the device is not enrolled, ``device_id`` before its first start.
    """

    aggregator_address: str | None
    device_id: str | None
    spool_dropped_count: int
    spool_quarantined_count: int
    envelopes: tuple[PendingRun, ...]


def preview(state: State, consent_version: int) -> Preview:
    """Show what would be sent: every waiting run, whole; reads only. StateError for a folder that is none.

    Runs that were measured before anybody was asked are shown as they go once ``consent_version`` is accepted.
    """
    identity, enrolment = state.identity(), state.enrolment()
    spool = Spool(state.spool_folder)
    return Preview(
        aggregator_address=enrolment.aggregator_address if enrolment else None,
        device_id=identity.device_id if identity else None,
        spool_dropped_count=spool.dropped_count,
        spool_quarantined_count=spool.quarantined_count,
        envelopes=tuple(_pending_run(spool, entry, consent_version) for entry in spool.pending()),
    )


def _pending_run(spool: Spool, entry: Entry, consent_version: int) -> PendingRun:
    attempt_count, run, digest, problem = spool.ledger.attempt_counts.get(entry.run_id, 0), None, None, None
    try:
        data = spool.read(entry).run if attempt_count else with_consent(spool.read(entry).run, consent_version)
        run = message_to_json(run_pb2.Run.FromString(data))
        digest = hashlib.sha256(data).hexdigest()
    except (DamagedRunError, UnreadableRunError, DecodeError) as error:
        problem = str(error)
    return PendingRun(
        run_id=entry.run_id,
        sequence=entry.sequence,
        attempt_count=attempt_count,
        run_sha256=digest,
        run=run,
        problem=problem,
    )
