"""What inspecting a model file yields."""

from dataclasses import dataclass
from pathlib import Path

from weighin_analysis.models.entry import KvCache, ModelEntry, ModelKind
from weighin_analysis.models.shape import Shape
from weighin_analysis.sizes.artefact import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor as it lies in a file.

    ``type`` is the format's own name for how it is stored, ``dims`` are in the format's own order, as packed.
    ``parameters`` are the weights that it holds: 0 for a scale, a zero point or a constant, and not the number of its
    elements where several weights are packed into one.
    """

    name: str
    type: str
    dims: tuple[int, ...]
    byte_count: int
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the headers of one model's files say, before it is compared with a configuration beside them.

    ``head_copy`` is the number of parameters of an output head that may be a copy of the vocabulary's table, 0 where
    there is none. ``tied_embeddings`` is None where the header does not tell.
    """

    format: Format
    scheme: str
    tensors: tuple[StoredTensor, ...]
    files: tuple[Path, ...]
    name: str | None = None
    kind: ModelKind | None = None
    context_tokens: int | None = None
    tied_embeddings: bool | None = None
    head_copy: int = 0
    active_parameters: int | None = None
    vocab: int | None = None
    hidden: int | None = None
    shape: Shape | None = None
    kv_cache: KvCache | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model as its files hold it; read from their headers, so exact.

    ``scheme`` is the name under which publishers offer such a file: ``Q4_K_M``, ``q4f16``, ``BF16``. ``parameters`` are
    the weights of the model: of a quantized tensor its weights and not its scales, no constants, and a vocabulary's
    table once if the model ties it. ``file_bytes`` are those of all ``files`` (shards, external data), ``tensor_bytes``
    those of the tensors in them. ``parameters_by_type`` tells how many are stored in which type,
    a second copy of the table included.
    ``entry`` is the model in the terms of the catalogue; its shape is None where the files do not tell it, and
    ``notes``, sentences for a person, say why.
    """

    format: Format
    scheme: str
    parameters: int
    file_bytes: int
    tensor_bytes: int
    parameters_by_type: dict[str, int]
    tied_embeddings: bool | None
    size_class: str
    entry: ModelEntry
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
