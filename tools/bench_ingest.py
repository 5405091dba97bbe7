"""How fast runs are stored: through batched SubmitRuns, in plain text and with mutual TLS, and without a server.

All three take the same runs, in turns: the recorded bytes of one run of the suite `standard`, every copy with an id of
its own. Without a server their rows are ready, and only committed, in the largest groups that a server makes. Devices
and server share the machine; what devices send is serialized beforehand. The last line is one JSON document with every
figure and its bound; the exit code is 1 where one is missed.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import example_runs
import pyarrow as pa
from ingest_load import MODES, Load, put_load

from weighin.v1 import services_pb2
from weighin_aggregator.intake.examine import Accepted, examine_all
from weighin_aggregator.intake.records import to_batch
from weighin_aggregator.limits import DEFAULT_LIMITS
from weighin_aggregator.store.store import Store, utc_now

RUN = Path("tests/data/standard.run").read_bytes()
LEAST_RATIO, MOST_SECONDS, MOST_GROWTH_BYTES = 0.5, 0.5, 64 << 20
DEVICES, CALL_RUNS = 16, 100
# The same rate in more and smaller calls, each of which costs its own: told, without a bound.
MANY_DEVICES, SMALL_CALL_RUNS = 64, 20


def main() -> int:
    """Run the benchmark; return 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description="Measure how fast runs are stored.")
    parser.add_argument("--runs", type=int, default=20_000, help="stored each time; default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    options = parser.parse_args()
    rounds = _rounds(options.runs, options.rounds)
    rates = {name: statistics.median(one[name] for one in rounds) for name in ("in_process", *MODES)}
    half = _half_load(rates, DEVICES, _requests(options.runs, CALL_RUNS), CALL_RUNS)
    half_in_small_calls = _half_load(rates, MANY_DEVICES, _requests(options.runs, SMALL_CALL_RUNS), SMALL_CALL_RUNS)
    figures = {f"{mode}_ratio": (rates[mode] / rates["in_process"], LEAST_RATIO) for mode in MODES}
    missed = [name for name, (found, bound) in figures.items() if found < bound]
    at_most = {f"{mode}_p99_seconds": (load.p99_seconds, MOST_SECONDS) for mode, load in half.items()} | {
        f"{mode}_growth_bytes": (load.growth_bytes, MOST_GROWTH_BYTES) for mode, load in half.items()
    }
    missed += [name for name, (found, bound) in at_most.items() if found > bound]
    figures |= at_most
    for name, (found, bound) in figures.items():
        print(f"{name}: {found:,.3g}, bound {bound:,.3g}: {'MISSED' if name in missed else 'held'}")
    for mode, load in half_in_small_calls.items():
        print(f"{mode}, half the rate in calls of {SMALL_CALL_RUNS} runs: p99 {load.p99_seconds:.3g} s")
    print(
        json.dumps(
            {
                "run_bytes": len(RUN),
                "runs_per_second": rates,
                "megabytes_per_second": {name: rate * len(RUN) / 1e6 for name, rate in rates.items()},
                "rounds": rounds,
                "half_load": {mode: asdict(load) for mode, load in half.items()},
                "half_load_in_small_calls": {mode: asdict(load) for mode, load in half_in_small_calls.items()},
                "figures": figures,
                "missed": missed,
            }
        )
    )
    return 1 if missed else 0


def _rounds(runs: int, count: int) -> list[dict[str, float]]:
    """Return the runs per second of each way, measured in turns."""
    requests = _requests(runs, CALL_RUNS)
    rounds = []
    for _ in range(count):
        rates = {"in_process": _in_process(runs)}
        print(f"in process: {_spelled(rates['in_process'])}", flush=True)
        for mode in MODES:
            load = put_load(mode, DEVICES, requests)
            rates[mode] = runs / load.seconds
            print(
                f"{mode}: {_spelled(rates[mode])}; processor time per run: server "
                f"{load.server_cpu_seconds / runs * 1e6:.0f} us, devices {load.client_cpu_seconds / runs * 1e6:.0f} us",
                flush=True,
            )
        rounds.append(rates)
    return rounds


def _half_load(rates: Mapping[str, float], devices: int, requests: list[bytes], call_runs: int) -> dict[str, Load]:
    """Send runs at half of the rate that each way has reached, whatever becomes of them."""
    return {mode: put_load(mode, devices, requests, rates[mode] / 2 / call_runs) for mode in MODES}


def _spelled(runs_per_second: float) -> str:
    return f"{runs_per_second:,.0f} runs/s, {runs_per_second * len(RUN) / 1e6:.1f} MB/s"


def _requests(runs: int, call_runs: int) -> list[bytes]:
    return [
        example_runs.request(map(_envelope, range(first, first + call_runs))).SerializeToString()
        for first in range(0, runs, call_runs)
    ]


def _envelope(number: int) -> services_pb2.RunEnvelope:
    return example_runs.envelope(RUN, example_runs.run_id(number), sequence=number + 1)


def _in_process(runs: int) -> float:
    """Commit rows that are ready, the last group whole too; returns runs per second."""
    group = DEFAULT_LIMITS.group_runs
    examined = examine_all([_envelope(number) for number in range(group)], DEFAULT_LIMITS)
    accepted = [item for item in examined if isinstance(item, Accepted)]
    tables = to_batch(accepted, example_runs.DEVICE_ID, utc_now()).tables
    stored, seconds = 0, 0.0
    with tempfile.TemporaryDirectory() as data, Store.open(Path(data), create=True) as store:
        for first in range(0, runs, group):
            ready = {name: _renumbered(rows, first) for name, rows in tables.items()}
            start = time.perf_counter()
            store.insert(ready)
            store.checkpoint_if_due()
            seconds += time.perf_counter() - start
            stored += group
    return stored / seconds


def _renumbered(rows: pa.Table, first: int) -> pa.Table:
    """Give runs that are numbered from 0 the ids of those from ``first``."""
    if "run_id" not in rows.column_names:
        return rows
    ids = rows["run_id"].combine_chunks().dictionary_encode()
    fresh = pa.array([example_runs.run_id(first + number) for number in range(len(ids.dictionary))])
    return rows.set_column(rows.column_names.index("run_id"), "run_id", fresh.take(ids.indices))


if __name__ == "__main__":
    sys.exit(main())
