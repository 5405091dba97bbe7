"""Asking the Vulkan loader which adapters there are; the only module that uses it. Imported in child processes alone.

ONNX Runtime lists the graphics cards of the PCI bus, and the WebGPU plugin picks an adapter of its own: only the
drivers know which one that can be. The layout of the structures is that of vulkan_core.h, Vulkan 1.0.
"""

import ctypes
import os

from weighin_agent.bench.adapters import Adapter, AdapterKind

_LOADER = "libvulkan.so.1"
_STRUCTURE_TYPE_INSTANCE_CREATE_INFO = 1
# What stands behind the name, limits mostly, is not read: the whole structure has 824 bytes.
_REST_BYTES = 1024
# File names of the drivers that compute on the processor; the loader knows this variable since 1.3.234.
_SOFTWARE_DRIVERS = "*lvp_icd*,*swiftshader*"


class _InstanceCreateInfo(ctypes.Structure):
    _fields_ = (
        ("structure_type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.c_void_p),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


class _DeviceProperties(ctypes.Structure):
    _fields_ = (
        ("api_version", ctypes.c_uint32),
        ("driver_version", ctypes.c_uint32),
        ("vendor_id", ctypes.c_uint32),
        ("device_id", ctypes.c_uint32),
        ("device_type", ctypes.c_uint32),
        ("device_name", ctypes.c_char * 256),
        ("rest", ctypes.c_uint8 * _REST_BYTES),
    )


def vulkan_adapters() -> tuple[Adapter, ...]:
    """Return the adapters of all installed drivers; none where there is no loader or no driver."""
    try:
        vulkan = ctypes.CDLL(_LOADER)
    except OSError:
        return ()
    create = _InstanceCreateInfo(structure_type=_STRUCTURE_TYPE_INSTANCE_CREATE_INFO)
    instance = ctypes.c_void_p()
    if vulkan.vkCreateInstance(ctypes.byref(create), None, ctypes.byref(instance)) != 0:
        return ()
    try:
        return tuple(_describe(vulkan, device) for device in _devices(vulkan, instance))
    finally:
        vulkan.vkDestroyInstance(instance, None)


def hide_software_drivers() -> None:
    """Keep the loader of this process from software drivers: nothing can then end on one unseen."""
    os.environ["VK_LOADER_DRIVERS_DISABLE"] = _SOFTWARE_DRIVERS


def _devices(vulkan: ctypes.CDLL, instance: ctypes.c_void_p) -> list[int]:
    count = ctypes.c_uint32()
    if vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None) != 0:
        return []
    devices = (ctypes.c_void_p * count.value)()
    # VK_INCOMPLETE, a positive number, is no error: as many as were counted are there.
    if vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices) < 0:
        return []
    return [device for device in devices[: count.value] if device]


def _describe(vulkan: ctypes.CDLL, device: int) -> Adapter:
    properties = _DeviceProperties()
    vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(device), ctypes.byref(properties))
    known = properties.device_type in list(AdapterKind)
    return Adapter(
        name=properties.device_name.decode("utf-8", errors="replace"),
        vendor_id=properties.vendor_id,
        device_id=properties.device_id,
        kind=AdapterKind(properties.device_type) if known else AdapterKind.OTHER,
    )
