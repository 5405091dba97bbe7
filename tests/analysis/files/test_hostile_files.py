"""Files that lie: one clear line each, and no more work or memory than the file is long."""

import json
import os
import struct
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_model_files import (
    LLAMA_LAYER,
    floats,
    llama_tensors,
    model_of,
    small_onnx,
    write_gguf,
    write_safetensors,
)
from onnx import TensorProto, helper, numpy_helper

from weighin_analysis.errors import ModelFileError
from weighin_analysis.files import inspect, reading
from weighin_analysis.files.reading import Reader

HUGE = 2**60
MOST_PEAK_BYTES = 30_000_000  # of a file of a megabyte and less; most peak at some hundred kilobytes


def refusal(path: Path) -> str:
    """Inspect a hostile file and return the one line that it is refused with."""
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as caught:
            inspect(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_PEAK_BYTES
    return checked(caught.value)


def checked(error: ModelFileError) -> str:
    text = str(error)
    assert text.isprintable()
    assert 0 < len(text) < 1000
    return text


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of reads of every take, so that work is counted and not timed."""
    counts: list[int] = []
    take = Reader.take

    def counting(self: Reader, count: int, what: str) -> bytes:
        counts.append(count)
        return take(self, count, what)

    monkeypatch.setattr(Reader, "take", counting)
    return counts


# GGUF, byte by byte


def gguf_string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def gguf_bytes(*, tensors: int = 0, keys: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + rest


def gguf_tensor(name: bytes, dims: tuple[int, ...], *, kind: int = 0, offset: int = 0) -> bytes:
    packed = b"".join(struct.pack("<Q", dim) for dim in dims)
    return gguf_string(name) + struct.pack("<I", len(dims)) + packed + struct.pack("<IQ", kind, offset)


def gguf_array(kind: int, count: int) -> bytes:
    return gguf_string(b"key") + struct.pack("<IIQ", 9, kind, count)


def gguf_nested(depth: int) -> bytes:
    return gguf_string(b"key") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * depth


HOSTILE_GGUF = {
    "claims 2^60 tensors": (gguf_bytes(tensors=HUGE), "claims 1,152,921,504,606,846,976 tensors"),
    "claims 2^60 keys": (gguf_bytes(keys=HUGE), "keys of metadata"),
    "key of 2^63 bytes": (gguf_bytes(keys=1, rest=struct.pack("<Q", 2**63)), "a key has"),
    "text of 2^63 bytes": (gguf_bytes(keys=1, rest=gguf_string(b"k") + struct.pack("<IQ", 8, 2**63)), "ends within"),
    "array of 2^60 numbers": (gguf_bytes(keys=1, rest=gguf_array(4, HUGE)), "ends within an array"),
    "array of 2^60 texts": (gguf_bytes(keys=1, rest=gguf_array(8, HUGE)), "more than it can hold"),
    "array of no type": (gguf_bytes(keys=1, rest=gguf_array(77, 1) + bytes(9)), "type 77"),
    "value of no type": (gguf_bytes(keys=1, rest=gguf_string(b"k") + struct.pack("<I", 13) + bytes(9)), "type 13"),
    "arrays in arrays": (gguf_bytes(keys=1, rest=gguf_nested(100_000)), "more deeply"),
    "key that is no text": (gguf_bytes(keys=1, rest=gguf_string(b"\xff\xfe") + bytes(8)), "not UTF-8"),
    "key twice": (gguf_bytes(keys=2, rest=2 * (gguf_string(b"k") + struct.pack("<II", 4, 1))), "occurs twice"),
    "version 1": (b"GGUF" + struct.pack("<I", 1) + bytes(16), "GGUF version 1"),
    "no dimensions": (gguf_bytes(tensors=1, rest=gguf_tensor(b"t", ()) + bytes(32)), "0 dimensions"),
    "2^32 dimensions": (gguf_bytes(tensors=1, rest=gguf_string(b"t") + b"\xff" * 30), "4294967295 dimensions"),
    "product overflows": (gguf_bytes(tensors=1, rest=gguf_tensor(b"t", (2**40, 2**40)) + bytes(32)), "impossible"),
    "product is 2^64": (gguf_bytes(tensors=1, rest=gguf_tensor(b"t", (2**32, 2**32)) + bytes(32)), "impossible"),
    "tensor of no type": (gguf_bytes(tensors=1, rest=gguf_tensor(b"t", (8,), kind=4) + bytes(32)), "type 4"),
    "half a block": (gguf_bytes(tensors=1, rest=gguf_tensor(b"t", (16,), kind=2) + bytes(32)), "whole blocks"),
    "tensor beyond the end": (gguf_bytes(tensors=1, rest=gguf_tensor(b"t", (2**30,)) + bytes(64)), "ends before"),
    "offset beyond the end": (gguf_bytes(tensors=1, rest=gguf_tensor(b"t", (8,), offset=HUGE) + bytes(64)), "ends bef"),
    "offset between blocks": (gguf_bytes(tensors=1, rest=gguf_tensor(b"t", (8,), offset=3) + bytes(64)), "no multiple"),
    "overlapping tensors": (
        gguf_bytes(tensors=2, rest=gguf_tensor(b"a", (16,)) + gguf_tensor(b"b", (16,), offset=32) + bytes(256)),
        "overlap",
    ),
    "tensor twice": (
        gguf_bytes(tensors=2, rest=gguf_tensor(b"a", (8,)) + gguf_tensor(b"a", (8,), offset=32) + bytes(256)),
        "occurs twice",
    ),
    "alignment of 3": (
        gguf_bytes(
            tensors=1, keys=1,
            rest=gguf_string(b"general.alignment") + struct.pack("<II", 4, 3) + gguf_tensor(b"a", (8,)) + bytes(64),
        ),
        "no power of two",
    ),
    "one of a thousand parts": (
        gguf_bytes(
            tensors=1, keys=1,
            rest=gguf_string(b"split.count") + struct.pack("<IH", 2, 1000) + gguf_tensor(b"a", (8,)) + bytes(64),
        ),
        "is one of 1000 parts",
    ),
    "escape sequences": (
        gguf_bytes(tensors=1, rest=gguf_tensor(b"\x1b[2J\n", (16,), kind=2) + bytes(32)), r"\\x1b[2J\\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE_GGUF)
def test_a_gguf_file_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    data, reason = HOSTILE_GGUF[case]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    assert reason in refusal(path)


def test_layers_that_are_only_claimed_are_not_counted(tmp_path: Path, counted: list[int]) -> None:
    metadata = {"block_count": 2**31, "embedding_length": 256, "feed_forward_length": 512, "attention.head_count": 4}
    found = inspect(write_gguf(tmp_path / "m.gguf", llama_tensors(), metadata=metadata))
    assert found.entry.shape is None
    assert len(counted) < 5000


# safetensors


def safetensors_bytes(header: bytes, data: int = 0, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(data)


def entry(kind: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


def header_of(**tensors: object) -> bytes:
    return json.dumps(tensors).encode()


HOSTILE_SAFETENSORS = {
    "header of 10 GB": (safetensors_bytes(b"{}", length=10**10), "no model has more than 40,000,000"),
    "header of 2^63 bytes": (safetensors_bytes(b"{}", length=2**63), "no model has more"),
    "header beyond the end": (safetensors_bytes(b"{}", length=5000), "ends within the header"),
    "a list": (safetensors_bytes(b"{[]}"), "not JSON"),
    "deeply nested": (safetensors_bytes(b'{"a":' + b"[" * 100_000), "does not end the entry"),
    "deeply nested objects": (safetensors_bytes(b'{"a":' * 5_000 + b"}" * 5_000), "not JSON"),
    "a long list of nothing": (safetensors_bytes(b'{"a":{"x":[' + b"[]," * 300_000 + b"[]]}}"), "does not end"),
    "a hundred thousand digits": (safetensors_bytes(b'{"a":{"shape":[' + b"9" * 50_000 + b"]}}"), "not JSON"),
    "no text": (safetensors_bytes(b'{"\xff\xfe":{}}'), "not JSON"),
    "goes on": (safetensors_bytes(b"{} {}"), "goes on"),
    "no types": (safetensors_bytes(header_of(a={})), "is not a type, a shape and two offsets"),
    "unknown type": (safetensors_bytes(header_of(a=entry("F7")), 8), "type 'F7'"),
    "negative dimension": (safetensors_bytes(header_of(a=entry(shape=(-2,))), 8), "is not a type, a shape"),
    "true dimension": (safetensors_bytes(header_of(a=entry(shape=(True,))), 8), "is not a type, a shape"),
    "product overflows": (safetensors_bytes(header_of(a=entry(shape=(2**40, 2**40))), 8), "impossible"),
    "too many dimensions": (safetensors_bytes(header_of(a=entry(shape=(1,) * 100)), 8), "100 dimensions"),
    "offsets backwards": (safetensors_bytes(header_of(a=entry(offsets=(8, 0))), 8), "-8 bytes where it needs 8"),
    "bytes that do not fit": (safetensors_bytes(header_of(a=entry(offsets=(0, 12))), 12), "12 bytes where it needs 8"),
    "beyond the end": (safetensors_bytes(header_of(a=entry()), 4), "ends after 4 of 8 bytes"),
    "bytes of nobody": (safetensors_bytes(header_of(a=entry()), 9), "belong to no tensor"),
    "overlap": (safetensors_bytes(header_of(a=entry(), b=entry(offsets=(4, 12))), 12), "not where another ends"),
    "hole": (safetensors_bytes(header_of(a=entry(offsets=(4, 12))), 12), "not where another ends"),
    "twice": (safetensors_bytes(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), 8), "occurs twice"),
    "metadata that are no texts": (safetensors_bytes(b'{"__metadata__":{"a":1}}'), "metadata"),
    "only metadata": (safetensors_bytes(b'{"__metadata__":{"a":"}"}}'), "holds no weights"),
    "half a character": (safetensors_bytes(b'{"\\ud800":{}}'), r"\\ud800"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE_SAFETENSORS)
def test_a_safetensors_file_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    data, reason = HOSTILE_SAFETENSORS[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert reason in refusal(path)


def test_more_tensors_than_any_model_has_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weighin_analysis.files.safetensors_file.MOST_TENSORS", 5_000)
    names = b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(10_000))
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes(b"{" + names + b"}"))
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="claims more than"):
            inspect(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * path.stat().st_size


@pytest.mark.parametrize("name", ["model-00001-of-99999.safetensors", "model-00009-of-00002.safetensors"])
def test_a_number_of_parts_that_no_model_has_is_refused(tmp_path: Path, name: str, counted: list[int]) -> None:
    path = write_safetensors(tmp_path / name, {"a": ("F32", (2,))})
    assert "is not a part" in refusal(path)
    assert len(counted) < 10


# ONNX


def with_external_data(path: Path, **where: str) -> Path:
    """Write a model of 8 x 8 floats that lie where it says."""
    tensor = TensorProto(name="w", data_type=1, dims=[8, 8], data_location=TensorProto.EXTERNAL)
    for key, value in where.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(product_with(tensor).SerializeToString())
    return path


def product_with(*tensors: onnx.TensorProto) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", tensors[0].name], ["y"])]
    return model_of(nodes, list(tensors), inputs={"x": [1, 8]}, outputs={"y": [1, 8]})


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("model.onnx", "names itself"),
        ("../data.bin", "outside its own folder"),
        ("../../../../../../etc/passwd", "outside its own folder"),
        ("/etc/passwd", "outside its own folder"),
        ("..\\data.bin", "outside its own folder"),
        ("", "outside its own folder"),
        ("missing.bin", "missing.bin: No such file"),
        ("a\0b", "a\\x00b"),
        ("x" * 4000, "cannot be used"),
        ("folder", "not a regular file"),
        ("pipe", "not a regular file"),
        ("loop", "cannot be used"),
        ("passwd", "outside its own folder"),
        ("self", "names itself"),
        ("elsewhere/data.bin", "outside its own folder"),
    ],
)
def test_external_data_lie_in_the_folder_of_the_model_or_nowhere(tmp_path: Path, location: str, reason: str) -> None:
    (tmp_path / "outside").mkdir()
    for place in (tmp_path / "data.bin", tmp_path / "outside" / "data.bin"):
        place.write_bytes(bytes(256))
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    os.mkfifo(home / "pipe")
    (home / "loop").symlink_to("loop")
    (home / "passwd").symlink_to("/etc/passwd")
    (home / "self").symlink_to("model.onnx")
    (home / "elsewhere").symlink_to(tmp_path / "outside")
    assert reason in refusal(with_external_data(home / "model.onnx", location=location))


@pytest.mark.parametrize(
    "where",
    [
        {"offset": "1"}, {"offset": str(HUGE)}, {"offset": "-4"}, {"offset": "9" * 4000}, {"offset": "1e3"},
        {"length": "255"}, {"length": str(2**63)}, {"length": ""}, {"offset": "\u0663"},
    ],
)  # fmt: skip
def test_external_data_end_within_their_file(tmp_path: Path, where: dict[str, str]) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(256))
    assert inspect(with_external_data(tmp_path / "model.onnx", location="data.bin")).parameters == 64
    refusal(with_external_data(tmp_path / "model.onnx", location="data.bin", **where))


def test_two_tensors_may_not_share_a_part_of_external_data(tmp_path: Path) -> None:
    tensors = []
    for name, offset in (("a", 0), ("b", 128)):
        tensor = TensorProto(name=name, data_type=1, dims=[8, 8], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="data.bin")
        tensor.external_data.add(key="offset", value=str(offset))
        tensors.append(tensor)
    (tmp_path / "data.bin").write_bytes(bytes(512))
    path = tmp_path / "model.onnx"
    path.write_bytes(product_with(*tensors).SerializeToString())
    assert "overlap" in refusal(path)


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def message(field: int, body: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(body)) + body


def onnx_bytes(graph: bytes) -> bytes:
    return b"\x08\x08" + message(7, graph)


def nested_graphs(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = message(1, message(4, b"If") + message(5, message(1, b"then_branch") + message(6, body)))
    return body


def tensor_bytes(*dims: int, kind: int = 1, data: bytes = b"") -> bytes:
    return b"".join(b"\x08" + varint(dim) for dim in dims) + b"\x10" + varint(kind) + message(8, b"w") + data


def with_tensor(tensor: bytes) -> bytes:
    node = message(4, b"MatMul") + message(1, b"x") + message(1, b"w") + message(2, b"y")
    return onnx_bytes(message(1, node) + message(5, tensor))


RAW = message(9, bytes(256))
HOSTILE_ONNX = {
    "no graph": (b"\x08\x08" + message(2, b"x" * 40), "does not hold one graph"),
    "two graphs": (onnx_bytes(message(1, message(4, b"Relu"))) * 2, "does not hold one graph"),
    "length beyond the end": (b"\x08\x08" + varint(7 << 3 | 2) + varint(2**63) + bytes(40), "ends within a field"),
    "number without end": (b"\x08" + b"\xff" * 40, "is no number"),
    "field of no kind": (b"\x08\x08\x0b" + bytes(40), "protobuf does not know"),
    "field without number": (b"\x08\x08\x00" + bytes(40), "has no number"),
    "deeply nested graphs": (onnx_bytes(nested_graphs(200)), "more deeply"),
    "dimensions overflow": (with_tensor(tensor_bytes(2**40, 2**40, data=RAW)), "impossible"),
    "negative dimension": (with_tensor(tensor_bytes(2**64 - 8, 8, data=RAW)), "impossible"),
    "a thousand dimensions": (with_tensor(tensor_bytes(*[1] * 1000, data=RAW)), "more than 8 dimensions"),
    "a thousand packed dimensions": (with_tensor(message(1, b"\x01" * 1000) + RAW), "more than 8 dimensions"),
    "unknown type": (with_tensor(tensor_bytes(8, 8, kind=99, data=RAW)), "type 99"),
    "raw data too short": (with_tensor(tensor_bytes(8, 9, data=RAW)), "256 bytes where it needs 288"),
    "floats too few": (with_tensor(tensor_bytes(8, 9, data=message(4, bytes(256)))), "256 bytes where it needs 288"),
    "no data": (with_tensor(tensor_bytes(2**31, 2**31)), "holds fewer elements"),
    "few whole numbers": (with_tensor(tensor_bytes(2**40, kind=7, data=message(7, bytes(9)))), "fewer elements"),
    "name that is no text": (onnx_bytes(message(1, message(4, b"\xff\xfe"))), "not UTF-8"),
    "name of a megabyte": (onnx_bytes(message(1, message(4, b"x" * 2**20))), "no model has more"),
    "tensor twice": (with_tensor(tensor_bytes(8, 8, data=RAW))[:2] + message(
        7, 2 * message(5, tensor_bytes(8, 8, data=RAW))), "occurs twice"),
    "escape sequences": (with_tensor(tensor_bytes(8, 8, data=RAW)).replace(b"\x42\x01w", b"\x42\x01\x1b").replace(
        b"\x08\x08\x08\x08", b"\x08\x08\x08\x09"), r"\\x1b"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE_ONNX)
def test_an_onnx_file_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    data, reason = HOSTILE_ONNX[case]
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    assert reason in refusal(path)


def test_four_bit_weights_that_do_not_fill_their_tensor_are_refused(tmp_path: Path) -> None:
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=2**31, N=2**31, bits=4, block_size=32
    )
    tensors = [numpy_helper.from_array(np.zeros((8, 1, 16), np.uint8), "w"), floats("s", 8)]
    path = tmp_path / "model.onnx"
    onnx.save(model_of([node], tensors, inputs={"x": [1, 32]}, outputs={"y": [1, 8]}), path)
    assert "not those of 2,147,483,648 rows" in refusal(path)


@pytest.mark.parametrize("field", [1, 5, 11, 12])
def test_a_hundred_thousand_empty_messages_cost_no_more_than_they_are_long(
    tmp_path: Path, field: int, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_READS", 20_000)
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes(message(field, b"") * 100_000))
    refusal(path)
    assert len(counted) <= 20_100


@pytest.mark.parametrize(
    ("calls", "reason"),
    [({"f0": ["f0"]}, "more deeply"), ({f"f{i}": [f"f{i + 1}"] * 2 for i in range(12)}, "more than 500 graphs")],
    ids=["a function that calls itself", "functions that each call the next twice"],
)
def test_functions_are_not_put_in_place_of_their_calls_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: dict[str, list[str]], reason: str
) -> None:
    monkeypatch.setattr("weighin_analysis.files.onnx_graph._MOST_SCOPES", 500)
    model = product_with(floats("w", 8, 8))
    model.graph.node.append(helper.make_node("f0", ["x"], ["z"], domain="local"))
    for name, called in calls.items():
        nodes = [helper.make_node(other, ["i"], ["o"], domain="local") for other in called]
        model.functions.append(helper.make_function("local", name, ["i"], ["o"], nodes, []))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert reason in refusal(path)


def test_a_graph_of_many_paths_is_not_followed_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor feeds the head of one long chain, so that each would be followed through all of it."""
    monkeypatch.setattr("weighin_analysis.files.onnx_weights._MOST_STEPS", 50_000)
    tensors = [floats(f"t{i}", 2, 2) for i in range(300)]
    nodes = [helper.make_node("Concat", [tensor.name for tensor in tensors], ["n0"], axis=0)]
    nodes += [helper.make_node("Identity", [f"n{i}"], [f"n{i + 1}"]) for i in range(300)]
    path = tmp_path / "model.onnx"
    onnx.save(model_of(nodes, tensors, inputs={"x": [1]}, outputs={"n300": [1]}), path)
    assert "more entangled" in refusal(path)


# Real files, cut and mutated


def small_gguf(path: Path) -> Path:
    layer = {name: tuple(min(size, 32) for size in shape) for name, shape in LLAMA_LAYER.items()}
    tensors = {name: tuple(min(size, 32) for size in shape) for name, shape in llama_tensors(1, layer).items()}
    return write_gguf(path, tensors, general={"nested": [[1, 2], [3]]}, tokens=4)


def small_safetensors(path: Path) -> Path:
    return write_safetensors(path, {"a.weight": ("F16", (8, 8)), "b.weight": ("F32", (4,)), "ids": ("I64", (2,))})


def small_graph(path: Path) -> Path:
    then = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["o"])], "b", [], [helper.make_empty_tensor_value_info("o")]
    )
    nodes = [
        helper.make_node("Constant", [], ["c"], value=floats("", 2, 2)),
        helper.make_node(
            "MatMulNBits", ["x", "q", "s"], ["a"], domain="com.microsoft", K=32, N=8, bits=4, block_size=32
        ),
        helper.make_node("MatMul", ["a", "w"], ["y"]),
        helper.make_node("If", ["x"], ["z"], then_branch=then, else_branch=then),
    ]
    tensors = [numpy_helper.from_array(np.zeros((8, 1, 16), np.uint8), "q"), floats("s", 8), floats("w", 8, 8)]
    tensors.append(helper.make_tensor("typed", 1, [3], [1.0, 2.0, 3.0]))
    nodes.append(helper.make_node("Block", ["y", "w"], ["v"], domain="local"))
    model = model_of(nodes, tensors, inputs={"x": [1, 32]}, outputs={"y": [1, 8]})
    inner = helper.make_node("MatMul", ["i", "k"], ["o"])
    model.functions.append(helper.make_function("local", "Block", ["i", "k"], ["o"], [inner], []))
    onnx.save(model, path)
    return path


