"""Building an ONNX graph and its weight file; the only module of the agent that uses onnx.

It is imported when a graph is written: a process that only runs graphs has no use for it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from weighin_agent.bench.weights import Manifest, StoredTensor, lay, write_manifest
from weighin_analysis.scheme import Scheme

if TYPE_CHECKING:
    import onnx

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
    """An initialiser: ``content`` is its values, one constant for all, or None for pinned weights.

    ``scale`` multiplies pinned weights of a floating-point type; None leaves them as they are.
    """

    name: str
    dtype: npt.DTypeLike
    shape: tuple[int, ...]
    content: npt.NDArray[np.generic] | float | None
    scale: float | None = None

    @property
    def byte_count(self) -> int:
        """Size in the weight file."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def inline(self) -> bool:
        """Whether it lies in the graph's text: widths and places, which the runtime wants to know before the rest."""
        return np.dtype(self.dtype) == np.int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An operator with its inputs and outputs by name; "" stands for one that is left out."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of a graph; named dimensions are free, ``shape`` None leaves all of them open."""

    name: str
    dtype: npt.DTypeLike
    shape: list[int | str] | None


def activation_dtype(scheme: Scheme) -> type[np.float32] | type[np.float16]:
    """Return the type of what flows through a graph of a scheme, keys and values in the cache included."""
    return np.float16 if scheme is Scheme.FP16 else np.float32


class GraphBuilder:
    """Collects nodes and tensors of one graph whose matrices are in one scheme."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.activation = activation_dtype(scheme)
        self._nodes: list[Node] = []
        self._tensors: dict[str, Tensor] = {}

    def constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        """Add a tensor of given values and return its name; floating-point numbers become the type of activations."""
        if np.issubdtype(values.dtype, np.floating):
            values = values.astype(self.activation)
        return self._tensor(Tensor(name=name, dtype=values.dtype, shape=values.shape, content=values))

    def node(self, op: str, inputs: list[str], outputs: str | list[str], domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its first output."""
        names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        self._nodes.append(Node(op=op, inputs=tuple(inputs), outputs=names, domain=domain, attributes=attributes))
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
            case Scheme.FP32 | Scheme.FP16:
                # The scale is in the weights: a real model multiplies by nothing afterwards.
                weight = self._pinned(name, self.activation, (rows, columns), scale)
                return self.node("MatMul", [source, weight], f"{name}.out")

    def save(self, path: Path, inputs: list[Value], outputs: list[Value], block: npt.NDArray[np.generic]) -> str:
        """Write ``path`` (.onnx), its weights (.data) and manifest (.json); return the graph's SHA-256, hexadecimal.

        Tensors are written piece by piece: synthesis needs no memory of its own.
        """
        data, stored = path.with_suffix(".data"), []
        with data.open("wb") as file:
            for tensor in self._tensors.values():
                if tensor.inline:
                    continue
                offset = -(-file.tell() // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
                file.seek(offset)
                digest = hashlib.sha256()
                for piece in _pieces(tensor, block):
                    file.write(piece)
                    if tensor.content is not None:
                        digest.update(piece)
                stored.append(
                    StoredTensor(
                        name=tensor.name,
                        offset=offset,
                        byte_count=tensor.byte_count,
                        scale=tensor.scale,
                        sha256="" if tensor.content is None else digest.hexdigest(),
                    )
                )
        text = self._serialize(data.name, {tensor.name: tensor.offset for tensor in stored}, inputs, outputs)
        path.write_bytes(text)
        manifest = Manifest(graph_sha256=hashlib.sha256(text).hexdigest(), tensors=tuple(stored))
        write_manifest(path, manifest)
        return manifest.graph_sha256

    def _serialize(self, data_name: str, offsets: dict[str, int], inputs: list[Value], outputs: list[Value]) -> bytes:
        from onnx import helper  # noqa: PLC0415 - see above

        graph = helper.make_graph(
            [helper.make_node(n.op, n.inputs, n.outputs, domain=n.domain, **n.attributes) for n in self._nodes],
            "weighin",
            [helper.make_tensor_value_info(v.name, _element_type(v.dtype), v.shape) for v in inputs],
            [helper.make_tensor_value_info(v.name, _element_type(v.dtype), v.shape) for v in outputs],
            initializer=[_declare(tensor, data_name, offsets.get(tensor.name)) for tensor in self._tensors.values()],
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(CONTRIB, _CONTRIB_OPSET)]
        return helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=opsets).SerializeToString(
            deterministic=True
        )

    def _pinned(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...], scale: float | None = None) -> str:
        return self._tensor(Tensor(name=name, dtype=dtype, shape=shape, content=None, scale=scale))

    def _filled(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...], value: float) -> str:
        return self._tensor(Tensor(name=name, dtype=dtype, shape=shape, content=value))

    def _tensor(self, tensor: Tensor) -> str:
        self._tensors[tensor.name] = tensor
        return tensor.name


def _element_type(dtype: npt.DTypeLike) -> int:
    from onnx import helper  # noqa: PLC0415

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _declare(tensor: Tensor, file_name: str, offset: int | None) -> "onnx.TensorProto":
    from onnx import TensorProto  # noqa: PLC0415

    declared = TensorProto(name=tensor.name, data_type=_element_type(tensor.dtype), dims=tensor.shape)
    if offset is None:
        declared.raw_data = np.asarray(tensor.content).tobytes()
        return declared
    declared.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file_name), ("offset", str(offset)), ("length", str(tensor.byte_count))):
        declared.external_data.add(key=key, value=value)
    return declared


def _pieces(tensor: Tensor, block: npt.NDArray[np.generic]) -> Iterable[memoryview | bytes]:
    if tensor.content is None:
        return lay(block, tensor.name, tensor.byte_count, tensor.scale)
    if isinstance(tensor.content, np.ndarray):
        return [tensor.content.tobytes()]
    return [np.full(tensor.shape, tensor.content, tensor.dtype).tobytes()]
