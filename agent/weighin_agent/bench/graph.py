"""Building an ONNX graph and its weight file; the only module of the agent that uses onnx."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from weighin_agent.bench.weights import lay
from weighin_analysis.scheme import Scheme

CONTRIB = "com.microsoft"
BLOCK_COLUMNS = 32
# Pinned, so that every device builds the same graph whatever its onnx version.
_IR_VERSION, _OPSET, _CONTRIB_OPSET = 10, 21, 1
# The runtime maps the weight file; page-aligned tensors need no copy.
_ALIGNMENT_BYTES = 4096
# Standard deviation of one step of the pinned values: dividing by it (and by the root of the sum's length) keeps
# activations of order one through any number of layers.
_STEP_SD = {
    Scheme.INT4_BLOCK32: 4.6,
    Scheme.INT8_BLOCK32: 74.0,
    Scheme.INT8_DYNAMIC: 37.0,
    Scheme.FP16: 74.0,
    Scheme.FP32: 74.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An initialiser: ``content`` is its values, one constant for all, or None for pinned weights."""

    name: str
    dtype: npt.DTypeLike
    shape: tuple[int, ...]
    content: npt.NDArray[np.generic] | float | None

    @property
    def byte_count(self) -> int:
        """Size in the weight file."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class GraphBuilder:
    """Collects nodes and tensors of one graph whose matrices are in one scheme."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, Tensor] = {}

    def constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        """Add a tensor of given values and return its name."""
        return self._tensor(Tensor(name=name, dtype=values.dtype, shape=values.shape, content=values))

    def node(self, op: str, inputs: list[str], outputs: str | list[str], domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its first output."""
        names = [outputs] if isinstance(outputs, str) else outputs
        self._nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names[0]

    def linear(self, source: str, name: str, rows: int, columns: int) -> str:
        """Add ``source`` (width ``rows``) times pinned weights of ``rows`` x ``columns``; return the output's name."""
        scale = 1 / (_STEP_SD[self.scheme] * rows**0.5)
        match self.scheme:
            case Scheme.INT4_BLOCK32 | Scheme.INT8_BLOCK32:
                bits = 4 if self.scheme is Scheme.INT4_BLOCK32 else 8
                blocks = -(-rows // BLOCK_COLUMNS)
                weight = self._pinned(name, np.uint8, (columns, blocks, BLOCK_COLUMNS * bits // 8))
                scales = self._filled(f"{name}.scale", np.float32, (columns * blocks,), scale)
                # Accuracy level 4 multiplies in int8; the other levels are several times slower on every x86 tried.
                return self.node(
                    "MatMulNBits",
                    [source, weight, scales],
                    f"{name}.out",
                    CONTRIB,
                    K=rows,
                    N=columns,
                    bits=bits,
                    block_size=BLOCK_COLUMNS,
                    accuracy_level=4,
                )
            case Scheme.INT8_DYNAMIC:
                weight = self._pinned(name, np.int8, (rows, columns))
                scales = self._filled(f"{name}.scale", np.float32, (columns,), scale)
                zeros = self._filled(f"{name}.zero", np.int8, (columns,), 0)
                return self.node("DynamicQuantizeMatMul", [source, weight, scales, zeros], f"{name}.out", CONTRIB)
            case Scheme.FP32:
                weight = self._pinned(name, np.float32, (rows, columns))
                factor = self.constant(f"{name}.scale", np.array([scale], np.float32))
                product = self.node("MatMul", [source, weight], f"{name}.product")
                return self.node("Mul", [product, factor], f"{name}.out")
            case Scheme.FP16:
                raise NotImplementedError("fp16 graphs are built for accelerators only, and none is measured yet")

    def save(
        self,
        path: Path,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
        block: npt.NDArray[np.generic],
    ) -> str:
        """Write ``path`` (.onnx) and the weights beside it (.data); return the graph's SHA-256, hexadecimal.

        Tensors are written piece by piece: synthesis needs no memory of its own.
        """
        data = path.with_suffix(".data")
        declared = []
        with data.open("wb") as file:
            for tensor in self._tensors.values():
                file.seek(-(-file.tell() // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES)
                declared.append(_declare(tensor, data.name, file.tell()))
                for piece in _pieces(tensor, block):
                    file.write(piece)
        graph = helper.make_graph(self._nodes, "weighin", inputs, outputs, initializer=declared)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(CONTRIB, _CONTRIB_OPSET)]
        model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=opsets)
        text = model.SerializeToString(deterministic=True)
        path.write_bytes(text)
        return hashlib.sha256(text).hexdigest()

    def _pinned(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> str:
        return self._tensor(Tensor(name=name, dtype=dtype, shape=shape, content=None))

    def _filled(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...], value: float) -> str:
        return self._tensor(Tensor(name=name, dtype=dtype, shape=shape, content=value))

    def _tensor(self, tensor: Tensor) -> str:
        self._tensors[tensor.name] = tensor
        return tensor.name


def value_info(name: str, dtype: npt.DTypeLike, shape: list[int | str] | None) -> onnx.ValueInfoProto:
    """Return the declaration of a graph input or output; named dimensions are free."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def _declare(tensor: Tensor, file_name: str, offset: int) -> TensorProto:
    declared = TensorProto(
        name=tensor.name, data_type=helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)), dims=tensor.shape
    )
    declared.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file_name), ("offset", str(offset)), ("length", str(tensor.byte_count))):
        declared.external_data.add(key=key, value=value)
    return declared


def _pieces(tensor: Tensor, block: npt.NDArray[np.generic]) -> list[memoryview] | list[bytes]:
    if tensor.content is None:
        return list(lay(block, tensor.name, tensor.byte_count))
    if isinstance(tensor.content, np.ndarray):
        return [tensor.content.tobytes()]
    return [np.full(tensor.shape, tensor.content, tensor.dtype).tobytes()]
