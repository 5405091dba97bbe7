"""The shape of a model from the metadata and the tensor names of a GGUF file.

Names of keys and tensors: https://github.com/ggml-org/llama.cpp, ``gguf-py/gguf/constants.py``. Architectures
are not known here by name: what the tensors say is put together, and the shape holds only if it counts every weight.
"""

from dataclasses import replace

from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.files.metadata import Metadata
from weighin_analysis.files.model_file import Contents, StoredTensor
from weighin_analysis.files.reading import shown
from weighin_analysis.models.entry import KvCache, ModelKind
from weighin_analysis.models.shape import Experts, Norm, Shape
from weighin_analysis.models.tensors import active_parameter_count, parameter_count

_ENCODERS = ("bert", "t5encoder", "gemma-embedding")
# Which layers see everything is not in the metadata of these; llama.cpp's source says every which one.
_GLOBAL_INTERVAL = {"gemma2": 2, "gemma3": 6, "cohere2": 4, "gpt-oss": 2}
_NORMS = (
    "attn_norm", "attn_norm_2", "ffn_norm", "post_attention_norm", "post_ffw_norm", "attn_output_norm",
    "layer_output_norm",
)  # fmt: skip


def describe(metadata: Metadata, contents: Contents) -> Contents:
    """Return ``contents`` with what the metadata tell of the model."""
    architecture = metadata.text("general.architecture") or ""
    kind = _kind(architecture, metadata)
    by_name = {tensor.name: tensor for tensor in contents.tensors}
    name = metadata.text("general.name")
    notes = list(contents.notes)
    if metadata.text("general.type") not in (None, "model"):
        notes.append(f"The file is {shown(metadata.text('general.type') or '')} data for a model, not a model.")
    shape = _shape(architecture, metadata, by_name, kind)
    total = sum(tensor.parameters for tensor in contents.tensors)
    if shape is None:
        notes.append("The shape is not told: the metadata do not describe layers that are all alike.")
    elif parameter_count(shape) != total:
        notes.append(
            f"The shape is not told: a plain transformer of these metadata has {parameter_count(shape):,} parameters, "
            f"the file {total:,}."
        )
        shape = None
    return replace(
        contents,
        name=shown(name) if name else None,
        kind=kind,
        context_tokens=metadata.count(f"{architecture}.context_length"),
        tied_embeddings="output.weight" not in by_name if kind is ModelKind.DECODER else None,
        active_parameters=active_parameter_count(shape) if shape is not None and shape.experts else None,
        vocab=_rows(by_name.get("token_embd.weight")) or None,
        hidden=metadata.count(f"{architecture}.embedding_length") or None,
        shape=shape,
        kv_cache=_kv_cache(architecture, metadata) if shape is None and kind is not ModelKind.ENCODER else None,
        notes=tuple(notes),
    )


def _kind(architecture: str, metadata: Metadata) -> ModelKind:
    if architecture == "t5":
        return ModelKind.ENCODER_DECODER
    if architecture.endswith(_ENCODERS) or "-bert-" in architecture:
        return ModelKind.ENCODER
    return ModelKind.ENCODER if metadata.flag(f"{architecture}.attention.causal") is False else ModelKind.DECODER


