"""Inspecting a model file or folder: which format it is by its content, and what model it holds."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from weighin_analysis.catalog import size_class_of
from weighin_analysis.errors import CatalogError, ModelFileError
from weighin_analysis.files import gguf_file, onnx_file, safetensors_file
from weighin_analysis.files.model_file import Contents, ModelFile
from weighin_analysis.files.reading import Reader, beside, opened, regular_file_bytes, shown
from weighin_analysis.files.shards import model_of_part
from weighin_analysis.models.config_json import entry_from_config
from weighin_analysis.models.entry import CountBasis, ModelEntry, ModelKind

_SUFFIXES = (".gguf", ".onnx", ".safetensors")
# As publishers name every model; the folder then has the name.
_COMMON_STEMS = ("model", "pytorch_model", "decoder_model_merged", "decoder_model")
_MOST_FILES = 10_000
_MOST_LISTED = 12
_MOST_CONFIG_BYTES = 2**20
_MOST_DIFFERENCE = 0.05  # exporters leave out a pooler, or add the mask of a cache
# Where the length of a safetensors header ends its brace begins; five bytes of it are a terabyte.
_JSON_BEGINS = 8
_OTHER_FILES = {
    b"version https://git-lfs": "is a Git LFS pointer: the file itself was not downloaded",
    b"<!DOCTYPE": "is a web page: the download went wrong",
    b"<!doctype": "is a web page: the download went wrong",
    b"<html": "is a web page: the download went wrong",
    b"PK\x03\x04": "is a ZIP archive, as PyTorch's .pt and MediaPipe's .task are",
    b"\x80\x02": "is a Python pickle, which weighin never opens",
    b"LITERTLM": "is a LiteRT-LM model",
    b"lmgg": "is a GGML file from before GGUF",
    b"tjgg": "is a GGML file from before GGUF",
}
_LEGACY = {b"TFL3": "is a LiteRT (TensorFlow Lite) model", b"ORTM": "is a model in ONNX Runtime's own format"}
_READABLE = "weighin reads GGUF, ONNX and safetensors"


def inspect(path: Path) -> ModelFile:
    """Return what a model file holds, or the one model of a folder, by headers alone; no weights are read.

    A file's format is judged by its content, not by its name. A file that was split may be named by any of its parts.
    Of a ``config.json`` beside the model (or above a folder ``onnx``) is taken what the header does not tell. Nothing
    else outside the model's folder is read. ModelFileError is one line that says what is wrong and what to do.
    """
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{shown(str(path))}: is not a usable path") from error
    model = _model_of(path) if is_folder else path
    read = _reader_of(model)
    return _model_file(model, read(model))


def _model_of(folder: Path) -> Path:
    """Return the one model of a folder, its first part where it was split."""
    found: dict[tuple[Path, str], Path] = {}
    inner = folder / "onnx"
    for place in (folder,) if inner.is_symlink() else (folder, inner):
        for name in _names(place):
            if name.endswith(_SUFFIXES):
                found.setdefault((place, model_of_part(name)), place / name)
    if not found:
        raise ModelFileError(f"{shown(folder.name or str(folder))}: holds no .gguf, .onnx or .safetensors file")
    if len(found) > 1:
        names = sorted(shown(str(path.relative_to(folder))) for path in found.values())
        more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
        listed = ", ".join(names[:_MOST_LISTED])
        raise ModelFileError(f"{shown(folder.name or str(folder))}: holds several models; name one of {listed}{more}")
    return next(iter(found.values()))


def _names(folder: Path) -> list[str]:
    names = []
    try:
        if not folder.is_dir():
            return []
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) > _MOST_FILES:
                    raise ModelFileError(
                        f"{shown(folder.name or str(folder))}: holds more than {_MOST_FILES:,} files; name the model"
                    )
    except OSError as error:
        raise ModelFileError(f"{shown(folder.name or str(folder))}: {os.strerror(error.errno or 0)}") from error
    return sorted(names)


def _reader_of(path: Path) -> Callable[[Path], Contents]:
    with opened(path) as reader:
        head = reader.take(min(32, reader.byte_count), "its first bytes")
        if head.startswith(gguf_file.MAGIC):
            return gguf_file.read_gguf
        known = [text for magic, text in _OTHER_FILES.items() if head.startswith(magic)]
        known += [text for magic, text in _LEGACY.items() if head[4:8] == magic]
        if known:
            raise reader.error(f"{known[0]}; {_READABLE}")
        if _begins_with_json(head):
            return safetensors_file.read_safetensors
        if head.startswith(b"\x08") and len(head) > _JSON_BEGINS:  # the version, the first field of an ONNX model
            return onnx_file.read_onnx
        raise _unknown(reader)


def _begins_with_json(head: bytes) -> bool:
    """Whether a JSON object follows a length; an ONNX model has no zero tag, and so no length below a terabyte."""
    return head[_JSON_BEGINS : _JSON_BEGINS + 1] == b"{" and (head[5:_JSON_BEGINS] == bytes(3) or head[0] != 8)


def _unknown(reader: Reader) -> ModelFileError:
    if not reader.byte_count:
        return reader.error("is empty; download it again")
    if reader.byte_count <= _JSON_BEGINS:
        return reader.error(f"has {reader.byte_count} bytes, too few for a model; download it again")
    return reader.error("is none of the files that weighin reads: GGUF, ONNX and safetensors")


def _model_file(path: Path, contents: Contents) -> ModelFile:
    notes = list(contents.notes)
    config = _config(path, notes)
    by_type: Counter[str] = Counter()
    for tensor in contents.tensors:
        by_type[tensor.type] += tensor.parameters
    tied = contents.tied_embeddings
    if tied is None and config is not None and config.shape is not None and config.kind is ModelKind.DECODER:
        tied = config.shape.architecture.tied_embeddings
    parameters = by_type.total() - _copied(contents, tied, notes)
    return ModelFile(
        format=contents.format,
        scheme=contents.scheme,
        parameters=parameters,
        file_bytes=sum(regular_file_bytes(file) for file in contents.files),
        tensor_bytes=sum(tensor.byte_count for tensor in contents.tensors),
        parameters_by_type={kind: count for kind, count in by_type.most_common() if count},
        tied_embeddings=tied,
        size_class=size_class_of(parameters).name,
        entry=_entry(path, contents, config, parameters, notes),
        files=contents.files,
        notes=tuple(notes),
    )


def _copied(contents: Contents, tied: bool | None, notes: list[str]) -> int:
    """Return the weights of a second copy of the vocabulary's table, which are no parameters of their own."""
    if not contents.head_copy or tied is False:
        return 0
    if tied is None:
        notes.append(
            f"The output head of {contents.head_copy:,} weights is as large as the vocabulary's table; if it is a copy "
            "of that, the model has so many parameters fewer."
        )
        return 0
    notes.append(
        f"The vocabulary's table is stored twice, the second time as the output head of {contents.head_copy:,} "
        "weights, which are counted once."
    )
    return contents.head_copy


