"""What a model weighs as safetensors: its weights as published, one number after the other."""

from weighin_analysis.errors import SizeError
from weighin_analysis.models.entry import CountBasis, ModelEntry
from weighin_analysis.models.shape import Shape
from weighin_analysis.models.tensors import Role, Tensor, tensors
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis
from weighin_analysis.sizes.parts import split
from weighin_analysis.sizes.tokenizer import tokenizer_bytes

_BYTES_PER_WEIGHT = {"BF16": 2, "F16": 2, "F32": 4}
SCHEMES = tuple(_BYTES_PER_WEIGHT)

# The header is JSON: name, type, shape and place of a tensor take 105 to 120 characters in published decoders.
_HEADER_BYTES_PER_TENSOR = 113
_ROUNDED_WITHIN = 0.05  # of a number of parameters that its publisher rounded to two digits


def download_size(entry: ModelEntry, scheme: str) -> DownloadSize:
    """Return what a model's weights weigh; the tokenizer is apart.

    Counted where the catalogue tells the model's shape, else from its published number of parameters. SizeError where
    there is no such scheme, or nobody tells the number of parameters.
    """
    if scheme not in _BYTES_PER_WEIGHT:
        raise SizeError(f"safetensors has no scheme {scheme!r}; it has {', '.join(SCHEMES)}")
    if entry.parameters is None:
        raise SizeError(f"{entry.name}: nobody tells how many parameters it has, so that its weights have no size")
    bytes_per_weight = _BYTES_PER_WEIGHT[scheme]
    parts = _parts(entry.shape, bytes_per_weight) if entry.shape else {"other": entry.parameters * bytes_per_weight}
    total = sum(parts.values())
    within = _ROUNDED_WITHIN if entry.shape is None and entry.count_basis is CountBasis.ROUNDED else 0
    copied = entry.shape is not None and entry.shape.copied_head
    return DownloadSize(
        format=Format.SAFETENSORS,
        scheme=scheme,
        bytes=total,
        low=round(total * (1 - within)),
        high=round(total * (1 + within)),
        basis=SizeBasis.COUNTED if entry.shape else SizeBasis.FITTED,
        parts=parts,
        tokenizer_bytes=tokenizer_bytes(entry),
        runtime_bytes=None,
        notes=("The output head is published as a copy of the vocabulary's table.",) if copied else (),
    )


def _parts(shape: Shape, bytes_per_weight: int) -> dict[str, int]:
    arch = shape.architecture
    published = list(tensors(shape))
    if shape.copied_head:
        published.append(Tensor(role=Role.HEAD, rows=arch.vocab, columns=arch.hidden))
    parts = split((tensor, tensor.weight_count * bytes_per_weight) for tensor in published)
    parts["other"] += _HEADER_BYTES_PER_TENSOR * sum(tensor.copies for tensor in published)
    return parts
