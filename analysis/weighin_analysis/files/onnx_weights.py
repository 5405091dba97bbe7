"""Which tensors of an ONNX graph are parameters, and how many weights each holds.

A graph stores parameters, scales, constants of its exporter and shapes alike. What a tensor is, is decided by what it
feeds, through operators that only move elements:

- an integer tensor is a parameter where a quantized operator takes its weights, or where it is of a byte or less and a
  product takes it as a float or a constant scales it; else a shape, a mask or an index;
- a floating one is a parameter unless all that it feeds takes a scale or a zero point, compares or selects, turns it
  into rotary positions, or adds it to attention scores; a single number is a factor, not a parameter.

Operators: https://github.com/onnx/onnx/blob/main/docs/Operators.md and, for quantized ones,
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from weighin_analysis.errors import ModelFileError
from weighin_analysis.files.onnx_graph import Graph, GraphTensor, Node
from weighin_analysis.files.reading import shown

# Inputs that take quantized weights.
_WEIGHTS = {
    "MatMulNBits": {1}, "MatMulBnb4": {1}, "GatherBlockQuantized": {0}, "DequantizeLinear": {0},
    "MatMulInteger": {0, 1}, "ConvInteger": {1}, "QLinearMatMul": {0, 3}, "QLinearConv": {3, 8},
    "DynamicQuantizeMatMul": {1}, "MatMulIntegerToFloat": {1}, "QAttention": {1},
    "QGemm": {3, 6}, "QEmbedLayerNormalization": {2, 3, 4, 5, 6},
    "QMoE": {2, 5, 8}, "DynamicQuantizeLSTM": {1, 2},
}  # fmt: skip
# Inputs that take scales, zero points, rotary tables, positions and limits.
_CONSTANTS = {
    "MatMulNBits": {2, 3, 4}, "MatMulBnb4": {2}, "GatherBlockQuantized": {1, 2, 3}, "DequantizeLinear": {1, 2},
    "QuantizeLinear": {1, 2}, "MatMulInteger": {2, 3}, "ConvInteger": {2, 3}, "QLinearMatMul": {1, 2, 4, 5, 6, 7},
    "QLinearConv": {1, 2, 4, 5, 6, 7}, "DynamicQuantizeMatMul": {2, 3}, "MatMulIntegerToFloat": {2, 3, 4, 5},
    "QAttention": {3, 4, 6, 7}, "QGemm": {1, 2, 4, 5, 7, 8}, "QEmbedLayerNormalization": set(range(8, 20)),
    "QMoE": {3, 6, 9, 11, 12, 13}, "DynamicQuantizeLSTM": set(range(8, 12)), "RotaryEmbedding": {1, 2, 3},
    "GroupQueryAttention": {5, 6, 7, 8, 9, 12, 13}, "Clip": {1, 2}, "Pad": {2}, "Resize": {1, 2},
    "Where": {1, 2}, "OneHot": {2}, "Range": {0, 1, 2}, "Pow": {0, 1}, "Equal": {0, 1}, "Less": {0, 1},
    "LessOrEqual": {0, 1}, "Greater": {0, 1}, "GreaterOrEqual": {0, 1},
}  # fmt: skip
_MOVES = frozenset(
    {"Identity", "Cast", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Slice", "Split"}
)
_LOOKS_UP = _MOVES | {"Gather", "Concat"}
_POSITIONS = _LOOKS_UP | {"Mul", "MatMul", "Einsum", "Div"}
_ANGLES = {"Sin": {0}, "Cos": {0}, "RotaryEmbedding": {1, 2, 3}, "GroupQueryAttention": {7, 8}}
_NARROW = frozenset({"INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2"})
# Those that hold packed weights where they hold any, and inputs that take such a number for what it is.
_PACKING = _NARROW | {"INT16", "UINT16", "INT32", "UINT32"}
_COUNTS = {"Gather": {1}, "GatherElements": {1}, "GatherND": {1}, "GatherBlockQuantized": {1}, "Where": {0}}
_FLOAT_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})
_INTEGER_PRODUCTS = frozenset({"MatMulInteger", "ConvInteger"})
_MOST_STEPS = 4_000_000  # a graph of 20,000 nodes takes 200,000

Value = tuple[int, str]
Use = tuple[Node, int, int]  # a node, which of its inputs, the scope of the node


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A tensor that holds parameters.

    ``type`` is how its weights are stored, several in a byte included; ``operators`` are those that it feeds.
    """

    tensor: GraphTensor
    parameters: int
    type: str
    operators: frozenset[str]

    @property
    def table(self) -> bool:
        """Whether rows of it are looked up."""
        return bool(self.operators & {"Gather", "GatherBlockQuantized", "QEmbedLayerNormalization"})


