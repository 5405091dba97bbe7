"""Is the memory that the formula tells what a full model takes? Predicted bytes against measured peaks. Linux only.

    python tools/bench_memory.py [SmolLM2-135M:int4_block32 ...]

Every pair is written to files, whole: all layers, the whole head, and an input embedding of the whole vocabulary, in
fp32 as ONNX Runtime's model builder leaves it. A fresh process that imports only numpy and onnxruntime loads it, binds
a KV cache of 2048 tokens, and runs a prompt of 512 tokens and some decode steps (encoders: the prompt). Its memory is
read from outside every 2 ms, from start to end: the peak of RssAnon + RssShmem. Pages that are backed by a file, which
the system drops and reads again when it needs room, are left out: the libraries' code, and the weight files, which the
runtime maps. VmHWM, the peak with those pages, stands beside it. Ends with a line of JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from weighin_agent.bench.models import save_full_model
from weighin_agent.bench.weights import make_block, scheme_block
from weighin_analysis.architecture import Architecture
from weighin_analysis.catalog import architecture
from weighin_analysis.footprint import memory_bytes
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import load_suite

CONTEXT_TOKENS = 2048
PROMPT_TOKENS = 512
SAMPLE_SECONDS = 0.002
PAIRS = (
    "DistilBERT:int8_dynamic",
    "DistilBERT:fp32",
    "SmolLM2-135M:int4_block32",
    "SmolLM2-135M:int8_block32",
    "SmolLM2-135M:int8_dynamic",
    "Gemma-3-270M:int4_block32",
    "Qwen2.5-0.5B:int4_block32",
    "Qwen2.5-0.5B:int8_block32",
    "Qwen2.5-0.5B:int8_dynamic",
    "Llama-3.2-1B:int4_block32",
    "Llama-3.2-1B:int8_block32",
    "Llama-3.2-1B:int8_dynamic",
    "Gemma-2B:int4_block32",
)
_CHILD = Path(__file__).with_name("memory_child.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Highest memory of a process so far: without pages backed by files, and with them."""

    private_bytes: int
    resident_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A pair with its predicted and measured memory; ``error`` is signed, relative to what was measured."""

    pair: str
    predicted_bytes: int
    measured_bytes: int
    resident_bytes: int
    error: float


def save(path: Path, shape: Architecture, scheme: Scheme) -> None:
    """Write the full model with its input embedding in full size, which the models of the cases leave out."""
    suite = load_suite("quick")
    block = scheme_block(make_block(suite.weights), scheme)
    save_full_model(path, shape, scheme, max_context=CONTEXT_TOKENS, block=block)
    model = onnx.load(path, load_external_data=False)
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "embedding")
    file = path.with_name("embedding.data")
    row = np.random.RandomState(0).standard_normal(shape.hidden).astype(np.float32).tobytes()
    with file.open("wb") as out:
        for _ in range(shape.vocab):
            out.write(row)
    table.dims[0] = shape.vocab
    del table.external_data[:]
    for key, value in (("location", file.name), ("offset", "0"), ("length", str(file.stat().st_size))):
        table.external_data.add(key=key, value=value)
    onnx.save(model, path)


def measure(path: Path, shape: Architecture) -> Peak:
    """Load and run the model in a process of its own and return that process's peak."""
    command = [sys.executable, "-P", str(_CHILD), str(path), *map(str, (CONTEXT_TOKENS, PROMPT_TOKENS, shape.vocab))]
    peak = Peak(private_bytes=0, resident_bytes=0)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        answers: list[str] = []
        reader = threading.Thread(target=lambda stream: answers.append(stream.readline()), args=(child.stdout,))
        reader.start()
        while reader.is_alive():
            peak = _higher(peak, child.pid)
            reader.join(SAMPLE_SECONDS)
        if answers != ["done\n"]:
            raise SystemExit(f"the child ended without an answer, exit code {child.wait()}")
        return _higher(peak, child.pid)


def _higher(peak: Peak, pid: int) -> Peak:
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
    kibibytes = {words[0]: int(words[1]) for words in lines if words[0] in ("RssAnon:", "RssShmem:", "VmHWM:")}
    if not kibibytes:  # it has ended and has no memory any more
        return peak
    return Peak(
        private_bytes=max(peak.private_bytes, 1024 * (kibibytes["RssAnon:"] + kibibytes["RssShmem:"])),
        resident_bytes=1024 * kibibytes["VmHWM:"],
    )


def compare(pair: str) -> Comparison:
    """Predict and measure a pair, written as architecture:scheme; its files are gone afterwards."""
    name, _, scheme_name = pair.partition(":")
    shape, scheme = architecture(name), Scheme(scheme_name)
    predicted = memory_bytes(shape, scheme, context_tokens=CONTEXT_TOKENS, prompt_tokens=PROMPT_TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "full.onnx"
        save(path, shape, scheme)
        peak = measure(path, shape)
    return Comparison(
        pair=pair,
        predicted_bytes=predicted,
        measured_bytes=peak.private_bytes,
        resident_bytes=peak.resident_bytes,
        error=predicted / peak.private_bytes - 1,
    )


def main() -> None:
    """Compare all pairs, or those named, and print them with the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", default=PAIRS, metavar="ARCHITECTURE:SCHEME")
    found = []
    print(f"{'MB':28s} {'predicted':>9s} {'measured':>9s} {'error':>7s} {'with file pages':>16s}")
    for pair in parser.parse_args().pairs:
        found.append(compare(pair))
        predicted, measured, resident = (
            n / 1e6 for n in (found[-1].predicted_bytes, found[-1].measured_bytes, found[-1].resident_bytes)
        )
        print(f"{pair:28s} {predicted:9.0f} {measured:9.0f} {found[-1].error:+7.1%} {resident:16.0f}", flush=True)
    errors = [abs(comparison.error) for comparison in found]
    summary = {
        "pairs": [asdict(comparison) for comparison in found],
        "worst_abs_error": max(errors),
        "median_abs_error": statistics.median(errors),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
