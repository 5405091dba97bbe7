"""What a model weighs as a GGUF file of llama.cpp: every tensor in the type that the quantizer gives it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.errors import SizeError
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.models.shape import Shape
from weighin_analysis.models.tensors import Role, Tensor, tensors
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis
from weighin_analysis.sizes.ggml import GgmlType
from weighin_analysis.sizes.mixtures import DYNAMIC, MIXTURES, Mixture, Place, mixtures_found
from weighin_analysis.sizes.neighbours import size_by_neighbours
from weighin_analysis.sizes.parts import split

SCHEMES = (*MIXTURES, *DYNAMIC)

# The converter leaves these in full precision: they are small, and what they scale or choose is sensitive.
_KEPT_IN_FULL = frozenset((Role.NORM, Role.BIAS))
# The converter keeps these so since 2024; before it wrote them in 16 bits.
_SMALL_MATRICES = frozenset((Role.ROUTER, Role.POSITION_EMBEDDING, Role.TOKEN_TYPE_EMBEDDING))
_ATTENTION_INPUT = frozenset((Role.QUERY, Role.KEY, Role.VALUE))

# Bytes of the tokenizer in the file per entry of the vocabulary. An entry takes 8 for its length, 4 for its kind and
# some 7 for its text; a merge takes 8 and its two texts. A vocabulary with scores instead of merges (4 each), or with
# neither as an encoder's, comes to 17 to 23, one with a merge per entry to 37 (Qwen), with two to 61 (Llama 3).
_TOKENIZER_LOW, _TOKENIZER_HIGH = 17, 62
_TOKENIZER = {ArchitectureKind.DECODER: 40, ArchitectureKind.ENCODER: 20}

_WORTH_A_NOTE = 1.02
_MORE = "Some uploaders keep the head apart, or the head or values in more bits (the upper end)."

# Publishers count a vision tower among the parameters, and its file is another one: in Qwen3.5-2B it has 17 % of them.
_MOST_IN_ANOTHER_FILE = 0.2
# The parameters of a hybrid take up to 8 % more bytes than a transformer's: more of its tensors stay in full precision.
_MOST_FOR_HYBRIDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor as a file stores it."""

    tensor: Tensor
    type: GgmlType

    @property
    def bytes(self) -> int:
        """Bytes of all its blocks."""
        return self.tensor.weight_count // self.type.block_weights * self.type.block_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How a file was made, where its scheme does not tell; by default the usual way.

    ``guided``: the quantizer was given an importance matrix. ``small_in_16_bits``: routers and tables of positions are
    stored so. ``fused_as_values``: queries, keys and values that are one matrix take the type of values, as they do
    since 2026, and not one of their own.
    """

    guided: bool = True
    small_in_16_bits: bool = False
    fused_as_values: bool = False


USUAL = Build()


def download_size(entry: ModelEntry, scheme: str) -> DownloadSize:
    """Return what the file of a model weighs, the tokenizer inside included.

    Counted tensor by tensor where the catalogue tells the model's shape, as most uploaders have it stored; ``low`` to
    ``high`` spans every way in which files of one name are found to be made, and tokenizers. Else fitted: the median of
    bytes per parameter over the counted models that are nearest in size; ``low`` to ``high`` spans theirs, and leaves
    room for a vision tower, which is a file apart, and for embeddings per layer in 16 bits. Fitted, too, are schemes of
    no rule: told as the nearest plain one, between those below and above.

    SizeError where GGUF has no such scheme, llama.cpp no such model, or nobody tells the number of parameters, or that
    of the experts where only these take the scheme's type.
    """
    if scheme not in SCHEMES:
        raise SizeError(f"GGUF has no scheme {scheme!r}; it has {', '.join(SCHEMES)}")
    if entry.shape is None:
        return _fitted(entry, scheme)
    if not _runs_in_llama_cpp(entry.shape):
        raise SizeError(f"{entry.name}: llama.cpp runs no models that share layers or project their embedding")
    return _counted(entry.shape, scheme)


def stored_tensors(shape: Shape, mixture: Mixture, build: Build = USUAL) -> Iterator[StoredTensor]:
    """Yield every tensor of a model's file with its type."""
    arch = shape.architecture
    head_apart = arch.kind is ArchitectureKind.DECODER and (shape.copied_head or not arch.tied_embeddings)
    for tensor in _in_file(shape):
        if tensor.role in _KEPT_IN_FULL:
            kind = GgmlType.F32
        elif tensor.role in _SMALL_MATRICES:
            kind = GgmlType.F16 if build.small_in_16_bits else GgmlType.F32
        elif tensor.role is Role.HEAD or (tensor.role is Role.TOKEN_EMBEDDING and not head_apart):
            # llama.cpp takes eight bits here at once where the rows do not divide into blocks of the base.
            kind = mixture.head if tensor.columns % mixture.base.block_weights == 0 else GgmlType.Q8_0
        elif tensor.role is Role.TOKEN_EMBEDDING:
            kind = mixture.embedding or mixture.base
        elif not (shape.fused_attention and tensor.role in _ATTENTION_INPUT):
            kind = mixture.type_of(tensor.role, _place(shape, tensor, build))
        elif build.fused_as_values:
            kind = mixture.type_of(Role.VALUE, _place(shape, tensor, build))
        else:
            kind = mixture.fused or mixture.base
        yield StoredTensor(tensor=tensor, type=kind.fitting(tensor.columns))


