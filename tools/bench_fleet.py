"""How long judgements over a large fleet take: `tiers`, `coverage`, `report`, and SQL over many measurements.

Each command runs as a child process over made fleets (tools/made_fleet.py), which are kept under .bench/fleets/ for the
next time. The last line is one JSON document with every figure and its bound; the exit code is 1 where one is missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import weighin_analysis
from weighin_analysis.fleet.snapshot.folder import is_snapshot

FLEETS = Path(".bench/fleets")
SIZES = (10_000, 100_000, 1_000_000)
# 250,000 devices with 40 measurements each.
QUERIED = 250_000
MOST_SECONDS, MOST_BYTES, MOST_QUERY_SECONDS = 60.0, 4 * 2**30, 1.0
REPEATS = 5
# Every measurement belongs to a group: tier, model, scheme and phase. Exact medians.
TIER_QUERY = """
    SELECT tier, model, measurements.scheme, phase, count(*), median(median_seconds)
    FROM measurements JOIN tiers USING (run_number) GROUP BY ALL
"""
# What is asked more often: how long a token takes.
DECODE_QUERY = """
    SELECT tier, model, measurements.scheme, context_depth, count(*), median(median_seconds)
    FROM measurements JOIN tiers USING (run_number) WHERE phase = 'decode' GROUP BY ALL
"""


def main() -> int:
    """Run the benchmark; return 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description="Time judgements over made fleets.")
    parser.add_argument("--devices", type=int, nargs="+", default=SIZES, help="sizes of the fleets")
    parser.add_argument("--queried", type=int, default=QUERIED, help="devices of the fleet that is asked in SQL")
    options = parser.parse_args()
    commands = {count: _commands(_fleet(count)) for count in options.devices}
    queries = _queries(_fleet(options.queried))
    least, most = min(commands), max(commands)
    seconds = {count: sum(one["seconds"] for one in found.values()) for count, found in commands.items()}
    figures = {
        "seconds": (seconds[most], MOST_SECONDS),
        "peak_bytes": (max(one["peak_bytes"] for one in commands[most].values()), MOST_BYTES),
        # Above 1, a device of the largest fleet takes longer than one of the smallest.
        "seconds_per_device_ratio": (seconds[most] / most / (seconds[least] / least), 1.0),
        "tier_query_seconds": (queries["tier"]["best_seconds"], MOST_QUERY_SECONDS),
    }
    missed = [name for name, (found, bound) in figures.items() if found > bound]
    for name, (found, bound) in figures.items():
        print(f"{name}: {found:,.2f}, at most {bound:,.0f}: {'MISSED' if name in missed else 'held'}")
    print(json.dumps({"commands": commands, "queries": queries, "figures": figures, "missed": missed}))
    return 1 if missed else 0


def _fleet(devices: int) -> Path:
    folder = FLEETS / str(devices)
    if not is_snapshot(folder):
        print(f"making a fleet of {devices:,} devices in {folder}", file=sys.stderr)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # In a process of its own: a child begins with the peak of memory of who started it (Linux, getrusage(2)).
        maker = Path(__file__).with_name("made_fleet.py")
        subprocess.run([sys.executable, maker, folder, "--devices", str(devices)], check=True)
    return folder


def _commands(folder: Path) -> dict[str, dict[str, float]]:
    """Return seconds and the peak of resident memory of every command over a fleet."""
    with tempfile.TemporaryDirectory() as out:
        lines = {"tiers": ["--json"], "coverage": ["--json"], "report": ["--out", out]}
        found = {}
        for name, rest in lines.items():
            found[name] = _run([name, "--snapshot", str(folder), *rest])
            print(f"{folder.name} devices: {name} {found[name]['seconds']:.1f} s, "
                  f"{found[name]['peak_bytes'] / 2**30:.2f} GiB", flush=True)  # fmt: skip
    return found


def _run(arguments: Sequence[str]) -> dict[str, float]:
    """Run one command, its answer into a file, and return what it took."""
    with tempfile.TemporaryFile() as answer:
        start = time.perf_counter()
        line = [sys.executable, "-m", "weighin_analysis.cli", *arguments]
        child = os.posix_spawn(line[0], line, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, answer.fileno(), 1)])
        _, status, usage = os.wait4(child, 0)
        seconds = time.perf_counter() - start
    if status:
        sys.exit(f"bench_fleet: {' '.join(arguments)} failed")
    return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024}


def _queries(folder: Path) -> dict[str, dict[str, Any]]:
    """Return how long a snapshot takes to open, every byte of it checked, and to answer."""
    start = time.perf_counter()
    found: dict[str, dict[str, Any]] = {}
    with weighin_analysis.open(folder) as snapshot:
        found["open"] = {
            "best_seconds": time.perf_counter() - start,
            "measurements": snapshot.manifest.rows("measurements"),
        }
        for name, query in (("tier", TIER_QUERY), ("decode", DECODE_QUERY)):
            seconds = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                groups = len(snapshot.sql(query).rows())
                seconds.append(time.perf_counter() - start)
            found[name] = {
                "best_seconds": min(seconds),
                "median_seconds": statistics.median(seconds),
                "groups": groups,
            }
    for name, one in found.items():
        print(f"{folder.name} devices: {name} {one['best_seconds']:.2f} s", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
