"""ONNX files as their own libraries write and quantize them: what is a parameter is told from what is not."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from made_model_files import BERT_PARAMETERS, BERT_WEIGHTS, floats, model_of, small_onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)
from onnxruntime.transformers.float16 import convert_float_to_float16

from weighin_agent.bench.models import EMBEDDING_ROWS, save_full_model
from weighin_agent.bench.weights import make_block, scheme_block
from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.errors import ModelFileError
from weighin_analysis.files import inspect
from weighin_analysis.models.entry import KvCache, ModelKind
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes.artefact import Format
from weighin_analysis.suite import load_suite

HEAD = BERT_WEIGHTS["head"][0] * BERT_WEIGHTS["head"][1]
MATRICES = HEAD + 2 * 32 * 128


@pytest.fixture(autouse=True)
def quiet() -> None:
    """The quantizers report every node."""
    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.CRITICAL)


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def library_tensor_bytes(path: Path) -> int:
    return sum(
        len(tensor.raw_data) or numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(path).graph.initializer
    )


def in_four_bits(path: Path, *, bits: int = 4, symmetric: bool = True, gather: bool = False) -> onnx.ModelProto:
    operators = ("MatMul", "Gather") if gather else ("MatMul",)
    config = DefaultWeightOnlyQuantConfig(
        block_size=32, is_symmetric=symmetric, bits=bits, op_types_to_quantize=operators, quant_axes=(("Gather", 1),)
    )
    quantizer = MatMulNBitsQuantizer(onnx.load(path), algo_config=config)
    quantizer.process()
    model: onnx.ModelProto = quantizer.model.model
    return model


def in_bnb4(path: Path) -> onnx.ModelProto:
    quantizer = MatMulBnb4Quantizer(onnx.load(path), quant_type=1, block_size=64)
    quantizer.process()
    model: onnx.ModelProto = quantizer.model.model
    return model


def dynamic(kind: QuantType, *, per_channel: bool) -> Callable[[Path], onnx.ModelProto]:
    def quantize(path: Path) -> onnx.ModelProto:
        target = path.with_name("dynamic.onnx")
        quantize_dynamic(path, target, weight_type=kind, per_channel=per_channel)
        return onnx.load(target)

    return quantize


VARIANTS: dict[str, tuple[Callable[[Path], onnx.ModelProto], str]] = {
    "as exported": (onnx.load, "fp32"),
    "half precision": (lambda path: convert_float_to_float16(onnx.load(path)), "fp16"),
    "dynamic, signed": (dynamic(QuantType.QInt8, per_channel=False), "int8"),
    "dynamic, signed, by channel": (dynamic(QuantType.QInt8, per_channel=True), "int8"),
    "dynamic, unsigned, by channel": (dynamic(QuantType.QUInt8, per_channel=True), "uint8"),
    "four bits": (in_four_bits, "q4"),
    "four bits with zero points": (lambda path: in_four_bits(path, symmetric=False), "q4"),
    "four bits, the table too": (lambda path: in_four_bits(path, gather=True), "q4"),
    "four bits in half precision": (lambda path: convert_float_to_float16(in_four_bits(path)), "q4f16"),
    "eight bits in blocks": (lambda path: in_four_bits(path, bits=8), "int8_block32"),
    "bitsandbytes": (in_bnb4, "bnb4"),
}


@pytest.mark.parametrize("external", [False, True], ids=["in one file", "with external data"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_of_a_model_has_the_parameters_of_the_model(tmp_path: Path, variant: str, external: bool) -> None:
    make, scheme = VARIANTS[variant]
    model = make(saved(small_onnx(), tmp_path / "exported.onnx"))
    path = tmp_path / "variant.onnx"
    onnx.save(model, path, save_as_external_data=external, location="variant.onnx_data", size_threshold=64)
    found = inspect(path)
    assert (found.format, found.scheme, found.parameters) == (Format.ONNX, scheme, BERT_PARAMETERS)
    assert found.tensor_bytes == library_tensor_bytes(path)
    files = [path, tmp_path / "variant.onnx_data"] if external else [path]
    assert found.files == tuple(files)
    assert found.file_bytes == sum(file.stat().st_size for file in files)


def test_four_bits_are_counted_apart_from_what_stays_in_floats(tmp_path: Path) -> None:
    found = inspect(saved(in_four_bits(saved(small_onnx(), tmp_path / "m.onnx")), tmp_path / "q4.onnx"))
    assert found.parameters_by_type == {"INT4": MATRICES, "FLOAT": BERT_PARAMETERS - MATRICES}


SMALL = Architecture(
    name="small", kind=ArchitectureKind.DECODER, layers=2, hidden=128, ffn=256, heads=4, kv_heads=2, head_dim=32,
    vocab=512, tied_embeddings=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        (Scheme.FP32, "fp32"),
        (Scheme.FP16, "fp16"),
        (Scheme.INT8_BLOCK32, "int8_block32"),
        (Scheme.INT4_BLOCK32, "q4"),
    ],
)
def test_a_decoder_with_fused_attention_counts_neither_its_rotary_tables_nor_its_scales(
    tmp_path: Path, scheme: Scheme, name: str
) -> None:
    """The graph that weighin measures, of the operators of ONNX Runtime's own exporter, tables for 64 positions."""
    path = tmp_path / "decoder.onnx"
    block = scheme_block(make_block(load_suite("quick").weights), scheme)
    save_full_model(path, SMALL, scheme, max_context=64, block=block)
    found = inspect(path)
    matrices = SMALL.layers * SMALL.layer_weight_count + SMALL.vocab * SMALL.hidden
    assert found.scheme == name
    assert found.parameters == matrices + EMBEDDING_ROWS * SMALL.hidden + SMALL.hidden  # one gain for all norms
    assert found.entry.kind is ModelKind.DECODER
    assert len(found.files) == 2


