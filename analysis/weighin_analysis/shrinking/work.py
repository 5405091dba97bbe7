"""The work of one token: which matrices it passes, and how many multiply-adds and bytes of weights that is."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.models.shape import Shape
from weighin_analysis.models.tensors import Role, Tensor, tensors
from weighin_analysis.sizes.artefact import DownloadSize

# Looked up by row, or added; the pooler multiplies once per input and not per token.
_NOT_PER_TOKEN = {
    Role.TOKEN_EMBEDDING,
    Role.POSITION_EMBEDDING,
    Role.TOKEN_TYPE_EMBEDDING,
    Role.NORM,
    Role.BIAS,
    Role.POOLER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one token costs beside attention to the tokens before it, which no weight takes part in.

    ``weight_bytes_read`` is for one decoded token, or for all tokens of a prompt or of an encoder's input together. It
    is of weights as the file stores them; a runtime may hold wider ones.
    """

    multiply_adds: int
    weight_bytes_read: int


def work(shape: Shape, size: DownloadSize) -> Work:
    """Return the work of one token in a model that is stored as ``size`` tells."""
    passed = list(matrices_passed(shape))
    layers = sum(matrix.weight_count for matrix in passed if matrix.layer is not None)
    head_bytes = 0
    if shape.architecture.kind is ArchitectureKind.DECODER:
        # A head that has no table of its own reads that of the input.
        head_bytes = size.parts["head"] or size.parts["token_embedding"]
    return Work(
        multiply_adds=sum(matrix.weight_count for matrix in passed),
        weight_bytes_read=round(size.parts["layers"] * layers / stored_layer_weights(shape)) + head_bytes,
    )


def stored_layer_weights(shape: Shape) -> int:
    """Return the weights in the matrices of all layers, shared ones once."""
    layers = (tensor for tensor in tensors(shape) if tensor.layer is not None and tensor.role not in _NOT_PER_TOKEN)
    return sum(tensor.weight_count for tensor in layers)


def matrices_passed(shape: Shape) -> Iterator[Tensor]:
    """Yield every matrix that one token passes: a shared layer's in every layer, of experts those that are active."""
    arch = shape.architecture
    for tensor in tensors(replace(shape, distinct_layers=None)):
        if tensor.role not in _NOT_PER_TOKEN:
            yield active(shape, tensor)
    if arch.kind is ArchitectureKind.DECODER and arch.tied_embeddings:
        width = shape.embedding_width or arch.hidden
        yield Tensor(role=Role.HEAD, rows=arch.vocab, columns=width)
        if width != arch.hidden:
            yield Tensor(role=Role.EMBEDDING_PROJECTION, rows=width, columns=arch.hidden)


def active(shape: Shape, tensor: Tensor) -> Tensor:
    """Return what a token passes of a tensor: all of it, or of the experts so many."""
    return replace(tensor, copies=shape.experts.active) if shape.experts and tensor.copies > 1 else tensor


def active_parameters(shape: Shape) -> int:
    """Return the parameters of a model that a token passes or looks rows up in, each stored tensor once."""
    return sum(active(shape, tensor).weight_count for tensor in tensors(shape))
