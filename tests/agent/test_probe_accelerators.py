"""Accelerators from files laid out as the kernel does, and from a driver's library that refuses some questions."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from weighin_agent.device import AcceleratorKind
from weighin_agent.probe.accelerators import read_accelerators
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.nvidia import read_nvidia


def add_pci_device(root: Path, slot: str, vendor: str, device: str, pci_class: str, **more: str) -> None:
    folder = root / "sys/bus/pci/devices" / slot
    folder.mkdir(parents=True)
    for name, content in {"vendor": vendor, "device": device, "class": pci_class, **more}.items():
        (folder / name).write_text(content + "\n")


class RefusalError(Exception):
    """Plays NVMLError."""


class DriverLibrary:
    """A stand-in for NVIDIA's library: two devices; the second is a small board that answers only its name."""

    NVMLError = RefusalError

    def nvmlInit(self) -> None:  # noqa: N802 - the library's own name
        """Succeed."""

    nvmlShutdown = nvmlInit  # noqa: N815

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index + 100

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:  # noqa: N802
        return "NVIDIA GeForce RTX 4070 Laptop GPU" if handle == 100 else b"Orin (nvgpu)"

    def _answer(self, handle: int, answer: object) -> object:
        if handle != 100:
            raise RefusalError
        return answer

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> object:  # noqa: N802
        return self._answer(handle, SimpleNamespace(total=8 * 2**30, free=7 * 2**30))

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "550.54.15"

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> object:  # noqa: N802
        return self._answer(handle, (8, 9))


def test_a_driver_that_refuses_questions_leaves_gaps_for_those_facts_only() -> None:
    gaps = Gaps()
    accelerators = read_nvidia(gaps, DriverLibrary())
    assert accelerators is not None
    laptop, board = accelerators
    assert (laptop.model, laptop.memory_total_bytes, laptop.memory_available_bytes, laptop.compute_capability) == (
        "NVIDIA GeForce RTX 4070 Laptop GPU",
        8 * 2**30,
        7 * 2**30,
        "8.9",
    )
    assert (board.model, board.memory_total_bytes, board.driver_version) == ("Orin (nvgpu)", None, "550.54.15")
    assert {gap.fact for gap in gaps.all()} == {
        "accelerators.1.memory_total_bytes",
        "accelerators.1.memory_available_bytes",
        "accelerators.1.compute_capability",
    }


def test_a_device_that_fell_off_the_bus_does_not_hide_the_others() -> None:
    class HalfLost(DriverLibrary):
        def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
            if index == 0:
                raise RefusalError
            return super().nvmlDeviceGetHandleByIndex(index)

    gaps = Gaps()
    accelerators = read_nvidia(gaps, HalfLost())
    assert accelerators is not None
    assert [accelerator.model for accelerator in accelerators] == [None, "Orin (nvgpu)"]
    assert "accelerators.0" in {gap.fact for gap in gaps.all()}


def test_no_driver_library_means_no_answer_and_no_gap() -> None:
    class NoDriver(DriverLibrary):
        def nvmlInit(self) -> None:  # noqa: N802
            raise RefusalError

    gaps = Gaps()
    assert read_nvidia(gaps, NoDriver()) is None
    assert gaps.all() == ()


@pytest.fixture
def gaps() -> Gaps:
    return Gaps()


@pytest.fixture
def without_nvidia_driver() -> None:
    if read_nvidia(Gaps()) is not None:
        pytest.skip("this machine has an NVIDIA driver, whose devices would be listed as well")


@pytest.mark.usefixtures("without_nvidia_driver")
def test_an_amd_gpu_states_its_memory_and_a_virtual_screen_is_passed_over(tmp_path: Path, gaps: Gaps) -> None:
    vram = {"mem_info_vram_total": str(24 * 2**30), "mem_info_vram_used": str(2**30)}
    add_pci_device(tmp_path, "0000:03:00.0", "0x1002", "0x744c", "0x030000", **vram)
    add_pci_device(tmp_path, "0000:00:01.0", "0x1af4", "0x1050", "0x030000")
    add_pci_device(tmp_path, "0000:00:02.0", "0x1a03", "0x2000", "0x030000")
    add_pci_device(tmp_path, "0000:00:1f.0", "0x8086", "0x51a4", "0x060100")
    (accelerator,) = read_accelerators(gaps, tmp_path)
    assert (accelerator.kind, accelerator.vendor) == (AcceleratorKind.GPU, "AMD")
    assert (accelerator.memory_total_bytes, accelerator.memory_available_bytes) == (24 * 2**30, 23 * 2**30)
    assert [gap.fact for gap in gaps.all()] == ["accelerators.0.model"]


@pytest.mark.usefixtures("without_nvidia_driver")
def test_graphics_inside_an_intel_processor_have_no_memory_of_their_own_to_miss(tmp_path: Path, gaps: Gaps) -> None:
    add_pci_device(tmp_path, "0000:00:02.0", "0x8086", "0x46a6", "0x030000")
    names = tmp_path / "usr/share/misc/pci.ids"
    names.parent.mkdir(parents=True)
    names.write_text("8086  Intel Corporation\n\t46a6  Alder Lake-P GT2 [Iris Xe Graphics]\n")
    (accelerator,) = read_accelerators(gaps, tmp_path)
    assert (accelerator.model, accelerator.memory_total_bytes) == ("Alder Lake-P GT2 Iris Xe Graphics", None)
    assert gaps.all() == ()


@pytest.mark.usefixtures("without_nvidia_driver")
def test_an_nvidia_device_without_its_driver_is_listed_and_says_what_to_do(tmp_path: Path, gaps: Gaps) -> None:
    add_pci_device(tmp_path, "0000:01:00.0", "0x10de", "0x2684", "0x030000")
    (accelerator,) = read_accelerators(gaps, tmp_path)
    assert accelerator.vendor == "NVIDIA"
    assert "install NVIDIA's driver" in next(gap.detail for gap in gaps.all() if gap.fact == "accelerators")


@pytest.mark.usefixtures("without_nvidia_driver")
def test_a_board_without_a_pci_bus_shows_its_gpu_and_its_npu_by_their_drivers(tmp_path: Path, gaps: Gaps) -> None:
    for node, driver in (("drm/renderD128", "v3d"), ("accel/accel0", "rocket"), ("drm/renderD129", "vgem")):
        folder = tmp_path / "sys/class" / node / "device"
        folder.mkdir(parents=True)
        (folder / "driver").symlink_to(f"../../bus/platform/drivers/{driver}")
    found = [(accelerator.kind, accelerator.vendor) for accelerator in read_accelerators(gaps, tmp_path)]
    assert found == [(AcceleratorKind.GPU, "Broadcom"), (AcceleratorKind.NPU, "Rockchip")]


@pytest.mark.usefixtures("without_nvidia_driver")
def test_no_accelerator_is_no_gap(tmp_path: Path, gaps: Gaps) -> None:
    assert read_accelerators(gaps, tmp_path) == ()
    assert gaps.all() == ()
