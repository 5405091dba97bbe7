"""GPUs and NPUs that are part of a chip and on no bus: of single-board computers, phones and ARM laptops.

All of them work in main memory.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from weighin_agent.device import Accelerator, AcceleratorKind, ProbeGapReason
from weighin_agent.probe.accelerator_list import AcceleratorReader
from weighin_agent.probe.files import exists, link_name, list_folder, read_line
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.text import clean_text

# Kernel drivers, and who designed what they drive. "RKNPU" is Rockchip's own kernel, "rocket" the mainline one.
_GPU_DRIVERS = {
    "v3d": "Broadcom",
    "vc4-drm": "Broadcom",
    "panfrost": "ARM",
    "panthor": "ARM",
    "lima": "ARM",
    "msm_dpu": "Qualcomm",
    "adreno": "Qualcomm",
    "etnaviv-gpu": "Vivante",
    "powervr": "Imagination",
    "asahi": "Apple",
}
_NPU_DRIVERS = {"rocket": "Rockchip", "RKNPU": "Rockchip", "ethosu": "ARM"}

# Doors to compute processors that no class of devices lists: Qualcomm's since mainline names it, and its vendor
# kernel's; Google's and MediaTek's.
_NPU_DOORS = {
    "fastrpc-cdsp": ("Qualcomm", "Hexagon"),
    "adsprpc-smd": ("Qualcomm", "Hexagon"),
    "edgetpu-soc": ("Google", "Edge TPU"),
    "apusys": ("MediaTek", "APU"),
}

# The device tree names the block, its maker's documents the product (raspberrypi.com, "Processors").
_PRODUCTS = {
    "brcm,bcm2835-vc4": "VideoCore IV",
    "brcm,2711-v3d": "VideoCore VI",
    "brcm,2712-v3d": "VideoCore VII",
}
_MALI = re.compile(r"(Mali-\w+)(?: (\d{1,2}) cores)?", re.ASCII)


def parse_compatible(text: str) -> str | None:
    """Name what a device tree calls "maker,block": the product where the block is known, else the block."""
    first = text.split("\0", maxsplit=1)[0].strip()
    return _PRODUCTS.get(first) or clean_text(first.partition(",")[2])


def parse_mali(text: str) -> str | None:
    """Name a Mali by its driver's "gpuinfo", for example "Mali-G710 7 cores r0p0 0xA862"."""
    match = _MALI.match(text)
    return None if match is None else match[1] if match[2] is None else f"{match[1]} {match[2]} cores"


def find_board_accelerators(gaps: Gaps, root: Path) -> tuple[AcceleratorReader, ...]:
    """Find the GPUs and NPUs of the chip, by their kernel drivers and doors."""
    found = [*_by_class(root), *_by_vendor_driver(root), *_by_door(root)]
    return tuple(partial(_read_one, gaps, *one) for one in found)


Found = tuple[AcceleratorKind, str, str | None]


def _by_class(root: Path) -> Iterator[Found]:
    for class_name, prefix in (("drm", "renderD"), ("accel", "accel")):
        for node in list_folder(root / "sys/class" / class_name):
            driver = link_name(node / "device/driver") if node.name.startswith(prefix) else ""
            name = parse_compatible(read_line(node / "device/of_node/compatible"))
            if driver in _GPU_DRIVERS:
                yield AcceleratorKind.GPU, _GPU_DRIVERS[driver], name
            elif driver in _NPU_DRIVERS:
                yield AcceleratorKind.NPU, _NPU_DRIVERS[driver], name


def _by_vendor_driver(root: Path) -> Iterator[Found]:
    """Find the GPUs that phones and vendors' kernels drive outside of the kernel's graphics."""
    adreno, mali = root / "sys/class/kgsl/kgsl-3d0", root / "sys/class/misc/mali0"
    if exists(adreno):
        yield AcceleratorKind.GPU, "Qualcomm", clean_text(read_line(adreno / "gpu_model"))
    if exists(mali):
        yield AcceleratorKind.GPU, "ARM", parse_mali(read_line(mali / "device/gpuinfo"))


def _by_door(root: Path) -> Iterator[Found]:
    # Two doors of one maker lead to one processor.
    doors = {product: None for door, product in _NPU_DOORS.items() if exists(root / "dev" / door)}
    for vendor, name in doors:
        yield AcceleratorKind.NPU, vendor, name


def _read_one(gaps: Gaps, kind: AcceleratorKind, vendor: str, model: str | None, fact: str) -> Accelerator:
    gaps.need(f"{fact}.model", model, ProbeGapReason.NOT_OFFERED, "the kernel gives no name for it")
    return Accelerator(kind=kind, vendor=vendor, model=model, shares_main_memory=True)
