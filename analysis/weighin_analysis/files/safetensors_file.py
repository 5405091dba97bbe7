"""Reads the header of safetensors files, never the weights.

Layout: https://github.com/huggingface/safetensors#format: eight bytes for the length of the header, the header in JSON,
the tensors without holes. Why an own reader: see ``reading.py``. The header is parsed entry by entry, because a JSON
text turned into objects at once may take thirty times its size.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weighin_analysis.errors import ModelFileError
from weighin_analysis.files.model_file import Contents, StoredTensor
from weighin_analysis.files.reading import MOST_TENSORS, Reader, note_of_integers, opened, product, shown
from weighin_analysis.files.shards import shards
from weighin_analysis.sizes.artefact import Format

MOST_HEADER_BYTES = 40_000_000  # the format allows 100 MB; 140,000 tensors take 20
_MOST_ENTRY_BYTES = 2**16
_MOST_TEXTS = 2**16  # of the metadata; trainers of adapters write a hundred
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "F64": 64,
    "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64,
}  # fmt: skip
# Buffers that older exports stored beside the weights: the frequencies of rotary positions, masks, position numbers.
_CONSTANT = re.compile(r"(^|\.)(inv_freq|masked_bias|position_ids|(cos|sin)_cached|\w*scale_inv|(input|weight)_scale)$")
# How those name integers that hold packed weights, however few. A matrix that is stored as integers is one, too.
_PACKED = re.compile(r"(^|[._])(qweight|weight_packed|W_q|codes|blocks)$|(^|\.)weight(\._(data|packed))?$")
_MASK = re.compile(r"(^|\.)(attn|attention)\.bias$")
_TABLES = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_HEADS = ("lm_head.weight", "embed_out.weight")
_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def read_safetensors(path: Path) -> Contents:
    """Return what the headers of a safetensors model say, of all its parts if it was split."""
    paths = shards(path)
    tensors: list[StoredTensor] = []
    before: Reader | None = None
    for part in paths:
        with opened(part) as reader:
            if before is not None:
                reader.go_on_from(before)
            tensors += _read_header(reader)
            before = reader
            if len(tensors) > MOST_TENSORS:
                raise reader.error(f"and its other parts hold more than {MOST_TENSORS:,} tensors")
    name = shown(path.name)
    repeated = [tensor for tensor, times in Counter(tensor.name for tensor in tensors).items() if times > 1]
    if repeated:
        raise ModelFileError(f"{name}: tensor {shown(repeated[0])!r} occurs in two of its parts")
    weights: Counter[str] = Counter()
    for tensor in tensors:
        weights[tensor.type] += tensor.parameters
    total = weights.total()
    # Weights that were packed by several into an integer lie in tensors that are no parameters by their type.
    integers = [t for t in tensors if t.type[0] in "IU" and not _is_constant(t.name, t.dims)]
    packed = next((tensor.name for tensor in integers if _PACKED.search(tensor.name)), None)
    if packed is not None:
        raise ModelFileError(
            f"{name}: {shown(packed)!r} is packed into integers (as by GPTQ, AWQ, MLX or bitsandbytes); its header "
            "does not tell the number of weights, so name the model instead"
        )
    unclear_bytes = sum(tensor.byte_count for tensor in integers)
    notes = note_of_integers(path, unclear_bytes, sum(tensor.byte_count for tensor in tensors))
    if not total:
        raise ModelFileError(f"{name}: holds no weights")
    table = next((one.dims for one in tensors if one.name.endswith(_TABLES) and len(one.dims) == 2), None)
    most, count = weights.most_common(1)[0]
    shares = ", ".join(f"{n / total:.0%} {kind}" for kind, n in weights.most_common() if n)
    alike = count > 0.9 * total
    if not alike:
        notes.append(f"The weights are {shares}.")
    return Contents(
        format=Format.SAFETENSORS,
        scheme=most if alike else "mixed",
        tensors=tuple(tensors),
        files=paths,
        head_copy=_head_copy(tensors),
        vocab=table[0] if table else None,
        hidden=table[1] if table else None,
        notes=tuple(notes),
    )


def _head_copy(tensors: list[StoredTensor]) -> int:
    """Return the weights of a head that is as large as the vocabulary's table, 0 where there is none."""
    tables = [tensor.dims for tensor in tensors if tensor.name.endswith(_TABLES)]
    heads = [tensor.parameters for tensor in tensors if tensor.name in _HEADS and tensor.dims in tables]
    return heads[0] if heads else 0


