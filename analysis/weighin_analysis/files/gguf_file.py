"""Reads the header of GGUF files: metadata and the list of tensors, never the weights.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian. Why an own reader:
see ``reading.py``.
"""

import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from weighin_analysis.errors import ModelFileError
from weighin_analysis.files.gguf_shape import describe
from weighin_analysis.files.gguf_types import INTEGERS, SCHEMES, TENSOR_TYPES, base_type, substitute
from weighin_analysis.files.metadata import Array, Metadata, Value
from weighin_analysis.files.model_file import Contents, StoredTensor
from weighin_analysis.files.reading import MOST_TENSORS, Reader, check_apart, note_of_integers, opened, product, shown
from weighin_analysis.files.shards import shards
from weighin_analysis.sizes.artefact import Format

MAGIC = b"GGUF"
_MOST_KEYS = 4096
_MOST_NAME_BYTES = 1024
_MOST_KEPT_ITEMS = 1024  # of an array: one number per layer
_MOST_NESTED_ARRAYS = 4
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LEAST_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # name, dimensions, type and offset of the smallest
_CONSTANTS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight", ".scale", ".input_scale")
# A rotation's frequencies follow from the configuration, and scales belong to a quantized tensor.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    metadata: Metadata
    tensors: list[StoredTensor]


def read_gguf(path: Path) -> Contents:
    """Return what the headers of a GGUF model say, of all its parts if it was split."""
    paths = shards(path)
    headers = []
    before: Reader | None = None
    for part in paths:
        with opened(part) as reader:
            if before is not None:
                reader.go_on_from(before)
            headers.append(_read_header(reader))
            before = reader
            if sum(len(header.tensors) for header in headers) > MOST_TENSORS:
                raise reader.error(f"and its other parts hold more than {MOST_TENSORS:,} tensors")
    metadata = headers[0].metadata
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    name = shown(path.name)
    repeated = _first_repeated(tensors)
    if repeated is not None:
        raise ModelFileError(f"{name}: tensor {shown(repeated)!r} occurs twice")
    parts, expected = metadata.count("split.count"), metadata.count("split.tensors.count")
    if parts is not None and parts > 1 and parts != len(paths):
        raise ModelFileError(f"{name}: is one of {parts} parts, whose names must say so: NAME-00001-of-{parts:05}.gguf")
    if expected is not None and expected != len(tensors):
        raise ModelFileError(f"{name}: its parts hold {len(tensors)} tensors of {expected}; download them again")
    integer_bytes = sum(tensor.byte_count for tensor in tensors if tensor.type in INTEGERS)
    unclear = note_of_integers(path, integer_bytes, sum(tensor.byte_count for tensor in tensors))
    if not any(tensor.parameters for tensor in tensors):
        raise ModelFileError(f"{name}: holds no weights; it may be a vocabulary alone")
    if metadata.text("general.type") == "imatrix":
        raise ModelFileError(f"{name}: is an importance matrix, not a model")
    scheme, notes = _scheme(metadata, tensors)
    return describe(
        metadata,
        Contents(format=Format.GGUF, scheme=scheme, tensors=tensors, files=paths, notes=(*notes, *unclear)),
    )


def _first_repeated(tensors: tuple[StoredTensor, ...]) -> str | None:
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            return tensor.name
        seen.add(tensor.name)
    return None


def _read_header(reader: Reader) -> _Header:
    if reader.take(4, "the magic number") != MAGIC:
        raise reader.error("is not a GGUF file")
    version = reader.unsigned(4, "the version")
    if version in (2 << 24, 3 << 24):
        raise reader.error("is big endian, which weighin does not read; convert it or take the little-endian file")
    if version not in (2, 3):
        raise reader.error(f"is GGUF version {version}; weighin reads versions 2 and 3")
    tensor_count = reader.unsigned(8, "the number of tensors")
    key_count = reader.unsigned(8, "the number of keys")
    if tensor_count > MOST_TENSORS or tensor_count * _LEAST_TENSOR_BYTES > reader.byte_count:
        raise reader.error(f"claims {tensor_count:,} tensors, more than it can hold")
    if key_count > _MOST_KEYS:
        raise reader.error(f"claims {key_count:,} keys of metadata; no model has more than {_MOST_KEYS:,}")
    values: dict[str, Value] = {}
    for _ in range(key_count):
        key = _name(reader, "a key")
        if key in values:
            raise reader.error(f"key {shown(key)!r} occurs twice")
        values[key] = _value(reader, reader.unsigned(4, "the type of a value"))
    metadata = Metadata(values)
    return _Header(metadata=metadata, tensors=_tensors(reader, metadata, tensor_count))


def _name(reader: Reader, what: str) -> str:
    count = reader.unsigned(8, f"the length of {what}")
    if not 0 < count <= _MOST_NAME_BYTES:
        raise reader.error(f"{what} has {count:,} bytes, not 1 to {_MOST_NAME_BYTES}")
    return reader.text(count, what)


