"""Finding the execution providers of a runtime: by name, to a device that is really there.

Uses onnxruntime, and loads drivers: imported in child processes alone.
"""

import contextlib
import importlib
import os
import sys
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from weighin_agent.bench.adapters import Adapter, AdapterKind, preferred
from weighin_agent.bench.vulkan import hide_software_drivers, vulkan_adapters
from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailureReason

_PLUGIN = "onnxruntime_ep_webgpu"
# On Linux the runtime looks for graphics cards on the PCI bus alone, and finds neither those of most boards nor a
# software adapter. With this the plugin is offered all the same; whether there is an adapter, the drivers tell.
_OFFER_ANYWAY = "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An execution provider with its device.

    ``device`` is the runtime's own, None where it goes by name alone; ``memory`` is where its tensors live, as
    OrtValue takes it: type, number and vendor. ``adapter`` is None for the processor itself.
    """

    runtime_name: str
    device: "ort.OrtEpDevice | None" = None
    memory: tuple[str, int, int] = ("cpu", 0, -1)
    adapter: Adapter | None = None

    def tensor(self, values: npt.NDArray[np.generic]) -> "ort.OrtValue":
        """Return the values in memory of the device; on the CPU that is the array's own."""
        return ort.OrtValue.ortvalue_from_numpy(values, *self.memory)


@cache
def open_provider(name: str) -> Provider:
    """Return the provider that the agent calls ``name``; CaseError if it has no device here."""
    match name:
        case "cpu":
            return Provider(runtime_name="CPUExecutionProvider")
        case "cuda":
            return _cuda()
        case "webgpu":
            return _webgpu()
    raise ValueError(f"no execution provider is called {name!r}")


def _cuda() -> Provider:
    name = "CUDAExecutionProvider"
    if name not in ort.get_available_providers():
        raise _no_device("the runtime of this environment has no CUDA: it needs onnxruntime-gpu")
    with contextlib.redirect_stdout(sys.stderr):  # it prints what it misses; standard output may be a channel
        ort.preload_dlls()
    return Provider(runtime_name=name, memory=("cuda", 0, -1), adapter=_listed_adapter(name))


def _webgpu() -> Provider:
    name = "WebGpuExecutionProvider"
    adapter = None
    if sys.platform == "linux":
        adapter = preferred(vulkan_adapters())
        if adapter is None:
            raise _no_device("no Vulkan driver offers an adapter")
        if not adapter.is_software:
            hide_software_drivers()
            if any(left.is_software for left in vulkan_adapters()):  # an old loader hides nothing
                raise _no_device("a software driver that this Vulkan loader cannot hide could take its place")
        os.environ[_OFFER_ANYWAY] = "1"
    try:
        plugin = importlib.import_module(_PLUGIN)
    except ImportError as error:
        raise _no_device("the plugin onnxruntime-ep-webgpu is not installed") from error
    ort.register_execution_provider_library("webgpu", plugin.get_library_path())
    devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise _no_device("the plugin lists no device")
    # One device suffices: the plugin chooses the adapter by itself, the fastest.
    return Provider(
        runtime_name=name, device=devices[0], memory=("gpu", 0, 0), adapter=adapter or _listed_adapter(name)
    )


def _listed_adapter(runtime_name: str) -> Adapter | None:
    """Return what the runtime itself says of the device of a provider."""
    listed = [found.device for found in ort.get_ep_devices() if found.ep_name == runtime_name]
    if not listed:
        return None
    kind = AdapterKind.CPU if listed[0].type == ort.OrtHardwareDeviceType.CPU else AdapterKind.OTHER
    return Adapter(
        name=listed[0].metadata.get("Description", listed[0].vendor),
        vendor_id=listed[0].vendor_id,
        device_id=listed[0].device_id,
        kind=kind,
    )


def _no_device(text: str) -> CaseError:
    return CaseError(text, reason=CaseFailureReason.NO_DEVICE)