def external_graph(path: Path) -> Path:
    onnx.save(small_onnx(), path, save_as_external_data=True, location="data.bin", size_threshold=0)
    return path


MAKERS: dict[str, Callable[[Path], Path]] = {
    "gguf": small_gguf, "safetensors": small_safetensors, "onnx": small_graph, "external": external_graph,
}  # fmt: skip


@pytest.fixture(scope="module")
def originals() -> Iterator[dict[str, Path]]:
    with tempfile.TemporaryDirectory() as name:
        folders = {kind: Path(name) / kind for kind in MAKERS}
        for folder in folders.values():
            folder.mkdir()
        yield {kind: make(folders[kind] / f"model.{kind}") for kind, make in MAKERS.items()}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_that_was_cut_anywhere_is_refused(originals: dict[str, Path], kind: str) -> None:
    """But not for a single byte of what the whole file says; a graph may end well between two of its fields."""
    original = originals[kind]
    whole, data = inspect(original), original.read_bytes()
    path = original.with_name("cut")
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            found = inspect(path)
        except ModelFileError as error:
            checked(error)
        else:
            assert kind in ("onnx", "external")
            assert (found.parameters, found.tensor_bytes) == (whole.parameters, whole.tensor_bytes)


mutations = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.floats(0, 1), st.integers(1, 255)),
        st.tuples(st.just("cut"), st.floats(0, 1), st.integers(1, 64)),
        st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=16)),
        st.tuples(st.just("write"), st.floats(0, 1), st.sampled_from([b"\xff" * 8, bytes(8), b"\x7f", b"\x80" * 10])),
    ),
    min_size=1,
    max_size=4,
)


