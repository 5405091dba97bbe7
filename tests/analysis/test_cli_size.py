"""The real command `weighin-analysis size`, as a person and as a program use it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from weighin_analysis.answers.words import wrapped
from weighin_analysis.catalog import architecture
from weighin_analysis.footprint import memory_bytes
from weighin_analysis.scheme import Scheme

CONTRACT = {
    "model",
    "known",
    "disclosed",
    "parameters",
    "active_parameters",
    "size_class",
    "scheme",
    "format",
    "download_bytes",
    "memory_bytes",
    "basis",
    "candidates",
}
PARTS = {"weights", "kv_cache", "activations", "runtime", "total"}


def size(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "weighin_analysis.cli", "size", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def document(*arguments: str | Path, expected_exit_code: int = 0) -> dict[str, Any]:
    done = size(*arguments, "--json")
    assert (done.returncode, done.stderr) == (expected_exit_code, "")
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    assert set(found) >= CONTRACT
    assert set(found["memory_bytes"]) == PARTS
    return found


def test_a_known_model_has_every_number_of_the_contract() -> None:
    found = document("Qwen3-0.6B", "--scheme", "int4_block32")
    assert (found["model"], found["known"], found["disclosed"]) == ("Qwen3-0.6B", True, True)
    assert (found["parameters"], found["size_class"]) == (596_049_920, "0.5B")
    assert (found["format"], found["scheme"]) == ("onnx", "int4_block32")
    assert found["basis"] in {"counted", "published"}
    assert found["download_bytes"] > 596_049_920 // 2
    memory = found["memory_bytes"]
    assert memory["total"] == sum(memory[part] for part in PARTS - {"total"})
    # The card's own formula, at its context.
    shape = architecture("Qwen3-0.6B")
    assert memory["total"] == memory_bytes(shape, Scheme.INT4_BLOCK32, context_tokens=2048, prompt_tokens=512)


def test_a_name_may_state_format_and_scheme() -> None:
    found = document("mistral-7b-instruct-v0.3.Q4_K_M.gguf")
    assert (found["model"], found["format"], found["scheme"]) == ("Mistral-7B-v0.3", "gguf", "Q4_K_M")
    assert found["download_bytes"] == pytest.approx(4.37e9, rel=0.02)
    assert document("mistral-7b-instruct-v0.3.Q4_K_M.gguf", "--scheme", "q4f16")["format"] == "onnx"


@pytest.mark.parametrize(
    ("name", "model", "scheme"),
    [
        ("mlx-community/Llama-3.2-3B-Instruct-4bit", "Llama-3.2-3B", "4bit"),
        ("Mistral-7B-v0.1-AWQ", "Mistral-7B-v0.1", "AWQ"),
        ("Phi-3-mini-4k-instruct-q4.gguf", "Phi-3-mini", "Q4"),
    ],
)
def test_a_name_with_a_scheme_that_nobody_knows_is_known_without_a_size(name: str, model: str, scheme: str) -> None:
    found = document(name)
    assert (found["model"], found["known"], found["scheme"], found["download_bytes"]) == (model, True, scheme, None)
    assert found["parameters"] > 0
    assert scheme in found["missing"][0]
    assert found["missing"][0] in size(name).stdout
    assert document(name, "--format", "onnx", "--scheme", "q4")["download_bytes"] > 0


def test_a_context_beyond_the_models_own_is_said_to_be() -> None:
    beyond = "it was made for a context of at most 512 tokens"
    assert beyond in document("BERT", "--context", "513")["notes"]
    assert beyond not in document("BERT", "--context", "512")["notes"]


def test_an_encoder_is_told_nothing_of_caches_and_decoding() -> None:
    text = size("BERT", "--what-if", "prune-layers=4", "--what-if", "quantize=q4").stdout
    assert "KV cache" not in text
    assert "ecode" not in text


def test_quantizing_to_the_same_scheme_changes_nothing() -> None:
    (found,) = document("Qwen3-0.6B", "--scheme", "q4", "--what-if", "quantize=q4")["what_ifs"]
    assert found["reasons"]["download"] == "It is in this scheme already."


def test_memory_is_told_with_where_it_may_lie_and_how_it_is_known() -> None:
    lines = size("Gemma-2B", "--format", "litert", "--scheme", "int4").stdout.splitlines()
    assert [line for line in lines if line.startswith("  memory") and "(fitted, may be " in line]
    assert [line for line in lines if "not good enough to decide by" in line]


def test_an_answer_whose_reader_left_keeps_its_exit_code() -> None:
    line = [sys.executable, "-m", "weighin_analysis.cli", "size", "Gemma-2B"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("line", ["  disk      1.2 GB " + 20 * "and more ", "Gemma-2B: " + 20 * "and more "])
def test_a_line_that_is_too_wide_goes_on_below_its_text(line: str) -> None:
    first, *rest = wrapped(line, 60)
    indent = 12 if "disk" in line else 2
    assert rest
    assert all(len(piece) <= 60 and piece[:indent].isspace() and piece[indent] != " " for piece in rest)
    assert " ".join([first, *map(str.strip, rest)]) == line.rstrip()


def test_the_table_of_a_large_model_fits_80_columns() -> None:
    lines = size("Llama-3.1-405B").stdout.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("format"))
    assert max(map(len, lines[start:])) <= 80


def test_a_longer_context_takes_a_larger_cache_and_nothing_else() -> None:
    short, long = (document("Qwen3-0.6B", "--context", tokens)["memory_bytes"] for tokens in ("1024", "4096"))
    assert long["kv_cache"] == 4 * short["kv_cache"]
    assert all(long[part] == short[part] for part in ("weights", "activations", "runtime"))


def test_an_encoder_keeps_no_cache() -> None:
    found = document("DistilBERT")
    assert (found["scheme"], found["memory_bytes"]["kv_cache"]) == ("int8", 0)


def test_an_undisclosed_model_is_known_of_the_server_class_and_has_no_numbers() -> None:
    found = document("GPT-4")
    assert (found["known"], found["disclosed"], found["size_class"]) == (True, False, "server")
    absent = ("parameters", "active_parameters", "scheme", "format", "download_bytes", "basis")
    assert {found[key] for key in absent} == {None}
    assert set(found["memory_bytes"].values()) == {None}


def test_an_unknown_model_is_an_answer_with_candidates_and_exit_code_1() -> None:
    found = document("Gemma", expected_exit_code=1)
    assert (found["known"], found["parameters"], found["download_bytes"]) == (False, None, None)
    assert found["candidates"]
    done = size("Gemma")
    assert (done.returncode, done.stderr) == (1, "")
    assert f"perhaps you mean: {', '.join(found['candidates'])}" in done.stdout.splitlines()
    assert "weighin-analysis catalogue add" in done.stdout


def test_the_speed_of_the_connection_tells_the_time() -> None:
    found = document("Qwen3-0.6B", "--link-mbit", "8")
    (time,) = found["download_seconds"]
    assert time == {"link_bits_per_second": 8e6, "seconds": pytest.approx(found["download_bytes"] / 1e6)}
    links = [time["link_bits_per_second"] for time in document("Qwen3-0.6B")["download_seconds"]]
    assert links == [10e6, 100e6]


def test_without_a_scheme_the_usual_ones_of_every_format_stand_beside_it() -> None:
    found = document("Qwen3-0.6B")["artefacts"]
    assert {one["format"] for one in found} == {"onnx", "gguf", "mlc", "litert"}
    assert all(one["download_bytes"] > 0 and one["memory_bytes"]["total"] > 0 for one in found)
    of_one_format = document("Qwen3-0.6B", "--format", "gguf")["artefacts"]
    assert len(of_one_format) > 20
    assert {one["format"] for one in of_one_format} == {"gguf"}


def test_a_person_reads_a_table() -> None:
    done = size("Gemma 2B")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Gemma-2B: ")
    assert lines[1] == "2.51 billion parameters (2,506,172,416): size class 2B"
    heading = next(i for i, line in enumerate(lines) if line.startswith("format"))
    assert [line.split()[:2] for line in lines[heading + 1 : heading + 5]] == [
        ["onnx", "q4"],
        ["onnx", "q4f16"],
        ["onnx", "int8"],
        ["onnx", "fp16"],
    ]


def test_what_ifs_apply_one_after_the_other() -> None:
    found = document("Qwen3-1.7B", "--what-if", "prune-layers=8", "--what-if", "lora=16")["what_ifs"]
    first, second = found
    assert first["memory_bytes"]["after"] < first["memory_bytes"]["before"]
    assert second["download_bytes"]["before"] == first["download_bytes"]["after"]
    assert second["download_bytes"]["after"] > second["download_bytes"]["before"]


def test_a_real_file_is_weighed_by_its_header(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.ones((64, 32), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32])],
        [weights],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph), path)
    found = document(path)
    assert (found["known"], found["parameters"], found["size_class"]) == (True, 2048, "tiny")
    assert (found["format"], found["scheme"], found["basis"]) == ("onnx", "fp32", "file")
    assert found["download_bytes"] == path.stat().st_size
    assert found["files"] == ["model.onnx"]


def test_a_file_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "empty.gguf"
    path.write_bytes(b"")
    done = size(path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("./no-such-model.gguf",),
        ("Gemma-2B", "--scheme", "q99"),
        ("Gemma-2B", "--format", "onnx", "--scheme", "Q4_K_M"),
        ("Gemma-2B", "--context", "0"),
        ("Gemma-2B", "--link-mbit", "-1"),
        ("Gemma-2B", "--what-if", "magic"),
        ("Gemma-2B", "--what-if", "distill=nobody"),
        ("GPT-4", "--what-if", "magic"),
        ("GPT-4", "--scheme", "q99"),
        ("no such model", "--what-if", "magic"),
        ("Mistral-7B-AWQ", "--what-if", "lora=8"),
        ("",),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = size(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(("weighin-analysis: ", "usage: weighin-analysis size"))


def test_help_shows_an_example_that_works() -> None:
    done = size("--help")
    line = " ".join(done.stdout.split()).partition("example: weighin-analysis size ")[2]
    assert size(*line.split()).returncode == 0