def _value(reader: Reader, kind: int, depth: int = 0) -> Value:
    if kind == _STRING:
        count = reader.unsigned(8, "the length of a text")
        if count > _MOST_NAME_BYTES:  # a template or a licence; nothing that is asked for
            reader.skip(count, "a text")
            return None
        return reader.take(count, "a text").decode(errors="replace")
    if kind == _ARRAY:
        return _array(reader, depth)
    if kind not in _SCALARS:
        raise reader.error(f"a value has type {kind}, which GGUF does not know")
    scalar = _SCALARS[kind]
    number: Value = struct.unpack(scalar, reader.take(struct.calcsize(scalar), "a value"))[0]
    return number


def _array(reader: Reader, depth: int) -> Array:
    kind, count = reader.unsigned(4, "the type of an array"), reader.unsigned(8, "the length of an array")
    if kind in _SCALARS:
        scalar = _SCALARS[kind]
        width = struct.calcsize(scalar)
        if count > _MOST_KEPT_ITEMS:
            reader.skip(count * width, "an array")
            return Array(count=count, items=None)
        data = reader.take(count * width, "an array")
        return Array(count=count, items=tuple(item for (item,) in struct.iter_unpack(scalar, data)))
    if depth == _MOST_NESTED_ARRAYS:
        raise reader.error("arrays lie in arrays more deeply than in any model")
    if kind not in (_STRING, _ARRAY):
        raise reader.error(f"an array has type {kind}, which GGUF does not know")
    if count > reader.byte_count:
        raise reader.error(f"claims an array of {count:,} items, more than it can hold")
    for _ in range(count):
        if kind == _STRING:
            reader.skip(reader.unsigned(8, "the length of a text"), "a text")
        else:
            _array(reader, depth + 1)
    return Array(count=count, items=None)


def _tensors(reader: Reader, metadata: Metadata, count: int) -> list[StoredTensor]:
    found, places = [], []
    for _ in range(count):
        name = _name(reader, "the name of a tensor")
        dim_count = reader.unsigned(4, "the dimensions of a tensor")
        if not 1 <= dim_count <= 4:
            raise reader.error(f"tensor {shown(name)!r} has {dim_count} dimensions, not 1 to 4")
        dims = tuple(reader.unsigned(8, "the dimensions of a tensor") for _ in range(dim_count))
        type_number = reader.unsigned(4, "the type of a tensor")
        offset = reader.unsigned(8, "the offset of a tensor")
        if type_number not in TENSOR_TYPES:
            raise reader.error(f"tensor {shown(name)!r} has type {type_number}, which weighin does not know")
        type_name, block_weights, block_bytes = TENSOR_TYPES[type_number]
        elements = product(reader, dims, name)
        if elements == 0 or dims[0] % block_weights:
            raise reader.error(f"tensor {shown(name)!r} has rows of {dims[0]:,}, not whole blocks of {block_weights}")
        byte_count = elements // block_weights * block_bytes
        constant = name.endswith(_CONSTANTS) or type_name in INTEGERS
        found.append(
            StoredTensor(
                name=name, type=type_name, dims=dims, byte_count=byte_count, parameters=0 if constant else elements
            )
        )
        places.append((offset, offset + byte_count, name))
    _check_places(reader, metadata, places)
    return found


def _check_places(reader: Reader, metadata: Metadata, places: list[tuple[int, int, str]]) -> None:
    alignment = metadata.count("general.alignment") or 32
    if alignment & (alignment - 1) or alignment > 2**20:
        raise reader.error(f"has an alignment of {alignment:,}, which is no power of two up to a mebibyte")
    data_bytes = reader.byte_count - -(-reader.position // alignment) * alignment
    for begin, end, name in places:
        if begin % alignment:
            raise reader.error(f"tensor {shown(name)!r} begins at {begin:,}, no multiple of {alignment}")
        if end > data_bytes:
            raise reader.error(f"ends before tensor {shown(name)!r} does; download it again")
    check_apart(reader, places)


def _scheme(metadata: Metadata, tensors: tuple[StoredTensor, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the scheme that the file claims, unless no matrix is of its type; else the one of most weights."""
    weights: Counter[str] = Counter()
    for tensor in tensors:
        if len(tensor.dims) > 1:
            weights[tensor.type] += tensor.parameters
    weights = weights or Counter({tensor.type: tensor.parameters for tensor in tensors if tensor.parameters})
    claimed = SCHEMES.get(metadata.count("general.file_type") or 0) if "general.file_type" in metadata.values else None
    if claimed is not None:
        base = base_type(claimed)
        if base in weights or substitute(base) in weights:
            return claimed, ()
    most = weights.most_common(1)[0][0]
    scheme = _named_by_mixture(most, tensors)
    if claimed is None:
        return scheme, (f"The file does not name its scheme; most weights are {most}.",)
    return scheme, (f"The file calls itself {claimed}, but holds no {base_type(claimed)}; most weights are {most}.",)


def _named_by_mixture(most: str, tensors: tuple[StoredTensor, ...]) -> str:
    """Return the name of the scheme: the letter after K-types tells how much of the layers is kept better."""
    if most not in ("Q3_K", "Q4_K", "Q5_K"):
        return most
    better = {tensor.type for tensor in tensors if tensor.name.endswith(("attn_v.weight", "ffn_down.weight"))}
    return f"{most}_M" if better - {most} else f"{most}_S"
