"""The tensor types of ggml: weights come in blocks of a fixed number of bytes.

Source: https://github.com/ggml-org/llama.cpp, ``ggml/src/ggml-common.h`` (the blocks) and ``src/llama-quant.cpp`` (what
stands in for a type where a row does not divide into its blocks).
"""

from enum import StrEnum


class GgmlType(StrEnum):
    """How ggml stores the weights of one tensor."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    Q1_0 = "Q1_0"
    Q2_K = "Q2_K"
    Q3_K = "Q3_K"
    Q4_0 = "Q4_0"
    Q4_1 = "Q4_1"
    Q4_K = "Q4_K"
    Q5_0 = "Q5_0"
    Q5_1 = "Q5_1"
    Q5_K = "Q5_K"
    Q6_K = "Q6_K"
    Q8_0 = "Q8_0"
    IQ1_S = "IQ1_S"
    IQ1_M = "IQ1_M"
    IQ2_XXS = "IQ2_XXS"
    IQ2_XS = "IQ2_XS"
    IQ2_S = "IQ2_S"
    IQ3_XXS = "IQ3_XXS"
    IQ3_S = "IQ3_S"
    IQ4_NL = "IQ4_NL"
    IQ4_XS = "IQ4_XS"
    MXFP4 = "MXFP4"

    @property
    def block_weights(self) -> int:
        """Weights of one block; a row consists of whole blocks."""
        return _BLOCKS[self][0]

    @property
    def block_bytes(self) -> int:
        """Bytes of one block, scales included."""
        return _BLOCKS[self][1]

    def fitting(self, columns: int) -> "GgmlType":
        """Return the type that llama.cpp takes for rows of ``columns`` weights: this one, or the next that divides."""
        if columns % self.block_weights == 0:
            return self
        substitute = _SUBSTITUTES.get(self, GgmlType.F16)
        return substitute if columns % substitute.block_weights == 0 else GgmlType.F16


_BLOCKS = {
    GgmlType.F32: (1, 4),
    GgmlType.F16: (1, 2),
    GgmlType.BF16: (1, 2),
    GgmlType.Q1_0: (128, 18),
    GgmlType.Q2_K: (256, 84),
    GgmlType.Q3_K: (256, 110),
    GgmlType.Q4_0: (32, 18),
    GgmlType.Q4_1: (32, 20),
    GgmlType.Q4_K: (256, 144),
    GgmlType.Q5_0: (32, 22),
    GgmlType.Q5_1: (32, 24),
    GgmlType.Q5_K: (256, 176),
    GgmlType.Q6_K: (256, 210),
    GgmlType.Q8_0: (32, 34),
    GgmlType.IQ1_S: (256, 50),
    GgmlType.IQ1_M: (256, 56),
    GgmlType.IQ2_XXS: (256, 66),
    GgmlType.IQ2_XS: (256, 74),
    GgmlType.IQ2_S: (256, 82),
    GgmlType.IQ3_XXS: (256, 98),
    GgmlType.IQ3_S: (256, 110),
    GgmlType.IQ4_NL: (32, 18),
    GgmlType.IQ4_XS: (256, 136),
    GgmlType.MXFP4: (32, 17),
}
_SUBSTITUTES = {
    GgmlType.Q2_K: GgmlType.Q4_0,
    GgmlType.Q3_K: GgmlType.Q4_0,
    GgmlType.Q4_K: GgmlType.Q5_0,
    GgmlType.Q5_K: GgmlType.Q5_1,
    GgmlType.Q6_K: GgmlType.Q8_0,
} | dict.fromkeys(
    (
        GgmlType.IQ1_S,
        GgmlType.IQ1_M,
        GgmlType.IQ2_XXS,
        GgmlType.IQ2_XS,
        GgmlType.IQ2_S,
        GgmlType.IQ3_XXS,
        GgmlType.IQ3_S,
        GgmlType.IQ4_XS,
    ),
    GgmlType.IQ4_NL,
)
