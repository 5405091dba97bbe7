"""What a person agrees to before anything is sent, and how the runs say so."""

from google.protobuf.message import DecodeError

from weighin.v1 import run_pb2
from weighin_agent.errors import DamagedRunError, UnreadableRunError, UsageError
from weighin_agent.fleet.spool import Spool

CONSENT_VERSION = 1
CONSENT_TEXT = """\
weighin sends what `weighin-agent probe` shows and the raw timings of each weigh-in; `weighin-agent preview` prints the
exact message, and docs/data-dictionary.md says what each field is for. It never reads or sends serial numbers, MAC or
network addresses, host or user names, paths, files, packages or processes. The device is known by a random number made
on it."""


def require_consent(consent_version: int) -> None:
    """Raise UsageError where no version of the text was accepted."""
    if consent_version < 1:
        raise UsageError("nothing is sent without consent; read what is sent, then give the version you accept")


def with_consent(run: bytes, consent_version: int) -> bytes:
    """Let the consent cover a serialized Run that was measured before it. Raises DecodeError."""
    message = run_pb2.Run.FromString(run)
    if message.consent_version:
        return run
    message.consent_version = consent_version
    return message.SerializeToString()


def note_consent(spool: Spool, consent_version: int) -> None:
    """Let the consent cover the runs that wait and were never sent: ``preview`` has shown them."""
    for entry in spool.pending():
        if spool.ledger.attempt_counts.get(entry.run_id, 0):
            continue
        try:
            run = spool.read(entry).run
            consented = with_consent(run, consent_version)
        except (DamagedRunError, UnreadableRunError, DecodeError):
            continue  # the delivery sets it aside, or tells of it
        if consented != run:
            spool.rewrite(entry, consented)