def _kv_cache(architecture: str, metadata: Metadata) -> KvCache | None:
    """Return what keeps keys and values; of unlike layers, those that have any, if they are alike.

    Where a value is not as wide as a key, ``head_dim`` is the mean of both. Attention by latent vectors keeps one of
    ``key_length`` and reads the values out of it; its keys' and values' own widths end in ``_mla``. The last layers may
    use what others keep.
    """
    layers = metadata.count(f"{architecture}.block_count")
    heads = metadata.count(f"{architecture}.attention.head_count_kv")
    each = [count for count in metadata.counts(f"{architecture}.attention.head_count_kv") if count]
    if len(set(each)) == 1:
        layers, heads = len(each), each[0]
    elif layers is not None:
        layers -= metadata.count(f"{architecture}.attention.shared_kv_layers") or 0
    hidden, queries = (metadata.count(f"{architecture}.{key}") for key in ("embedding_length", "attention.head_count"))
    usual = hidden // queries if hidden and queries else None
    keys, values = (metadata.count(f"{architecture}.attention.{key}_length") or usual for key in ("key", "value"))
    if metadata.count(f"{architecture}.attention.key_length_mla"):
        values = 0
    if not layers or layers < 0 or not heads or not keys or values is None:
        return None
    return KvCache(layers=layers, kv_heads=heads, head_dim=-(-(keys + values) // 2))


def _rows(tensor: StoredTensor | None) -> int:
    return tensor.dims[1] if tensor is not None and len(tensor.dims) > 1 else 0


def _shape(architecture: str, metadata: Metadata, tensors: dict[str, StoredTensor], kind: ModelKind) -> Shape | None:
    def number(key: str) -> int:
        return metadata.count(f"{architecture}.{key}") or 0

    layers, hidden, heads = number("block_count"), number("embedding_length"), number("attention.head_count")
    vocab = _rows(tensors.get("token_embd.weight"))
    # Every layer has a tensor: a larger number is a false claim, and counting it would take as long as it says.
    if not (0 < layers <= len(tensors) and hidden and heads and vocab) or kind is ModelKind.ENCODER_DECODER:
        return None
    last = f"blk.{layers - 1}"

    def has(name: str) -> bool:
        return name in tensors or f"{last}.{name}" in tensors

    norms = [name for name in _NORMS if f"{last}.{name}.weight" in tensors]
    experts = _experts(metadata, architecture, tensors, last)
    dense_ffn = number("feed_forward_length")
    ffn = number("expert_feed_forward_length") or dense_ffn if experts else dense_ffn
    gated = any(has(f"ffn_gate{suffix}.weight") for suffix in ("", "_exps")) or (
        _rows(tensors.get(f"{last}.ffn_up.weight")) == 2 * ffn
    )
    activation = FeedForward.GEGLU if architecture.startswith("gemma") else FeedForward.SWIGLU
    window = number("attention.sliding_window") or None
    return Shape(
        architecture=Architecture(
            name=shown(metadata.text("general.name") or architecture),
            kind=ArchitectureKind.ENCODER if kind is ModelKind.ENCODER else ArchitectureKind.DECODER,
            layers=layers,
            hidden=hidden,
            ffn=ffn,
            heads=heads,
            kv_heads=number("attention.head_count_kv") or heads,
            head_dim=number("attention.key_length") or hidden // heads,
            vocab=vocab,
            tied_embeddings=not has("output.weight"),
            feed_forward=activation if gated else FeedForward.GELU,
            query_key_norm=has("attn_q_norm.weight"),
            sandwich_norm={"post_attention_norm", "post_ffw_norm", "attn_norm", "ffn_norm"} <= set(norms),
            sliding_window=window,
            global_layer_interval=_GLOBAL_INTERVAL.get(architecture) if window else None,
        ),
        norm=Norm.LAYER if any(has(f"{name}.bias") for name in norms) else Norm.RMS,
        norms_per_layer=len(norms),
        final_norm=has("output_norm.weight"),
        embedding_norm=has("token_embd_norm.weight"),
        qkv_bias=has("attn_q.bias") or has("attn_qkv.bias"),
        attention_output_bias=has("attn_output.bias"),
        feed_forward_bias=has("ffn_down.bias"),
        head_bias=has("output.bias"),
        position_rows=_rows(tensors.get("position_embd.weight")),
        token_type_rows=_rows(tensors.get("token_types.weight")),
        fused_attention=has("attn_qkv.weight"),
        experts=experts,
    )


def _experts(metadata: Metadata, architecture: str, tensors: dict[str, StoredTensor], last: str) -> Experts | None:
    count = metadata.count(f"{architecture}.expert_count")
    active = metadata.count(f"{architecture}.expert_used_count")
    if not count or not active:
        return None
    dense_layers = metadata.count(f"{architecture}.leading_dense_block_count") or 0
    return Experts(
        count=count,
        active=active,
        shared_ffn=_rows(tensors.get(f"{last}.ffn_up_shexp.weight")),
        dense_layers=dense_layers,
        dense_ffn=(metadata.count(f"{architecture}.feed_forward_length") or 0) if dense_layers else 0,
    )