def _in_file(shape: Shape) -> Iterator[Tensor]:
    """Yield the tensors that the converter keeps: the copy of a head as well, but no pooler, which no kernel reads."""
    yield from (tensor for tensor in tensors(shape) if tensor.role is not Role.POOLER)
    if shape.copied_head:
        yield Tensor(role=Role.HEAD, rows=shape.architecture.vocab, columns=shape.architecture.hidden)


def _place(shape: Shape, tensor: Tensor, build: Build) -> Place:
    arch = shape.architecture
    assert tensor.layer is not None
    return Place(
        layer=tensor.layer,
        layers=arch.layers,
        queries_per_key=arch.heads // arch.kv_heads,
        experts=shape.experts.count if shape.experts else 1,
        guided=build.guided,
        of_experts=tensor.copies > 1,
    )


def _files_found(shape: Shape, scheme: str) -> Iterator[tuple[StoredTensor, ...]]:
    """Yield the tensors of a model's file in every way in which it is found to be made, the usual one first."""
    arch = shape.architecture
    usual, *others = mixtures_found(scheme, query_key_norm=arch.query_key_norm)
    made = [(shape, usual, USUAL), *((shape, other, USUAL) for other in others)]
    made.append((shape, usual, Build(guided=False, small_in_16_bits=True)))
    if arch.kind is ArchitectureKind.DECODER and arch.tied_embeddings:
        made.append((replace(shape, copied_head=True), usual, USUAL))  # Qwen2.5 of its publisher
    if shape.fused_attention:
        made.append((shape, usual, Build(fused_as_values=True)))
        made.append((replace(shape, fused_attention=False), usual, USUAL))  # Phi-3 of Ollama
    yield from (tuple(stored_tensors(*one)) for one in made)


@lru_cache(maxsize=1_000)
def _counted(shape: Shape, scheme: str) -> DownloadSize:
    if scheme in DYNAMIC:
        return _between(shape, scheme)
    files = tuple(_files_found(shape, scheme))
    stored, possible = files[0], [sum(one.bytes for one in file) for file in files]
    weights = possible[0]
    vocab = shape.architecture.vocab
    tokenizer = vocab * _TOKENIZER[shape.architecture.kind]
    parts = split((one.tensor, one.bytes) for one in stored)
    parts["other"] += tokenizer
    return DownloadSize(
        format=Format.GGUF,
        scheme=scheme,
        bytes=weights + tokenizer,
        low=min(possible) + vocab * _TOKENIZER_LOW,
        high=max(possible) + vocab * _TOKENIZER_HIGH,
        basis=SizeBasis.COUNTED,
        parts=parts,
        tokenizer_bytes=tokenizer,
        runtime_bytes=None,
        notes=(*_notes(shape, scheme, stored), *([_MORE] if max(possible) > weights * _WORTH_A_NOTE else [])),
    )


def _between(shape: Shape, scheme: str) -> DownloadSize:
    below, nearest, above = (_counted(shape, plain) for plain in DYNAMIC[scheme])
    return replace(
        nearest,
        scheme=scheme,
        low=below.low,
        high=above.high,
        basis=SizeBasis.FITTED,
        notes=(f"Which tensor takes which type follows no rule in {scheme}: told as {nearest.scheme}.",),
    )


def _notes(shape: Shape, scheme: str, stored: tuple[StoredTensor, ...]) -> Iterator[str]:
    base = MIXTURES[scheme].base
    hidden = shape.architecture.hidden
    if hidden % base.block_weights:
        yield (
            f"Rows of {hidden} weights do not divide into the blocks of {base.block_weights} that {base} has, "
            f"so most tensors are stored in {base.fitting(hidden)} or larger."
        )
    types = {one.tensor.role: one.type for one in stored}
    table, head = types[Role.TOKEN_EMBEDDING], types.get(Role.HEAD)
    if shape.copied_head:
        yield f"The output head is a copy of the vocabulary's table, which the file holds apart, in {head}."
    elif head is None and table is not base:
        yield f"The vocabulary's table is stored in {table}, as an output head is."


def _fitted(entry: ModelEntry, scheme: str) -> DownloadSize:
    if MIXTURES.get(scheme) is MIXTURES["MXFP4"]:
        raise SizeError(
            f"{entry.name}: {scheme} stores experts alone in 4 bits, and its tensors are not in the catalogue"
        )
    size = size_by_neighbours(entry, scheme, _count, usual=_takes_the_types_of_its_scheme)
    low, high = size.low * (1 - _MOST_IN_ANOTHER_FILE), size.high * (1 + _MOST_FOR_HYBRIDS)
    if entry.per_layer_embedding_parameters and entry.parameters:
        # Files of one name store this table in any type from the scheme's to one of 16 bits.
        high += entry.per_layer_embedding_parameters * max(0, GgmlType.F16.block_bytes - size.low / entry.parameters)
    return replace(size, low=round(low), high=round(high))


def _count(entry: ModelEntry, scheme: str) -> DownloadSize:
    assert entry.shape is not None
    return _counted(entry.shape, scheme)


def _takes_the_types_of_its_scheme(shape: Shape) -> bool:
    return _runs_in_llama_cpp(shape) and shape.architecture.hidden % GgmlType.Q4_K.block_weights == 0


def _runs_in_llama_cpp(shape: Shape) -> bool:
    return shape.distinct_layers is None and shape.embedding_width is None
