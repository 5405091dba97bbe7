"""What `weighin-agent status` shows a person."""

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import Console

from weighin_agent.fleet.actions import LastDelivery, Status


def print_status(console: Console, status: Status) -> None:
    """Print where things stand on this device."""
    for line in status_lines(status):
        console.print(line, markup=False, highlight=False)


def status_lines(status: Status) -> Iterator[str]:
    """Say where things stand, one fact a line."""
    yield f"device {status.device_id or 'without identity before its first weigh-in'}"
    yield f"state folder {status.state_folder}"
    yield from _membership_lines(status)
    age = status.oldest_pending_age_seconds
    waiting = f", the oldest for {duration(age)}" if age is not None else ""
    yield f"{status.pending_count} run(s) wait, {status.pending_bytes / 1024:.0f} KiB{waiting}"
    if status.room.is_low:
        yield (
            f"the disk is too full to measure: {status.room.free_bytes >> 20} MiB are free, "
            f"{status.room.needed_bytes >> 20} are needed; what waits is kept and still sent"
        )
    yield f"since installation {status.dropped_count} dropped by the caps, {status.quarantined_count} set aside"
    for run in status.quarantine:
        yield f"  set aside {run.run_id or run.file_name}: {run.reason or 'reason lost'}: {run.detail}"
    for name in status.damaged_files:
        yield f"  damaged and begun anew: {name}"
    if status.last_delivery:
        yield _delivery_line(status.last_delivery)


def _membership_lines(status: Status) -> Iterator[str]:
    enrolment, certificate = status.enrolment, status.certificate
    if status.forgetting:
        asked = _moment(status.forgetting.request_time_seconds)
        yield (
            f"to be forgotten since {asked}: nothing is measured for sending until the aggregator has deleted what it "
            "has; `weighin-agent forget` tries again"
        )
    if enrolment is None:
        yield "not enrolled: runs wait in the spool until `weighin-agent enroll`"
        return
    how = " (plain text on loopback)" if enrolment.insecure else " over mutual TLS"
    yield f"enrolled with {enrolment.aggregator_address}{how}, consent {enrolment.consent_version}"
    if enrolment.insecure:
        return
    if certificate is None:
        yield (
            "its key or a certificate is damaged, gone or of another user (CREDENTIAL_DAMAGED): ask for a new token, "
            "then `weighin-agent enroll`"
        )
        return
    yield (
        f"certificate of {_moment(certificate.issue_time_seconds)}, expires "
        f"{_moment(certificate.expire_time_seconds)}, renewed by the first delivery after "
        f"{_moment(certificate.renew_time_seconds)}"
    )


def _delivery_line(last: LastDelivery) -> str:
    kept = f", {last.kept_count} kept: {last.kept_detail}" if last.kept_count else ""
    return (
        f"last delivery {_moment(last.time_seconds)}: {last.stored_count} stored, "
        f"{last.duplicate_count} stored before, {last.quarantined_count} set aside{kept}"
    )


def _moment(unix_seconds: float) -> str:
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """Return a time span in the largest unit of which it holds two."""
    for name, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} seconds"