class Flow:
    """Who reads which value, names resolved from the graph that uses them outwards."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps = 0
        self._defined = [
            scope.tensors.keys() | scope.inputs.keys() | {name for node in scope.nodes for name in node.outputs}
            for scope in graph.scopes
        ]
        self.uses: dict[Value, list[Use]] = {}
        self.makers: dict[Value, Use] = {}
        for index, scope in enumerate(graph.scopes):
            for node in scope.nodes:
                for place, name in enumerate(node.inputs):
                    if name:
                        self.uses.setdefault(self.value(index, name), []).append((node, place, index))
                for name in node.outputs:
                    self.makers[self.value(index, name)] = node, 0, index

    def value(self, scope: int, name: str) -> Value:
        """Return the value that a name means in a graph."""
        at: int | None = scope
        while at is not None:
            bound = self.graph.scopes[at].bound.get(name)
            if bound is not None:
                scope, name = bound
                at = scope
            elif name in self._defined[at]:
                return at, name
            else:
                at = self.graph.scopes[at].parent
        return scope, name

    def tensor(self, value: Value) -> GraphTensor | None:
        """Return the stored tensor that a value is, None where it is none."""
        return self.graph.scopes[value[0]].tensors.get(value[1])

    def step(self) -> None:
        """Count the work: a hostile graph may have as many paths as it likes."""
        self.steps += 1
        if self.steps > _MOST_STEPS:
            name = shown(self.graph.files[0].name)
            raise ModelFileError(f"{name}: its graph is more entangled than that of any model; refusing to follow it")

    def after(self, value: Value, through: frozenset[str]) -> Iterator[Use]:
        """Yield every use of a value, and of what the operators of ``through`` make of it."""
        seen, waiting = {value}, [value]
        while waiting:
            for use in self.uses.get(waiting.pop(), ()):
                self.step()
                yield use
                node, place, scope = use
                if node.operator in through and (place == 0 or node.operator == "Concat"):
                    made = {self.value(scope, name) for name in node.outputs} - seen
                    seen |= made
                    waiting += made

    def before(self, values: list[Value], through: frozenset[str]) -> set[Value]:
        """Return the values from which operators of ``through`` alone make these values, and these."""
        seen, waiting = set(values), list(values)
        while waiting:
            maker = self.makers.get(waiting.pop())
            self.step()
            if maker is not None and maker[0].operator in through:
                node, _, scope = maker
                made = {self.value(scope, name) for name in node.inputs if name} - seen
                seen |= made
                waiting += made
        return seen


def weights(graph: Graph) -> tuple[list[Weight], int]:
    """Return the tensors that hold parameters; bytes that two names share, and alike branches, only once.

    And the bytes of integers that may hold others: nothing that is known reads them.
    """
    flow = Flow(graph)
    constants = _rotary(flow) | _tables_of_rotation(flow) | _added_to_scores(flow) | _integer_scales(flow)
    unpacked, scales = _scaled_after_cast(flow)
    constants |= scales
    found: dict[object, Weight] = {}
    unclear: dict[object, int] = {}
    for index, scope in enumerate(graph.scopes):
        for tensor in scope.tensors.values():
            value = (index, tensor.name)
            uses = [use for use in flow.after(value, _LOOKS_UP) if use[0].operator not in _MOVES]
            weight = None if value in constants else _weight(graph, tensor, uses)
            if weight is None and value in unpacked:
                operators = frozenset(node.operator for node, _, _ in uses)
                weight = Weight(tensor=tensor, parameters=tensor.elements, type=tensor.type, operators=operators)
            if weight is not None:
                inner = scope.parent is not None
                key = (tensor.name, tensor.dims, tensor.type) if inner else tensor.place
                found.setdefault(key, weight)
            elif _may_hold_weights(tensor, uses):
                unclear[tensor.place] = tensor.byte_count
    counted = {weight.tensor.place for weight in found.values()}
    return list(found.values()), sum(count for place, count in unclear.items() if place not in counted)


def _may_hold_weights(tensor: GraphTensor, uses: list[Use]) -> bool:
    """Whether these are integers that something reads of which they are not known to be no weights."""
    is_mask = len(tensor.dims) == 4 and tensor.dims[:2] == (1, 1)  # one for all heads
    told = (place in _CONSTANTS.get(n.operator, ()) or place in _COUNTS.get(n.operator, ()) for n, place, _ in uses)
    return tensor.type in _PACKING and not is_mask and not all(told)


def _weight(graph: Graph, tensor: GraphTensor, uses: list[Use]) -> Weight | None:
    operators = frozenset(node.operator for node, _, _ in uses)
    if tensor.type.startswith(("FLOAT", "BFLOAT", "DOUBLE")):
        scales = [place in _CONSTANTS.get(node.operator, ()) for node, place, _ in uses if _reads(node, place)]
        if all(scales) or not _is_more_than_a_factor(tensor, uses):
            return None
        return Weight(tensor=tensor, parameters=tensor.elements, type=tensor.type, operators=operators)
    for node, place, _ in uses:
        if place in _WEIGHTS.get(node.operator, ()):
            bits, count = _packed(graph, tensor, node)
            kind = f"INT{bits}" if count != tensor.elements else tensor.type
            if node.operator == "MatMulBnb4":
                kind = "BNB4"
            return Weight(tensor=tensor, parameters=count, type=kind, operators=operators)
    return None


def _reads(node: Node, place: int) -> bool:
    """Whether a node takes a tensor's elements in: one that looks up rows passes them on."""
    return node.operator != "Concat" and (node.operator != "Gather" or place == 0)


