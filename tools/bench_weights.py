"""Does laying one small block into every tensor change the speed? Pinned weights against a long random stream.

    python tools/bench_weights.py [--loads 6] [--rounds 8]

Every load is a process of its own that holds the same layers twice, once from the pinned block of the suite and once
from a block of 64 MiB, longer than any tensor, so that nothing repeats inside one. Both run in turn; the ratio of their
times is taken round by round. One thread and its CPU time, so that other load matters least. Ends with a line of JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from weighin_agent.bench.models import save_layers
from weighin_agent.bench.session import Model
from weighin_agent.bench.weights import make_block, scheme_block
from weighin_analysis.suite import Suite, SuiteCase, load_suite

LONG_BLOCK_BYTES = 64 << 20
DEPTHS = (16, 900)
PROMPT = 64
SAMPLES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same layers from the pinned block and from the long one."""

    pinned: Model
    long: Model

    def ratio(self, tokens: int, depth: int) -> float:
        """Return pinned time over long time, each the 20th percentile of samples taken in turn."""
        pinned, long = [], []
        for i in range(SAMPLES):
            pinned.append(self.pinned.time(tokens, depth + i if tokens == 1 else 0))
            long.append(self.long.time(tokens, depth + i if tokens == 1 else 0))
        return float(np.percentile(pinned, 20) / np.percentile(long, 20))


def load_pair(suite: Suite, case: SuiteCase, folder: Path, seed: int) -> Pair:
    """Synthesise and load both."""
    context = suite.lengths.max_context_tokens
    blocks = {
        "pinned": make_block(suite.weights),
        "long": np.frombuffer(np.random.RandomState(seed).bytes(LONG_BLOCK_BYTES), np.uint8),
    }
    models = {}
    for name, block in blocks.items():
        path = folder / f"{name}.onnx"
        save_layers(
            path, case.architecture, case.scheme,
            layers=case.probe_layers, max_context=context, block=scheme_block(block, case.scheme),
        )  # fmt: skip
        models[name] = Model(
            path, case.architecture, layers=case.probe_layers, execution_provider="cpu", threads=1,
            max_context=context, clock=time.thread_time,
        )  # fmt: skip
    return Pair(pinned=models["pinned"], long=models["long"])


def measure(index: int, seed: int, rounds: int) -> None:
    """Run one load of one case and print its ratios as JSON."""
    suite = load_suite("quick")
    case = suite.cases[index]
    with tempfile.TemporaryDirectory() as folder:
        pair = load_pair(suite, replace(case), Path(folder), seed)
    decoder = case.head_columns > 0
    points = {f"decode_{depth}": (1, depth) for depth in DEPTHS} if decoder else {}
    points[f"prefill_{PROMPT}"] = (PROMPT, 0)
    for point in points.values():
        pair.ratio(*point)  # warm up
    ratios = {name: [pair.ratio(*point) for _ in range(rounds)] for name, point in points.items()}
    print(json.dumps({name: float(np.median(values)) for name, values in ratios.items()}))


def main() -> None:
    """Measure every case of the quick suite in several loads and print the median ratio with its standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--child", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return measure(options.child[0], options.child[1], options.rounds)
    summary: dict[str, dict[str, float]] = {}
    for index, case in enumerate(load_suite("quick").cases):
        found: dict[str, list[float]] = {}
        for load in range(options.loads):
            command = [sys.executable, __file__, "--rounds", str(options.rounds), "--child", str(index), str(load)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for name, ratio in json.loads(answer).items():
                found.setdefault(name, []).append(ratio)
        for name, ratios in found.items():
            logs = np.log(ratios)
            error = 1.25 * float(np.std(logs, ddof=1)) / len(logs) ** 0.5
            key = f"{case.architecture.name} {case.scheme} {name}"
            summary[key] = {"median_ratio": float(np.exp(np.median(logs))), "standard_error": error}
            print(f"{key:45s} pinned / long {summary[key]['median_ratio']:.3f} +- {error:.3f}", flush=True)
    print(json.dumps(summary))
    return None


if __name__ == "__main__":
    main()
