"""From the facts of a snapshot to its judgements: ``python -m weighin_analysis.fleet.judging.judge_runs FOLDER TIME``.

The folder holds parts of facts; a part is the files of one name in the folders of all tables. Parts without estimates
are new: their runs are judged. Then devices and tiers follow, and the manifest. Standard input is held open by whoever
started this: when that process ends, however it does, this one ends too.
"""

import json
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import duckdb

from weighin_analysis.errors import AnalysisError, EstimateError, RowError, SnapshotError
from weighin_analysis.fleet.judging.describe import device_row, gates_version
from weighin_analysis.fleet.judging.judge_run import (
    JudgedRun,
    estimate_rows,
    judge_run,
    plausibility_rows,
    tier_row,
    unjudged_tier_row,
    verdict_rows,
)
from weighin_analysis.fleet.snapshot.draft import Draft, table_of
from weighin_analysis.fleet.snapshot.folder import flush
from weighin_analysis.fleet.snapshot.rows import hardware_of, run_with
from weighin_analysis.fleet.snapshot.views import DEVICES, ESTIMATES, PLAUSIBILITY, TIERS, VERDICTS
from weighin_analysis.limits import current_limits

# Runs that are in memory at once, and devices.
_BATCH_RUNS = 200
_BATCH_DEVICES = 5_000
_LOWER_PRIORITY = 10
# What a run raises whose numbers cannot be, or overflow together; it must not stop the others.
_UNUSABLE = (RowError, EstimateError, ArithmeticError)

# A device counts its own runs, so the highest number is the newest run whatever its clock says.
_NEWEST = """
CREATE TEMP TABLE newest AS
    SELECT run_id, count(*) OVER (PARTITION BY device_id) AS run_count FROM runs
    QUALIFY row_number() OVER (PARTITION BY device_id ORDER BY sequence DESC, receive_time DESC, run_id) = 1
"""
# Devices whose newest run is new, or all of them where the rules of the gates are.
_UNDESCRIBED = """
CREATE TEMP TABLE undescribed AS
    SELECT newest.run_id, coalesce(judged.disturbed, old.disturbed) AS disturbed,
        newest.run_id NOT IN (SELECT run_id FROM probe_gaps WHERE fact = 'accelerators') AS looked
    FROM newest LEFT JOIN judged USING (run_id) LEFT JOIN old_devices AS old USING (run_id)
    WHERE old.gates_version IS DISTINCT FROM ?
"""
_FACTS_OF_DEVICES = """
SELECT run, hardware, looked, disturbed FROM undescribed JOIN runs AS run USING (run_id)
LEFT JOIN hardware ON hardware.hardware_id = run.hardware_id ORDER BY run_id LIMIT ? OFFSET ?
"""
_DEVICES = """
SELECT one.* REPLACE (newest.run_count AS run_count) FROM newest JOIN (
    FROM new_devices UNION ALL (FROM old_devices ANTI JOIN new_devices USING (run_id))) AS one USING (run_id)
ORDER BY one.last_receive_time DESC, one.run_id
"""
_TIERS = """
SELECT one.* FROM newest JOIN (FROM new_tiers UNION ALL FROM old_tiers) AS one USING (run_id) ORDER BY one.run_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a snapshot holds and what was new: ``refused`` says of new runs that could not be judged why."""

    run_count: int
    device_count: int
    judged_run_count: int
    refused: dict[str, str]


def judge_folder(folder: Path, time: datetime) -> Judged:
    """Judge the new runs of a folder and finish it with a manifest of that time.

    Raises SnapshotError in one line where facts cannot be read or judgements cannot be written.
    """
    refused: dict[str, str] = {}
    try:
        with Draft(folder) as draft:
            draft.execute("CREATE TABLE judged(run_id VARCHAR, disturbed BOOLEAN)")
            draft.collect(DEVICES)
            draft.collect(TIERS)
            judged_count = sum(_judge_part(draft, name, refused) for name in draft.unjudged())
            draft.execute(_NEWEST)
            _describe(draft)
            draft.replace("devices", _DEVICES)
            draft.replace("tiers", _TIERS)
            draft.merge()
            manifest = draft.finish(time)
        flush(folder)
    except duckdb.Error as cause:
        raise SnapshotError(f"the runs cannot be judged: {str(cause).splitlines()[0]}") from cause
    except OSError as cause:
        raise SnapshotError(f"the judgements cannot be written: {cause.strerror or cause}") from cause
    return Judged(
        run_count=manifest.rows("runs"),
        device_count=manifest.rows("devices"),
        judged_run_count=judged_count,
        refused=refused,
    )


