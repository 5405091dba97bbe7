"""What a model weighs in ONNX: each tensor as the exporters and quantizers behind Transformers.js store it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.data_files import read_data
from weighin_analysis.errors import SizeError
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.models.shape import Shape
from weighin_analysis.models.tensors import Role, Tensor, tensors
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis
from weighin_analysis.sizes.neighbours import size_by_neighbours
from weighin_analysis.sizes.parts import split
from weighin_analysis.sizes.tokenizer import tokenizer_bytes

SCHEMES = ("fp32", "fp16", "int8", "int8_block32", "q4", "q4f16", "bnb4")
# Other names of the same storage: those of Transformers.js, and of the kernels that weighin measures.
ALIASES = {"q8": "int8", "uint8": "int8", "quantized": "int8", "int8_dynamic": "int8", "int4_block32": "q4"}

_FLOAT_BYTES = {"fp32": 4, "fp16": 2, "int8": 4, "int8_block32": 4, "q4": 4, "q4f16": 2, "bnb4": 4}
_UNQUANTIZED = frozenset(("fp32", "fp16"))
_INT8_SCALE_BYTES = 5  # one fp32 scale and one 8-bit zero point
# Nodes with their names, and shapes as constants: 10 kB a layer in exports with fused attention, 15 to 30 kB in others.
_GRAPH_BYTES_PER_LAYER = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blocks:
    """Weights stored in blocks of a row, the last one of which is filled up, or ``across_rows`` of a matrix.

    ``zero_point_bits`` 0 where blocks are symmetric.
    """

    weights: int
    bits: int
    scale_bytes: int
    zero_point_bits: int = 0
    across_rows: bool = False

    def bytes_of(self, tensor: Tensor) -> int:
        if self.across_rows:
            matrix = tensor.rows * tensor.columns
            return tensor.copies * (-(-matrix * self.bits // 8) + -(-matrix // self.weights) * self.scale_bytes)
        blocks = tensor.copies * tensor.rows * -(-tensor.columns // self.weights)
        return blocks * (self.weights * self.bits + 8 * self.scale_bytes + self.zero_point_bits) // 8


_MATRIX_BLOCKS = {
    "int8_block32": _Blocks(weights=32, bits=8, scale_bytes=4),
    "q4": _Blocks(weights=32, bits=4, scale_bytes=4),
    "q4f16": _Blocks(weights=32, bits=4, scale_bytes=2),
    "bnb4": _Blocks(weights=64, bits=4, scale_bytes=4, across_rows=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """How an exporter lays out what the scheme's name does not tell.

    ``head_apart``: a head that shares the vocabulary's table is stored as a second one. ``table_in_8_bits``: a 4-bit
    scheme stores the table in blocks of 8 bits and the matrices with zero points. ``rotary_tables``: sines and cosines
    of all positions are stored. ``masked_language_head``: an encoder keeps the head that it was trained with.
    ``shared_twice``: in int8, a matrix that several layers share is stored as it was as well, for all layers after the
    first: exporters gave these a copy by an Identity node, and the quantizer replaces only what is a constant. Exports
    since 2024 are simplified before, and no 4-bit ones are older.
    """

    head_apart: bool = False
    table_in_8_bits: bool = False
    rotary_tables: bool = True
    masked_language_head: bool = False
    shared_twice: bool = False


USUAL = Export()


def download_size(entry: ModelEntry, scheme: str) -> DownloadSize:
    """Return what the ONNX files of a model weigh: graph and external data together.

    Counted tensor by tensor where the catalogue tells the model's shape; ``low`` to ``high`` spans the exports that are
    found of one model, and the value is the one that is known for this model, else the usual one. Without a shape
    fitted, by models of similar size. SizeError where there is no such scheme, or nobody tells the parameters.
    """
    if scheme not in SCHEMES:
        raise SizeError(f"ONNX has no scheme {scheme!r}; it has {', '.join(SCHEMES)}")
    if entry.shape is None:
        return size_by_neighbours(entry, scheme, download_size)
    shape, context_tokens = entry.shape, entry.context_tokens or 0
    export = _exports().get(entry.reshaped_from or entry.name, USUAL)
    parts = stored_bytes(shape, context_tokens, scheme, export)
    sizes = [sum(stored_bytes(shape, context_tokens, scheme, one).values()) for one in _found(shape)]
    size = sum(parts.values())
    return DownloadSize(
        format=Format.ONNX,
        scheme=scheme,
        bytes=size,
        low=min(size, *sizes),
        high=max(size, *sizes),
        basis=SizeBasis.COUNTED,
        parts=parts,
        tokenizer_bytes=tokenizer_bytes(entry),
        runtime_bytes=None,
        notes=tuple(_notes(shape, scheme, export, parts)),
    )


def stored_bytes(shape: Shape, context_tokens: int, scheme: str, export: Export) -> dict[str, int]:
    """Return the bytes of an export by part: token_embedding, head, layers, other.

    ``context_tokens`` are the positions that the rotary tables hold, 0 if nobody tells.
    """
    exported = _exported(shape, export)
    parts = split((tensor, _tensor_bytes(tensor, shape, scheme, export)) for tensor in exported)
    parts["other"] += _rotary_bytes(shape, context_tokens, scheme) if export.rotary_tables else 0
    parts["other"] += shape.architecture.layers * _GRAPH_BYTES_PER_LAYER
    return parts


def _exported(shape: Shape, export: Export) -> Iterator[Tensor]:
    """Yield the tensors that the graph keeps. No output of an encoder depends on its pooler, which is cut off."""
    arch = shape.architecture
    yield from tensors(replace(shape, pooler=False))
    if arch.kind is ArchitectureKind.ENCODER and export.masked_language_head:
        yield Tensor(role=Role.POOLER, rows=arch.hidden, columns=arch.hidden)
        yield Tensor(role=Role.BIAS, rows=1, columns=arch.hidden)
        yield Tensor(role=Role.NORM, rows=2, columns=arch.hidden)
        yield Tensor(role=Role.HEAD, rows=arch.vocab, columns=shape.embedding_width or arch.hidden)
        yield Tensor(role=Role.BIAS, rows=1, columns=arch.vocab)
    if arch.kind is ArchitectureKind.DECODER and arch.tied_embeddings and export.head_apart:
        yield Tensor(role=Role.HEAD, rows=arch.vocab, columns=arch.hidden)


_TABLES = frozenset((Role.TOKEN_EMBEDDING, Role.POSITION_EMBEDDING, Role.TOKEN_TYPE_EMBEDDING))
_VECTORS = frozenset((Role.NORM, Role.BIAS))


def _tensor_bytes(tensor: Tensor, shape: Shape, scheme: str, export: Export) -> int:
    dense = tensor.weight_count * _FLOAT_BYTES[scheme]
    if tensor.role in _VECTORS or scheme in _UNQUANTIZED:
        return dense
    twice = export.shared_twice and _shares_layers(shape) and tensor.layer is not None and scheme == "int8"
    return _quantized_bytes(tensor, shape, scheme, export) + (dense if twice else 0)


def _quantized_bytes(tensor: Tensor, shape: Shape, scheme: str, export: Export) -> int:
    if scheme == "int8":
        # Decoders have one scale for a whole matrix, encoders one for each output; look-up tables one in both.
        per_output = shape.architecture.kind is ArchitectureKind.ENCODER and tensor.role not in _TABLES
        return tensor.weight_count + tensor.copies * (tensor.rows if per_output else 1) * _INT8_SCALE_BYTES
    blocks = _MATRIX_BLOCKS[scheme]
    newer = export.table_in_8_bits and scheme in ("q4", "q4f16")
    if tensor.role not in _TABLES:
        return replace(blocks, zero_point_bits=4 if newer else 0).bytes_of(tensor)
    if newer and tensor.role is Role.TOKEN_EMBEDDING:
        return replace(blocks, bits=8, zero_point_bits=8).bytes_of(tensor)
    return tensor.weight_count * _FLOAT_BYTES[scheme]


def _shares_layers(shape: Shape) -> bool:
    return shape.distinct_layers is not None


def _rotary_bytes(shape: Shape, context_tokens: int, scheme: str) -> int:
    """Sines and cosines, each of half a head's width per position; local and global layers turn at their own rates."""
    arch = shape.architecture
    if arch.kind is ArchitectureKind.ENCODER or shape.position_rows:
        return 0
    rates = 2 if arch.sliding_window and arch.global_layer_interval else 1
    return rates * 2 * context_tokens * (arch.head_dim // 2) * _FLOAT_BYTES[scheme]


def _found(shape: Shape) -> Iterator[Export]:
    """Yield the exports that are found of models like this one."""
    if shape.architecture.kind is ArchitectureKind.ENCODER:
        yield from (USUAL, Export(masked_language_head=True))
    else:
        yield from (USUAL, Export(rotary_tables=False), Export(head_apart=True))
        if shape.architecture.tied_embeddings:
            yield Export(table_in_8_bits=True)
    if _shares_layers(shape):
        yield Export(masked_language_head=True, shared_twice=True)


def _notes(shape: Shape, scheme: str, export: Export, parts: dict[str, int]) -> Iterator[str]:
    arch = shape.architecture
    total = sum(parts.values())
    tied_decoder = arch.kind is ArchitectureKind.DECODER and arch.tied_embeddings
    if scheme in _MATRIX_BLOCKS and parts["token_embedding"] > total // 10:
        if export.table_in_8_bits:
            yield "The vocabulary's table is stored in 8 bits; exports before autumn 2025 keep it as floats."
        else:
            kind = "fp16" if _FLOAT_BYTES[scheme] == 2 else "fp32"
            share = round(100 * parts["token_embedding"] / total)
            yield f"The vocabulary's table stays in {kind}: {share} % of the download."
    if tied_decoder:
        yield (
            "This export stores the head apart from the table that it shares with the input."
            if export.head_apart
            else "The head shares the table; exports that store it apart are larger (the upper end)."
        )
    if export.masked_language_head:
        yield "This export keeps the head for masked words, with a table of its own."
    elif arch.kind is ArchitectureKind.ENCODER:
        yield "Without a head; exports for masked words have one, with a table of its own (the upper end)."
    if _shares_layers(shape) and scheme == "int8":
        yield (
            "This export stores the matrices that layers share twice: in 8 bits for the first, as floats for the rest."
            if export.shared_twice
            else "Exports before 2024 store the matrices that layers share as floats as well (the upper end)."
        )
    if scheme == "int8_block32":
        yield "No Transformers.js export has this scheme; it is what ONNX Runtime's own quantizer writes."


@cache
def _exports() -> dict[str, Export]:
    rows = read_data("onnx_exports.toml")["export"]
    return {row["model"]: Export(**{name: row[name] for name in row.keys() - {"model", "source"}}) for row in rows}
