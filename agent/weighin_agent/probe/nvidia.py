"""NVIDIA's accelerators, through the library of their driver (NVML). Serial numbers and UUIDs are never asked for."""

from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

from weighin_agent.device import Accelerator, AcceleratorKind, ProbeGapReason
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.text import clean_text

Answer = TypeVar("Answer")


def read_nvidia(gaps: Gaps, nvml: Any = pynvml) -> tuple[Accelerator, ...] | None:
    """List the accelerators that the driver shows to this process; None if there is no driver to ask."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        count = nvml.nvmlDeviceGetCount()
        return tuple(_read_one(gaps, nvml, index) for index in range(count))
    except nvml.NVMLError:
        gaps.add("accelerators", ProbeGapReason.READ_FAILED, "NVIDIA's driver library lists no devices")
        return ()
    finally:
        _ask(nvml, nvml.nvmlShutdown)


def _read_one(gaps: Gaps, nvml: Any, index: int) -> Accelerator:
    handle = _ask(nvml, lambda: nvml.nvmlDeviceGetHandleByIndex(index))
    if handle is None:
        gaps.add(f"accelerators.{index}", ProbeGapReason.READ_FAILED, "NVIDIA's driver lists it but cannot reach it")
        return Accelerator(kind=AcceleratorKind.GPU, vendor="NVIDIA")
    model = _ask(nvml, lambda: _decode(nvml.nvmlDeviceGetName(handle)))
    # Not supported where the memory is the system's own (Jetson, Grace): there is none to state.
    memory = _ask(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    driver = _ask(nvml, lambda: _decode(nvml.nvmlSystemGetDriverVersion()))
    capability = _ask(nvml, lambda: "{}.{}".format(*nvml.nvmlDeviceGetCudaComputeCapability(handle)))
    accelerator = Accelerator(
        kind=AcceleratorKind.GPU,
        vendor="NVIDIA",
        model=None if model is None else clean_text(model),
        memory_total_bytes=None if memory is None else int(memory.total),
        memory_available_bytes=None if memory is None else int(memory.free),
        driver_version=None if driver is None else clean_text(driver),
        compute_capability=capability,
    )
    for name in ("model", "memory_total_bytes", "memory_available_bytes", "driver_version", "compute_capability"):
        if getattr(accelerator, name) is None:
            gaps.add(
                f"accelerators.{index}.{name}", ProbeGapReason.NOT_OFFERED, "NVIDIA's driver does not tell it here"
            )
    return accelerator


def _ask(nvml: Any, question: Callable[[], Answer]) -> Answer | None:
    """Return the driver's answer; None where it says that it has none. Every call of NVML may say so."""
    try:
        return question()
    except nvml.NVMLError:
        return None


def _decode(text: str | bytes) -> str:
    # Older versions of the library answer in bytes.
    return text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text
