"""Which execution providers a device has, which are measured, and why the others are not."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from weighin_agent.bench.adapters import Adapter, AdapterKind, preferred
from weighin_agent.device import ExecutionProvider
from weighin_agent.probe.execution_providers import (
    SOFTWARE_ADAPTER,
    measurable,
    name_execution_provider,
    open_device,
    parse_execution_providers,
    read_execution_providers,
)
from weighin_agent.probe.gaps import Gaps

CPU = ExecutionProvider(name="cpu", measured=True)
WEBGPU = ExecutionProvider(name="webgpu", measured=True)
SOFTWARE = ExecutionProvider(
    name="webgpu", measured=False, reason=SOFTWARE_ADAPTER, adapter="llvmpipe", is_software=True
)


def adapter(name: str, kind: AdapterKind, vendor_id: int = 0, device_id: int = 0) -> Adapter:
    return Adapter(name=name, kind=kind, vendor_id=vendor_id, device_id=device_id)


# As the drivers name themselves: https://vulkan.gpuinfo.org lists each of them.
LLVMPIPE = adapter("llvmpipe (LLVM 15.0.6, 256 bits)", AdapterKind.CPU, 0x10005)
SWIFTSHADER = adapter("SwiftShader Device (Subzero)", AdapterKind.CPU, 0x1AE0, 0xC0DE)
BASIC_RENDER = adapter("Microsoft Basic Render Driver", AdapterKind.OTHER, 0x1414, 0x8C)
RTX = adapter("NVIDIA GeForce RTX 4070", AdapterKind.DISCRETE, 0x10DE, 0x2786)
IRIS = adapter("Intel(R) Iris(R) Xe Graphics (ADL GT2)", AdapterKind.INTEGRATED, 0x8086, 0x46A6)
# Mesa's driver for Apple silicon has the vendor number of llvmpipe, and is a GPU.
HONEYKRISP = adapter("Apple M1 (G13G B1)", AdapterKind.INTEGRATED, 0x10005)


@pytest.mark.parametrize("software", [LLVMPIPE, SWIFTSHADER, BASIC_RENDER], ids=lambda found: found.name)
def test_software_adapters_are_told_by_name_by_number_and_by_kind(software: Adapter) -> None:
    assert software.is_software
    assert replace(software, vendor_id=0, device_id=0, kind=AdapterKind.OTHER).is_software  # the name alone
    assert adapter("some driver", AdapterKind.CPU).is_software


@pytest.mark.parametrize("software", [SWIFTSHADER, BASIC_RENDER], ids=lambda found: found.name)
def test_a_software_adapter_under_another_name_is_told_by_its_number(software: Adapter) -> None:
    assert replace(software, name="Adapter", kind=AdapterKind.OTHER).is_software


@pytest.mark.parametrize("real", [RTX, IRIS, HONEYKRISP], ids=lambda found: found.name)
def test_real_adapters_are_none(real: Adapter) -> None:
    assert not real.is_software


def test_a_card_is_preferred_to_what_is_beside_the_processor_and_that_to_software() -> None:
    assert preferred([LLVMPIPE, IRIS, RTX]) == RTX
    assert preferred([BASIC_RENDER, IRIS]) == IRIS
    assert preferred([LLVMPIPE]) == LLVMPIPE
    assert preferred([]) is None


# What is measured.


def test_a_software_adapter_is_measured_only_where_it_is_allowed() -> None:
    assert measurable([CPU, SOFTWARE], allow_software_adapter=False) == (CPU, SOFTWARE)
    allowed = measurable([CPU, SOFTWARE], allow_software_adapter=True)
    assert allowed == (CPU, replace(SOFTWARE, measured=True, reason=""))
    assert allowed[1].is_software  # and stays labelled


def test_allowing_software_adapters_allows_nothing_else() -> None:
    others = (CPU, replace(WEBGPU, measured=False, reason="no device"))
    assert measurable(others, allow_software_adapter=True) == others


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("CoreMLExecutionProvider", "lacks MatMulNBits and GroupQueryAttention"),
        ("DmlExecutionProvider", "development has ended"),
        ("OpenVINOExecutionProvider", "graphs of another kind"),
        ("QNNExecutionProvider", "graphs of another kind"),
        ("TensorrtExecutionProvider", "through CUDA"),
        ("BrandNewExecutionProvider", "unknown to this version"),
    ],
)
def test_what_is_not_measured_says_why(name: str, reason: str) -> None:
    found = name_execution_provider(name)
    assert found is not None
    assert not found.measured
    assert reason in found.reason


def test_measured_ones_come_first() -> None:
    names = ["CoreMLExecutionProvider", "WebGpuExecutionProvider", "CPUExecutionProvider"]
    assert [found.name for found in parse_execution_providers(names)] == ["webgpu", "cpu", "coreml"]


# Children that open devices.


def opened(monkeypatch: pytest.MonkeyPatch, folder: Path, source: str) -> ExecutionProvider:
    (folder / "device_child.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return open_device(WEBGPU, "device_child")


def test_a_driver_that_crashes_is_a_reason_and_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = opened(monkeypatch, tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    assert found == replace(WEBGPU, measured=False, reason="no device: the reader crashed (SIGSEGV)")


def test_a_device_that_opens_is_measured_under_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = opened(monkeypatch, tmp_path, """print('{"adapter": "AMD Radeon 780M", "is_software": false}')""")
    assert found == replace(WEBGPU, adapter="AMD Radeon 780M")


def test_a_problem_that_the_child_found_is_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = opened(monkeypatch, tmp_path, """print('{"problem": "the plugin lists no device"}')""")
    assert found == replace(WEBGPU, measured=False, reason="no device: the plugin lists no device")


def webgpu_here() -> ExecutionProvider:
    found = {provider.name: provider for provider in read_execution_providers(Gaps())}
    if "webgpu" not in found:
        pytest.skip("onnxruntime-ep-webgpu is not installed")
    return found["webgpu"]


def test_the_adapter_of_the_plugin_is_named_and_labelled() -> None:
    found = webgpu_here()
    if found.adapter is None:
        pytest.skip(f"WebGPU has {found.reason}")
    assert found.is_software == (found.reason == SOFTWARE_ADAPTER)
    assert found.measured != found.is_software


@pytest.mark.skipif(sys.platform != "linux", reason="Vulkan drivers are hidden by the loader of Linux")
def test_a_plugin_whose_driver_is_hidden_has_no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    webgpu_here()
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.setenv(name, str(tmp_path / "none.json"))
    gaps = Gaps()
    found = {provider.name: provider for provider in read_execution_providers(gaps)}
    assert gaps.all() == ()
    assert found["cpu"].measured
    assert found["webgpu"] == replace(WEBGPU, measured=False, reason="no device: no Vulkan driver offers an adapter")


@pytest.mark.skipif(sys.platform != "linux", reason="Vulkan drivers are hidden by the loader of Linux")
def test_beside_a_real_gpu_software_drivers_are_out_of_reach() -> None:
    """Else the plugin could end on one unseen, where it does not like the GPU's own driver."""
    if not webgpu_here().is_software:
        pytest.skip("WebGPU has no software adapter here")
    code = (
        "import json\n"
        "from weighin_agent.bench.vulkan import hide_software_drivers, vulkan_adapters\n"
        "before = [adapter.is_software for adapter in vulkan_adapters()]\n"
        "hide_software_drivers()\n"
        "print(json.dumps([before, [adapter.is_software for adapter in vulkan_adapters()]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=os.environ)
    before, after = json.loads(done.stdout)
    assert True in before
    assert True not in after