def _is_more_than_a_factor(tensor: GraphTensor, uses: list[Use]) -> bool:
    biased = any(node.operator in ("Gemm", "FusedGemm", "Conv") and place == 2 for node, place, _ in uses)
    return tensor.elements > 1 or (tensor.elements == 1 and tensor.dims == (1,) and biased)


def _packed(graph: Graph, tensor: GraphTensor, node: Node) -> tuple[int, int]:
    """Return bits of a weight, and weights in the tensor, as the operator that reads it unpacks them."""
    stored_bits = tensor.byte_count * 8 // tensor.elements if tensor.elements else 8
    match node.operator:
        case "MatMulNBits" | "MatMulBnb4":
            bits = node.numbers.get("bits", 4)
            rows, columns = node.numbers.get("N", 0), node.numbers.get("K", 0)
            block = node.numbers.get("block_size", 1) if node.operator == "MatMulNBits" else 1
            whole = rows * -(-columns // block) * block if block else 0
            if not 0 < bits <= 8 or -(-whole * bits // 8) != tensor.byte_count or not whole:
                raise ModelFileError(
                    f"{shown(graph.files[0].name)}: tensor {shown(tensor.name)!r} has {tensor.byte_count:,} bytes, not "
                    f"those of {rows:,} rows of {columns:,} weights in {bits} bits"
                )
            return bits, rows * columns
        case "GatherBlockQuantized" if stored_bits == 8:
            bits = node.numbers.get("bits", 4)
        case "QMoE":
            bits = node.numbers.get("expert_weight_bits", 4)
        case _:
            bits = stored_bits
    if bits not in (1, 2, 4, 8, 16, 32):
        raise ModelFileError(f"{shown(graph.files[0].name)}: weights of {bits} bits are not known to weighin")
    return bits, tensor.byte_count * 8 // bits if bits < stored_bits else tensor.elements


def _rotary(flow: Flow) -> set[Value]:
    """Frequencies of rotary positions: what becomes a sine or cosine by way of positions alone, or is taken as one."""
    ends = [
        flow.value(index, name)
        for index, scope in enumerate(flow.graph.scopes)
        for node in scope.nodes
        for place, name in enumerate(node.inputs)
        if name and place in _ANGLES.get(node.operator, ())
    ]
    return flow.before(ends, _POSITIONS)


def _tables_of_rotation(flow: Flow) -> set[Value]:
    """Tables of cosines and sines: two of equal dimensions that are multiplied with what one sum then joins.

    One row is no table of positions: two gates of a mixture have that form.
    """
    sums: dict[tuple[object, ...], set[Value]] = {}
    for index, scope in enumerate(flow.graph.scopes):
        for tensor in scope.tensors.values():
            if not _is_table(tensor) or not tensor.type.startswith(("FLOAT", "BFLOAT")):
                continue
            for node, _, at in flow.after((index, tensor.name), _LOOKS_UP):
                if node.operator == "Mul":
                    for name in node.outputs:
                        for user, _, where in flow.uses.get(flow.value(at, name), ()):
                            flow.step()
                            if user.operator in ("Add", "Sub"):
                                key = (tensor.dims, where, user.outputs)
                                sums.setdefault(key, set()).add((index, tensor.name))
    return {value for pair in sums.values() if len(pair) == 2 for value in pair}


def _added_to_scores(flow: Flow) -> set[Value]:
    """Masks and slopes: tables that are added to what a softmax takes. A bias in that place is one row."""
    ends = [
        flow.value(index, node.inputs[0])
        for index, scope in enumerate(flow.graph.scopes)
        for node in scope.nodes
        if node.operator == "Softmax" and node.inputs
    ]
    found = flow.before(ends, _MOVES | {"Add"})
    tensors = {
        (index, name) for index, scope in enumerate(flow.graph.scopes)
        for name, tensor in scope.tensors.items() if _is_table(tensor)
    }  # fmt: skip
    return found & tensors


def _integer_scales(flow: Flow) -> set[Value]:
    """Scales that a product of integers is multiplied with: the next factor after the cast, and what it is made of."""
    products = [
        flow.value(index, name)
        for index, scope in enumerate(flow.graph.scopes)
        for node in scope.nodes
        if node.operator in _INTEGER_PRODUCTS
        for name in node.outputs
    ]
    factors = []
    for value in products:
        for node, _, at in flow.after(value, frozenset({"Cast"})):
            if node.operator == "Mul":
                inputs = [flow.value(at, name) for name in node.inputs]
                factors += [one for one in inputs if one in flow.makers and flow.makers[one][0].operator == "Mul"]
                factors += [one for one in inputs if one not in flow.makers]
    return flow.before(factors, frozenset({"Mul"}))


def _is_table(tensor: GraphTensor) -> bool:
    """Whether more than one of its dimensions is larger than 1."""
    return sum(dim > 1 for dim in tensor.dims) > 1


def _scaled_after_cast(flow: Flow) -> tuple[set[Value], set[Value]]:
    """Narrow integers that a graph turns into weights step by step, and the scales and zero points of that.

    The steps are a cast, the zero point's subtraction and the product with a constant; without the last two it is a
    matrix that a product takes. A mask is multiplied with what is no constant, or subtracted itself.
    """
    unpacked, scales = set[Value](), set[Value]()
    for index, scope in enumerate(flow.graph.scopes):
        for tensor in scope.tensors.values():
            if tensor.type not in _NARROW:
                continue
            value, offsets = (index, tensor.name), set[Value]()
            seen, waiting = {value}, [value]
            while waiting:
                for node, place, at in flow.after(waiting.pop(), _LOOKS_UP):
                    others = [flow.value(at, name) for i, name in enumerate(node.inputs) if name and i != place]
                    if node.operator in _FLOAT_PRODUCTS:
                        unpacked.add(value)
                    elif node.operator == "Sub" and place == 0:
                        offsets |= _floats_among(flow, others)
                        made = {flow.value(at, name) for name in node.outputs} - seen
                        seen |= made
                        waiting += made
                    elif node.operator == "Mul" or (node.operator == "Div" and place == 0):
                        factors = _floats_among(flow, others)
                        if factors:
                            unpacked.add(value)
                            scales |= factors | offsets
    return unpacked, scales


def _floats_among(flow: Flow, values: list[Value]) -> set[Value]:
    """Return the stored floats that these values are, or are moved from."""
    stored = ((value, flow.tensor(value)) for value in flow.before(values, _MOVES))
    return {value for value, tensor in stored if tensor is not None and tensor.type.startswith(("FLOAT", "BFLOAT"))}
