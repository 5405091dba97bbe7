"""Compares the bytes of our models between the oldest and the newest libraries that the agent admits.

    python tools/check_inputs.py

Makes two throw-away environments from the package index, one with the oldest numpy and onnx that agent/pyproject.toml
admits and one with the newest, writes graphs and weights of a few shapes in every scheme in each, and compares the
SHA-256 of every file. Ends with exit code 1 and the names of the files that differ.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARIES = ("numpy", "onnx")
SHAPES = ("DistilBERT", "SmolLM2-135M", "Gemma-3-270M")


def write_models(folder: Path) -> dict[str, str]:
    """Write one layer of every shape in every scheme, and a slice of the head; return the SHA-256 of every file."""
    # Imported here: only the two environments have the libraries that are compared.
    from weighin_agent.bench.models import save_head, save_layers  # noqa: PLC0415
    from weighin_agent.bench.weights import make_block, scheme_block  # noqa: PLC0415
    from weighin_analysis.architecture import ArchitectureKind  # noqa: PLC0415
    from weighin_analysis.catalog import architecture  # noqa: PLC0415
    from weighin_analysis.scheme import Scheme  # noqa: PLC0415
    from weighin_analysis.suite import load_suite  # noqa: PLC0415

    suite = load_suite("standard")
    natural = make_block(suite.weights)
    for scheme in Scheme:
        block = scheme_block(natural, scheme)
        for name in SHAPES:
            shape, path = architecture(name), folder / f"{name} {scheme} layers.onnx"
            context = suite.lengths.max_context_tokens
            save_layers(path, shape, scheme, layers=1, max_context=context, block=block)
            if shape.kind is ArchitectureKind.DECODER:
                save_head(folder / f"{name} {scheme} head.onnx", shape, scheme, columns=256, block=block)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def oldest(library: str) -> str:
    """Return the requirement of the oldest version that agent/pyproject.toml admits."""
    requirements = tomllib.loads((ROOT / "agent/pyproject.toml").read_text())["project"]["dependencies"]
    bounds = [re.fullmatch(rf"{library}>=([\d.]+)", requirement) for requirement in requirements]
    return next(f"{library}=={bound[1]}" for bound in bounds if bound)


def hashes_with(requirements: list[str], folder: Path) -> dict[str, str]:
    """Return the hashes of all files as an environment with these libraries writes them."""
    environment, models = folder / "environment", folder / "models"
    models.mkdir(parents=True)
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements], check=True
    )
    path = os.pathsep.join(str(ROOT / member) for member in ("agent", "analysis", "proto"))
    answer = subprocess.run(
        [python, __file__, "--write", models],
        check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path},
    ).stdout  # fmt: skip
    found: dict[str, str] = json.loads(answer)
    return found


def main() -> int:
    """Compare the two environments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        print(json.dumps(write_models(options.write)))
        return 0
    old = [oldest(library) for library in LIBRARIES]
    with tempfile.TemporaryDirectory() as folder:
        found = [
            hashes_with(requirements, Path(folder) / name)
            for name, requirements in (("oldest", old), ("newest", list(LIBRARIES)))
        ]
    different = sorted(name for name in found[0].keys() | found[1].keys() if found[0].get(name) != found[1].get(name))
    if different:
        print(f"check-inputs: {len(different)} files differ between {' '.join(old)} and the newest: {different}")
        return 1
    print(f"check-inputs: {len(found[0])} files are the same bytes with {' '.join(old)} and with the newest of both")
    return 0


if __name__ == "__main__":
    sys.exit(main())
