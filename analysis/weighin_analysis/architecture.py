"""What a transformer is made of, and what follows from that by counting."""

from dataclasses import dataclass
from enum import StrEnum


class ArchitectureKind(StrEnum):
    """How a model reads its input: token by token with a KV cache, or all at once."""

    DECODER = "decoder"
    ENCODER = "encoder"


class FeedForward(StrEnum):
    """The feed-forward block: gated by SiLU or GELU (gate, up, down), or plain (up, GELU, down)."""

    SWIGLU = "swiglu"
    GEGLU = "geglu"
    GELU = "gelu"

    @property
    def projections(self) -> int:
        """Matrices of the block."""
        return 2 if self is FeedForward.GELU else 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The numbers that decide what a transformer costs. Widths are in elements.

    ``query_key_norm``: queries and keys of each head are normalised before attention. ``sandwich_norm``: attention and
    feed-forward block are each normalised before and after. ``sliding_window``: local layers attend to this many
    tokens only, None where there is no window; every ``global_layer_interval``-th layer attends to all of them, None
    where no layer of a windowed model does.
    """

    name: str
    kind: ArchitectureKind
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied_embeddings: bool
    feed_forward: FeedForward = FeedForward.SWIGLU
    query_key_norm: bool = False
    sandwich_norm: bool = False
    sliding_window: int | None = None
    global_layer_interval: int | None = None

    @property
    def layer_weight_count(self) -> int:
        """Weights in the matrices of one layer; norms and biases, below a thousandth, are left out."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (queries + 2 * keys) + queries * self.hidden
        return attention + self.feed_forward.projections * self.hidden * self.ffn

    def window_of_layer(self, index: int) -> int | None:
        """Tokens that layer ``index`` (from 0) attends to, None for all of them."""
        interval = self.global_layer_interval
        return None if interval and (index + 1) % interval == 0 else self.sliding_window

    @property
    def embedding_weight_count(self) -> int:
        """Weights of one table of the vocabulary."""
        return self.vocab * self.hidden

    @property
    def head_weight_count(self) -> int:
        """Weights of the output head, 0 for an encoder. Read once per decoded token, tied or not."""
        return self.embedding_weight_count if self.kind is ArchitectureKind.DECODER else 0

    @property
    def parameter_count(self) -> int:
        """Parameters of the full model, each table counted once when input and output share it."""
        untied = self.kind is ArchitectureKind.DECODER and not self.tied_embeddings
        return self.layers * self.layer_weight_count + self.embedding_weight_count * (2 if untied else 1)

    def kv_cache_bytes(self, context_tokens: int, bytes_per_element: int) -> int:
        """Bytes of keys and values of all layers for ``context_tokens`` tokens; 0 for an encoder."""
        if self.kind is ArchitectureKind.ENCODER:
            return 0
        return 2 * self.layers * self.kv_heads * self.head_dim * context_tokens * bytes_per_element
