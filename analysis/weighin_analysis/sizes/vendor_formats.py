"""What models weigh as two makers' runtimes keep them: Rockchip's RKLLM and Intel's OpenVINO.

Layers in the scheme's bits, tables and heads in 8 bits in every quantized scheme. RKLLM leaves an untied input
embedding in its file. Both were read from the memory that the makers publish (docs/memory.md); no file was checked.
"""

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.errors import SizeError
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis

# Bits of a weight in the layers, and in tables and heads. Groups of 128 weights have an fp16 scale and zero point.
_BITS: dict[Format, dict[str, tuple[float, float]]] = {
    Format.RKLLM: {"w4a16": (4, 8), "w4a16_g128": (4.25, 8), "w8a8": (8, 8)},
    Format.OPENVINO: {"INT4-MIXED": (4.25, 8), "INT8-CW": (8, 8), "FP16": (16, 16)},
}
SCHEMES = {form: tuple(schemes) for form, schemes in _BITS.items()}


def download_size(entry: ModelEntry, form: Format, scheme: str) -> DownloadSize:
    """Return what the weights of a model take in one of these formats.

    Without a shape, all weights but a known table count as those of layers. SizeError where the format has no such
    scheme, or where nobody tells how many parameters the model has.
    """
    bits = _BITS[form].get(scheme)
    if bits is None:
        raise SizeError(f"{form} has no scheme {scheme!r}; it has {', '.join(_BITS[form])}")
    if entry.parameters is None:
        raise SizeError(f"{entry.name}: its publisher does not tell how many parameters it has")
    in_layers, in_tables = bits
    table, head = _tables(entry)
    counts = {
        "token_embedding": table * in_tables,
        "head": head * in_tables,
        "layers": (entry.parameters - table - head) * in_layers,
        "other": 0,
    }
    parts = {name: round(count / 8) for name, count in counts.items()}
    total = sum(parts.values())
    return DownloadSize(
        format=form,
        scheme=scheme,
        bytes=total,
        low=total,
        high=total,
        basis=SizeBasis.FITTED if entry.shape is None else SizeBasis.COUNTED,
        parts=parts,
        tokenizer_bytes=0,
        runtime_bytes=None,
    )


def _tables(entry: ModelEntry) -> tuple[int, int]:
    """Return the weights of an input table that no output shares, and those of the head, shared or not."""
    if entry.shape is None:
        return 0, (entry.vocab or 0) * (entry.hidden or 0)
    arch = entry.shape.architecture
    table = arch.vocab * (entry.shape.embedding_width or arch.hidden)
    if arch.kind is ArchitectureKind.ENCODER:
        return table, 0
    return (0, table) if arch.tied_embeddings else (table, table)
