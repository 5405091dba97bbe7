"""Accelerators from files laid out as the kernel does, and from a driver's library that refuses some questions."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from captured_system import system_at

from weighin_agent.device import Accelerator, AcceleratorKind, ProbeGapReason
from weighin_agent.probe import accelerators as linux_accelerators
from weighin_agent.probe.accelerator_list import read_each
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.nvidia import find_nvidia, parse_nvidia
from weighin_agent.probe.nvidia_child import ask_driver
from weighin_agent.probe.system import this_system


def add_pci_device(root: Path, slot: str, vendor: str, device: str, pci_class: str, **more: str) -> None:
    folder = root / "sys/bus/pci/devices" / slot
    folder.mkdir(parents=True)
    for name, content in {"vendor": vendor, "device": device, "class": pci_class, **more}.items():
        (folder / name).write_text(content + "\n")


def add_node(root: Path, node: str, driver: str, compatible: str = "") -> None:
    """Add a device of a class, as the kernel shows it: with a link to its driver, and its place in the device tree."""
    folder = root / "sys/class" / node / "device"
    folder.mkdir(parents=True)
    (folder / "driver").symlink_to(f"../../bus/platform/drivers/{driver}")
    if compatible:
        (folder / "of_node").mkdir()
        (folder / "of_node/compatible").write_text(compatible)


def read_accelerators(gaps: Gaps, root: Path) -> tuple[Accelerator, ...]:
    """List the accelerators of a machine that has no driver of NVIDIA, whatever this machine has."""
    return linux_accelerators.read_accelerators(gaps, system_at(root))


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


def read_through(library: DriverLibrary, gaps: Gaps) -> tuple[Accelerator, ...]:
    """Read what the library says in the way it comes: as one line of JSON."""
    return read_each(gaps, parse_nvidia(gaps, json.loads(json.dumps(ask_driver(library)))) or ())


def test_a_driver_that_refuses_questions_leaves_gaps_for_those_facts_only() -> None:
    gaps = Gaps()
    laptop, board = read_through(DriverLibrary(), gaps)
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
        "accelerators.1.shares_main_memory",
    }
    assert (laptop.shares_main_memory, board.shares_main_memory) == (False, None)


def test_a_device_that_fell_off_the_bus_does_not_hide_the_others() -> None:
    class HalfLost(DriverLibrary):
        def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
            if index == 0:
                raise RefusalError
            return super().nvmlDeviceGetHandleByIndex(index)

    gaps = Gaps()
    accelerators = read_through(HalfLost(), gaps)
    assert [accelerator.model for accelerator in accelerators] == [None, "Orin (nvgpu)"]
    assert "accelerators.0" in {gap.fact for gap in gaps.all()}


def test_no_driver_library_means_no_answer_and_no_gap() -> None:
    class NoDriver(DriverLibrary):
        def nvmlInit(self) -> None:  # noqa: N802
            raise RefusalError

    gaps = Gaps()
    assert parse_nvidia(gaps, ask_driver(NoDriver())) is None
    assert gaps.all() == ()


def test_a_total_of_nothing_is_a_gap_and_not_a_size(gaps: Gaps) -> None:
    class Sharing(DriverLibrary):
        def nvmlDeviceGetMemoryInfo(self, handle: int) -> object:  # noqa: N802
            return SimpleNamespace(total=0, free=0)

    laptop, _ = read_through(Sharing(), gaps)
    assert (laptop.memory_total_bytes, laptop.memory_available_bytes) == (None, None)
    assert {"accelerators.0.memory_total_bytes", "accelerators.0.memory_available_bytes"} <= {
        gap.fact for gap in gaps.all()
    }


def test_a_driver_that_lists_nothing_or_nonsense_is_a_gap(gaps: Gaps) -> None:
    assert parse_nvidia(gaps, {"driver": True, "devices": None}) == ()
    (odd,) = parse_nvidia(gaps, {"driver": True, "devices": [{"model": 5, "memory_total_bytes": "many"}]}) or ()
    assert odd("accelerators.0").model is None
    assert [gap.fact for gap in gaps.all()][:2] == ["accelerators", "accelerators.0.model"]


def test_a_driver_that_does_not_answer_in_time_is_a_gap_with_that_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gaps: Gaps
) -> None:
    (tmp_path / "hanging_driver.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("weighin_agent.probe.nvidia._TIMEOUT_SECONDS", 0.2)
    assert find_nvidia(gaps, this_system(), "hanging_driver") == ()
    assert [(gap.fact, gap.reason) for gap in gaps.all()] == [("accelerators", ProbeGapReason.TIMED_OUT)]


def test_the_child_that_asks_the_driver_answers_on_this_machine(gaps: Gaps) -> None:
    """With or without a driver; what it shows is read without an error."""
    read_each(gaps, find_nvidia(gaps, this_system()) or ())
    assert ProbeGapReason.READ_FAILED not in {gap.reason for gap in gaps.all()}


@pytest.fixture
def gaps() -> Gaps:
    return Gaps()


def test_an_amd_gpu_states_its_memory_and_a_virtual_screen_is_passed_over(tmp_path: Path, gaps: Gaps) -> None:
    vram = {"mem_info_vram_total": str(24 * 2**30), "mem_info_vram_used": str(2**30)}
    add_pci_device(tmp_path, "0000:03:00.0", "0x1002", "0x744c", "0x030000", **vram)
    add_pci_device(tmp_path, "0000:00:01.0", "0x1af4", "0x1050", "0x030000")
    add_pci_device(tmp_path, "0000:00:02.0", "0x1a03", "0x2000", "0x030000")
    add_pci_device(tmp_path, "0000:00:1f.0", "0x8086", "0x51a4", "0x060100")
    (accelerator,) = read_accelerators(gaps, tmp_path)
    assert (accelerator.kind, accelerator.vendor) == (AcceleratorKind.GPU, "AMD")
    assert (accelerator.memory_total_bytes, accelerator.memory_available_bytes) == (24 * 2**30, 23 * 2**30)
    assert [gap.fact for gap in gaps.all()] == ["accelerators.0.shares_main_memory", "accelerators.0.model"]


def test_a_gpu_whose_driver_writes_a_size_of_nothing_has_a_gap_for_it(tmp_path: Path, gaps: Gaps) -> None:
    vram = {"mem_info_vram_total": "0", "mem_info_vram_used": "0"}
    add_pci_device(tmp_path, "0000:03:00.0", "0x1002", "0x744c", "0x030000", **vram)
    (accelerator,) = read_accelerators(gaps, tmp_path)
    assert (accelerator.memory_total_bytes, accelerator.memory_available_bytes) == (None, None)
    assert "accelerators.0.memory_total_bytes" in {gap.fact for gap in gaps.all()}


def test_a_gpu_cut_into_slices_for_virtual_machines_is_one_gpu(tmp_path: Path, gaps: Gaps) -> None:
    add_pci_device(tmp_path, "0000:03:00.0", "0x8086", "0x56c0", "0x030000")
    for number in range(1, 32):
        slot = f"0000:03:{number:02x}.0"
        add_pci_device(tmp_path, slot, "0x8086", "0x56c0", "0x030000")
        (tmp_path / "sys/bus/pci/devices" / slot / "physfn").symlink_to("../0000:03:00.0")
    assert len(read_accelerators(gaps, tmp_path)) == 1


def test_the_first_sixteen_are_listed_and_the_others_counted(tmp_path: Path, gaps: Gaps) -> None:
    """The aggregator accepts no more; a gap for each fact of the others would fill its list of gaps as well."""
    for number in range(20):
        add_pci_device(tmp_path, f"0000:{number:02x}:00.0", "0x1002", "0x744c", "0x030000")
    assert len(read_accelerators(gaps, tmp_path)) == 16
    assert "4 more were found; only the first 16 are listed" in {gap.detail for gap in gaps.all()}
    assert not [gap for gap in gaps.all() if gap.fact.startswith("accelerators.16")]


def test_graphics_inside_an_intel_processor_have_no_memory_of_their_own_to_miss(tmp_path: Path, gaps: Gaps) -> None:
    add_pci_device(tmp_path, "0000:00:02.0", "0x8086", "0x46a6", "0x030000")
    names = tmp_path / "usr/share/misc/pci.ids"
    names.parent.mkdir(parents=True)
    names.write_text("8086  Intel Corporation\n\t46a6  Alder Lake-P GT2 [Iris Xe Graphics]\n")
    (accelerator,) = read_accelerators(gaps, tmp_path)
    assert (accelerator.model, accelerator.memory_total_bytes) == ("Alder Lake-P GT2 Iris Xe Graphics", None)
    assert accelerator.shares_main_memory
    assert gaps.all() == ()


def test_an_intel_card_has_memory_of_its_own_whose_size_its_driver_does_not_tell(tmp_path: Path, gaps: Gaps) -> None:
    add_pci_device(tmp_path, "0000:03:00.0", "0x8086", "0x56a0", "0x030000")
    (accelerator,) = read_accelerators(gaps, tmp_path)
    assert accelerator.shares_main_memory is False
    assert "accelerators.0.memory_total_bytes" in {gap.fact for gap in gaps.all()}


@pytest.mark.parametrize(("sensor", "shares_memory"), [("in1_label:vddnb", True), ("freq2_label:mclk", False)])
def test_an_amd_gpu_is_a_part_of_the_processor_where_its_driver_measures_a_northbridge(
    tmp_path: Path, gaps: Gaps, sensor: str, shares_memory: bool
) -> None:
    add_pci_device(tmp_path, "0000:03:00.0", "0x1002", "0x1638", "0x030000", product_name="A Radeon")
    sensors = tmp_path / "sys/bus/pci/devices/0000:03:00.0/hwmon/hwmon3"
    sensors.mkdir(parents=True)
    name, _, label = sensor.partition(":")
    (sensors / name).write_text(label + "\n")
    (accelerator,) = read_accelerators(gaps, tmp_path)
    assert (accelerator.model, accelerator.shares_main_memory) == ("A Radeon", shares_memory)


def test_an_npu_on_the_bus_is_named_by_the_list_of_devices(tmp_path: Path, gaps: Gaps) -> None:
    add_pci_device(tmp_path, "0000:00:0b.0", "0x8086", "0x7d1d", "0x120000")
    (tmp_path / "sys/bus/pci/devices/0000:00:0b.0/driver").symlink_to("../../../bus/pci/drivers/intel_vpu")
    (tmp_path / "commands").mkdir()
    line = '0000:00:0b.0 "Processing accelerators" "Intel Corporation" "Meteor Lake NPU" -r04 "Lenovo" "Device 3847"'
    (tmp_path / "commands/lspci").write_text(line + "\n")
    (npu,) = read_accelerators(gaps, tmp_path)
    assert (npu.kind, npu.vendor, npu.model) == (AcceleratorKind.NPU, "Intel", "Meteor Lake NPU")
    assert npu.shares_main_memory
    assert gaps.all() == ()


def test_an_nvidia_device_without_its_driver_is_listed_and_says_what_to_do(tmp_path: Path, gaps: Gaps) -> None:
    add_pci_device(tmp_path, "0000:01:00.0", "0x10de", "0x2684", "0x030000")
    (accelerator,) = read_accelerators(gaps, tmp_path)
    assert accelerator.vendor == "NVIDIA"
    assert "install NVIDIA's driver" in next(gap.detail for gap in gaps.all() if gap.fact == "accelerators")


def test_a_board_without_a_pci_bus_shows_its_gpu_and_its_npu_by_their_drivers(tmp_path: Path, gaps: Gaps) -> None:
    add_node(tmp_path, "drm/renderD128", "v3d", "brcm,2712-v3d\0")
    add_node(tmp_path, "accel/accel0", "rocket", "rockchip,rk3588-rknn-core\0")
    add_node(tmp_path, "drm/renderD129", "vgem")
    found = [(one.kind, one.vendor, one.model) for one in read_accelerators(gaps, tmp_path)]
    assert found == [
        (AcceleratorKind.GPU, "Broadcom", "VideoCore VII"),
        (AcceleratorKind.NPU, "Rockchip", "rk3588-rknn-core"),
    ]
    assert gaps.all() == ()


def test_the_kernels_of_makers_show_their_gpus_and_npus_outside_of_the_kernels_graphics(
    tmp_path: Path, gaps: Gaps
) -> None:
    mali = tmp_path / "sys/class/misc/mali0/device"
    mali.mkdir(parents=True)
    (mali / "gpuinfo").write_text("Mali-G710 7 cores r0p0 0xA862\n")
    (tmp_path / "dev").mkdir()
    for door in ("fastrpc-cdsp", "adsprpc-smd"):
        (tmp_path / "dev" / door).touch()
    add_node(tmp_path, "drm/renderD129", "RKNPU", "rockchip,rk3588-rknpu\0")
    found = {(one.vendor, one.model, one.shares_main_memory) for one in read_accelerators(gaps, tmp_path)}
    expected = {("ARM", "Mali-G710 7 cores"), ("Qualcomm", "Hexagon"), ("Rockchip", "rk3588-rknpu")}
    assert found == {(*one, True) for one in expected}


def test_no_accelerator_is_no_gap(tmp_path: Path, gaps: Gaps) -> None:
    assert read_accelerators(gaps, tmp_path) == ()
    assert gaps.all() == ()
