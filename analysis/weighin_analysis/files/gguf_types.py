"""Numbers by which GGUF names tensor types and schemes.

Source: https://github.com/ggml-org/llama.cpp, ``ggml/include/ggml.h`` (tensor types), ``ggml/src/ggml-common.h`` (their
blocks) and ``include/llama.h`` (``llama_ftype``, the schemes).
"""

from weighin_analysis.sizes.ggml import GgmlType

_KNOWN = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
    13: "Q5_K", 14: "Q6_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 30: "BF16", 41: "Q1_0",
}  # fmt: skip
# Types that files hold, but no scheme that weighin predicts is made of.
_RARE = {
    9: ("Q8_1", 32, 40), 15: ("Q8_K", 256, 292), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4),
    27: ("I64", 1, 8), 28: ("F64", 1, 8), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}  # fmt: skip
TENSOR_TYPES = _RARE | {
    number: (name, GgmlType(name).block_weights, GgmlType(name).block_bytes) for number, name in _KNOWN.items()
}
"""Name, weights of a block, bytes of a block of every tensor type, by its number."""

INTEGERS = frozenset({"I8", "I16", "I32", "I64"})

SCHEMES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip
"""Name of every scheme by the number that ``general.file_type`` holds."""

_UNLIKE_THEIR_NAME = {"IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S", "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S", "MXFP4_MOE": "MXFP4"}


def base_type(scheme: str) -> str:
    """Return the tensor type that most matrices of a scheme have."""
    return (
        _UNLIKE_THEIR_NAME.get(scheme, scheme.removesuffix("_S").removesuffix("_M").removesuffix("_L"))
        if (scheme in _UNLIKE_THEIR_NAME or "_K_" in scheme)
        else scheme
    )


def substitute(type_name: str) -> str | None:
    """Return the type that stands in where a row does not divide into blocks of the type, None without one."""
    if type_name in ("TQ1_0", "TQ2_0"):
        return "Q4_0"
    if type_name not in list(GgmlType) or GgmlType(type_name).block_weights < 256:
        return None
    return str(GgmlType(type_name).fitting(32))
