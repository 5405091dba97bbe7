"""NVIDIA's accelerators, as the library of their driver describes them in a child process."""

from collections.abc import Mapping
from functools import partial

from weighin_agent.device import Accelerator, AcceleratorKind, ProbeGapReason
from weighin_agent.probe.accelerator_list import AcceleratorReader
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.system import System
from weighin_agent.probe.text import clean_text

# The driver of a machine with many accelerators takes seconds to begin where nothing keeps it awake.
_TIMEOUT_SECONDS = 30.0


def find_nvidia(
    gaps: Gaps, system: System, module: str = "weighin_agent.probe.nvidia_child"
) -> tuple[AcceleratorReader, ...] | None:
    """Find the accelerators that the driver shows to this process; None if there is no driver to ask."""
    answer = system.ask_child(module, _TIMEOUT_SECONDS)
    if answer.reason is not None:
        gaps.add("accelerators", answer.reason, f"NVIDIA's driver library: {answer.detail}")
        return ()
    return parse_nvidia(gaps, answer.facts)


def parse_nvidia(gaps: Gaps, facts: Mapping[str, object]) -> tuple[AcceleratorReader, ...] | None:
    """Return a reader for each device in the child's answer; None if it found no driver."""
    if not facts.get("driver"):
        return None
    devices = facts.get("devices")
    if not isinstance(devices, list):
        gaps.add("accelerators", ProbeGapReason.READ_FAILED, "NVIDIA's driver library lists no devices")
        return ()
    return tuple(partial(_read_one, gaps, device) for device in devices)


def _read_one(gaps: Gaps, device: object, fact: str) -> Accelerator:
    if not isinstance(device, dict):
        gaps.add(fact, ProbeGapReason.READ_FAILED, "NVIDIA's driver lists it but cannot reach it")
        return Accelerator(kind=AcceleratorKind.GPU, vendor="NVIDIA")
    # A total of 0 is no size: the accelerator has no memory of its own, or the driver none to state.
    total = _number(device, "memory_total_bytes") or None
    accelerator = Accelerator(
        kind=AcceleratorKind.GPU,
        vendor="NVIDIA",
        model=_text(device, "model"),
        memory_total_bytes=total,
        memory_available_bytes=None if total is None else _number(device, "memory_available_bytes"),
        driver_version=_text(device, "driver_version"),
        compute_capability=_text(device, "compute_capability"),
        # Boards whose memory is the system's own refuse to tell a size; so may a driver that is broken.
        shares_main_memory=None if total is None else False,
    )
    for name in (
        "model",
        "memory_total_bytes",
        "memory_available_bytes",
        "driver_version",
        "compute_capability",
        "shares_main_memory",
    ):
        if getattr(accelerator, name) is None:
            gaps.add(f"{fact}.{name}", ProbeGapReason.NOT_OFFERED, "NVIDIA's driver does not tell it here")
    return accelerator


def _text(device: Mapping[str, object], name: str) -> str | None:
    value = device.get(name)
    return clean_text(value) if isinstance(value, str) else None


def _number(device: Mapping[str, object], name: str) -> int | None:
    value = device.get(name)
    return value if isinstance(value, int) else None
