"""Safetensors files as their own library writes them: read exactly, in one part or many."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_model_files import write_safetensors
from safetensors import safe_open

from weighin_analysis.errors import ModelFileError
from weighin_analysis.files import inspect
from weighin_analysis.models.entry import ModelKind
from weighin_analysis.sizes.artefact import Format

HIDDEN, FFN, VOCAB = 64, 128, 100
CONFIG = {
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": HIDDEN, "intermediate_size": FFN,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": 512,
    "tie_word_embeddings": False, "hidden_act": "silu",
}  # fmt: skip


def llama(kind: str = "BF16", *, head: bool = True) -> dict[str, tuple[str, tuple[int, ...]]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for i in range(2):
        layer = f"model.layers.{i}"
        shapes |= {
            f"{layer}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}.self_attn.k_proj.weight": (HIDDEN // 2, HIDDEN),
            f"{layer}.self_attn.v_proj.weight": (HIDDEN // 2, HIDDEN),
            f"{layer}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}.mlp.gate_proj.weight": (FFN, HIDDEN),
            f"{layer}.mlp.up_proj.weight": (FFN, HIDDEN),
            f"{layer}.mlp.down_proj.weight": (HIDDEN, FFN),
            f"{layer}.input_layernorm.weight": (HIDDEN,),
            f"{layer}.post_attention_layernorm.weight": (HIDDEN,),
        }
    if head:
        shapes["lm_head.weight"] = (VOCAB, HIDDEN)
    return {name: (kind, shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("kind", ["BF16", "F16", "F32", "F8_E4M3"])
def test_parameters_and_bytes_are_those_that_the_library_wrote(tmp_path: Path, kind: str) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", llama(kind))
    with safe_open(path, framework="np") as theirs:
        parameters = sum(int(np.prod(theirs.get_slice(name).get_shape())) for name in theirs.keys())  # noqa: SIM118
    found = inspect(path)
    width = {"F32": 4, "F8_E4M3": 1}.get(kind, 2)
    assert (found.format, found.scheme, found.parameters) == (Format.SAFETENSORS, kind, parameters)
    assert (found.tensor_bytes, found.file_bytes) == (parameters * width, path.stat().st_size)


def test_buffers_of_old_exports_are_no_parameters(tmp_path: Path) -> None:
    buffers = {
        "h.0.attn.bias": ("F32", (1, 1, 16, 16)), "h.0.attn.masked_bias": ("F32", (1,)),
        "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", (8,)), "embeddings.position_ids": ("I64", (1, 512)),
    }  # fmt: skip
    plain = inspect(write_safetensors(tmp_path / "plain.safetensors", llama("F32")))
    found = inspect(write_safetensors(tmp_path / "buffers.safetensors", llama("F32") | buffers))
    assert found.parameters == plain.parameters
    assert found.tensor_bytes == plain.tensor_bytes + 4 * (256 + 1 + 8) + 8 * 512


def test_a_bias_of_an_attention_is_a_parameter(tmp_path: Path) -> None:
    found = inspect(write_safetensors(tmp_path / "m.safetensors", {"layer.attention.bias": ("F32", (8,))}))
    assert found.parameters == 8


def test_weights_of_two_types_are_mixed_and_the_shares_are_told(tmp_path: Path) -> None:
    tensors = {"a": ("F32", (30, 10)), "b": ("BF16", (70, 10))}
    found = inspect(write_safetensors(tmp_path / "m.safetensors", tensors))
    assert found.scheme == "mixed"
    assert found.notes[0] == "The weights are 70% BF16, 30% F32."


def test_a_few_weights_in_another_type_do_not_make_it_mixed(tmp_path: Path) -> None:
    tensors = {"a": ("F32", (5, 10)), "b": ("BF16", (95, 10))}
    assert inspect(write_safetensors(tmp_path / "m.safetensors", tensors)).scheme == "BF16"


def test_weights_packed_into_integers_are_refused_and_not_miscounted(tmp_path: Path) -> None:
    tensors = {"layer.qweight": ("I32", (16, 64)), "layer.scales": ("F16", (1, 64))}
    with pytest.raises(ModelFileError, match="packed into integers"):
        inspect(write_safetensors(tmp_path / "m.safetensors", tensors))


@pytest.mark.parametrize(
    "packed", ["layer.qweight", "layer.weight_packed", "layer.weight", "layer.W_q", "mlp.down_proj_blocks"]
)
def test_a_few_packed_weights_beside_a_large_table_are_refused_by_their_name(tmp_path: Path, packed: str) -> None:
    tensors = {"wte.weight": ("F16", (2000, 64)), packed: ("I32", (8, 64)), "layer.scales": ("F16", (1, 64))}
    with pytest.raises(ModelFileError, match=f"'{packed}' is packed into integers"):
        inspect(write_safetensors(tmp_path / "m.safetensors", tensors))


def test_integers_of_no_known_use_are_pointed_out(tmp_path: Path) -> None:
    tensors = {"wte.weight": ("F32", (100, 10)), "positions": ("I32", (5, 10))}
    found = inspect(write_safetensors(tmp_path / "m.safetensors", tensors))
    assert found.parameters == 1000
    assert "4.8% of it are integers of no known use" in found.notes[0]


def test_the_configuration_beside_it_tells_shape_context_and_kind(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", llama())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    found = inspect(tmp_path)
    assert found.entry.shape
    assert found.entry.kind is ModelKind.DECODER
    assert (found.entry.shape.architecture.layers, found.entry.context_tokens) == (2, 512)
    assert (found.tied_embeddings, found.notes) == (False, ())
    assert (found.entry.vocab, found.entry.hidden) == (VOCAB, HIDDEN)
    assert found.entry.name == tmp_path.name


def test_a_head_that_is_stored_beside_a_tied_table_counts_once(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", llama())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": True}))
    found = inspect(tmp_path)
    assert found.entry.shape
    assert found.parameters == sum(int(np.prod(shape)) for _, shape in llama(head=False).values())
    assert any("stored twice" in note for note in found.notes)


def test_a_configuration_that_lies_elsewhere_is_not_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (home / "config.json").symlink_to(tmp_path / "config.json")
    write_safetensors(home / "model.safetensors", llama())
    found = inspect(home)
    assert found.entry.shape is None
    assert any("outside its own folder" in note for note in found.notes)


def test_parts_are_found_with_and_without_leading_zeros(tmp_path: Path) -> None:
    for number in range(1, 12):
        write_safetensors(tmp_path / f"model-{number}-of-11.safetensors", {f"t{number}": ("F32", (2,))})
    for path in (tmp_path, tmp_path / "model-11-of-11.safetensors"):
        assert inspect(path).parameters == 22


def test_the_configuration_of_another_model_is_not_believed(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", llama())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": 9}))
    found = inspect(tmp_path)
    assert found.entry.shape is None
    assert any("taken for that of another model" in note for note in found.notes)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "never heard of"}', "\xff", "9" * 5000, "[" * 10_000])
def test_a_useless_configuration_costs_the_shape_and_not_the_answer(tmp_path: Path, text: str) -> None:
    write_safetensors(tmp_path / "model.safetensors", llama())
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    found = inspect(tmp_path)
    assert found.entry.shape is None
    assert any("config.json" in note for note in found.notes)


def test_parts_are_put_together_from_any_of_them(tmp_path: Path) -> None:
    tensors = llama()
    names = list(tensors)
    paths = [tmp_path / f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    for i, path in enumerate(paths):
        write_safetensors(path, {name: tensors[name] for name in names[i::3]})
    index = {"metadata": {"total_size": 0}, "weight_map": dict.fromkeys(names, paths[0].name)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for path in (*paths, tmp_path):
        found = inspect(path)
        assert found.parameters == sum(int(np.prod(shape)) for _, shape in tensors.values())
        assert found.files == tuple(paths)
        assert found.file_bytes == sum(path.stat().st_size for path in paths)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model-00001-of-00002.safetensors", llama())
    with pytest.raises(ModelFileError, match="model-00002-of-00002"):
        inspect(tmp_path)


def test_a_tensor_in_two_parts_is_an_error(tmp_path: Path) -> None:
    for number in (1, 2):
        write_safetensors(tmp_path / f"model-0000{number}-of-00002.safetensors", llama())
    with pytest.raises(ModelFileError, match="occurs in two of its parts"):
        inspect(tmp_path)
