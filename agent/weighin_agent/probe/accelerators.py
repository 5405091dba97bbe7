"""GPUs and NPUs, on Linux: NVIDIA's by their driver's library, the others by what the kernel shows."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from weighin_agent.device import Accelerator, AcceleratorKind, ProbeGapReason
from weighin_agent.probe.accelerator_list import AcceleratorReader, read_each
from weighin_agent.probe.board_accelerators import find_board_accelerators
from weighin_agent.probe.files import exists, link_name, list_folder, read_line
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.nvidia import find_nvidia
from weighin_agent.probe.pci_names import pci_device_name
from weighin_agent.probe.system import System
from weighin_agent.probe.text import clean_text, parse_hexadecimal, parse_whole_number

_NVIDIA = 0x10DE
# Everything else that drives a screen (virtio, QXL, Bochs, VMware, ASPEED, Matrox ...) computes nothing.
_VENDORS = {_NVIDIA: "NVIDIA", 0x1002: "AMD", 0x8086: "Intel"}

# PCI classes: 03 is a display controller of any kind; 12 00 a processing accelerator, which AMD's Instinct cards are.
_DISPLAY = 0x03
_PROCESSING = 0x1200

# Kernel drivers of NPUs that are PCI devices.
_NPU_DRIVERS = {"intel_vpu": "Intel", "amdxdna": "AMD"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice:
    """Vendor, device and class numbers of one device on the PCI bus, and where the kernel shows it."""

    vendor: int
    device: int
    pci_class: int
    folder: Path


def is_gpu(device: PciDevice) -> bool:
    """Whether this is a GPU that can compute, by vendor and class."""
    if device.vendor not in _VENDORS:
        return False
    is_instinct = _VENDORS[device.vendor] == "AMD" and device.pci_class >> 8 == _PROCESSING
    return device.pci_class >> 16 == _DISPLAY or is_instinct


def read_accelerators(gaps: Gaps, system: System) -> tuple[Accelerator, ...]:
    """List the accelerators, NVIDIA's first."""
    devices = _pci_devices(system.root)
    gpus = [device for device in devices if is_gpu(device)]
    by_driver = find_nvidia(gaps, system)
    if by_driver is None:
        _note_silent_nvidia(gaps, system.root, gpus)
    by_bus = [device for device in gpus if device.vendor != _NVIDIA or not by_driver]
    npus = [(device, _NPU_DRIVERS[driver]) for device in devices if (driver := _driver(device)) in _NPU_DRIVERS]
    found: list[AcceleratorReader] = [
        *(by_driver or ()),
        *(partial(_read_gpu, gaps, system, device) for device in by_bus),
        *(partial(_read_npu, gaps, system, device, vendor) for device, vendor in npus),
        *find_board_accelerators(gaps, system.root),
    ]
    return read_each(gaps, found)


def _pci_devices(root: Path) -> list[PciDevice]:
    devices = []
    for folder in list_folder(root / "sys/bus/pci/devices"):
        # A slice of another device in this list, made to be lent to a virtual machine; inside of that there is no link.
        if link_name(folder / "physfn"):
            continue
        numbers = [parse_hexadecimal(read_line(folder / name)) for name in ("vendor", "device", "class")]
        vendor, device, pci_class = numbers
        if vendor is not None and device is not None and pci_class is not None:
            devices.append(PciDevice(vendor=vendor, device=device, pci_class=pci_class, folder=folder))
    return devices


def _driver(device: PciDevice) -> str:
    return link_name(device.folder / "driver")


def _note_silent_nvidia(gaps: Gaps, root: Path, gpus: list[PciDevice]) -> None:
    if exists(root / "proc/driver/nvidia") or any(device.vendor == _NVIDIA for device in gpus):
        gaps.add(
            "accelerators",
            ProbeGapReason.NOT_OFFERED,
            "an NVIDIA device is present but its driver's library does not answer; install NVIDIA's driver",
        )


def _read_gpu(gaps: Gaps, system: System, device: PciDevice, fact: str) -> Accelerator:
    shares_memory = _shares_memory(device)
    if shares_memory is None:
        detail = "the driver does not tell whether its memory is its own"
        gaps.add(f"{fact}.shares_main_memory", ProbeGapReason.NOT_OFFERED, detail)
    # A total of 0 is no size: the GPU has no memory of its own, or the driver none to state. For a GPU inside the
    # processor it is what firmware took out of main memory for it alone.
    total = parse_whole_number(read_line(device.folder / "mem_info_vram_total")) or None
    used = parse_whole_number(read_line(device.folder / "mem_info_vram_used"))
    if not shares_memory:
        gaps.need(f"{fact}.memory_total_bytes", total, ProbeGapReason.NOT_OFFERED, "the driver does not tell")
    return Accelerator(
        kind=AcceleratorKind.GPU,
        vendor=_VENDORS[device.vendor],
        model=_need_name(gaps, system, device, fact),
        memory_total_bytes=total,
        memory_available_bytes=None if total is None or used is None else max(0, total - used),
        shares_main_memory=shares_memory,
    )


def _shares_memory(device: PciDevice) -> bool | None:
    """Whether a GPU is part of the processor; None where its driver does not tell."""
    if _VENDORS[device.vendor] == "Intel":
        # Graphics inside the processor sit at this one place; a card is behind a bridge.
        return device.folder.name == "0000:00:02.0"
    if _VENDORS[device.vendor] == "NVIDIA":
        return False
    # amdgpu's sensors: a northbridge voltage on APUs only, a memory clock on cards only (docs.kernel.org/gpu/amdgpu).
    sensors = list_folder(device.folder / "hwmon")
    if any(read_line(sensor / "in1_label") == "vddnb" for sensor in sensors):
        return True
    return False if any(read_line(sensor / "freq2_label") == "mclk" for sensor in sensors) else None


def _read_npu(gaps: Gaps, system: System, device: PciDevice, vendor: str, fact: str) -> Accelerator:
    return Accelerator(
        kind=AcceleratorKind.NPU,
        vendor=vendor,
        model=_need_name(gaps, system, device, fact),
        shares_main_memory=True,
    )


def _need_name(gaps: Gaps, system: System, device: PciDevice, fact: str) -> str | None:
    name = clean_text(read_line(device.folder / "product_name")) or pci_device_name(
        system, device.vendor, device.device, device.folder.name
    )
    return gaps.need(f"{fact}.model", name, ProbeGapReason.NOT_OFFERED, "no list of device names is installed")
