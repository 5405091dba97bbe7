"""Execution providers do what the CPU does, or say why not: the real plugin on whatever Vulkan driver there is."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tiny_cases import TINY, TINY_ENCODER

from weighin_agent.bench.correctness import (
    Agreement,
    agreement,
    check_agreement,
    compare_with_cpu,
    outputs_on,
    save_small_model,
    small,
)
from weighin_agent.bench.models import save_layers
from weighin_agent.bench.providers import open_provider
from weighin_agent.bench.session import Model
from weighin_agent.bench.weights import make_block, scheme_block
from weighin_agent.errors import CaseError
from weighin_agent.probe.execution_providers import read_execution_providers
from weighin_agent.probe.gaps import Gaps
from weighin_agent.run import CaseFailureReason
from weighin_analysis.architecture import Architecture, FeedForward
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import load_suite

BLOCK = make_block(load_suite("quick").weights)
# What a Gemma has beside the rest; its window also takes attention another way through the plugin.
TINY_GEMMA = replace(TINY, feed_forward=FeedForward.GEGLU, query_key_norm=True, sandwich_norm=True, sliding_window=16)
WEBGPU_CHILD = Path(__file__).parents[1] / "webgpu_child.py"
# Google's software driver comes with Debian's browser. Its subgroups are 4 threads wide, narrower than those of any
# GPU, and the plugin's attention over a prompt is wrong on them (docs/execution-providers.md).
SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")


@pytest.fixture(scope="session")
def webgpu() -> None:
    """Skip without the plugin and a Vulkan driver that it takes; where there is none the plugin ends its process."""
    found = {provider.name: provider for provider in read_execution_providers(Gaps())}
    if "webgpu" not in found:
        pytest.skip("onnxruntime-ep-webgpu is not installed")
    if found["webgpu"].adapter is None:
        pytest.skip(f"WebGPU has {found['webgpu'].reason}")


def save(path: Path, shape: Architecture, scheme: Scheme) -> None:
    save_small_model(path, shape, scheme, block=scheme_block(BLOCK, scheme))


def model(path: Path, execution_provider: str, shape: Architecture = TINY) -> Model:
    return Model(
        path,
        shape,
        layers=shape.layers,
        execution_provider=execution_provider,
        threads=1,
        max_context=64,
        clock=time.perf_counter,
    )


def refusal(run: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(CaseError) as refused:
        run()
    return refused.value.reason, str(refused.value)


# What agrees.


@pytest.mark.parametrize(
    ("shape", "scheme"),
    [
        (TINY, Scheme.FP32),
        (TINY, Scheme.FP16),
        (TINY, Scheme.INT8_BLOCK32),
        (TINY, Scheme.INT4_BLOCK32),
        (TINY_ENCODER, Scheme.INT4_BLOCK32),
        (TINY_GEMMA, Scheme.INT4_BLOCK32),
    ],
    ids=["fp32", "fp16", "int8_block32", "int4_block32", "encoder", "gemma"],
)
@pytest.mark.usefixtures("webgpu")
@pytest.mark.slow  # a software driver compiles each shader for seconds when it meets it first
def test_webgpu_runs_all_of_a_graph_and_agrees_with_the_cpu(
    shape: Architecture, scheme: Scheme, tmp_path: Path
) -> None:
    """Loading proves that no node was left to the CPU."""
    save(tmp_path / "small.onnx", shape, scheme)
    found = compare_with_cpu(tmp_path / "small.onnx", shape, scheme, execution_provider="webgpu", threads=1)
    assert 0.999 < found.correlation <= 1
    assert 0 < found.relative_rms < 0.05


@pytest.mark.usefixtures("webgpu")
def test_the_cache_stays_in_the_memory_of_the_device(tmp_path: Path) -> None:
    save(tmp_path / "small.onnx", TINY, Scheme.INT4_BLOCK32)
    loaded = model(tmp_path / "small.onnx", "webgpu", small(TINY))
    buffers = list(loaded._cache.values())
    assert {buffer.device_name() for buffer in buffers} == {"webgpu"}
    before = [buffer.numpy().copy() for buffer in buffers]
    loaded.time(32)
    for old, buffer in zip(before, buffers, strict=True):
        changed = np.any(buffer.numpy() != old, axis=(0, 1, 3))
        assert changed.nonzero()[0].tolist() == list(range(32))  # the prompt's places, in the same buffer


@pytest.mark.parametrize("shape", [TINY, TINY_ENCODER, TINY_GEMMA], ids=["decoder", "encoder", "gemma"])
def test_the_cpu_agrees_with_itself(shape: Architecture, tmp_path: Path) -> None:
    save(tmp_path / "small.onnx", shape, Scheme.INT4_BLOCK32)
    found = compare_with_cpu(tmp_path / "small.onnx", shape, Scheme.INT4_BLOCK32, execution_provider="cpu", threads=1)
    assert found.correlation == pytest.approx(1)
    assert found.relative_rms == 0


def test_the_small_model_keeps_the_widths_of_the_shape() -> None:
    large = replace(TINY, layers=24, vocab=150_000, hidden=896)
    assert small(large) == replace(large, layers=2, vocab=4096)
    assert small(TINY) == TINY


# What differs.


def corrupt(path: Path) -> None:
    """Turn over all bits in a part of the weights."""
    data = path.with_suffix(".data")
    stored = bytearray(data.read_bytes())
    # Tensors begin at whole pages; the first matrix follows the tables of the embedding, the norms and the angles.
    graph = onnx.load(path, load_external_data=False).graph
    places = {t.name: {e.key: e.value for e in t.external_data} for t in graph.initializer}
    begin, length = (int(places["layer0.qkv"][key]) for key in ("offset", "length"))
    stored[begin : begin + length // 2] = bytes(b ^ 0xFF for b in stored[begin : begin + length // 2])
    data.write_bytes(stored)


@pytest.mark.usefixtures("webgpu")
def test_weights_that_changed_on_one_side_are_a_wrong_output_with_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    save(path, TINY, Scheme.INT8_BLOCK32)
    reference = outputs_on("cpu", path, TINY, threads=1)
    corrupt(path)
    found = agreement(outputs_on("webgpu", path, TINY, threads=1), reference)
    reason, text = refusal(lambda: check_agreement(found, Scheme.INT8_BLOCK32))
    assert reason == CaseFailureReason.WRONG_OUTPUT
    assert f"correlation {found.correlation:.5f}" in text
    assert f"relative RMS {found.relative_rms:.4f}" in text
    assert "allows 0.999 and 0.05" in text


@pytest.mark.parametrize(
    ("correlation", "relative_rms", "passes"),
    [(0.9991, 0.049, True), (0.9989, 0.01, False), (1.0, 0.051, False), (math.nan, 0.01, False)],
)
def test_either_number_outside_its_tolerance_is_a_wrong_output(
    correlation: float, relative_rms: float, passes: bool
) -> None:
    found = Agreement(correlation=correlation, relative_rms=relative_rms)
    if passes:
        check_agreement(found, Scheme.FP16)
    else:
        assert refusal(lambda: check_agreement(found, Scheme.FP16))[0] == CaseFailureReason.WRONG_OUTPUT


def test_agreement_is_the_correlation_and_the_size_of_the_difference() -> None:
    reference = np.array([1.0, -2.0, 3.0, -4.0], np.float32)
    twice = agreement(2 * reference, reference)
    assert (twice.correlation, twice.relative_rms) == pytest.approx((1, 1))  # a wrong scale correlates all the same
    assert agreement(-reference, reference).correlation == pytest.approx(-1)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [([1.0, np.nan], "not finite"), ([1.0, np.inf], "not finite"), ([0.0, 0.0], "all the same")],
)
def test_outputs_that_are_no_result_are_wrong(outputs: list[float], text: str) -> None:
    reason, why = refusal(lambda: agreement(np.array(outputs), np.array([1.0, 2.0])))
    assert reason == CaseFailureReason.WRONG_OUTPUT
    assert text in why


# What did not run where it should.


@pytest.mark.usefixtures("webgpu")
def test_a_graph_whose_products_only_the_cpu_has_is_the_wrong_provider(tmp_path: Path) -> None:
    """The plugin has no DynamicQuantizeMatMul; the runtime would run it on the CPU and copy around it."""
    save_layers(
        tmp_path / "layers.onnx",
        TINY,
        Scheme.INT8_DYNAMIC,
        layers=2,
        max_context=64,
        block=scheme_block(BLOCK, Scheme.INT8_DYNAMIC),
    )
    model(tmp_path / "layers.onnx", "cpu").check_finite()
    reason, text = refusal(lambda: model(tmp_path / "layers.onnx", "webgpu"))
    assert reason == CaseFailureReason.WRONG_EXECUTION_PROVIDER
    assert "left to the CPU" in text


@pytest.mark.usefixtures("webgpu")
def test_one_small_operator_that_the_plugin_lacks_is_enough(tmp_path: Path) -> None:
    """It would cost a crossing of the bus for every token."""
    path = tmp_path / "small.onnx"
    save(path, TINY, Scheme.INT4_BLOCK32)
    edited = onnx.load(path, load_external_data=False)
    (last,) = (node for node in edited.graph.node if "result" in node.output)
    last.op_type = "Det"  # the determinant: no kernel of the plugin, and one of the CPU
    last.input[0] = edited.graph.node[0].output[0]
    onnx.save(edited, path)
    reason, _ = refusal(lambda: model(path, "webgpu", small(TINY)))
    assert reason == CaseFailureReason.WRONG_EXECUTION_PROVIDER


def test_cuda_without_a_runtime_for_it_has_no_device(tmp_path: Path) -> None:
    """Where there is one, this environment is that of docs/execution-providers.md."""
    save(tmp_path / "small.onnx", TINY, Scheme.INT4_BLOCK32)
    if any(provider.name == "cuda" for provider in read_execution_providers(Gaps())):
        pytest.skip("this runtime has CUDA")
    reason, text = refusal(lambda: model(tmp_path / "small.onnx", "cuda"))
    assert (reason, "onnxruntime-gpu" in text) == (CaseFailureReason.NO_DEVICE, True)


def test_a_name_that_no_engine_has_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="abacus"):
        open_provider("abacus")


# Vulkan drivers, each in a process of its own.


def run_with_driver(driver: Path, folder: Path) -> dict[str, Any]:
    environment = os.environ | {"VK_DRIVER_FILES": str(driver), "VK_ICD_FILENAMES": str(driver)}
    done = subprocess.run(
        [sys.executable, WEBGPU_CHILD],
        input=f"{folder}\n",
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=300,
    )
    # One line: neither the runtime nor a driver may write to what a case answers on.
    (line,) = done.stdout.splitlines()
    answer: dict[str, Any] = json.loads(line)
    return answer


@pytest.mark.usefixtures("webgpu")
def test_a_plugin_without_a_vulkan_driver_has_no_device(tmp_path: Path) -> None:
    answer = run_with_driver(tmp_path / "no driver.json", tmp_path)
    assert (answer["reason"], answer["text"]) == (CaseFailureReason.NO_DEVICE, "no Vulkan driver offers an adapter")


@pytest.mark.slow
@pytest.mark.skipif(not SWIFTSHADER.exists(), reason="Debian's chromium, which brings SwiftShader, is not installed")
@pytest.mark.usefixtures("webgpu")
def test_a_driver_on_which_the_plugin_computes_wrongly_is_found_out(tmp_path: Path) -> None:
    """All nodes ran on the provider, and the numbers look like numbers: only the comparison tells."""
    answer = run_with_driver(SWIFTSHADER, tmp_path)
    assert answer["reason"] == CaseFailureReason.WRONG_OUTPUT
    assert "correlation 0.99" in answer["text"]