def decoder(nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], **options: object) -> onnx.ModelProto:
    return model_of(nodes, tensors, inputs={"x": [1, 4, 8]}, outputs={"y": [1, 4, 8]}, **options)


def test_inverse_frequencies_of_exported_rotary_positions_are_no_parameters(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["frequencies", "position_ids"], ["angles"]),
        helper.make_node("Transpose", ["angles"], ["turned"]),
        helper.make_node("Cos", ["turned"], ["cosines"]),
        helper.make_node("MatMul", ["x", "w"], ["projected"]),
        helper.make_node("Mul", ["projected", "cosines"], ["y"]),
    ]
    path = saved(decoder(nodes, [floats("frequencies", 1, 4, 1), floats("w", 8, 8)]), tmp_path / "m.onnx")
    assert inspect(path).parameters == 64


def test_tables_of_cosines_and_sines_are_no_parameters_but_a_table_of_positions_is(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["positions", "position_ids"], ["learned"]),
        helper.make_node("Add", ["x", "learned"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "w"], ["q"]),
        helper.make_node("Neg", ["q"], ["rotated"]),
        helper.make_node("Gather", ["cos_cached", "position_ids"], ["cos"]),
        helper.make_node("Gather", ["sin_cached", "position_ids"], ["sin"]),
        helper.make_node("Unsqueeze", ["cos", "zero"], ["wide_cos"]),
        helper.make_node("Mul", ["q", "wide_cos"], ["straight"]),
        helper.make_node("Mul", ["rotated", "sin"], ["turned"]),
        helper.make_node("Add", ["straight", "turned"], ["y"]),
    ]
    tensors = [floats(name, 16, 8) for name in ("positions", "cos_cached", "sin_cached")]
    tensors += [floats("w", 8, 8), numpy_helper.from_array(np.array([0]), "zero")]
    assert inspect(saved(decoder(nodes, tensors), tmp_path / "m.onnx")).parameters == 16 * 8 + 64


def test_masks_that_are_added_to_scores_are_no_parameters_but_a_learned_table_of_distances_is(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Slice", ["mask", "starts", "ends"], ["cut"]),
        helper.make_node("Add", ["scores", "cut"], ["masked"]),
        helper.make_node("Gather", ["distances", "position_ids"], ["learned"]),
        helper.make_node("Add", ["masked", "learned"], ["biased"]),
        helper.make_node("Softmax", ["biased"], ["y"]),
    ]
    tensors = [floats("w", 8, 8), floats("mask", 1, 1, 64, 64), floats("distances", 32, 4)]
    tensors += [numpy_helper.from_array(np.array([0]), "starts"), numpy_helper.from_array(np.array([4]), "ends")]
    assert inspect(saved(decoder(nodes, tensors), tmp_path / "m.onnx")).parameters == 64 + 32 * 4


