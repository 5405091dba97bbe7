"""GPUs and NPUs, on Linux: NVIDIA's by their driver's library, the others by what the kernel shows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from weighin_agent.device import Accelerator, AcceleratorKind, ProbeGapReason
from weighin_agent.probe.accelerator_list import AcceleratorReader, read_each
from weighin_agent.probe.files import exists, link_name, list_folder, read_line, read_source
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.nvidia import find_nvidia
from weighin_agent.probe.text import clean_text, parse_hexadecimal, parse_whole_number

_NVIDIA = 0x10DE
# Everything else that drives a screen (virtio, QXL, Bochs, VMware, ASPEED, Matrox ...) computes nothing.
_VENDORS = {_NVIDIA: "NVIDIA", 0x1002: "AMD", 0x8086: "Intel"}

# PCI classes: 03 is a display controller of any kind; 12 00 a processing accelerator, which AMD's Instinct cards are.
_DISPLAY = 0x03
_PROCESSING = 0x1200

# Kernel drivers of GPUs that are no PCI devices, and who designed them.
_BOARD_GPUS = {
    "v3d": "Broadcom",
    "panfrost": "ARM",
    "panthor": "ARM",
    "lima": "ARM",
    "msm_dpu": "Qualcomm",
    "adreno": "Qualcomm",
    "etnaviv-gpu": "Vivante",
    "powervr": "Imagination",
    "asahi": "Apple",
}
_NPU_DRIVERS = {"intel_vpu": "Intel", "amdxdna": "AMD", "rocket": "Rockchip"}

# Finds what a driver's library shows; None if there is no such driver.
FindByDriver = Callable[[Gaps], tuple[AcceleratorReader, ...] | None]

_NAME_LISTS = ("usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids")


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice:
    """Vendor, device and class numbers of one device on the PCI bus, and where the kernel shows it."""

    vendor: int
    device: int
    pci_class: int
    folder: Path


def parse_device_name(text: str, vendor: int, device: int) -> str | None:
    """Find a device's name in a pci.ids list: vendors begin a line, their devices follow behind one tab."""
    inside = False
    for line in text.splitlines():
        if line.startswith("\t"):
            if inside and line.startswith(f"\t{device:04x} "):
                return clean_text(line[5:])
        elif line and not line.startswith("#"):
            inside = line.startswith(f"{vendor:04x} ")
    return None


def is_gpu(device: PciDevice) -> bool:
    """Whether this is a GPU that can compute, by vendor and class."""
    if device.vendor not in _VENDORS:
        return False
    is_instinct = _VENDORS[device.vendor] == "AMD" and device.pci_class >> 8 == _PROCESSING
    return device.pci_class >> 16 == _DISPLAY or is_instinct


def read_accelerators(
    gaps: Gaps, root: Path = Path("/"), find_by_driver: FindByDriver = find_nvidia
) -> tuple[Accelerator, ...]:
    """List the accelerators, NVIDIA's first."""
    gpus = [device for device in _pci_devices(root) if is_gpu(device)]
    by_driver = find_by_driver(gaps)
    if by_driver is None:
        _note_silent_nvidia(gaps, root, gpus)
    by_bus = [device for device in gpus if device.vendor != _NVIDIA or not by_driver]
    found: list[AcceleratorReader] = [
        *(by_driver or ()),
        *(partial(_read_pci_gpu, gaps, root, device) for device in by_bus),
        *(partial(_read_nameless, gaps, vendor, kind) for vendor, kind in _find_others(root)),
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


def _note_silent_nvidia(gaps: Gaps, root: Path, gpus: list[PciDevice]) -> None:
    if exists(root / "proc/driver/nvidia") or any(device.vendor == _NVIDIA for device in gpus):
        gaps.add(
            "accelerators",
            ProbeGapReason.NOT_OFFERED,
            "an NVIDIA device is present but its driver's library does not answer; install NVIDIA's driver",
        )


def _read_pci_gpu(gaps: Gaps, root: Path, device: PciDevice, fact: str) -> Accelerator:
    name = clean_text(read_line(device.folder / "product_name")) or _listed_name(root, device)
    gaps.need(f"{fact}.model", name, ProbeGapReason.NOT_OFFERED, "no list of device names is installed")
    # A total of 0 is no size: the GPU has no memory of its own, or the driver none to state.
    total = parse_whole_number(read_line(device.folder / "mem_info_vram_total")) or None
    used = parse_whole_number(read_line(device.folder / "mem_info_vram_used"))
    # Intel's processor graphics sit at this one place and share main memory: they have none of their own to miss.
    shares_memory = _VENDORS[device.vendor] == "Intel" and device.folder.name == "0000:00:02.0"
    if not shares_memory:
        gaps.need(f"{fact}.memory_total_bytes", total, ProbeGapReason.NOT_OFFERED, "the driver does not tell")
    return Accelerator(
        kind=AcceleratorKind.GPU,
        vendor=_VENDORS[device.vendor],
        model=name,
        memory_total_bytes=total,
        memory_available_bytes=None if total is None or used is None else max(0, total - used),
    )


def _listed_name(root: Path, device: PciDevice) -> str | None:
    texts = (read_source(root / path).text for path in _NAME_LISTS)
    return next((name for text in texts if (name := parse_device_name(text, device.vendor, device.device))), None)


def _read_nameless(gaps: Gaps, vendor: str, kind: AcceleratorKind, fact: str) -> Accelerator:
    gaps.add(f"{fact}.model", ProbeGapReason.NOT_OFFERED, "the kernel gives no name for it")
    return Accelerator(kind=kind, vendor=vendor)


def _find_others(root: Path) -> list[tuple[str, AcceleratorKind]]:
    """Find the GPUs of single-board computers and the NPUs, by the names of their kernel drivers."""
    kinds = (
        ("drm", "renderD", _BOARD_GPUS, AcceleratorKind.GPU),
        ("accel", "accel", _NPU_DRIVERS, AcceleratorKind.NPU),
    )
    return [
        (vendors[driver], kind)
        for class_name, prefix, vendors, kind in kinds
        for node in list_folder(root / "sys/class" / class_name)
        if node.name.startswith(prefix) and (driver := link_name(node / "device/driver")) in vendors
    ]
