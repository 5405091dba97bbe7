"""Reads the graph of an ONNX file: nodes and the headers of tensors, never the weights.

Layout: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, in the encoding of protobuf
(https://protobuf.dev/programming-guides/encoding/). Why an own reader: see ``reading.py``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from weighin_analysis.errors import ModelFileError
from weighin_analysis.files.reading import (
    MOST_DIMS,
    MOST_TENSORS,
    Reader,
    beside,
    check_apart,
    opened,
    product,
    regular_file_bytes,
    shown,
)

_MOST_NODES = 262_144
_MOST_TEXTS = 2_000_000
_MOST_SCOPES = 16_384
_MOST_NESTED_GRAPHS = 16
_MOST_NAME_BYTES = 4096
# Name and bits of an element, by the number of TensorProto.DataType.
ELEMENTS = {
    1: ("FLOAT", 32), 2: ("UINT8", 8), 3: ("INT8", 8), 4: ("UINT16", 16), 5: ("INT16", 16), 6: ("INT32", 32),
    7: ("INT64", 64), 8: ("STRING", 0), 9: ("BOOL", 8), 10: ("FLOAT16", 16), 11: ("DOUBLE", 64), 12: ("UINT32", 32),
    13: ("UINT64", 64), 14: ("COMPLEX64", 64), 15: ("COMPLEX128", 128), 16: ("BFLOAT16", 16), 17: ("FLOAT8E4M3FN", 8),
    18: ("FLOAT8E4M3FNUZ", 8), 19: ("FLOAT8E5M2", 8), 20: ("FLOAT8E5M2FNUZ", 8), 21: ("UINT4", 4), 22: ("INT4", 4),
    23: ("FLOAT4E2M1", 4), 24: ("FLOAT8E8M0", 8), 25: ("UINT2", 2), 26: ("INT2", 2),
    27: ("FLOAT6E2M3", 6), 28: ("FLOAT6E3M2", 6),
}  # fmt: skip
_ATTRIBUTES = frozenset({"K", "N", "bits", "block_size", "expert_weight_bits"})
_MOST_NESTED_CALLS = 16
_FLOAT_ITEMS = (4, 10)  # float_data and double_data; the other fields hold numbers of varying length


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTensor:
    """A tensor of a graph. ``place`` tells apart where its bytes lie: file, begin, end."""

    name: str
    type: str
    dims: tuple[int, ...]
    elements: int
    byte_count: int
    place: tuple[Path, int, int]
    sparse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An operation with the names that it reads and writes; of its attributes the few numbers that tell weights."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: dict[str, int]
    domain: str = ""
    overload: str = ""


@dataclass(slots=True)
class Scope:
    """The names of one graph; those that it does not define are looked for in its parent, None at the top.

    ``bound`` are the inputs and outputs of a called function: which name of which graph each of them is.
    """

    parent: int | None
    bound: dict[str, tuple[int, str]] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, GraphTensor] = field(default_factory=dict)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """All graphs of a model, the main one first, and the files that hold it."""

    scopes: tuple[Scope, ...]
    files: tuple[Path, ...]


def read_graph(path: Path) -> Graph:
    """Return the graph of an ONNX file; ModelFileError where it is damaged or its data are not beside it."""
    with opened(path) as reader:
        return _Walk(reader).model()


@dataclass(slots=True)
class _Parts:
    """The fields of a tensor as they come; ``items`` are the bytes of numbers that are not raw, by field."""

    name: str = ""
    kind: int = 0
    dims: list[int] = field(default_factory=list)
    raw: tuple[int, int] | None = None
    is_external: bool = False
    items: dict[int, int] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of the model: its inputs and outputs by name, and its graphs, those within it included."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scopes: range


class _Walk:
    """One pass over a file. Messages are read field by field; what is not asked for is passed over."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.scopes: list[Scope] = []
        self.node_count = 0
        self.tensor_count = 0
        self.text_count = 0
        self.functions: dict[tuple[str, str, str], _Function] = {}
        self.external: dict[str, tuple[Path, int]] = {}
        self.places: dict[Path, dict[tuple[int, int], str]] = {}

    def model(self) -> Graph:
        graphs = 0
        for number, end in self.messages(self.reader.byte_count):
            if number == 7:
                graphs += 1
                self.graph(end, parent=None, depth=0)
            elif number == 25:
                self.function(end)
        if graphs != 1 or not any(scope.nodes for scope in self.scopes):
            raise self.reader.error("is not an ONNX model: it does not hold one graph with nodes")
        self.put_in_place_of_calls()
        for places in self.places.values():
            check_apart(self.reader, [(begin, end, name) for (begin, end), name in places.items()])
        files = {self.reader.path: None} | {path: None for path, _ in self.external.values()}
        return Graph(scopes=tuple(self.scopes), files=tuple(files))

    def fields(self, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield number, kind and value of every field up to ``end``; of bytes, the value is where they end."""
        reader = self.reader
        while reader.position < end:
            tag = reader.varint("a field")
            number, wire = tag >> 3, tag & 7
            if not number:
                raise reader.error("is not an ONNX model: a field has no number")
            match wire:
                case 0:
                    yield number, wire, reader.varint("a number")
                case 1:
                    reader.skip(8, "a number")
                    yield number, wire, 0
                case 2:
                    length = reader.varint("a length")
                    after = reader.position + length
                    if after > end:
                        raise reader.error(f"ends within a field: byte {after:,} of {end:,}; download it again")
                    yield number, wire, after
                    reader.position = after
                case 5:
                    reader.skip(4, "a number")
                    yield number, wire, 0
                case _:
                    raise reader.error("is not an ONNX model: a field has a type that protobuf does not know")
        if reader.position != end:
            raise reader.error("is not an ONNX model: a field goes on beyond its message")

    def messages(self, end: int) -> Iterator[tuple[int, int]]:
        """Yield number and end of every field of bytes up to ``end``."""
        for number, wire, value in self.fields(end):
            if wire == 2:
                yield number, value

    def text(self, end: int, what: str) -> str:
        self.text_count += 1
        if self.text_count > _MOST_TEXTS:
            raise self.reader.error(f"holds more than {_MOST_TEXTS:,} names")
        count = end - self.reader.position
        if count > _MOST_NAME_BYTES:
            raise self.reader.error(f"{what} has {count:,} bytes; no model has more than {_MOST_NAME_BYTES:,}")
        return self.reader.text(count, what)

    def new_scope(self, parent: int | None) -> int:
        if len(self.scopes) == _MOST_SCOPES:
            raise self.reader.error(f"holds more than {_MOST_SCOPES:,} graphs")
        self.scopes.append(Scope(parent))
        return len(self.scopes) - 1

    def graph(self, end: int, parent: int | None, depth: int) -> None:
        if depth == _MOST_NESTED_GRAPHS:
            raise self.reader.error("graphs lie in graphs more deeply than in any model")
        index = self.new_scope(parent)
        scope = self.scopes[index]
        for number, after in self.messages(end):
            match number:
                case 1:
                    self.node(after, index, depth)
                case 5:
                    self.keep(scope, self.tensor(after))
                case 11:
                    name, dims = self.value_info(after)
                    scope.inputs[name] = dims
                case 12:
                    scope.outputs.append(self.value_info(after)[0])
                case 15:
                    self.sparse(after, scope)

    def function(self, end: int) -> None:
        index = self.new_scope(None)
        key = {1: "", 10: "", 13: ""}
        inputs, outputs = [], []
        for number, after in self.messages(end):
            match number:
                case 1 | 10 | 13:
                    key[number] = self.text(after, "the name of a function")
                case 4:
                    inputs.append(self.text(after, "the name of an input"))
                case 5:
                    outputs.append(self.text(after, "the name of an output"))
                case 7:
                    self.node(after, index, 0)
        within = range(index, len(self.scopes))
        self.functions[key[10], key[1], key[13]] = _Function(tuple(inputs), tuple(outputs), within)

    def put_in_place_of_calls(self) -> None:
        """Put a copy of a function's graphs in place of every call: what a tensor is may follow from what is inside."""
        if not self.functions:
            return
        originals = {index for function in self.functions.values() for index in function.scopes}
        waiting = [(index, 0) for index in range(len(self.scopes)) if index not in originals]
        called = set[int]()
        while waiting:
            index, depth = waiting.pop()
            nodes = []
            for node in self.scopes[index].nodes:
                function = self.functions.get((node.domain, node.operator, node.overload))
                if function is None:
                    nodes.append(node)
                    continue
                if depth == _MOST_NESTED_CALLS:
                    raise self.reader.error("functions call functions more deeply than in any model")
                called.update(function.scopes)
                waiting += [(copy, depth + 1) for copy in self.copy_for(node, index, function)]
            self.scopes[index].nodes = nodes
        for index in called:
            self.scopes[index] = Scope(None)

    def copy_for(self, call: Node, caller: int, function: _Function) -> range:
        """Append a function's graphs, its inputs and outputs bound to those of a call, and return where they are."""
        first = len(self.scopes)
        for index in function.scopes:
            original = self.scopes[index]
            parent = None if original.parent is None else original.parent - function.scopes.start + first
            scope = self.scopes[self.new_scope(parent)]
            self.count_nodes(len(original.nodes))
            self.count_tensors(len(original.tensors))
            scope.nodes, scope.tensors = original.nodes, original.tensors
            scope.inputs, scope.outputs = original.inputs, original.outputs
        bound = [*zip(function.inputs, call.inputs, strict=False), *zip(function.outputs, call.outputs, strict=False)]
        self.scopes[first].bound = {formal: (caller, name) for formal, name in bound if name}
        return range(first, len(self.scopes))

    def count_tensors(self, count: int) -> None:
        self.tensor_count += count
        if self.tensor_count > MOST_TENSORS:
            raise self.reader.error(f"holds more than {MOST_TENSORS:,} tensors")

    def count_nodes(self, count: int) -> None:
        self.node_count += count
        if self.node_count > _MOST_NODES:
            raise self.reader.error(f"holds more than {_MOST_NODES:,} nodes")

    def keep(self, scope: Scope, tensor: GraphTensor) -> None:
        if tensor.name in scope.tensors:
            raise self.reader.error(f"tensor {shown(tensor.name)!r} occurs twice")
        scope.tensors[tensor.name] = tensor

    def node(self, end: int, scope: int, depth: int) -> None:
        self.count_nodes(1)
        inputs, outputs, operator, domain, overload = [], [], "", "", ""
        numbers: dict[str, int] = {}
        constant: GraphTensor | None = None
        for number, after in self.messages(end):
            match number:
                case 1:
                    inputs.append(self.text(after, "the name of an input"))
                case 2:
                    outputs.append(self.text(after, "the name of an output"))
                case 4:
                    operator = self.text(after, "the name of an operator")
                case 5:
                    constant = self.attribute(after, scope, depth, numbers) or constant
                case 7:
                    domain = self.text(after, "the domain of an operator")
                case 8:
                    overload = self.text(after, "the overload of a function")
        if operator == "Constant" and constant is not None and outputs:
            self.keep(self.scopes[scope], replace(constant, name=outputs[0]))
        self.scopes[scope].nodes.append(
            Node(
                operator=operator,
                inputs=tuple(inputs),
                outputs=tuple(outputs),
                numbers=numbers,
                domain=domain,
                overload=overload,
            )
        )

    def attribute(self, end: int, scope: int, depth: int, numbers: dict[str, int]) -> GraphTensor | None:
        name, whole, tensor, floats, begin = "", None, None, 0, self.reader.position
        for number, wire, value in self.fields(end):
            match number, wire:
                case 1, 2:
                    name = self.text(value, "the name of an attribute")
                case 3, 0:
                    whole = value
                case 5, 2:
                    tensor = self.tensor(value)
                case 7, (2 | 5):
                    floats += 1 if wire == 5 else (value - self.reader.position) // 4
                case ((6 | 11), 2):
                    self.graph(value, scope, depth + 1)
        if name in _ATTRIBUTES and whole is not None:
            numbers[name] = whole
        if name == "value_floats" and floats:
            tensor = GraphTensor(
                name="", type="FLOAT", dims=(floats,), elements=floats, byte_count=4 * floats,
                place=(self.reader.path, begin, end),
            )  # fmt: skip
        return tensor

    def value_info(self, end: int) -> tuple[str, tuple[int, ...]]:
        """Return name and dimensions of an input or output, 0 for a dimension that is not fixed."""
        name, dims = "", []
        for number, after in self.messages(end):
            if number == 1:
                name = self.text(after, "the name of a value")
            elif number == 2:
                dims = [
                    self.dim(dim_end)
                    for _, tensor in self.only(1, after)
                    for _, shape in self.only(2, tensor)
                    for _, dim_end in self.only(1, shape)
                ]
        return name, tuple(dims)

    def only(self, wanted: int, end: int) -> Iterator[tuple[int, int]]:
        return ((number, after) for number, after in self.messages(end) if number == wanted)

    def dim(self, end: int) -> int:
        return next((value for number, wire, value in list(self.fields(end)) if (number, wire) == (1, 0)), 0)

    def sparse(self, end: int, scope: Scope) -> None:
        for _, after in self.only(1, end):
            self.keep(scope, replace(self.tensor(after), sparse=True))

    def tensor(self, end: int) -> GraphTensor:
        self.count_tensors(1)
        begin = self.reader.position
        parts = self.tensor_parts(end)
        name, dims = parts.name, tuple(parts.dims)
        if parts.kind not in ELEMENTS:
            raise self.reader.error(f"tensor {shown(name)!r} has type {parts.kind}, which weighin does not know")
        type_name, bits = ELEMENTS[parts.kind]
        elements = product(self.reader, dims, name)
        byte_count = -(-elements * bits // 8)
        place = (self.reader.path, begin, end)
        if parts.is_external:
            place = self.external_place(name, parts.where, byte_count)
        elif parts.raw is not None:
            place = (self.reader.path, *parts.raw)
            self.check_bytes(name, parts.raw[1] - parts.raw[0], byte_count)
        else:
            self.check_items(name, parts.items, elements, bits)
        if byte_count:
            self.places.setdefault(place[0], {})[place[1:]] = name
        return GraphTensor(name=name, type=type_name, dims=dims, elements=elements, byte_count=byte_count, place=place)

    def tensor_parts(self, end: int) -> _Parts:
        parts = _Parts()
        for number, wire, value in self.fields(end):
            match number, wire:
                case 1, (0 | 2):
                    self.tensor_dims(parts.dims, wire, value)
                case 2, 0:
                    parts.kind = value
                case 8, 2:
                    parts.name = self.text(value, "the name of a tensor")
                case 9, 2:
                    parts.raw = (self.reader.position, value)
                case 13, 2:
                    self.external_entry(value, parts.where)
                case 14, 0:
                    parts.is_external = value == 1
                case ((4 | 5 | 6 | 7 | 10 | 11), _):
                    byte_count = {0: 1, 1: 8, 2: value - self.reader.position, 5: 4}[wire]
                    parts.items[number] = parts.items.get(number, 0) + (1 if number == 6 else byte_count)
        return parts

    def tensor_dims(self, dims: list[int], wire: int, value: int) -> None:
        if wire == 0:
            dims.append(value)
        while wire == 2 and self.reader.position < value and len(dims) <= MOST_DIMS:
            dims.append(self.reader.varint("a dimension"))
        if len(dims) > MOST_DIMS:
            raise self.reader.error(f"a tensor has more than {MOST_DIMS} dimensions")

    def check_bytes(self, name: str, found: int, needed: int) -> None:
        if found != needed:
            raise self.reader.error(f"tensor {shown(name)!r} has {found:,} bytes where it needs {needed:,}")

    def check_items(self, name: str, items: dict[int, int], elements: int, bits: int) -> None:
        """Numbers of varying length take a byte at least, several elements of a few bits share one."""
        for number, found in items.items():
            if number in _FLOAT_ITEMS:  # complex numbers are two of them
                self.check_bytes(name, found, elements * bits // 8)
        if sum(items.values()) < (-(-elements * bits // 8) if 0 < bits < 8 else elements):
            raise self.reader.error(f"tensor {shown(name)!r} holds fewer elements than the {elements:,} that it claims")

    def external_entry(self, end: int, where: dict[str, str]) -> None:
        key = value = ""
        for number, after in self.messages(end):
            if number == 1:
                key = self.text(after, "a key of external data")
            elif number == 2:
                value = self.text(after, "a value of external data")
        where[key] = value

    def external_place(self, name: str, where: dict[str, str], byte_count: int) -> tuple[Path, int, int]:
        location = where.get("location", "")
        if location not in self.external:
            path = beside(self.reader.path, location)
            self.external[location] = path, regular_file_bytes(path)
        path, file_bytes = self.external[location]
        begin, length = where.get("offset", "0"), where.get("length", str(byte_count))
        if not re.fullmatch(r"\d{1,19}", begin, re.ASCII) or not re.fullmatch(r"\d{1,19}", length, re.ASCII):
            raise self.reader.error(f"tensor {shown(name)!r} names no place in {shown(location)!r}")
        self.check_bytes(name, int(length), byte_count)
        if int(begin) + byte_count > file_bytes:
            raise ModelFileError(
                f"{shown(path.name)}: ends at byte {file_bytes:,}, before tensor {shown(name)!r} of "
                f"{shown(self.reader.path.name)}; download it again"
            )
        return path, int(begin), int(begin) + byte_count
