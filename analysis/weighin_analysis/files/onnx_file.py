"""What an ONNX file holds: its scheme, its weights and what its inputs tell of the cache."""

import re
from collections import Counter
from pathlib import Path

from weighin_analysis.errors import ModelFileError
from weighin_analysis.files.model_file import Contents, StoredTensor
from weighin_analysis.files.onnx_graph import Graph, read_graph
from weighin_analysis.files.onnx_weights import Weight, weights
from weighin_analysis.files.reading import note_of_integers, shown
from weighin_analysis.models.entry import KvCache, ModelKind
from weighin_analysis.sizes.artefact import Format

_PAST_KEY = re.compile(r"past(_key_values)?[._](\d{1,4})([._](decoder[._])?key)?|past_key_(\d{1,4})")
_FLOAT_SCHEMES = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "DOUBLE": "fp64"}
_LEAST_SHARE = 0.9


def read_onnx(path: Path) -> Contents:
    """Return what the headers of an ONNX model say."""
    graph = read_graph(path)
    found, unclear_bytes = weights(graph)
    if not found and not unclear_bytes:
        raise ModelFileError(f"{shown(path.name)}: holds no weights; another file of the model may")
    by_place = {weight.tensor.place: weight for weight in found}
    tensors: dict[tuple[Path, int, int], StoredTensor] = {}
    for scope in graph.scopes:
        for tensor in scope.tensors.values():
            weight = by_place.pop(tensor.place, None)
            kept = StoredTensor(
                name=tensor.name,
                type=weight.type if weight else tensor.type,
                dims=tensor.dims,
                byte_count=tensor.byte_count,
                parameters=weight.parameters if weight else 0,
            )
            tensors.setdefault(tensor.place, kept)
    unclear = note_of_integers(path, unclear_bytes, sum(tensor.byte_count for tensor in tensors.values()))
    if not found:
        raise ModelFileError(f"{shown(path.name)}: holds no weights; another file of the model may")
    scheme, notes = _scheme(graph, found)
    notes += unclear
    table = max((weight for weight in found if weight.table), key=lambda weight: weight.parameters, default=None)
    vocab = table.tensor.dims[0] if table and table.tensor.dims else None
    if any(tensor.sparse for scope in graph.scopes for tensor in scope.tensors.values()):
        notes.append("Some tensors are stored sparse; only the weights that are stored are counted, not the zeros.")
    return Contents(
        format=Format.ONNX,
        scheme=scheme,
        tensors=tuple(tensors.values()),
        files=graph.files,
        kind=_kind(graph),
        head_copy=_head_copy(found, table),
        vocab=vocab,
        hidden=table.parameters // vocab if table and vocab else None,
        kv_cache=_kv_cache(graph),
        notes=tuple(notes),
    )


def _scheme(graph: Graph, found: list[Weight]) -> tuple[str, list[str]]:
    """Return the name that publishers give such a file, and a sentence where it holds more than the name says."""
    count: Counter[str] = Counter()
    for weight in found:
        count[weight.type] += weight.parameters
    total = count.total()
    floats = Counter({kind: n for kind, n in count.items() if kind in _FLOAT_SCHEMES})
    quantized = Counter({kind: n for kind, n in count.items() if kind not in _FLOAT_SCHEMES})
    shares = ", ".join(f"{n / total:.0%} {kind}" for kind, n in count.most_common())
    notes = [] if max(count.values()) > _LEAST_SHARE * total else [f"The weights are {shares}."]
    if not quantized:
        most, n = floats.most_common(1)[0]
        return (_FLOAT_SCHEMES[most] if n > total / 2 else "mixed"), notes
    kind = quantized.most_common(1)[0][0]
    if kind == "BNB4":
        return "bnb4", notes
    in_blocks = any("MatMulNBits" in weight.operators for weight in found)
    if kind in ("INT8", "UINT8"):
        return ("int8_block32" if in_blocks else kind.lower()), notes
    bits = re.sub(r"\D", "", kind)
    if kind.startswith("FLOAT"):
        return kind.lower(), notes
    return f"q{bits}" + ("f16" if _computes_in_half(graph) else ""), notes


def _computes_in_half(graph: Graph) -> bool:
    """Whether most elements that are floats, scales included, are half precision."""
    elements: Counter[str] = Counter()
    for scope in graph.scopes:
        for tensor in scope.tensors.values():
            elements[tensor.type] += tensor.elements
    return elements["FLOAT16"] > elements["FLOAT"]


def _head_copy(found: list[Weight], table: Weight | None) -> int:
    """Return the parameters of a product as large as the table that is looked up, 0 where there is none.

    Exporters turn a table that input and output share into two tensors, one of them transposed or quantized.
    """
    copies = [one.parameters for one in found if table and not one.table and one.parameters == table.parameters]
    return copies[0] if len(copies) == 1 else 0


def _kind(graph: Graph) -> ModelKind | None:
    """Return how the model is built, None where its inputs and outputs do not tell."""
    main = graph.scopes[0]
    if any(name.startswith("encoder_") for name in main.inputs):
        return ModelKind.ENCODER_DECODER
    if any(name.startswith(("past", "present")) for name in (*main.inputs, *main.outputs)):
        return ModelKind.DECODER
    return ModelKind.ENCODER if "logits" not in main.outputs else None


def _kv_cache(graph: Graph) -> KvCache | None:
    """Return layers, heads and widths of the cache that the graph takes in, if all layers are alike."""
    shapes = [dims for name, dims in graph.scopes[0].inputs.items() if _PAST_KEY.fullmatch(name)]
    if not shapes or len(set(shapes)) != 1 or len(shapes[0]) != 4:
        return None
    heads, width = shapes[0][1], shapes[0][3]
    return KvCache(layers=len(shapes), kv_heads=heads, head_dim=width) if heads and width else None