def _entry(path: Path, contents: Contents, config: ModelEntry | None, parameters: int, notes: list[str]) -> ModelEntry:
    """Return the model as an entry: counted from the file, its shape from the header or from the configuration."""
    name = contents.name or shown(path.absolute().parent.name if path.stem in _COMMON_STEMS else path.stem)
    shape, active = contents.shape, contents.active_parameters
    if config is not None and config.parameters != parameters:
        notes.append(f"The config.json beside it describes {config.parameters:,} parameters, not {parameters:,}.")
        if abs((config.parameters or 0) - parameters) > _MOST_DIFFERENCE * parameters:
            notes.append("So it is taken for that of another model.")
            config = None
    kind = (config.kind if config else None) or contents.kind
    if kind is None:
        notes.append("The file does not tell whether it is a decoder or an encoder; it is taken for a decoder.")
    return ModelEntry(
        name=name,
        kind=kind or ModelKind.DECODER,
        parameters=parameters,
        count_basis=CountBasis.COMPUTED,
        source=shown(path.name),
        active_parameters=active or (config.active_parameters if config else None),
        context_tokens=contents.context_tokens or (config.context_tokens if config else None),
        shape=shape or (config.shape if config else None),
        kv_cache=contents.kv_cache,
        vocab=contents.vocab,
        hidden=contents.hidden,
    )


def _config(path: Path, notes: list[str]) -> ModelEntry | None:
    """Return what the configuration beside a model tells, None where there is none or it cannot be used."""
    folder = path.absolute().parent
    places = [folder, folder.parent] if folder.name == "onnx" else [folder]
    place = next((place for place in places if (place / "config.json").exists()), None)
    if place is None:
        return None
    try:
        with opened(beside(path, "config.json", place)) as reader:
            if reader.byte_count > _MOST_CONFIG_BYTES:
                raise reader.error("is too long for a configuration")
            text = reader.text(reader.byte_count, "the configuration")
        return entry_from_config(text, shown(path.stem), "config.json")
    except (CatalogError, ModelFileError) as error:
        notes.append(f"The config.json beside it does not tell the shape: {shown(str(error))}")
        return None