def _read_header(reader: Reader) -> list[StoredTensor]:
    count = reader.unsigned(8, "the length of the header")
    if count > MOST_HEADER_BYTES:
        raise reader.error(f"claims a header of {count:,} bytes; no model has more than {MOST_HEADER_BYTES:,}")
    header = reader.take(count, "the header")
    data_bytes = reader.byte_count - reader.position
    tensors, places, names = [], [], set[str]()
    for name, value in _entries(reader, header):
        if name in names:
            raise reader.error(f"tensor {shown(name)!r} occurs twice")
        names.add(name)
        if name == "__metadata__":
            continue
        tensor, begin = _tensor(reader, name, value)
        tensors.append(tensor)
        places.append((begin, begin + tensor.byte_count, name))
    places.sort()
    position = 0
    for begin, end, name in places:
        if begin != position:
            raise reader.error(f"tensor {shown(name)!r} begins at {begin:,}, not where another ends ({position:,})")
        position = end
    if position > data_bytes:
        raise reader.error(f"ends after {data_bytes:,} of {position:,} bytes of tensors; download it again")
    if position < data_bytes:
        raise reader.error(f"holds {data_bytes - position:,} bytes that belong to no tensor")
    return tensors


def _entries(reader: Reader, header: bytes) -> Iterator[tuple[str, Any]]:
    """Yield the members of the header's one object, key and value, the metadata's as None."""
    position = _after(header, _SPACE, 0)
    if header[position : position + 1] != b"{":
        raise reader.error("its header is not a JSON object")
    position = _after(header, _SPACE, position + 1)
    for number in range(MOST_TENSORS):
        if not number and header[position : position + 1] == b"}":
            break
        key = _STRING.match(header, position)
        if key is None or len(key[0]) > _MOST_ENTRY_BYTES:
            raise reader.error("its header is not JSON: the name of a tensor is missing or too long")
        name = _loaded(reader, key[0])
        position = _after(header, _SPACE, key.end())
        if header[position : position + 1] != b":":
            raise reader.error(f"its header is not JSON after {shown(name)!r}")
        position = _after(header, _SPACE, position + 1)
        if name == "__metadata__":
            value, position = None, _after_texts(reader, header, position)
        else:
            end = header.find(b"}", position, position + _MOST_ENTRY_BYTES) + 1
            if not end:
                raise reader.error(f"its header does not end the entry of {shown(name)!r}")
            value, position = _loaded(reader, header[position:end]), end
        yield name, value
        position = _after(header, _SPACE, position)
        if header[position : position + 1] == b"}":
            break
        if header[position : position + 1] != b",":
            raise reader.error(f"its header is not JSON after the entry of {shown(name)!r}")
        position = _after(header, _SPACE, position + 1)
    else:
        raise reader.error(f"claims more than {MOST_TENSORS:,} tensors")
    if header[position + 1 :].strip(b" \t\r\n"):
        raise reader.error("its header goes on after its end")


def _after(header: bytes, pattern: re.Pattern[bytes], position: int) -> int:
    match = pattern.match(header, position)
    return match.end() if match else position


def _after_texts(reader: Reader, header: bytes, position: int) -> int:
    """Return where a flat object of texts ends; its values may be long, so they are passed over."""
    wrong = reader.error("the metadata of its header are not texts")
    if header[position : position + 1] != b"{":
        raise wrong
    position = _after(header, _SPACE, position + 1)
    texts = 0
    while header[position : position + 1] != b"}":
        texts += 1
        if texts > _MOST_TEXTS:
            raise reader.error(f"the metadata of its header are more than {_MOST_TEXTS:,} texts")
        for sign in (b":", b","):
            text = _STRING.match(header, position)
            if text is None:
                raise wrong
            position = _after(header, _SPACE, text.end())
            if header[position : position + 1] == sign:
                position = _after(header, _SPACE, position + 1)
            elif sign == b":" or header[position : position + 1] != b"}":
                raise wrong
    return position + 1


def _loaded(reader: Reader, text: bytes) -> Any:
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise reader.error("its header is not JSON") from error


def _tensor(reader: Reader, name: str, value: Any) -> tuple[StoredTensor, int]:
    fields = value if isinstance(value, dict) else {}
    kind, dims, offsets = fields.get("dtype"), _counts(fields.get("shape")), _counts(fields.get("data_offsets"))
    if not isinstance(kind, str) or dims is None or offsets is None or len(offsets) != 2:
        raise reader.error(f"the entry of {shown(name)!r} is not a type, a shape and two offsets")
    if kind not in _BITS:
        raise reader.error(f"tensor {shown(name)!r} has type {shown(kind)!r}, which weighin does not know")
    elements = product(reader, dims, name)
    byte_count, rest = divmod(elements * _BITS[kind], 8)
    if rest or offsets[1] - offsets[0] != byte_count:
        raise reader.error(
            f"tensor {shown(name)!r} has {offsets[1] - offsets[0]:,} bytes where it needs {byte_count:,}"
        )
    parameters = elements if kind[0] in "FB" and kind != "BOOL" and not _is_constant(name, dims) else 0
    stored = StoredTensor(name=name, type=kind, dims=dims, byte_count=byte_count, parameters=parameters)
    return stored, offsets[0]


def _counts(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not all(type(one) is int and 0 <= one < 2**63 for one in value):
        return None
    return tuple(value)


def _is_constant(name: str, dims: tuple[int, ...]) -> bool:
    if _MASK.search(name):  # of a causal model, one for all heads; a bias of an attention is a vector
        return len(dims) == 4 and dims[:2] == (1, 1)
    return _CONSTANT.search(name) is not None
