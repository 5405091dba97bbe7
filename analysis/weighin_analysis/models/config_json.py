"""A model's config.json, as Hugging Face Transformers writes it, as an entry of the catalogue.

What a field means and what stands for one that is missing is taken from the configuration classes of Transformers 5.23:
https://github.com/huggingface/transformers/tree/main/src/transformers/models (configuration_*.py of each model type).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.errors import CatalogError
from weighin_analysis.models.catalogue_check import shape_problems
from weighin_analysis.models.entry import CountBasis, ModelEntry, ModelKind
from weighin_analysis.models.shape import Experts, Norm, Shape
from weighin_analysis.models.tensors import active_parameter_count, parameter_count

_EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_MOST_COUNT = 2**31 - 1  # what one side of a tensor may have


def entry_from_config(text: str, name: str, source: str) -> ModelEntry:
    """Return the model that the text of a config.json describes, its parameters counted from it.

    A picture-and-text model gives its text decoder. CatalogError says which field is missing, wrong or of a kind that
    cannot be counted exactly.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CatalogError(f"{name}: the configuration is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise CatalogError(f"{name}: the configuration is not a JSON object")
    try:
        return _entry(fields, name, source)
    except CatalogError as error:
        raise CatalogError(f"{name}: config.json: {error}") from error


@dataclass(frozen=True, slots=True)
class _Config:
    """The fields of one configuration, read with the type that they must have. Null reads like a missing field."""

    name: str
    fields: Mapping[str, Any]

    def has(self, key: str) -> bool:
        return self.fields.get(key) is not None

    def count(self, key: str, default: int | None = None) -> int:
        value = self.fields.get(key)
        value = default if value is None else value
        if type(value) is not int or not 1 <= value <= _MOST_COUNT:
            raise CatalogError(f"{key}: must be a whole number from 1 to {_MOST_COUNT}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.fields.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise CatalogError(f"{key}: must be true or false")
        return value

    def at_most_one(self, key: str) -> None:
        """Refuse a number of experts where the kind of model has none: it would be counted as if it were dense."""
        if self.fields.get(key) not in (None, 0, 1):
            raise CatalogError(f"{key}: a model of this kind with experts cannot be counted")

    def without(self, key: str, *, unless: object = False) -> None:
        """Refuse a field that changes the weights in a way that no shape describes."""
        if self.fields.get(key) not in (None, unless):
            raise CatalogError(f"{key}: only {json.dumps(unless)} can be counted exactly")


def _entry(fields: Mapping[str, Any], name: str, source: str) -> ModelEntry:
    model_type = fields.get("model_type")
    nested = fields.get("text_config")
    if isinstance(nested, dict) and isinstance(model_type, str) and model_type in _NESTED:
        return _entry({"model_type": _NESTED[model_type]} | nested, name, source)
    if not isinstance(model_type, str) or model_type not in _SHAPES:
        raise CatalogError(f"model_type: {str(model_type)[:40]!a} is none of {', '.join(sorted(_SHAPES))}")
    config = _Config(name, fields)
    shape = _SHAPES[model_type](config)
    if shape.experts is None:
        for told in _EXPERT_COUNTS:
            config.at_most_one(told)
    problems = shape_problems(shape)
    if problems:
        raise CatalogError(problems[0])
    encoder = shape.architecture.kind is ArchitectureKind.ENCODER
    return ModelEntry(
        name=name,
        kind=ModelKind.ENCODER if encoder else ModelKind.DECODER,
        parameters=parameter_count(shape),
        count_basis=CountBasis.COMPUTED,
        source=source,
        active_parameters=active_parameter_count(shape) if shape.experts else None,
        context_tokens=_context(config),
        shape=shape,
    )


def _context(config: _Config) -> int | None:
    told = (key for key in ("max_position_embeddings", "n_positions") if config.has(key))
    return next((config.count(key) for key in told), None)


def _decoder(config: _Config, *, tied: bool, head_dim: int | None = None, **more: Any) -> Architecture:
    """Return the architecture of a decoder whose fields have the names of Llama's."""
    heads, hidden = config.count("num_attention_heads", more.pop("heads", None)), config.count("hidden_size")
    if head_dim is None and not config.has("head_dim"):
        head_dim = _head_dim(hidden, heads)
    return Architecture(
        name=config.name,
        kind=ArchitectureKind.DECODER,
        layers=config.count("num_hidden_layers"),
        hidden=hidden,
        ffn=more.pop("ffn", None) or config.count("intermediate_size"),
        heads=heads,
        kv_heads=config.count("num_key_value_heads", more.pop("kv_heads", heads)),
        head_dim=config.count("head_dim", head_dim),
        vocab=config.count("vocab_size", more.pop("vocab", None)),
        tied_embeddings=config.flag("tie_word_embeddings", tied),
        feed_forward=more.pop("feed_forward", None) or _gated(config),
        **more,
    )


def _head_dim(hidden: int, heads: int) -> int:
    if hidden % heads:
        raise CatalogError(f"head_dim: is missing, and a width of {hidden} does not divide into {heads} heads")
    return hidden // heads


def _gated(config: _Config) -> FeedForward:
    name = config.fields.get("hidden_activation") or config.fields.get("hidden_act") or "silu"
    if name == "silu":
        return FeedForward.SWIGLU
    if isinstance(name, str) and name.startswith("gelu"):
        return FeedForward.GEGLU
    raise CatalogError(f"hidden_act: {str(name)[:40]!a} is neither silu nor a gelu")


def _window(config: _Config, default: int | None = None) -> int | None:
    """Return the window of local layers, None where it never ends before the context does."""
    if not config.flag("use_sliding_window", True) or not (config.has("sliding_window") or default):
        return None
    window = config.count("sliding_window", default)
    return None if window >= config.count("max_position_embeddings", _MOST_COUNT) else window


def _llama(config: _Config) -> Shape:
    bias = config.flag("attention_bias", False)
    return Shape(
        architecture=_decoder(config, tied=False),
        qkv_bias=bias,
        attention_output_bias=bias,
        feed_forward_bias=config.flag("mlp_bias", False),
    )


def _tied_llama(config: _Config) -> Shape:
    return _llama(_Config(config.name, {"tie_word_embeddings": True, **config.fields}))


def _mistral(config: _Config) -> Shape:
    # A configuration that says null has no window; only one that says nothing has that of the first Mistral.
    default = None if "sliding_window" in config.fields else 4096
    return Shape(architecture=_decoder(config, tied=False, kv_heads=8, sliding_window=_window(config, default)))


def _internlm_2(config: _Config) -> Shape:
    config.without("bias")
    return Shape(architecture=_decoder(config, tied=False))


def _mixtral(config: _Config) -> Shape:
    experts = Experts(count=config.count("num_local_experts", 8), active=config.count("num_experts_per_tok", 2))
    return Shape(
        architecture=_decoder(config, tied=False, kv_heads=8, sliding_window=_window(config)),
        experts=experts,
    )


def _qwen2(config: _Config) -> Shape:
    config.without("use_sliding_window")
    return Shape(architecture=_decoder(config, tied=False), qkv_bias=True)


def _qwen3(config: _Config) -> Shape:
    config.without("use_sliding_window")
    bias = config.flag("attention_bias", False)
    architecture = _decoder(config, tied=False, head_dim=128, query_key_norm=True)
    return Shape(architecture=architecture, qkv_bias=bias, attention_output_bias=bias)


def _qwen3_moe(config: _Config) -> Shape:
    config.without("use_sliding_window")
    config.without("attention_bias")
    config.without("decoder_sparse_step", unless=1)
    config.without("mlp_only_layers", unless=[])
    experts = Experts(count=config.count("num_experts", 128), active=config.count("num_experts_per_tok", 8))
    width = config.count("moe_intermediate_size", 768)
    return Shape(
        architecture=_decoder(config, tied=False, head_dim=128, kv_heads=4, ffn=width, query_key_norm=True),
        experts=experts,
    )


def _gemma(config: _Config) -> Shape:
    config.without("attention_bias")
    return Shape(architecture=_decoder(config, tied=True, head_dim=256, feed_forward=FeedForward.GEGLU))


def _gemma_2(config: _Config) -> Shape:
    config.without("attention_bias")
    return Shape(
        architecture=_decoder(
            config,
            tied=True,
            head_dim=256,
            kv_heads=4,
            feed_forward=FeedForward.GEGLU,
            sandwich_norm=True,
            sliding_window=_window(config, 4096),
            global_layer_interval=2,
        ),
        norms_per_layer=4,
    )


def _gemma_3(config: _Config) -> Shape:
    config.without("attention_bias")
    interval = "_sliding_window_pattern" if config.has("_sliding_window_pattern") else "sliding_window_pattern"
    return Shape(
        architecture=_decoder(
            config,
            tied=True,
            heads=8,  # the published configurations of 4B leave out what these defaults tell
            kv_heads=4,
            head_dim=256,
            vocab=262_208,
            feed_forward=FeedForward.GEGLU,
            query_key_norm=True,
            sandwich_norm=True,
            sliding_window=_window(config, 4096),
            global_layer_interval=config.count(interval, 6),
        ),
        norms_per_layer=4,
    )


def _phi(config: _Config) -> Shape:
    config.without("qk_layernorm")
    return Shape(
        architecture=_decoder(config, tied=False, feed_forward=FeedForward.GELU),
        norm=Norm.LAYER,
        norms_per_layer=1,
        qkv_bias=True,
        attention_output_bias=True,
        feed_forward_bias=True,
        head_bias=True,
    )


def _phi_3(config: _Config) -> Shape:
    return Shape(architecture=_decoder(config, tied=False, sliding_window=_window(config)), fused_attention=True)


def _olmo(config: _Config) -> Shape:
    config.without("attention_bias")
    return Shape(architecture=_decoder(config, tied=False), norms_per_layer=0, final_norm=False)


def _stablelm(config: _Config) -> Shape:
    config.without("qk_layernorm")
    config.without("use_parallel_residual")
    bias = config.flag("use_qkv_bias", False)
    return Shape(architecture=_decoder(config, tied=False), norm=Norm.LAYER, qkv_bias=bias)


def _starcoder_2(config: _Config) -> Shape:
    bias = config.flag("use_bias", True)
    return Shape(
        architecture=_decoder(
            config, tied=True, kv_heads=2, feed_forward=FeedForward.GELU, sliding_window=_window(config)
        ),
        norm=Norm.LAYER,
        qkv_bias=bias,
        attention_output_bias=bias,
        feed_forward_bias=bias,
    )


def _cohere(config: _Config) -> Shape:
    config.without("attention_bias")
    config.without("use_qk_norm")
    return Shape(architecture=_decoder(config, tied=True), norms_per_layer=1)


def _cohere_2(config: _Config) -> Shape:
    config.without("attention_bias")
    interval = config.count("sliding_window_pattern", 4)
    architecture = _decoder(config, tied=True, sliding_window=_window(config, 4096), global_layer_interval=interval)
    return Shape(architecture=architecture, norms_per_layer=1)


def _gpt_2(config: _Config) -> Shape:
    config.without("add_cross_attention")
    hidden, heads = config.count("n_embd"), config.count("n_head")
    return Shape(
        architecture=Architecture(
            name=config.name,
            kind=ArchitectureKind.DECODER,
            layers=config.count("n_layer"),
            hidden=hidden,
            ffn=config.count("n_inner", 4 * hidden),
            heads=heads,
            kv_heads=heads,
            head_dim=_head_dim(hidden, heads),
            vocab=config.count("vocab_size", 50_257),
            tied_embeddings=config.flag("tie_word_embeddings", True),
            feed_forward=FeedForward.GELU,
        ),
        norm=Norm.LAYER,
        qkv_bias=True,
        attention_output_bias=True,
        feed_forward_bias=True,
        position_rows=config.count("n_positions", 1024),
        fused_attention=True,
    )


def _gpt_neox(config: _Config) -> Shape:
    bias = config.flag("attention_bias", True)
    return Shape(
        architecture=_decoder(config, tied=False, feed_forward=FeedForward.GELU),
        norm=Norm.LAYER,
        qkv_bias=bias,
        attention_output_bias=bias,
        feed_forward_bias=True,
        fused_attention=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _EncoderKeys:
    """How a configuration of an encoder calls its counts."""

    layers: str = "num_hidden_layers"
    hidden: str = "hidden_size"
    ffn: str = "intermediate_size"
    heads: str = "num_attention_heads"


def _encoder(config: _Config, *, keys: _EncoderKeys = _EncoderKeys(), **more: Any) -> Shape:
    """Return the shape of an encoder of BERT's family: its body without the head of a task."""
    config.without("is_decoder")
    hidden, heads = config.count(keys.hidden), config.count(keys.heads)
    return Shape(
        architecture=Architecture(
            name=config.name,
            kind=ArchitectureKind.ENCODER,
            layers=config.count(keys.layers),
            hidden=hidden,
            ffn=config.count(keys.ffn),
            heads=heads,
            kv_heads=heads,
            head_dim=_head_dim(hidden, heads),
            vocab=config.count("vocab_size"),
            tied_embeddings=True,
            feed_forward=FeedForward.GELU,
        ),
        norm=Norm.LAYER,
        final_norm=False,
        embedding_norm=True,
        qkv_bias=True,
        attention_output_bias=True,
        feed_forward_bias=True,
        position_rows=config.count("max_position_embeddings", 512),
        **more,
    )


def _bert(config: _Config) -> Shape:
    return _encoder(config, token_type_rows=config.count("type_vocab_size", 2), pooler=True)


def _distilbert(config: _Config) -> Shape:
    return _encoder(config, keys=_EncoderKeys(layers="n_layers", hidden="dim", ffn="hidden_dim", heads="n_heads"))


def _electra(config: _Config) -> Shape:
    types, width = config.count("type_vocab_size", 2), _embedding_width(config)
    return _encoder(config, token_type_rows=types, embedding_width=width)


def _albert(config: _Config) -> Shape:
    config.without("inner_group_num", unless=1)
    return _encoder(
        config,
        token_type_rows=config.count("type_vocab_size", 2),
        pooler=True,
        embedding_width=_embedding_width(config),
        distinct_layers=config.count("num_hidden_groups", 1),
    )


def _embedding_width(config: _Config) -> int | None:
    width = config.count("embedding_size", 128)
    return None if width == config.count("hidden_size") else width


_SHAPES: dict[str, Callable[[_Config], Shape]] = {
    "albert": _albert,
    "bert": _bert,
    "cohere": _cohere,
    "cohere2": _cohere_2,
    "distilbert": _distilbert,
    "electra": _electra,
    "gemma": _gemma,
    "gemma2": _gemma_2,
    "gemma3_text": _gemma_3,
    "gpt2": _gpt_2,
    "gpt_neox": _gpt_neox,
    "granite": _llama,
    "internlm2": _internlm_2,
    "llama": _llama,
    "ministral3": _mistral,
    "mistral": _mistral,
    "mixtral": _mixtral,
    "olmo": _olmo,
    "phi": _phi,
    "phi3": _phi_3,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "roberta": _bert,
    "smollm3": _tied_llama,
    "stablelm": _stablelm,
    "starcoder2": _starcoder_2,
    "xlm-roberta": _bert,
}
# Models with a vision tower, and what their text decoder is where it does not say so itself.
_NESTED = {"gemma3": "gemma3_text", "ministral3": "ministral3", "mistral3": "mistral"}
