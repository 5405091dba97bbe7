"""Deleting runs: those of a device that asked for it, and those that are older than they may be kept.

Deleted rows are gone for every reader at once; their bytes stay in the file until it is compacted.
"""

from datetime import datetime

import duckdb

# Tables whose rows belong to one run; `hardware` is shared between runs.
RUN_TABLES = ("measurement", "series", "case_failure", "probe_gap")

# Stands in `enrollment_use` for a device that is forgotten: the use of the token still counts.
_NOBODY = "00000000-0000-0000-0000-000000000000"


def delete_device(connection: duckdb.DuckDBPyConnection, device_id: str, digest: bytes, moment: datetime) -> int:
    """Delete all that is known of a device and leave ``digest`` as its tombstone; return how many runs that were."""
    connection.execute("INSERT INTO forgotten_device VALUES (?, ?) ON CONFLICT DO NOTHING", [digest, moment])
    connection.execute("DELETE FROM device WHERE device_id = ?::UUID", [device_id])
    connection.execute("DELETE FROM device_event WHERE device_id = ?::UUID", [device_id])
    connection.execute("UPDATE enrollment_use SET device_id = ? WHERE device_id = ?::UUID", [_NOBODY, device_id])
    connection.execute("INSERT INTO unerased VALUES (?)", [moment])
    return _delete_runs(connection, "WHERE device_id = ?::UUID", [device_id])


def is_known(connection: duckdb.DuckDBPyConnection, device_id: str, digest: bytes) -> bool:
    """Tell whether there is, or was, anything of a device."""
    row = connection.execute(
        "SELECT EXISTS (FROM device WHERE device_id = $1::UUID) OR EXISTS (FROM run WHERE device_id = $1::UUID) "
        "OR EXISTS (FROM forgotten_device WHERE device_sha256 = $2)",
        [device_id, digest],
    ).fetchone()
    return row is not None and bool(row[0])


def delete_forgotten(connection: duckdb.DuckDBPyConnection, moment: datetime) -> None:
    """Delete what is there again of devices that have a tombstone, as in a backup of before."""
    back = connection.execute(
        "SELECT device_id::VARCHAR, device_sha256 FROM (SELECT device_id FROM run UNION SELECT device_id FROM device "
        "UNION SELECT device_id FROM device_event UNION SELECT device_id FROM enrollment_use) "
        "JOIN forgotten_device ON device_sha256 = unhex(sha256(device_id::VARCHAR))"
    ).fetchall()
    for device_id, digest in back:
        delete_device(connection, device_id, digest, moment)


def delete_received_before(
    connection: duckdb.DuckDBPyConnection, oldest: datetime, run_limit: int, moment: datetime
) -> int:
    """Delete runs that were received before ``oldest``, at most ``run_limit`` of them, the oldest first."""
    which = "WHERE receive_time < ? ORDER BY receive_time LIMIT ?"
    count = _delete_runs(connection, which, [oldest, run_limit])
    if count:
        connection.execute("INSERT INTO unerased VALUES (?)", [moment])
    return count


def _delete_runs(connection: duckdb.DuckDBPyConnection, which: str, parameters: list[object]) -> int:
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE gone AS SELECT run_id, hardware_id FROM run {which}",  # noqa: S608 - our own texts
        parameters,
    )
    counted = connection.execute("SELECT count(*) FROM gone").fetchone()
    if counted is None or not counted[0]:
        return 0
    for table in (*RUN_TABLES, "run"):
        connection.execute(f"DELETE FROM {table} WHERE run_id IN (SELECT run_id FROM gone)")  # noqa: S608 - our own names
    connection.execute(
        "DELETE FROM hardware WHERE hardware_id IN (SELECT hardware_id FROM gone) "
        "AND hardware_id NOT IN (SELECT hardware_id FROM run)"
    )
    return int(counted[0])


def is_erasure_due(connection: duckdb.DuckDBPyConnection) -> bool:
    """Tell whether bytes of deleted rows are still in the file."""
    return connection.execute("SELECT 1 FROM unerased LIMIT 1").fetchone() is not None
