"""Quantization schemes and what one weight costs in each."""

from enum import StrEnum


class Scheme(StrEnum):
    """How the weights of the matrices are stored and multiplied. Names are ONNX Runtime's kernels, not ggml's."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8_DYNAMIC = "int8_dynamic"
    INT8_BLOCK32 = "int8_block32"
    INT4_BLOCK32 = "int4_block32"

    @property
    def stored_bytes_per_weight(self) -> float:
        """Bytes per weight in the file, scales included: a block of 32 carries one fp32 scale."""
        return _STORED_BYTES_PER_WEIGHT[self]

    @property
    def resident_bytes_per_weight(self) -> float:
        """Bytes per weight once the runtime has packed it for its kernels.

        Beside the scale, a packed block of 32 carries one fp32 sum, which takes the zero point out of the product.
        Measured on the CPU with ONNX Runtime 1.31 on x86-64 (docs/method.md, section 5); fp16 is counted, not measured.
        """
        return _RESIDENT_BYTES_PER_WEIGHT[self]


_STORED_BYTES_PER_WEIGHT = {
    Scheme.FP32: 4.0,
    Scheme.FP16: 2.0,
    Scheme.INT8_DYNAMIC: 1.0,
    Scheme.INT8_BLOCK32: 1.125,
    Scheme.INT4_BLOCK32: 0.625,
}
_RESIDENT_BYTES_PER_WEIGHT = _STORED_BYTES_PER_WEIGHT | {Scheme.INT8_BLOCK32: 1.25, Scheme.INT4_BLOCK32: 0.75}
