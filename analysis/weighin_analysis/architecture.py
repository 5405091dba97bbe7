"""What a transformer is made of, and what follows from that by counting."""

from dataclasses import dataclass
from enum import StrEnum


class ArchitectureKind(StrEnum):
    """How a model reads its input: token by token with a KV cache, or all at once."""

    DECODER = "decoder"
    ENCODER = "encoder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The numbers that decide what a transformer costs. Widths are in elements."""

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

    @property
    def layer_weight_count(self) -> int:
        """Weights in the matrices of one layer; norms and biases, below a thousandth, are left out."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (queries + 2 * keys) + queries * self.hidden
        # A decoder's feed-forward block is gated (gate, up, down); an encoder's is not (up, down).
        projections = 3 if self.kind is ArchitectureKind.DECODER else 2
        return attention + projections * self.hidden * self.ffn

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
