"""Run as a program: compares a tiny model on WebGPU with the CPU and prints what came out as one line of JSON.

A process of its own, because a process takes its Vulkan drivers once, from its environment. On standard input is the
folder to work in.
"""

import json
import sys
from pathlib import Path

from tiny_cases import TINY

from weighin_agent.bench.correctness import compare_with_cpu, save_small_model
from weighin_agent.bench.weights import make_block, scheme_block
from weighin_agent.errors import CaseError
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import load_suite

if __name__ == "__main__":
    path, scheme = Path(sys.stdin.readline().strip()) / "small.onnx", Scheme.INT8_BLOCK32
    save_small_model(path, TINY, scheme, block=scheme_block(make_block(load_suite("quick").weights), scheme))
    try:
        found = compare_with_cpu(path, TINY, scheme, execution_provider="webgpu", threads=1)
        answer = {"reason": None, "text": "", "relative_rms": found.relative_rms}
    except CaseError as error:
        answer = {"reason": error.reason, "text": str(error), "relative_rms": None}
    print(json.dumps(answer))
