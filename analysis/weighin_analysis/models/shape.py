"""A published model in full: an architecture and everything else that its weights consist of."""

from dataclasses import dataclass, replace
from enum import StrEnum

from weighin_analysis.architecture import Architecture


class Norm(StrEnum):
    """What a normalisation keeps per channel: RMS one scale, layer a scale and a bias."""

    RMS = "rms"
    LAYER = "layer"

    @property
    def vectors(self) -> int:
        """Vectors of one normalisation."""
        return 1 if self is Norm.RMS else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The mixture of experts in a layer: ``count`` of them, of which a token passes ``active``.

    The architecture's ``ffn`` is the width of one expert. ``shared_ffn`` is the width of a block that every token
    passes beside them, 0 without one. The first ``dense_layers`` have no experts but one block of ``dense_ffn``.
    """

    count: int
    active: int
    shared_ffn: int = 0
    dense_layers: int = 0
    dense_ffn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Everything from which every tensor of a model can be counted. Rows and widths are in elements.

    ``norms_per_layer`` leaves out those of queries and keys, which the architecture tells. ``position_rows`` and
    ``token_type_rows`` are learned tables beside the vocabulary, 0 without one. ``embedding_width`` is the width of the
    vocabulary's table where it is projected to the hidden width, None where it has that width. ``distinct_layers`` have
    weights of their own, all others use these again; None when every layer has its own. ``fused_attention``: queries,
    keys and values are published as one matrix. ``copied_head``: the head is published as a second copy of the table
    that it shares, which converters then keep apart; the copy is no parameter.
    """

    architecture: Architecture
    norm: Norm = Norm.RMS
    norms_per_layer: int = 2
    final_norm: bool = True
    embedding_norm: bool = False
    qkv_bias: bool = False
    attention_output_bias: bool = False
    feed_forward_bias: bool = False
    head_bias: bool = False
    position_rows: int = 0
    token_type_rows: int = 0
    pooler: bool = False
    embedding_width: int | None = None
    distinct_layers: int | None = None
    fused_attention: bool = False
    copied_head: bool = False
    experts: Experts | None = None

    @property
    def active_architecture(self) -> Architecture:
        """The dense architecture that does the arithmetic of one token: with experts, those that it passes."""
        if self.experts is None:
            return self.architecture
        width = self.experts.active * self.architecture.ffn + self.experts.shared_ffn
        return replace(self.architecture, ffn=width)
