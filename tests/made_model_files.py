"""Small model files of every format, written by the formats' own libraries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import onnx
import safetensors
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
LLAMA = {
    "context_length": 2048, "block_count": 2, "embedding_length": 256, "feed_forward_length": 512,
    "attention.head_count": 4, "attention.head_count_kv": 2,
}  # fmt: skip
LLAMA_LAYER = {
    "attn_norm": (256,), "attn_q": (256, 256), "attn_k": (128, 256), "attn_v": (128, 256), "attn_output": (256, 256),
    "ffn_norm": (256,), "ffn_gate": (512, 256), "ffn_up": (512, 256), "ffn_down": (256, 512),
}  # fmt: skip
LLAMA_ENDS = {"token_embd.weight": (300, 256), "output_norm.weight": (256,)}
BYTES_OF = {"BF16": 2, "F16": 2, "F32": 4, "I64": 8, "I32": 4, "U8": 1, "F8_E4M3": 1}
SAFETENSORS_NAMES = {
    "BF16": "bfloat16", "F16": "float16", "F32": "float32", "I64": "int64", "I32": "int32", "U8": "uint8",
    "F8_E4M3": "float8_e4m3fn",
}  # fmt: skip


def llama_tensors(layers: int = 2, layer: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, tuple[int, ...]]:
    """Names and shapes (rows first) of a small Llama in GGUF."""
    each = {
        f"blk.{i}.{name if '.' in name else f'{name}.weight'}": shape
        for i in range(layers)
        for name, shape in (layer or LLAMA_LAYER).items()
    }
    return LLAMA_ENDS | each


def write_gguf(
    path: Path,
    tensors: Mapping[str, tuple[int, ...]],
    *,
    architecture: str = "llama",
    metadata: Mapping[str, Any] | None = None,
    matrix_type: str = "Q4_0",
    file_type: int | None = 2,
    general: Mapping[str, Any] | None = None,
    types: Mapping[str, str] | None = None,
    tokens: int = 300,
    **writer_options: Any,
) -> Path:
    """Write a GGUF file by its own library; matrices are of one type unless ``types`` says otherwise, vectors F32."""
    writer = gguf.GGUFWriter(path, architecture, **writer_options)
    if file_type is not None:
        writer.add_file_type(file_type)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token {i}" for i in range(tokens)])
    writer.add_token_merges(["t o", "to k"])
    writer.add_token_types([1] * tokens)
    writer.add_array("an.array.of.floats", [0.5, 1.5])
    for key, value in (metadata if metadata is not None else LLAMA).items():
        add_value(writer, f"{architecture}.{key}", value)
    for key, value in (general or {}).items():
        add_value(writer, key, value)
    for name, shape in tensors.items():
        kind = gguf.GGMLQuantizationType[(types or {}).get(name, matrix_type if len(shape) > 1 else "F32")]
        block_weights, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        data = np.zeros((*shape[:-1], shape[-1] // block_weights * block_bytes), np.uint8)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> Path:
    """Write a safetensors file by its own library: type and shape of every tensor, all zeros."""
    data = {name: np.zeros(int(np.prod(shape)) * BYTES_OF[kind], np.uint8) for name, (kind, shape) in tensors.items()}
    stored = {
        name: safetensors.TensorSpec(
            dtype=SAFETENSORS_NAMES[kind], shape=shape, data_ptr=data[name].ctypes.data, data_len=data[name].nbytes
        )
        for name, (kind, shape) in tensors.items()
    }
    path.write_bytes(safetensors.serialize(stored, {"format": "pt"}))
    return path


BERT_WEIGHTS = {
    "embeddings": (64, 32), "up": (32, 128), "up.bias": (128,), "down": (128, 32), "norm": (32,), "head": (32, 96),
}  # fmt: skip
BERT_PARAMETERS = sum(int(np.prod(shape)) for shape in BERT_WEIGHTS.values())


def small_onnx() -> onnx.ModelProto:
    """Return a graph with a table, two matrices, a bias, a norm, a head, and constants that are no parameters."""
    random = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in BERT_WEIGHTS.items()
    ]
    tensors += [
        numpy_helper.from_array(np.array(2, np.float32), "two"),
        numpy_helper.from_array(np.array([0, -1, 32], np.int64), "shape"),
    ]
    return model_of(
        [
            helper.make_node("Gather", ["embeddings", "input_ids"], ["x"]),
            helper.make_node("MatMul", ["x", "up"], ["a"]),
            helper.make_node("Add", ["a", "up.bias"], ["b"]),
            helper.make_node("Pow", ["b", "two"], ["c"]),
            helper.make_node("MatMul", ["c", "down"], ["d"]),
            helper.make_node("Mul", ["d", "norm"], ["e"]),
            helper.make_node("Reshape", ["e", "shape"], ["f"]),
            helper.make_node("MatMul", ["f", "head"], ["hidden"]),
        ],
        tensors,
        inputs={"input_ids": ["batch", "sequence"]},
        outputs={"hidden": ["batch", "sequence", 96]},
    )


def model_of(
    nodes: list[onnx.NodeProto],
    tensors: list[onnx.TensorProto],
    *,
    inputs: Mapping[str, list[str | int]],
    outputs: Mapping[str, list[str | int]],
    **graph_options: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64 if "ids" in name else TensorProto.FLOAT, dims)
            for name, dims in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
        tensors,
        **graph_options,
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def floats(name: str, *shape: int) -> onnx.TensorProto:
    """Return a tensor of ones."""
    return numpy_helper.from_array(np.ones(shape, np.float32), name)
