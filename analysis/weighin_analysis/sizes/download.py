"""Bytes to download for a model in any format, how long they take, and the disk that they need."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from weighin_analysis.data_files import read_data
from weighin_analysis.errors import SizeError
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes import gguf, litert, mlc, onnx, safetensors, vendor_formats
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis

_COUNT: dict[Format, Callable[[ModelEntry, str], DownloadSize]] = {
    Format.GGUF: gguf.download_size,
    Format.ONNX: onnx.download_size,
    Format.LITERT: litert.download_size,
    Format.MLC: mlc.download_size,
    Format.SAFETENSORS: safetensors.download_size,
    Format.RKLLM: lambda entry, scheme: vendor_formats.download_size(entry, Format.RKLLM, scheme),
    Format.OPENVINO: lambda entry, scheme: vendor_formats.download_size(entry, Format.OPENVINO, scheme),
}
_SCHEMES = {
    Format.GGUF: gguf.SCHEMES,
    Format.ONNX: onnx.SCHEMES,
    Format.LITERT: litert.SCHEMES,
    Format.MLC: mlc.SCHEMES,
    Format.SAFETENSORS: safetensors.SCHEMES,
    **vendor_formats.SCHEMES,
}
_ALIASES = {Format.ONNX: onnx.ALIASES, Format.LITERT: litert.ALIASES}
_TOKENIZER_INSIDE = frozenset((Format.GGUF, Format.LITERT))


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSize:
    """The bytes of one published artefact."""

    model: str
    format: Format
    scheme: str
    file: str
    bytes: int
    source: str


def schemes_of(format: Format) -> tuple[str, ...]:  # noqa: A002  the word that everybody uses
    """Return the schemes of a format, as it spells them."""
    return _SCHEMES[format]


def scheme_of(format: Format, spelling: str) -> str:  # noqa: A002
    """Return a format's scheme from any spelling of it or of an alias: case and separators do not count.

    SizeError names the schemes that the format has.
    """
    known = {_key(scheme): scheme for scheme in _SCHEMES[format]}
    known |= {_key(alias): scheme for alias, scheme in _ALIASES.get(format, {}).items()}
    if _key(spelling) not in known:
        raise SizeError(f"{format} has no scheme {spelling!r}; it has {', '.join(_SCHEMES[format])}")
    return known[_key(spelling)]


def default_artefact(scheme: Scheme) -> tuple[Format, str]:
    """Return what a user downloads to run what weighin measured: ONNX with the same kernels for the same weights."""
    return Format.ONNX, scheme_of(Format.ONNX, scheme.value)


def download_size(entry: ModelEntry, format: Format, scheme: str) -> DownloadSize:  # noqa: A002
    """Return the bytes to download: of the published artefact where its exact size is known, else counted or fitted.

    ``low`` to ``high`` spans the published artefacts of that name, and for GGUF, which anybody makes, what is counted
    of others. SizeError where the format has no such scheme, or the size cannot be told.
    """
    scheme = scheme_of(format, scheme)
    known = published_sizes().get((entry.name, format, scheme))
    return with_runtime(_as_published(entry, known) if known else counted_size(entry, format, scheme))


def counted_size(entry: ModelEntry, format: Format, scheme: str) -> DownloadSize:  # noqa: A002
    """Return the size as it follows from the model's tensors alone, whatever is published; SizeError as above."""
    return with_runtime(_COUNT[format](entry, scheme_of(format, scheme)))


def with_runtime(size: DownloadSize) -> DownloadSize:
    """Return the size with the bytes of the format's runtime in a browser, None where there is none."""
    return replace(size, runtime_bytes=_runtime_bytes().get(size.format))


def transfer_bytes(size: DownloadSize) -> int:
    """Bytes of a first visit: model, tokenizer where it is a file of its own, and runtime."""
    return size.bytes + (size.tokenizer_bytes if tokenizer_is_apart(size) else 0) + (size.runtime_bytes or 0)


def tokenizer_is_apart(size: DownloadSize) -> bool:
    """Return whether a tokenizer comes as a file of its own, beside the model."""
    return size.format not in _TOKENIZER_INSIDE and size.tokenizer_bytes > 0


def download_seconds(size_bytes: int, link_bits_per_second: float) -> float:
    """Seconds that a download takes at a steady rate of the link; SizeError for a link without one."""
    if not link_bits_per_second > 0:
        raise SizeError(f"a link of {link_bits_per_second} bits per second downloads nothing; give a rate above 0")
    return 8 * size_bytes / link_bits_per_second


def disk_bytes(size: DownloadSize) -> int:
    """Bytes of storage that must be free before the download: what is kept in the end.

    A browser, a package and a hub's cache write each file where it stays, once. LiteRT's runtimes write the weights of
    the layers a second time beside it, packed for the processor: https://github.com/DenisovAV/flutter_gemma/issues/118.
    """
    packed = size.bytes - size.parts.get("token_embedding", 0) if size.format is Format.LITERT else 0
    return transfer_bytes(size) + packed


@cache
def published_sizes() -> dict[tuple[str, Format, str], tuple[PublishedSize, ...]]:
    """Return the published artefacts by model, format and scheme; the first of each is the one to tell."""
    found: dict[tuple[str, Format, str], tuple[PublishedSize, ...]] = {}
    for row in read_data("published_sizes.toml")["artefact"]:
        one = PublishedSize(**row | {"format": Format(row["format"])})
        key = one.model, one.format, one.scheme
        found[key] = (*found.get(key, ()), one)
    return found


def _as_published(entry: ModelEntry, artefacts: tuple[PublishedSize, ...]) -> DownloadSize:
    first = artefacts[0]
    counted = _COUNT[first.format](entry, first.scheme)
    notes = () if counted.basis is SizeBasis.FITTED else counted.notes
    possible = [one.bytes for one in artefacts]
    if first.format is Format.GGUF and counted.basis is SizeBasis.COUNTED:
        possible += [counted.low, counted.high]
    return replace(
        counted,
        bytes=first.bytes,
        low=min(possible),
        high=max(possible),
        basis=SizeBasis.PUBLISHED,
        parts=counted.parts | {"other": counted.parts["other"] + first.bytes - counted.bytes},
        notes=(*notes, f"Published as {first.file}, {first.source}."),
    )


@cache
def _runtime_bytes() -> dict[Format, int]:
    rows = read_data("runtimes.toml")["runtime"]
    return {Format(row["format"]): sum(row["files"].values()) for row in rows}


def _key(text: str) -> str:
    return re.sub(r"[\s_-]+", "_", text.strip().casefold())