def test_whole_numbers_count_where_they_are_dequantized_and_nowhere_else(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero_point"], ["weights"]),
        helper.make_node("MatMul", ["x", "weights"], ["a"]),
        helper.make_node("DequantizeLinear", ["b", "scale"], ["bias"]),
        helper.make_node("Add", ["a", "bias"], ["c"]),
        helper.make_node("Reshape", ["c", "dims"], ["y"]),
    ]
    tensors = [
        numpy_helper.from_array(np.ones((8, 8), np.int8), "w"),
        numpy_helper.from_array(np.ones(8, np.int32), "b"),
        numpy_helper.from_array(np.ones(8, np.int8), "zero_point"),
        floats("scale", 8),
        numpy_helper.from_array(np.array([1, 4, 8]), "dims"),
    ]
    found = inspect(saved(decoder(nodes, tensors), tmp_path / "m.onnx"))
    assert (found.parameters, found.scheme) == (64 + 8, "int8")


def integers(name: str, *shape: int, kind: type = np.int8) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, kind), name)


def test_a_matrix_that_is_cast_and_scaled_counts_and_its_scales_and_zero_points_do_not(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["w"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["zero_points"], ["z"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["c", "z"], ["centred"]),
        helper.make_node("Unsqueeze", ["scale", "axes"], ["s"]),
        helper.make_node("Mul", ["centred", "s"], ["weights"]),
        helper.make_node("MatMul", ["x", "weights"], ["a"]),
        helper.make_node("Mul", ["a", "gain"], ["y"]),
    ]
    tensors = [integers("w", 8, 8), integers("zero_points", 8), floats("scale", 8), floats("gain", 8)]
    tensors.append(numpy_helper.from_array(np.array([0]), "axes"))
    found = inspect(saved(decoder(nodes, tensors), tmp_path / "m.onnx"))
    assert (found.parameters, found.scheme) == (64 + 8, "int8")


def test_a_mask_of_bytes_that_is_multiplied_with_scores_is_no_parameter(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scores", "m"], ["y"]),
    ]
    tensors = [floats("w", 8, 8), integers("mask", 1, 1, 16, 16, kind=np.uint8)]
    found = inspect(saved(decoder(nodes, tensors), tmp_path / "m.onnx"))
    assert (found.parameters, found.notes[:-1]) == (64, ())


def test_a_matrix_that_is_split_before_it_is_dequantized_counts(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Split", ["w"], ["a", "b"], axis=0),
        helper.make_node("DequantizeLinear", ["a", "scale"], ["wa"]),
        helper.make_node("DequantizeLinear", ["b", "scale"], ["wb"]),
        helper.make_node("MatMul", ["x", "wa"], ["h"]),
        helper.make_node("MatMul", ["h", "wb"], ["y"]),
    ]
    tensors = [integers("w", 16, 8), numpy_helper.from_array(np.array(1, np.float32), "scale")]
    assert inspect(saved(decoder(nodes, tensors), tmp_path / "m.onnx")).parameters == 128


def test_weights_count_that_a_function_of_the_file_dequantizes(tmp_path: Path) -> None:
    """The function is called twice, with weights of its own each time, and calls another."""
    inner = helper.make_function(
        "local", "Weights", ["q", "s"], ["f"], [helper.make_node("DequantizeLinear", ["q", "s"], ["f"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    outer = helper.make_function(
        "local", "Linear", ["i", "q", "s"], ["o"],
        [
            helper.make_node("Weights", ["q", "s"], ["f"], domain="local"),
            helper.make_node("MatMul", ["i", "f"], ["o"]),
        ],
        [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Linear", ["x", "w", "scale"], ["a"], domain="local"),
        helper.make_node("Linear", ["a", "v", "scale"], ["b"], domain="local"),
        helper.make_node("MatMul", ["b", "u"], ["y"]),
    ]
    model = decoder(nodes, [integers("w", 8, 16), integers("v", 16, 8), floats("scale", 8), floats("u", 8, 8)])
    model.functions.extend([outer, inner])
    found = inspect(saved(model, tmp_path / "m.onnx"))
    assert found.parameters_by_type == {"INT8": 256, "FLOAT": 64}


def test_what_a_function_moves_at_one_call_is_not_taken_for_what_it_moves_at_another(tmp_path: Path) -> None:
    """Frequencies become cosines and a matrix does not, though both pass through one function."""
    function = helper.make_function(
        "local", "Turn", ["i"], ["o"], [helper.make_node("Transpose", ["i"], ["o"])], [helper.make_opsetid("", 17)]
    )
    nodes = [
        helper.make_node("Turn", ["frequencies"], ["f"], domain="local"),
        helper.make_node("Cos", ["f"], ["cosines"]),
        helper.make_node("Turn", ["w"], ["turned"], domain="local"),
        helper.make_node("MatMul", ["x", "turned"], ["h"]),
        helper.make_node("Mul", ["h", "cosines"], ["y"]),
    ]
    model = decoder(nodes, [floats("frequencies", 8, 4), floats("w", 8, 8)])
    model.functions.append(function)
    assert inspect(saved(model, tmp_path / "m.onnx")).parameters == 64


def test_integers_that_no_known_operator_reads_are_never_left_out_silently(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMulOfTheFuture", ["a", "packed"], ["y"], domain="another"),
    ]

    def of_rows(rows: int) -> Path:
        model = decoder(nodes, [floats("w", 8, 80), integers("packed", rows, 32, kind=np.uint8)])
        return saved(model, tmp_path / "m.onnx")

    found = inspect(of_rows(4))
    assert found.parameters == 640
    assert found.notes == ("4.8% of it are integers of no known use; weights in them are not counted.",)
    with pytest.raises(ModelFileError, match="44% of it may be weights packed into integers"):
        inspect(of_rows(64))


def test_two_gates_of_one_row_are_parameters_though_a_sum_joins_them(tmp_path: Path) -> None:
    """As in the time mixes of RWKV: a rotation's tables have a row for every position."""
    nodes = [
        helper.make_node("Mul", ["x", "a"], ["now"]),
        helper.make_node("Mul", ["past", "b"], ["before"]),
        helper.make_node("Add", ["now", "before"], ["y"]),
    ]
    model = decoder(nodes, [floats("a", 1, 16), floats("b", 1, 16)])
    assert inspect(saved(model, tmp_path / "m.onnx")).parameters == 32


def test_the_bias_of_a_classifier_is_a_parameter_though_a_softmax_follows(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "bias"], ["b"]),
        helper.make_node("Softmax", ["b"], ["y"]),
    ]
    model = decoder(nodes, [floats("w", 8, 8), floats("bias", 1, 8)])
    assert inspect(saved(model, tmp_path / "m.onnx")).parameters == 64 + 8


def test_weights_in_a_list_of_floats_count_as_weights_and_as_bytes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["gain"], value_floats=[1.0] * 8),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Mul", ["a", "gain"], ["y"]),
    ]
    found = inspect(saved(decoder(nodes, [floats("w", 8, 8)]), tmp_path / "m.onnx"))
    assert (found.parameters, found.tensor_bytes) == (64 + 8, 4 * (64 + 8))


def test_weights_in_constants_and_in_functions_count(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["w"], value=floats("", 8, 8))
    inner = helper.make_node("Constant", [], ["v"], value=floats("", 4, 8))
    function = helper.make_function(
        "local", "Block", ["i"], ["o"], [inner, helper.make_node("MatMul", ["i", "v"], ["o"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [constant, helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Block", ["a"], ["y"], "local")]
    model = decoder(nodes, [])
    model.functions.append(function)
    assert inspect(saved(model, tmp_path / "m.onnx")).parameters == 64 + 32


def branch(name: str, *tensors: onnx.TensorProto, reads: str) -> onnx.GraphProto:
    node = helper.make_node("MatMul", ["x", reads], [f"{name}.out"])
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}.out", 1, None)], list(tensors))


def test_a_merged_decoder_counts_what_both_branches_read_once(tmp_path: Path) -> None:
    """One branch for the prompt and one with a cache: they read the outer weights, or carry the same ones."""
    first = helper.make_node(
        "If", ["flag"], ["a"], then_branch=branch("one", reads="shared"), else_branch=branch("two", reads="shared")
    )
    second = helper.make_node(
        "If", ["flag"], ["y"],
        then_branch=branch("three", floats("own", 8, 16), reads="own"),
        else_branch=branch("four", floats("own", 8, 16), reads="own"),
    )  # fmt: skip
    model = model_of(
        [first, second],
        [floats("shared", 8, 8)],
        inputs={"x": [1, 4, 8], "flag": [], "past_key_values.0.key": ["b", 2, "past", 4]},
        outputs={"y": [1, 4, 8]},
    )
    found = inspect(saved(model, tmp_path / "m.onnx"))
    assert found.parameters == 64 + 8 * 16
    assert found.entry.kind is ModelKind.DECODER
    assert found.entry.kv_cache == KvCache(layers=1, kv_heads=2, head_dim=4)


def test_of_a_sparse_tensor_the_stored_weights_count(tmp_path: Path) -> None:
    values = numpy_helper.from_array(np.ones(5, np.float32), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.arange(5), "places"), [8, 8])
    model = decoder([helper.make_node("MatMul", ["x", "w"], ["y"])], [], sparse_initializer=[sparse])
    found = inspect(saved(model, tmp_path / "m.onnx"))
    assert found.parameters == 5
    assert any("stored sparse" in note for note in found.notes)


CONFIG = {
    "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 24,
    "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 256,
    "hidden_act": "silu",
}  # fmt: skip


def one_layer(*, head: str) -> onnx.ModelProto:
    """A decoder of one layer with the weights of CONFIG; ``head`` is the table of the head, transposed."""
    names = {
        "q": (32, 32), "k": (32, 32), "v": (32, 32), "o": (32, 32), "gate": (32, 24), "up": (32, 24), "down": (24, 32),
    }  # fmt: skip
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["h0"])]
    nodes += [helper.make_node("MatMul", [f"h{i}", name], [f"h{i + 1}"]) for i, name in enumerate(names)]
    nodes += [helper.make_node("Mul", [f"h{i}", f"norm{i - 7}"], [f"h{i + 1}"]) for i in (7, 8, 9)]
    tensors = [floats("table", 64, 32), *(floats(name, *shape) for name, shape in names.items())]
    tensors += [floats(f"norm{i}", 32) for i in range(3)]
    if head == "copy":
        tensors.append(floats("lm_head", 32, 64))
        nodes.append(helper.make_node("MatMul", ["h10", "lm_head"], ["logits"]))
    else:
        nodes.append(helper.make_node("Transpose", ["table"], ["turned"]))
        nodes.append(helper.make_node("MatMul", ["h10", "turned"], ["logits"]))
    return model_of(nodes, tensors, inputs={"input_ids": ["b", "s"]}, outputs={"logits": ["b", "s", 64]})


@pytest.mark.parametrize("head", ["copy", "transposed in the graph"])
def test_a_tied_table_counts_once_however_often_it_is_stored(tmp_path: Path, head: str) -> None:
    folder = tmp_path / "onnx"
    folder.mkdir()
    path = saved(one_layer(head=head), folder / "model.onnx")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": True}))
    found = inspect(path)
    assert found.entry.shape
    assert found.parameters == found.entry.parameters == 64 * 32 + 4 * 32 * 32 + 3 * 32 * 24 + 3 * 32
    assert any("stored twice" in note for note in found.notes) == (head == "copy")
    assert found.tied_embeddings is True


def test_an_untied_head_counts_beside_the_table(tmp_path: Path) -> None:
    path = saved(one_layer(head="copy"), tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": False}))
    found = inspect(path)
    assert found.parameters == 2 * 64 * 32 + 4 * 32 * 32 + 3 * 32 * 24 + 3 * 32
    assert found.notes == ()


def test_a_head_like_the_table_is_pointed_out_where_nobody_tells_whether_it_is_tied(tmp_path: Path) -> None:
    found = inspect(saved(one_layer(head="copy"), tmp_path / "model.onnx"))
    assert found.tied_embeddings is None
    assert (found.entry.vocab, found.entry.hidden) == (64, 32)
    assert any("as large as the vocabulary's table" in note for note in found.notes)


def test_a_graph_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="holds no weights"):
        inspect(saved(decoder([helper.make_node("Relu", ["x"], ["y"])], []), tmp_path / "m.onnx"))


def test_tensors_of_every_type_have_the_bytes_that_the_library_says(tmp_path: Path) -> None:
    kinds = [kind for name, kind in TensorProto.DataType.items() if name not in ("UNDEFINED", "STRING")]
    tensors = [helper.make_tensor(f"t{kind}", kind, [6], np.zeros(6)) for kind in kinds]
    tensors.append(floats("w", 8, 8))
    path = saved(decoder([helper.make_node("MatMul", ["x", "w"], ["y"])], tensors), tmp_path / "m.onnx")
    small = {"UINT4": 3, "INT4": 3, "FLOAT4E2M1": 3, "UINT2": 2, "INT2": 2, "FLOAT6E2M3": 5, "FLOAT6E3M2": 5}
    expected = sum(
        small.get(TensorProto.DataType.Name(tensor.data_type), numpy_helper.to_array(tensor).nbytes)
        for tensor in tensors[:-1]
    )
    assert inspect(path).tensor_bytes == expected + 256
