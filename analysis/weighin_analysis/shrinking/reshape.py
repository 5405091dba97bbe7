"""What-ifs that give a model another shape: pruned layers, heads and channels, shared layers, smaller embeddings.

Only the numbers of a shape change here, and every count follows from it; nothing is said of what the model then knows.
"""

from dataclasses import replace

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.errors import WhatIfError
from weighin_analysis.models.entry import CountBasis, ModelEntry
from weighin_analysis.models.shape import Shape
from weighin_analysis.models.tensors import parameter_count
from weighin_analysis.shrinking.what_if import (
    Dimension,
    EmbeddingWidth,
    PruneCount,
    PruneWidth,
    ShareLayers,
    TieEmbeddings,
)
from weighin_analysis.shrinking.work import active_parameters

# Block-quantized matrices are cut along the inputs into blocks of 32 (ONNX Runtime's MatMulNBits, ggml's Q4_0).
_BLOCK = 32

Reshaping = PruneCount | PruneWidth | ShareLayers | TieEmbeddings | EmbeddingWidth


def shape_of(entry: ModelEntry) -> Shape:
    """Return a model's shape; WhatIfError where the catalogue does not hold it."""
    if entry.shape is None:
        raise WhatIfError(f"{entry.name}: its shape is not known in full, so only quantize and distill can be told")
    return entry.shape


def reshaped(what_if: Reshaping, entry: ModelEntry) -> ModelEntry:
    """Return the model after the what-if, its parameters counted anew; WhatIfError where the model has no such part."""
    shape = _changed(what_if, entry.name, shape_of(entry))
    return replace(
        entry,
        name=f"{entry.name}, {'then ' if entry.reshaped_from else ''}{described(what_if)}",
        shape=shape,
        parameters=parameter_count(shape),
        active_parameters=None if entry.active_parameters is None else active_parameters(shape),
        count_basis=CountBasis.COMPUTED,
        aliases=(),
        teacher=None,
        reshaped_from=entry.reshaped_from or entry.name,
    )


def described(what_if: Reshaping) -> str:
    """Return the change in a few words."""
    match what_if:
        case PruneCount(dimension=Dimension.LAYERS, removed=removed):
            return f"{removed} layers fewer"
        case PruneCount(removed=removed):
            return f"{removed} heads fewer"
        case PruneWidth(dimension=dimension, share=share):
            return f"{dimension} {share:.0%} narrower"
        case ShareLayers(distinct=distinct):
            return f"layers sharing the weights of {distinct}"
        case TieEmbeddings():
            return "embeddings tied"
        case EmbeddingWidth(width=width):
            return f"embedding of width {width}"


def _changed(what_if: Reshaping, name: str, shape: Shape) -> Shape:
    if isinstance(what_if, ShareLayers):
        return _shared(name, shape, what_if.distinct)
    if isinstance(what_if, EmbeddingWidth):
        return _factorised(name, shape, what_if.width)
    if isinstance(what_if, TieEmbeddings):
        return _tied(name, shape)
    return _pruned(what_if, name, shape)


def _pruned(what_if: PruneCount | PruneWidth, name: str, shape: Shape) -> Shape:
    match what_if:
        case PruneCount(dimension=Dimension.LAYERS, removed=removed):
            return _fewer_layers(name, shape, removed)
        case PruneCount(removed=removed):
            return replace(shape, architecture=_fewer_heads(name, shape.architecture, removed))
        case PruneWidth(dimension=Dimension.FFN, share=share):
            return _narrower_ffn(name, shape, share)
        case PruneWidth(share=share):
            hidden = _narrower(name, "hidden state", shape.architecture.hidden, share)
            return replace(shape, architecture=replace(shape.architecture, hidden=hidden))


def _fewer_layers(name: str, shape: Shape, removed: int) -> Shape:
    left = shape.architecture.layers - removed
    if left < 1:
        raise WhatIfError(f"{name} has {shape.architecture.layers} layers; at least one must be left")
    distinct = None if shape.distinct_layers is None else min(shape.distinct_layers, left)
    experts = shape.experts and replace(shape.experts, dense_layers=min(shape.experts.dense_layers, left))
    arch = replace(shape.architecture, layers=left)
    return replace(shape, architecture=arch, distinct_layers=distinct, experts=experts)


def _fewer_heads(name: str, arch: Architecture, removed: int) -> Architecture:
    # Queries of one group read the same keys and values, so that these can only go when the whole group does.
    group = arch.heads // arch.kv_heads
    if arch.kv_heads > 1 and removed % group:
        raise WhatIfError(f"{name}: {group} query heads share one of keys and values; remove a multiple of {group}")
    if removed >= arch.heads:
        raise WhatIfError(f"{name} has {arch.heads} heads; at least one must be left")
    kv_heads = arch.kv_heads - removed // group if arch.kv_heads > 1 else 1
    return replace(arch, heads=arch.heads - removed, kv_heads=kv_heads)


def _narrower_ffn(name: str, shape: Shape, share: float) -> Shape:
    arch = replace(shape.architecture, ffn=_narrower(name, "feed-forward block", shape.architecture.ffn, share))
    if shape.experts is None:
        return replace(shape, architecture=arch)
    shared, dense = (
        width and _narrower(name, "feed-forward block", width, share)
        for width in (shape.experts.shared_ffn, shape.experts.dense_ffn)
    )
    return replace(shape, architecture=arch, experts=replace(shape.experts, shared_ffn=shared, dense_ffn=dense))


def _narrower(name: str, what: str, width: int, share: float) -> int:
    left = round(width * (1 - share)) // _BLOCK * _BLOCK
    if left < _BLOCK:
        raise WhatIfError(
            f"{name}: without {share:.0%} of its {width} channels the {what} has no block of {_BLOCK} left"
        )
    return left


def _shared(name: str, shape: Shape, distinct: int) -> Shape:
    own = shape.distinct_layers or shape.architecture.layers
    if distinct >= own:
        raise WhatIfError(f"{name} has {own} layers with weights of their own; share those of fewer")
    if shape.experts and shape.experts.dense_layers:
        raise WhatIfError(f"{name}: its first layers are of another kind than the others and cannot share weights")
    return replace(shape, distinct_layers=distinct)


def _tied(name: str, shape: Shape) -> Shape:
    if shape.architecture.kind is ArchitectureKind.ENCODER:
        raise WhatIfError(f"{name} is an encoder and has no output head that could share the table")
    if shape.architecture.tied_embeddings and not shape.copied_head:
        raise WhatIfError(f"{name}: input and output share one table already")
    return replace(shape, architecture=replace(shape.architecture, tied_embeddings=True), copied_head=False)


def _factorised(name: str, shape: Shape, width: int) -> Shape:
    present = shape.embedding_width or shape.architecture.hidden
    if width >= present:
        raise WhatIfError(f"{name}: its embedding has a width of {present}; give a smaller one")
    return replace(shape, embedding_width=width)
