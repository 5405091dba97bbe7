"""GGUF files as their own library writes them: read exactly, and described from their metadata."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from made_model_files import LLAMA, LLAMA_LAYER, llama_tensors, write_gguf

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.errors import ModelFileError
from weighin_analysis.files import inspect
from weighin_analysis.files.gguf_types import SCHEMES, TENSOR_TYPES
from weighin_analysis.models.entry import KvCache, ModelKind
from weighin_analysis.models.tensors import parameter_count
from weighin_analysis.sizes.artefact import Format

FLOATS_AND_QUANTS = [kind.name for kind in gguf.GGML_QUANT_SIZES if kind.name not in ("I8", "I16", "I32", "I64")]


def without(layer: dict[str, tuple[int, ...]], *names: str, **more: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in layer.items() if name not in names} | {
        name.replace("__", "."): shape for name, shape in more.items()
    }


def test_every_tensor_type_has_the_block_that_the_library_says() -> None:
    theirs = {kind.value: (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert theirs == TENSOR_TYPES


def test_every_scheme_has_the_number_that_the_library_says() -> None:
    theirs = {one.value: one.name.removeprefix("MOSTLY_").removeprefix("ALL_") for one in gguf.LlamaFileType}
    assert {number: name for number, name in theirs.items() if name != "GUESSED"} == SCHEMES


@pytest.mark.parametrize("kind", FLOATS_AND_QUANTS)
def test_parameters_and_bytes_are_those_of_the_librarys_own_reading(tmp_path: Path, kind: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama_tensors(), matrix_type=kind, file_type=None)
    theirs = gguf.GGUFReader(path).tensors
    found = inspect(path)
    assert found.format is Format.GGUF
    assert found.parameters == sum(int(tensor.n_elements) for tensor in theirs)
    assert found.tensor_bytes == sum(int(tensor.n_bytes) for tensor in theirs)
    assert found.file_bytes == path.stat().st_size


def test_a_quantized_tensor_counts_its_weights_and_not_its_scales(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", {"a.weight": (8, 256)}, metadata={}, matrix_type="Q4_K", file_type=15)
    found = inspect(path)
    assert (found.parameters, found.tensor_bytes) == (8 * 256, 8 * 144)
    assert found.parameters_by_type == {"Q4_K": 8 * 256}


def test_frequencies_of_rotary_positions_are_no_parameters(tmp_path: Path) -> None:
    tensors = llama_tensors()
    plain = inspect(write_gguf(tmp_path / "plain.gguf", tensors))
    rotary = inspect(write_gguf(tmp_path / "rotary.gguf", tensors | {"rope_freqs.weight": (32,)}))
    assert rotary.parameters == plain.parameters
    assert rotary.tensor_bytes == plain.tensor_bytes + 32 * 4


def test_the_shape_of_a_llama_is_told_by_its_metadata_and_tensors(tmp_path: Path) -> None:
    found = inspect(write_gguf(tmp_path / "model.gguf", llama_tensors(), general={"general.name": "Small"}))
    assert found.entry.shape
    architecture = found.entry.shape.architecture
    assert (architecture.layers, architecture.hidden, architecture.ffn) == (2, 256, 512)
    assert (architecture.heads, architecture.kv_heads, architecture.head_dim, architecture.vocab) == (4, 2, 64, 300)
    assert (found.entry.name, found.entry.kind, found.entry.context_tokens) == ("Small", ModelKind.DECODER, 2048)
    assert found.tied_embeddings is True
    assert found.size_class == "tiny"
    assert found.notes == ()


QWEN3 = LLAMA_LAYER | {"attn_q_norm": (64,), "attn_k_norm": (64,)}
QWEN2 = LLAMA_LAYER | {"attn_q.bias": (256,), "attn_k.bias": (128,), "attn_v.bias": (128,)}
GEMMA3 = QWEN3 | {"post_attention_norm": (256,), "post_ffw_norm": (256,)}
PHI3 = without(LLAMA_LAYER, "attn_q", "attn_k", "attn_v", "ffn_gate", attn_qkv=(512, 256)) | {"ffn_up": (1024, 256)}
GPT2 = without(LLAMA_LAYER, "ffn_gate", "attn_q", "attn_k", "attn_v", attn_qkv=(768, 256)) | {
    "attn_norm.bias": (256,), "ffn_norm.bias": (256,), "attn_qkv.bias": (768,), "attn_output.bias": (256,),
    "ffn_up.bias": (512,), "ffn_down.bias": (256,),
}  # fmt: skip
BERT = {
    "attn_q": (256, 256), "attn_k": (256, 256), "attn_v": (256, 256), "attn_output": (256, 256), "ffn_up": (512, 256),
    "ffn_down": (256, 512), "attn_q.bias": (256,), "attn_k.bias": (256,), "attn_v.bias": (256,),
    "attn_output.bias": (256,), "ffn_up.bias": (512,), "ffn_down.bias": (256,), "attn_output_norm": (256,),
    "attn_output_norm.bias": (256,), "layer_output_norm": (256,), "layer_output_norm.bias": (256,),
}  # fmt: skip
MIXTRAL = without(LLAMA_LAYER, "ffn_gate", "ffn_up", "ffn_down") | {
    "ffn_gate_inp": (4, 256), "ffn_gate_exps": (4, 512, 256), "ffn_up_exps": (4, 512, 256),
    "ffn_down_exps": (4, 256, 512),
}  # fmt: skip
FULL_HEADS = {"attention.head_count_kv": 4}
POSITIONS = {"position_embd.weight": (128, 256), "output_norm.bias": (256,)}
TYPES = {"token_types.weight": (2, 256), "token_embd_norm.weight": (256,), "token_embd_norm.bias": (256,)}


@pytest.mark.parametrize(
    ("architecture", "layer", "more_tensors", "more_metadata"),
    [
        ("llama", LLAMA_LAYER, {"output.weight": (300, 256)}, {}),
        ("qwen2", QWEN2, {}, {}),
        ("qwen3", QWEN3, {}, {}),
        ("gemma3", GEMMA3, {}, {"attention.sliding_window": 512}),
        ("phi3", PHI3, {"output.weight": (300, 256)}, {}),
        ("gpt2", GPT2, POSITIONS, FULL_HEADS),
        ("bert", BERT, {"position_embd.weight": (512, 256)} | TYPES, FULL_HEADS | {"attention.causal": False}),
        ("llama", MIXTRAL, {}, {"expert_count": 4, "expert_used_count": 2}),
    ],
)
def test_a_shape_counts_every_weight_of_its_file(
    tmp_path: Path,
    architecture: str,
    layer: dict[str, tuple[int, ...]],
    more_tensors: dict[str, tuple[int, ...]],
    more_metadata: dict[str, Any],
) -> None:
    tensors = llama_tensors(layer=layer) | more_tensors
    if architecture == "bert":
        del tensors["output_norm.weight"]
    path = write_gguf(tmp_path / "model.gguf", tensors, architecture=architecture, metadata=LLAMA | more_metadata)
    found = inspect(path)
    assert found.notes == ()
    assert found.entry.shape
    assert parameter_count(found.entry.shape) == sum(int(np.prod(shape)) for shape in tensors.values())
    is_encoder = found.entry.shape.architecture.kind is ArchitectureKind.ENCODER
    assert is_encoder == (architecture == "bert")


def test_a_window_keeps_the_layers_that_see_everything(tmp_path: Path) -> None:
    tensors, metadata = llama_tensors(layer=GEMMA3), LLAMA | {"attention.sliding_window": 512}
    found = inspect(write_gguf(tmp_path / "model.gguf", tensors, architecture="gemma3", metadata=metadata))
    assert found.entry.shape
    architecture = found.entry.shape.architecture
    assert (architecture.sliding_window, architecture.global_layer_interval) == (512, 6)
    assert architecture.sandwich_norm
    assert architecture.query_key_norm


def test_tensors_that_no_plain_transformer_has_leave_the_shape_untold_with_the_reason(tmp_path: Path) -> None:
    tensors = llama_tensors() | {"blk.1.ssm_in.weight": (64, 256)}
    found = inspect(write_gguf(tmp_path / "model.gguf", tensors))
    assert found.entry.shape is None
    assert found.entry.kv_cache == KvCache(layers=2, kv_heads=2, head_dim=64)
    assert any("a plain transformer of these metadata has" in note for note in found.notes)


def test_of_unlike_layers_those_with_attention_keep_keys_and_values(tmp_path: Path) -> None:
    metadata = LLAMA | {"attention.head_count_kv": [0, 2], "attention.key_length": 64}
    found = inspect(write_gguf(tmp_path / "model.gguf", llama_tensors(), metadata=metadata, architecture="lfm2"))
    assert found.entry.kv_cache == KvCache(layers=1, kv_heads=2, head_dim=64)
    assert found.entry.shape is None


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        ({"attention.key_length": 192, "attention.value_length": 128}, KvCache(layers=2, kv_heads=2, head_dim=160)),
        ({"attention.value_length": 32}, KvCache(layers=2, kv_heads=2, head_dim=48)),
        (
            {
                "attention.head_count_kv": 1,
                "attention.key_length": 576,
                "attention.value_length": 512,
                "attention.key_length_mla": 192,
                "attention.value_length_mla": 128,
            },
            KvCache(layers=2, kv_heads=1, head_dim=288),  # as the catalogue tells DeepSeek-V3's
        ),
        ({"attention.shared_kv_layers": 1}, KvCache(layers=1, kv_heads=2, head_dim=64)),
        ({"attention.shared_kv_layers": 3}, None),
    ],
)
def test_what_a_token_keeps_counts_values_by_their_own_width_and_only_layers_that_keep_any(
    tmp_path: Path, metadata: dict[str, Any], kept: KvCache | None
) -> None:
    tensors = llama_tensors() | {"blk.1.attn_kv_b.weight": (64, 256)}
    path = write_gguf(tmp_path / "model.gguf", tensors, metadata=LLAMA | metadata, architecture="deepseek2")
    assert inspect(path).entry.kv_cache == kept


@pytest.mark.parametrize(
    ("file_type", "types", "scheme"),
    [
        (15, {}, "Q4_K_M"),
        (14, {}, "Q4_K_S"),
        (None, {"blk.0.ffn_down.weight": "Q6_K"}, "Q4_K_M"),
        (None, {}, "Q4_K_S"),
        (7, {}, "Q4_K_S"),  # claims Q8_0
    ],
)
def test_the_scheme_is_what_the_file_says_unless_its_tensors_say_otherwise(
    tmp_path: Path, file_type: int | None, types: dict[str, str], scheme: str
) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama_tensors(), matrix_type="Q4_K", file_type=file_type, types=types)
    found = inspect(path)
    assert found.scheme == scheme
    assert (found.notes == ()) == (file_type in (14, 15))


def test_a_scheme_holds_where_rows_do_not_divide_into_its_blocks(tmp_path: Path) -> None:
    """llama.cpp then stores the matrices in another type, and still calls the file Q4_K_M."""
    path = write_gguf(tmp_path / "m.gguf", {"a.weight": (8, 96)}, metadata={}, matrix_type="Q5_0", file_type=15)
    assert inspect(path).scheme == "Q4_K_M"


def test_a_model_in_parts_is_read_from_any_of_them(tmp_path: Path) -> None:
    whole = inspect(write_gguf(tmp_path / "whole.gguf", llama_tensors()))
    folder = tmp_path / "parts"
    folder.mkdir()
    write_gguf(folder / "model.gguf", llama_tensors(), split_max_tensors=8)
    parts = sorted(folder.iterdir())
    assert len(parts) > 2
    for path in (parts[0], parts[-1], folder):
        found = inspect(path)
        assert found.files == tuple(parts)
        assert (found.parameters, found.tensor_bytes) == (whole.parameters, whole.tensor_bytes)
        assert found.file_bytes == sum(part.stat().st_size for part in parts)
        assert found.entry.shape
    parts[1].unlink()
    with pytest.raises(ModelFileError, match=parts[1].name):
        inspect(parts[0])


def test_an_importance_matrix_is_no_model(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama_tensors(), general={"general.type": "imatrix"})
    with pytest.raises(ModelFileError, match="importance matrix"):
        inspect(path)


def test_a_vocabulary_alone_holds_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="holds no weights"):
        inspect(write_gguf(tmp_path / "vocab.gguf", {}))


def test_a_big_endian_file_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama_tensors(), endianess=gguf.GGUFEndian.BIG)  # codespell:ignore endianess
    with pytest.raises(ModelFileError, match="is big endian"):
        inspect(path)


def test_arrays_in_arrays_and_long_texts_are_passed_over(tmp_path: Path) -> None:
    general = {"tokenizer.chat_template": "x" * 5000, "nested": [[1, 2], [3]], "texts": ["a", "b" * 3000]}
    found = inspect(write_gguf(tmp_path / "m.gguf", llama_tensors(), general=general))
    assert found.entry.shape


def test_matrices_of_integers_are_refused_and_those_of_double_precision_count(tmp_path: Path) -> None:
    tensors = {"a.weight": (8, 256), "b.weight": (64, 256)}
    path = tmp_path / "m.gguf"
    for kind in ("I8", "I16", "I32"):
        with pytest.raises(ModelFileError, match="packed into integers"):
            inspect(write_gguf(path, tensors, metadata={}, matrix_type="F16", types={"b.weight": kind}))
    found = inspect(write_gguf(path, tensors, metadata={}, matrix_type="F16", types={"b.weight": "F64"}))
    assert found.parameters == 72 * 256
    found = inspect(write_gguf(path, tensors, metadata={}, matrix_type="F32", types={"a.weight": "I8"}))
    assert "3.0% of it are integers of no known use" in str(found.notes)
