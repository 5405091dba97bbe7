"""Child process: asks the library of NVIDIA's driver (NVML) what it shows and prints it as one line of JSON.

Apart from the agent because a driver that hangs, as after an accelerator fell off the bus, holds every call of its
library for ever. Serial numbers and UUIDs are never asked for.
"""

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

Answer = TypeVar("Answer")


def ask_driver(nvml: Any = pynvml) -> dict[str, object]:
    """Return whether there is a driver and what it says of each device: None for one that it cannot reach.

    ``devices`` itself is None if the driver does not list them; a fact that it does not tell is None.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return {"driver": False}
    try:
        count = nvml.nvmlDeviceGetCount()
        return {"driver": True, "devices": [_ask_one(nvml, index) for index in range(count)]}
    except nvml.NVMLError:
        return {"driver": True, "devices": None}
    finally:
        _ask(nvml, nvml.nvmlShutdown)


def _ask_one(nvml: Any, index: int) -> dict[str, object] | None:
    handle = _ask(nvml, lambda: nvml.nvmlDeviceGetHandleByIndex(index))
    if handle is None:
        return None
    # Not supported where the memory is the system's own (Jetson, Grace): there is none to state.
    memory = _ask(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    return {
        "model": _ask(nvml, lambda: _decode(nvml.nvmlDeviceGetName(handle))),
        "memory_total_bytes": None if memory is None else int(memory.total),
        "memory_available_bytes": None if memory is None else int(memory.free),
        "driver_version": _ask(nvml, lambda: _decode(nvml.nvmlSystemGetDriverVersion())),
        "compute_capability": _ask(nvml, lambda: "{}.{}".format(*nvml.nvmlDeviceGetCudaComputeCapability(handle))),
    }


def _ask(nvml: Any, question: Callable[[], Answer]) -> Answer | None:
    """Return the driver's answer; None where it says that it has none. Every call of NVML may say so."""
    try:
        return question()
    except nvml.NVMLError:
        return None


def _decode(text: str | bytes) -> str:
    # Older versions of the library answer in bytes.
    return text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(ask_driver()) + "\n")
