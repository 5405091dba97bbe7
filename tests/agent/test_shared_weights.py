"""What docs/shrinking.md says of shared layers: ONNX Runtime on the CPU packs a matrix for every node that uses it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

WIDTH, PRODUCTS = 1024, 8
MATRIX_BYTES = 4 * WIDTH * WIDTH

# In a process of its own, so that nothing else grows; prints the bytes that no file backs.
CHILD = """
import sys
import numpy as np
import onnxruntime

def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
before = held()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {"x": np.zeros((1, int(sys.argv[2])), np.float32)})
print(held() - before)
"""


def held_bytes(folder: Path, matrices: int) -> int:
    """Bytes that a chain of products holds, which has so many matrices between them."""
    random = np.random.default_rng(0)
    weights = [random.standard_normal((WIDTH, WIDTH), dtype=np.float32) / WIDTH for _ in range(matrices)]
    names = ["x", *(f"y{i}" for i in range(PRODUCTS))]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [names[i], f"w{i % matrices}"], [names[i + 1]]) for i in range(PRODUCTS)],
        "chain",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [1, WIDTH])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, [1, WIDTH])],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"{matrices}.onnx"
    onnx.save(model, path, save_as_external_data=True, location=f"{matrices}.bin", size_threshold=1024)
    command = [sys.executable, "-c", CHILD, str(path), str(WIDTH)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status for the memory that no file backs")
def test_a_matrix_that_every_layer_shares_is_held_once_per_layer(tmp_path: Path) -> None:
    shared, own = held_bytes(tmp_path, 1), held_bytes(tmp_path, PRODUCTS)
    assert own > PRODUCTS * MATRIX_BYTES
    assert shared > 0.75 * own
