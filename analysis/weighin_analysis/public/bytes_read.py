"""What one decode step reads from memory: the weights that it multiplies, and the keys and values before it.

That is neither a model's file nor its buffers. Of a table that is not tied to the head one row is read; a table that is
tied is read as the head, once, however often a runtime holds it; of embeddings per layer, and of experts, only what the
token passes.
"""

import re
from functools import cache

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.errors import SizeError
from weighin_analysis.memory.kv_cache import KvType, kv_cache_bytes
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.models.shape import Shape
from weighin_analysis.models.tensors import Role
from weighin_analysis.naming.identify import identify
from weighin_analysis.public.rows import PublicRow
from weighin_analysis.sizes.gguf import stored_tensors
from weighin_analysis.sizes.mixtures import MIXTURES

# llama.rn reports all buffers: a tied table twice, as the embedding and as the head.
_TWICE = "all buffers"
# Where a row and the catalogue count a model so differently, they mean different models.
_SAME_MODEL = 0.2
# A chat of unknown length: rates of short prompts are what most tables hold.
_UNKNOWN_DEPTH = 64


@cache
def known_model(name: str, parameters: int) -> ModelEntry | None:
    """Return the catalogue's entry of a model as a row names it, None where there is none or its size contradicts."""
    entry = identify(re.sub(r"\s*\([^()]*\)$", "", name)).entry
    if entry is None or entry.parameters is None:
        return None
    return entry if abs(entry.parameters / parameters - 1) <= _SAME_MODEL else None


def bytes_read(row: PublicRow) -> float | None:
    """Return the bytes that a decode step of this row reads; None where the row does not tell what the model weighs.

    Keys and values count at 16 bits each, at the depth that the row's test had on average.
    """
    weights = weight_bytes_read(row)
    entry = known_model(row.model, row.parameters)
    if weights is None or entry is None:
        return weights
    try:
        return weights + kv_cache_bytes(entry, depth(row), KvType.FP16)
    except (
        SizeError
    ):  # of a few hybrid models nobody tells which layers keep anything: under a hundredth of the weights
        return weights


def weight_bytes_read(row: PublicRow) -> float | None:
    """Return the bytes of weights that a decode step reads, None where the row does not tell what the model weighs.

    Counted tensor by tensor where the model's shape is in the catalogue and the row names a scheme of GGUF; else the
    row's own size, less what of it is not read: with P parameters of which E are one table of the vocabulary, a share
    of P / (P + E) of buffers that hold a tied table twice, (P - E) / P of a file with a table apart.
    """
    entry = known_model(row.model, row.parameters)
    shape = entry.shape if entry else None
    if shape is not None and (scheme := _gguf_scheme(row.quantization)):
        return _counted(shape, scheme)
    size = row.model_size_bytes
    if size is None:
        return None
    if row.active_parameters is not None:
        return size * row.active_parameters / row.parameters
    if entry is None or shape is None or entry.parameters is None:
        return float(size)
    parameters, table = entry.parameters, shape.architecture.embedding_weight_count
    if not shape.architecture.tied_embeddings:
        return size * (parameters - table) / parameters
    return size * parameters / (parameters + table) if _TWICE in row.size_source else float(size)


def depth(row: PublicRow) -> int:
    """Return the tokens in the KV cache at an average step of the row's test, by what the row calls it.

    ``tg128`` begins with nothing; ``1024 in / 256 out`` with the prompt. Else the context, where one is stated: a graph
    of fixed shape attends to all of it.
    """
    if found := re.match(r"tg(\d+)$", row.test):
        return int(found[1]) // 2
    if found := re.match(r"(\d+) in(?: / (\d+) out)?$", row.test):
        return int(found[1]) + int(found[2] or 0) // 2
    return row.context_tokens or _UNKNOWN_DEPTH


def _gguf_scheme(quantization: str) -> str | None:
    scheme = quantization.partition(" ")[0]
    return scheme if scheme in MIXTURES else None


@cache
def _counted(shape: Shape, scheme: str) -> float:
    arch, experts = shape.architecture, shape.experts
    # A head that is published as a copy of its table is a tensor apart, so that the table is looked up only.
    looked_up = arch.kind is ArchitectureKind.DECODER and (shape.copied_head or not arch.tied_embeddings)
    total = 0.0
    for one in stored_tensors(shape, MIXTURES[scheme]):
        if experts and one.tensor.copies > 1:
            total += one.bytes * experts.active / experts.count
        elif not (looked_up and one.tensor.role is Role.TOKEN_EMBEDDING):
            total += one.bytes
    return total
