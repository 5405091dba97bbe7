"""What a file name says of its format and scheme, and what is left of it for the model's name."""

import re
from dataclasses import dataclass

from weighin_analysis.sizes.artefact import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedArtefact:
    """The format and the scheme that a name states, None where it does not; ``rest`` is the name without them."""

    format: Format | None
    scheme: str | None
    rest: str


_BEFORE, _AFTER = r"(?<![^\W_])", r"(?![^\W_])"
# From the most telling spelling to the least; the first kind that a name holds is its scheme.
_KINDS = {
    "gguf": r"i?q[1-8][-_ ]?k(?:[-_ ]?(?:xxl|xl|xxs|xs|s|m|l))?|iq[1-4][-_ ]?(?:xxs|xs|nl|s|m)"
    r"|q[1-8][-_ ][01](?:[-_ ][48][-_ ][48])?|tq[12][-_ ]0|mxfp4(?:[-_ ]moe)?",
    "mlc": r"q[0348]b?f(?:16|32)_[0-3]|q0(?:b?f16|f32)",
    "onnx": r"q4f16|bnb4",
    "other": r"awq|gptq|exl[23]|hqq|aqlm|nvfp4|nf4|fp8(?:[-_]dynamic)?|w[0-9]a[0-9]{1,2}|bnb[-_ ]4bit",
    "plain": r"u?int[248](?:_dynamic|_block(?:32|128))?|q[248]|bf16|bfloat16|fp?16|fp?32|float16|float32",
    "bits": r"(?:[2-8]|1\.58)[-_ ]?bits?",
    "vague": r"quantized",
}
_SCHEME = re.compile(
    _BEFORE + "(?:" + "|".join(f"(?P<{kind}>{spelling})" for kind, spelling in _KINDS.items()) + ")" + _AFTER
)
# What a conversion adds to a name: shards, group sizes, the lengths and the target that a graph is compiled for.
_CONVERSION = re.compile(
    _BEFORE
    + r"(?:[0-9]{5}-of-[0-9]{5}|part[-_]?[0-9]{1,3}of[0-9]{1,3}"
    + r"|ekv[0-9]+|(?:multi-)?prefill(?:-seq)?(?:-[0-9]+)?|seq[0-9]+"
    + r"|(?:g|gs|b|group)(?:32|64|128)|(?:32|64|128)g|(?:[0-9]\.)?[0-9]{1,2}bpw|ud|i1|(?<!\.)imat(?:rix)?)"
    + _AFTER
)
_EXTENSIONS = {
    "gguf": Format.GGUF,
    "ggml": Format.GGUF,
    "onnx": Format.ONNX,
    "onnx_data": Format.ONNX,
    "litertlm": Format.LITERT,
    "task": Format.LITERT,
    "tflite": Format.LITERT,
    "safetensors": Format.SAFETENSORS,
}
_FORMAT_WORD = re.compile(
    _BEFORE
    + r"(?:gguf|ggml|onnx(?:_data(?:_[0-9]+)?|web)?|mlc|litert(?:lm)?|mediapipe|tflite|task|safetensors|webllm)"
    + _AFTER
)
_WORDS = _EXTENSIONS | {
    "mlc": Format.MLC,
    "webllm": Format.MLC,
    "litert": Format.LITERT,
    "mediapipe": Format.LITERT,
    "onnxweb": Format.ONNX,
}
_KIND_FORMATS = {"gguf": Format.GGUF, "mlc": Format.MLC, "onnx": Format.ONNX}
_MEDIAPIPE = re.compile(r"[cg]pu[-_]int[48]")


def read_artefact(folded: str) -> NamedArtefact:
    """Return what a folded name or path says of format and scheme; the last one counts where it says several."""
    matches = list(_SCHEME.finditer(folded))
    kinds = [kind for kind in _KINDS if any(match.lastgroup == kind for match in matches)]
    form = _format(folded, kinds[0] if kinds else None)
    if form is Format.ONNX and len(kinds) > 1 and kinds[0] == "other":
        del kinds[0]  # in int4-awq-block-128 the second word tells how the first was found
    kind = kinds[0] if kinds else None
    spelling = [match[0] for match in matches if match.lastgroup == kind][-1] if kind else None
    rest = _FORMAT_WORD.sub(" ", _CONVERSION.sub(" ", _SCHEME.sub(" ", folded)))
    return NamedArtefact(format=form, scheme=_scheme(spelling, form) if spelling else None, rest=rest)


def _format(folded: str, kind: str | None) -> Format | None:
    words = [match[0] for match in _FORMAT_WORD.finditer(folded)]
    named = [_WORDS["onnx" if word.startswith("onnx_data") else word] for word in words]
    if named:
        return named[-1]
    if _MEDIAPIPE.search(folded):
        return Format.LITERT
    return _KIND_FORMATS.get(kind or "")


_FLOATS = {"f16": "fp16", "float16": "fp16", "f32": "fp32", "float32": "fp32", "bfloat16": "bf16"}
# llama.cpp takes these short names for the medium mixtures.
_GGUF_SHORT = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
_GGUF_FLOATS = {"fp16": "F16", "fp32": "F32", "bf16": "BF16", "q8": "Q8_0"}
_BITS = {"q8": "int8", "quantized": "int8", "q4": "int4"}


def _scheme(spelling: str, form: Format | None) -> str:
    """Return a scheme as its format spells it; as the name does where no format is known."""
    plain = _FLOATS.get(spelling, spelling)
    match form:
        case Format.GGUF:
            joined = re.sub(r"[-_ ]+", "_", spelling).upper()
            joined = re.sub(r"^(I?Q[1-8])_?(K|XXS|XS|NL|S|M)_?(XXL|XXS|XL|XS|S|M|L)?$", _with_underscores, joined)
            return _GGUF_FLOATS.get(plain) or _GGUF_SHORT.get(joined, joined)
        case Format.ONNX:
            return "int8" if plain in {"q8", "quantized"} else plain
        case Format.LITERT:
            return _BITS.get(plain, plain)
        case Format.SAFETENSORS:
            return {"fp16": "F16", "fp32": "F32"}.get(plain, plain.upper())
        case _:
            return plain.upper() if plain in {"awq", "gptq"} else plain


def _with_underscores(match: re.Match[str]) -> str:
    return "_".join(part for part in match.groups() if part)
