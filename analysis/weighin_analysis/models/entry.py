"""An entry of the catalogue: what is published about one model, and where."""

from dataclasses import dataclass
from enum import StrEnum

from weighin_analysis.models.shape import Shape


class ModelKind(StrEnum):
    """How a model is built up."""

    DECODER = "decoder"
    ENCODER = "encoder"
    ENCODER_DECODER = "encoder_decoder"


class CountBasis(StrEnum):
    """How the number of parameters is known, from strongest to weakest."""

    COMPUTED = "computed"  # counted from the published configuration, tensor by tensor
    PUBLISHED = "published"  # the publisher's exact number
    ROUNDED = "rounded"  # the publisher's number, rounded
    UNDISCLOSED = "undisclosed"  # the publisher does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCache:
    """What keeps keys and values in a model whose layers are not all alike."""

    layers: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCount:
    """What a second source says of a count, rounded as it is there."""

    parameters: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model of the catalogue.

    ``parameters`` counts a table once that input and output share; None when undisclosed. ``active_parameters`` are
    those that a token passes: fewer than all in a mixture of experts and where per-layer embeddings are looked up.
    ``shape`` is None where the configuration is not published in full or no dense transformer describes it; then
    ``kv_cache`` may still be known, and ``vocab`` and ``hidden``, the rows and the width of the vocabulary's table, and
    ``per_layer_embedding_parameters``, those of the table from which every layer looks up a row of its own.
    ``aliases`` are further names of the same weights' size and shape, as people write them. ``teacher`` names the model
    that this one was distilled from, None if it was not. ``reshaped_from`` names the catalogued model that a what-if
    reshaped, whose files this one's would be laid out like; None for a published one. ``published`` is what the count
    of the shape is held against, None where nobody published a number that compares.
    """

    name: str
    kind: ModelKind
    parameters: int | None
    count_basis: CountBasis
    source: str
    active_parameters: int | None = None
    context_tokens: int | None = None
    shape: Shape | None = None
    kv_cache: KvCache | None = None
    vocab: int | None = None
    hidden: int | None = None
    per_layer_embedding_parameters: int | None = None
    aliases: tuple[str, ...] = ()
    teacher: str | None = None
    reshaped_from: str | None = None
    published: PublishedCount | None = None
    note: str = ""

    @property
    def disclosed(self) -> bool:
        """Whether the publisher tells how many parameters the model has."""
        return self.count_basis is not CountBasis.UNDISCLOSED
