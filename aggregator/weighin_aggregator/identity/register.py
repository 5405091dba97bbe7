"""What the store knows of tokens and devices. Every function runs inside one transaction of the committer.

Rows are only added. Times are UTC without a zone, as the store keeps them.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from weighin_aggregator.identity.roster import Roster, tombstone
from weighin_aggregator.identity.token import Proof
from weighin_aggregator.refusal import Reason, Refusal

_REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token as it is stored; ``use_count`` is how many devices may enrol with it."""

    proof: Proof
    group: str
    use_count: int
    create_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """A device that asks to be enrolled; ``request_id`` stays the same when it asks again."""

    request_id: str
    device_id: str
    key_sha256: bytes
    proof: Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevice:
    """An enrolled device; ``revoke_time`` and ``last_receive_time`` (of a run) are None where there was none."""

    device_id: str
    group: str
    enroll_time: datetime
    revoke_time: datetime | None
    last_receive_time: datetime | None


def read_roster(connection: duckdb.DuckDBPyConnection) -> Roster:
    """Read which devices may send."""
    return Roster(
        enrolled=set(_column(connection, "SELECT device_id::VARCHAR FROM device")),
        revoked=set(_column(connection, "SELECT DISTINCT device_id::VARCHAR FROM device_event WHERE kind = 'revoked'")),
        forgotten={bytes(one) for one in _column(connection, "SELECT device_sha256 FROM forgotten_device")},
    )


def is_authority_trusted(connection: duckdb.DuckDBPyConnection, now: datetime) -> bool:
    """Tell whether anybody knows the authority: a device that is enrolled, or who holds a token that is still good."""
    query = "SELECT EXISTS (FROM device) OR EXISTS (FROM enrollment_token WHERE expire_time > ?)"
    row = connection.execute(query, [now]).fetchone()
    return row is not None and bool(row[0])


def add_token(connection: duckdb.DuckDBPyConnection, token: NewToken) -> None:
    """Store a new token."""
    connection.execute(
        "INSERT INTO enrollment_token BY NAME SELECT ? AS token_id, ? AS secret_sha256, ? AS group_name, "
        "? AS use_count, ? AS create_time, ? AS expire_time",
        [
            token.proof.token_id,
            token.proof.secret_sha256,
            token.group,
            token.use_count,
            token.create_time,
            token.expire_time,
        ],
    )


def enroll(connection: duckdb.DuckDBPyConnection, applicant: Applicant, now: datetime) -> None:
    """Count a use of the token and bind the device to its key; nothing new where this request has done so before.

    Raises Refusal. That a token is unknown, used up or expired is one answer. A device that was forgotten while this
    waited is told so: what is known in memory may be older than this transaction.
    """
    if _is_forgotten(connection, applicant.device_id):
        raise Refusal(Reason.DEVICE_FORGOTTEN)
    group = _admitted_group(connection, applicant, now)
    bound = connection.execute("SELECT key_sha256 FROM device WHERE device_id = ?", [applicant.device_id]).fetchone()
    if bound is not None and bytes(bound[0]) != applicant.key_sha256:
        raise Refusal(Reason.DEVICE_ID_TAKEN)
    if group is None:
        return
    connection.execute(
        "INSERT INTO enrollment_use BY NAME SELECT ? AS token_id, ? AS request_id, ? AS device_id, ? AS use_time",
        [applicant.proof.token_id, applicant.request_id, applicant.device_id, now],
    )
    if bound is None:
        connection.execute(
            "INSERT INTO device BY NAME SELECT ? AS device_id, ? AS group_name, ? AS enroll_time, ? AS key_sha256",
            [applicant.device_id, group, now, applicant.key_sha256],
        )


def _admitted_group(connection: duckdb.DuckDBPyConnection, applicant: Applicant, now: datetime) -> str | None:
    """Return the group that the token admits to; None where this very request was admitted before.

    It was if the device is there by this key: the use alone says nothing, for it outlives a device that is forgotten.
    """
    row = connection.execute(
        "SELECT secret_sha256, group_name, use_count, expire_time, "
        "(SELECT count(*) FROM enrollment_use u WHERE u.token_id = t.token_id), "
        "EXISTS (SELECT * FROM enrollment_use u JOIN device d USING (device_id) "
        "WHERE u.token_id = t.token_id AND request_id = ? AND d.device_id = ? AND key_sha256 = ?) "
        "FROM enrollment_token t WHERE token_id = ?",
        [applicant.request_id, applicant.device_id, applicant.key_sha256, applicant.proof.token_id],
    ).fetchone()
    if not applicant.proof.matches(None if row is None else bytes(row[0])) or row is None:
        raise Refusal(Reason.ENROLLMENT_TOKEN_INVALID)
    _, group, use_count, expire_time, used, is_repeated = row
    if is_repeated:
        return None
    if used >= use_count or now >= expire_time:
        raise Refusal(Reason.ENROLLMENT_TOKEN_INVALID)
    return str(group)


def _is_forgotten(connection: duckdb.DuckDBPyConnection, device_id: str) -> bool:
    digest = tombstone(device_id)
    return connection.execute("SELECT 1 FROM forgotten_device WHERE device_sha256 = ?", [digest]).fetchone() is not None


def holds_key(connection: duckdb.DuckDBPyConnection, device_id: str, key_sha256: bytes) -> bool:
    """Tell whether a device is enrolled with this key."""
    row = connection.execute("SELECT key_sha256 FROM device WHERE device_id = ?", [device_id]).fetchone()
    return row is not None and bytes(row[0]) == key_sha256


def revoke(connection: duckdb.DuckDBPyConnection, device_id: str, now: datetime) -> bool:
    """Revoke a device, once; False where no such device is enrolled."""
    row = connection.execute(
        "SELECT EXISTS (SELECT * FROM device_event e WHERE e.device_id = d.device_id AND kind = ?) "
        "FROM device d WHERE device_id = ?",
        [_REVOKED, device_id],
    ).fetchone()
    if row is None:
        return False
    if not row[0]:
        connection.execute("INSERT INTO device_event VALUES (?, ?, ?)", [device_id, now, _REVOKED])
    return True


def read_devices(connection: duckdb.DuckDBPyConnection) -> list[KnownDevice]:
    """Read every enrolled device, in the order of enrolment."""
    rows = connection.execute(
        "SELECT d.device_id::VARCHAR, group_name, enroll_time, revoke_time, last_receive_time FROM device d "
        "LEFT JOIN (SELECT device_id, min(event_time) AS revoke_time FROM device_event WHERE kind = ? GROUP BY ALL) "
        "USING (device_id) "
        "LEFT JOIN (SELECT device_id, max(receive_time) AS last_receive_time FROM run GROUP BY ALL) USING (device_id) "
        "ORDER BY enroll_time, d.device_id",
        [_REVOKED],
    ).fetchall()
    return [
        KnownDevice(
            device_id=device_id,
            group=group,
            enroll_time=enroll_time,
            revoke_time=revoke_time,
            last_receive_time=last_receive_time,
        )
        for device_id, group, enroll_time, revoke_time, last_receive_time in rows
    ]


def _column(connection: duckdb.DuckDBPyConnection, query: str) -> list[Any]:
    return [row[0] for row in connection.execute(query).fetchall()]
