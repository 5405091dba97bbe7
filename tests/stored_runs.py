"""Rows of example runs, ready for a store."""

from datetime import datetime

import example_runs
import pyarrow as pa

from weighin_aggregator.intake.examine import Accepted, examine
from weighin_aggregator.intake.records import to_batch
from weighin_aggregator.limits import DEFAULT_LIMITS
from weighin_aggregator.store.store import utc_now


def rows(
    *seeds: int,
    device_id: str = example_runs.DEVICE_ID,
    receive_time: datetime | None = None,
    machine: example_runs.Machine = example_runs.LAPTOP,
    raw: bytes | None = None,
) -> dict[str, pa.Table]:
    """The tables of the runs of these seeds; ``raw`` stands for the bytes of each as it came."""
    accepted = []
    for seed in seeds:
        run = example_runs.example_run(seed, machine)
        item = examine(example_runs.envelope(run, example_runs.run_id(seed), seed), DEFAULT_LIMITS)
        assert isinstance(item, Accepted)
        accepted.append(item)
    tables = dict(to_batch(accepted, device_id, receive_time or utc_now()).tables)
    if raw is not None:
        position = tables["run"].schema.get_field_index("raw")
        tables["run"] = tables["run"].set_column(position, "raw", pa.array([raw] * len(seeds), pa.binary()))
    return tables