def mutated(data: bytes, changes: list[tuple[str, float, int | bytes]], header: int) -> bytes:
    """Apply changes, most of them in the first ``header`` bytes, where nothing but structure lies."""
    out = bytearray(data)
    for what, where, value in changes:
        at = int(where * min(len(out), header))
        if isinstance(value, bytes):
            out[at : at + (len(value) if what == "write" else 0)] = value
        elif what == "flip" and at < len(out):
            out[at] ^= value
        else:
            del out[at : at + value]
    return bytes(out)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_mutated_file_is_read_or_refused_in_one_line(originals: dict[str, Path], kind: str) -> None:
    original = originals[kind]
    data = original.read_bytes()
    header = int.from_bytes(data[:8], "little") + 8 if kind == "safetensors" else len(data)
    if kind == "gguf":
        header = data.rindex(b"ffn_down.weight") + 64
    path = original.with_name("mutated")

    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutations)
    def holds(changes: list[tuple[str, float, int | bytes]]) -> None:
        path.write_bytes(mutated(data, changes, header))
        try:
            found = inspect(path)
        except ModelFileError as error:
            checked(error)
        else:
            assert found.parameters >= 0
            assert found.tensor_bytes <= sum(file.stat().st_size for file in found.files)
            assert all(note.isprintable() for note in found.notes)

    holds()


def test_many_parts_cost_no_more_than_one_file_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> None:
    """A thousand names may lead to one costly part, and every part by itself stays below the bound."""
    monkeypatch.setattr(reading, "MOST_READS", 2000)
    first = write_gguf(tmp_path / "m-00001-of-00020.gguf", {}, metadata={}, tokens=100)
    for number in range(2, 21):
        os.link(first, tmp_path / f"m-{number:05}-of-00020.gguf")
    assert "longer than that of any model" in refusal(first)
    assert len(counted) < 2100  # each part of its own takes 400


def test_headers_of_many_parts_are_read_no_longer_than_that_of_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 500)
    for number in range(1, 21):
        write_safetensors(tmp_path / f"m-{number:05}-of-00020.safetensors", {f"part {number}": ("F32", (8,))})
    assert "longer than that of any model" in refusal(tmp_path / "m-00001-of-00020.safetensors")


def test_metadata_of_millions_of_texts_are_not_read_to_their_end(tmp_path: Path) -> None:
    texts = b",".join(b'"k":"v"' for _ in range(2**16 + 1))
    header = b'{"__metadata__":{' + texts + b"}}"
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "more than 65,536 texts" in refusal(path)
