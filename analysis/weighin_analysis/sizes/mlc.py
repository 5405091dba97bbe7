"""What a model weighs as MLC weights, which WebLLM runs: every matrix in groups that share a scale, tables included.

Source: https://github.com/mlc-ai/mlc-llm, ``python/mlc_llm/quantization``. TVM, which writes the files, stores what is
computed in 32 bits as bfloat16 (``encode_format="f32-to-bf16"``), so that a scheme in f32 is no larger to download.
"""

from dataclasses import dataclass

from weighin_analysis.errors import SizeError
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.models.tensors import Role, Tensor, tensors
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis
from weighin_analysis.sizes.parts import split
from weighin_analysis.sizes.tokenizer import tokenizer_bytes

_BYTES_PER_FLOAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scheme:
    """Weights of a row that share a scale, the bytes of their packed words, and whether tables and head are packed."""

    group_weights: int
    group_bytes: int
    tables: bool = True

    def matrix_bytes(self, matrix: Tensor) -> int:
        groups = -(-matrix.columns // self.group_weights)
        return matrix.copies * matrix.rows * groups * (self.group_bytes + _BYTES_PER_FLOAT)


# Eight weights of four bits lie in a word, or ten of three, which leaves two bits empty.
_FOUR_BITS = _Scheme(group_weights=32, group_bytes=16)
_THREE_BITS = _Scheme(group_weights=40, group_bytes=16)
_FOUR_BITS_IN_LAYERS = _Scheme(group_weights=32, group_bytes=16, tables=False)

_SCHEMES = {
    "q0f16": None,
    "q0bf16": None,
    "q0f32": None,
    "q3f16_0": _THREE_BITS,
    "q3f16_1": _THREE_BITS,
    "q4f16_0": _FOUR_BITS,
    "q4f16_1": _FOUR_BITS,
    "q4f16_2": _FOUR_BITS_IN_LAYERS,
    "q4bf16_0": _FOUR_BITS,
    "q4bf16_1": _FOUR_BITS,
    "q4f32_1": _FOUR_BITS,
}
SCHEMES = tuple(_SCHEMES)

_NEVER_QUANTIZED = frozenset((Role.NORM, Role.BIAS, Role.ROUTER))
_TABLES = frozenset((Role.TOKEN_EMBEDDING, Role.POSITION_EMBEDDING, Role.TOKEN_TYPE_EMBEDDING, Role.HEAD))
_NOTES_OF_32_BITS = ("Floats of 32 bits are stored in 16: they take twice as much in memory as to download.",)


def download_size(entry: ModelEntry, scheme: str) -> DownloadSize:
    """Return what a model's weights weigh, counted tensor by tensor; tokenizer and model library are apart.

    SizeError where MLC has no such scheme, or where the catalogue does not tell the model's shape.
    """
    if scheme not in _SCHEMES:
        raise SizeError(f"MLC has no scheme {scheme!r}; it has {', '.join(SCHEMES)}")
    if entry.shape is None:
        raise SizeError(
            f"{entry.name}: its tensors are not in the catalogue, so that its MLC weights cannot be counted"
        )
    parts = split((tensor, _stored_bytes(tensor, _SCHEMES[scheme])) for tensor in tensors(entry.shape))
    total = sum(parts.values())
    return DownloadSize(
        format=Format.MLC,
        scheme=scheme,
        bytes=total,
        low=total,
        high=total,
        basis=SizeBasis.COUNTED,
        parts=parts,
        tokenizer_bytes=tokenizer_bytes(entry),
        runtime_bytes=None,
        notes=_NOTES_OF_32_BITS if "f32" in scheme else (),
    )


def _stored_bytes(tensor: Tensor, scheme: _Scheme | None) -> int:
    if scheme is None or tensor.role in _NEVER_QUANTIZED or (tensor.role in _TABLES and not scheme.tables):
        return tensor.weight_count * _BYTES_PER_FLOAT
    return scheme.matrix_bytes(tensor)