def _judge_part(draft: Draft, name: str, refused: dict[str, str]) -> int:
    """Write estimates, verdicts and plausibility of the runs of a part; returns how many were judged."""
    run_ids = [row["run_id"] for row in draft.rows(f"SELECT run_id FROM {draft.part('runs', name)}")]  # noqa: S608 - our own files
    limits, judged_count = current_limits(), 0
    with (
        draft.writer(ESTIMATES, name) as estimates,
        draft.writer(VERDICTS, name) as verdicts,
        draft.writer(PLAUSIBILITY, name) as doubts,
    ):
        for start in range(0, len(run_ids), _BATCH_RUNS):
            found = _judge_batch(draft, name, run_ids[start : start + _BATCH_RUNS], refused)
            graded = [(one, verdict_rows(one, limits)) for one in found]
            estimates.write_table(table_of(ESTIMATES, [row for one in found for row in estimate_rows(one, limits)]))
            verdicts.write_table(table_of(VERDICTS, [row for _, rows in graded for row in rows]))
            doubts.write_table(table_of(PLAUSIBILITY, [row for one in found for row in plausibility_rows(one)]))
            draft.add(TIERS, [tier_row(one, rows) for one, rows in graded])
            judged_count += len(found)
    return judged_count


def _judge_batch(draft: Draft, name: str, run_ids: Sequence[str], refused: dict[str, str]) -> list[JudgedRun]:
    """Judge some runs of a part; those that cannot be judged go to ``refused``."""
    own = {table: _by_run(draft, table, name, run_ids) for table in ("runs", "measurements", "series", "case_failures")}
    used = [rows[0]["hardware_id"] for rows in own["runs"].values()]
    hardware = {row["hardware_id"]: row for row in draft.rows("FROM hardware WHERE hardware_id IN ?", [used])}
    judged = []
    for run_id in run_ids:
        (row,) = own["runs"][run_id]
        try:
            if row["hardware_id"] not in hardware:
                raise RowError("its hardware is missing")
            run = run_with(row, own["measurements"][run_id], own["series"][run_id], own["case_failures"][run_id])
            judged.append(judge_run(row["device_id"], run, hardware_of(hardware[row["hardware_id"]])))
        except _UNUSABLE as error:
            refused[run_id] = f"{type(error).__name__}: {error}".splitlines()[0]
            draft.add(TIERS, [unjudged_tier_row(row, current_limits())])
    draft.insert("judged", [(one.run.run_id, bool(one.card.disturbances)) for one in judged])
    return judged


def _by_run(draft: Draft, table: str, name: str, run_ids: Sequence[str]) -> defaultdict[str, list[dict[str, Any]]]:
    order = {"runs": "", "series": "ORDER BY run_id, measurement_ord, ord"}.get(table, "ORDER BY run_id, ord")
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in draft.rows(f"FROM {draft.part(table, name)} WHERE run_id IN ? {order}", [list(run_ids)]):
        found[row["run_id"]].append(row)
    return found


def _describe(draft: Draft) -> None:
    """Collect the rows of ``devices`` that were not taken over, or were by other rules of the gates."""
    draft.execute(_UNDESCRIBED, [gates_version()])
    for start in count(0, _BATCH_DEVICES):
        found = draft.rows(_FACTS_OF_DEVICES, [_BATCH_DEVICES, start])
        if not found:
            return
        draft.add(
            DEVICES,
            [
                device_row(one["run"], one["hardware"] or {}, looked=one["looked"], disturbed=one["disturbed"])
                for one in found
            ],
        )


def main(arguments: Sequence[str]) -> int:
    """Judge the new runs of a folder and print what was done as one JSON document; 1 after one line of error."""
    folder, time = arguments
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    os.nice(_LOWER_PRIORITY)
    try:
        judged = judge_folder(Path(folder), datetime.fromisoformat(time))
    except AnalysisError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the caller
        return 1
    print(json.dumps(asdict(judged)))  # noqa: T201 - for the caller
    return 0


def _end_with_the_caller() -> None:
    # Not sys.stdin: at the end of the interpreter, which may come first, its lock must be free.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
