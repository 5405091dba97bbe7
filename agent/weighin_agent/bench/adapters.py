"""What a graphics adapter is, and whether it is only a program on the processor."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

# Names that the drivers give themselves: Mesa's llvmpipe (lavapipe is its Vulkan side), Google's SwiftShader,
# Microsoft's WARP. Beside them the pairs of vendor and device under which two of them appear.
_SOFTWARE_NAMES = ("llvmpipe", "lavapipe", "softpipe", "swiftshader", "basic render driver", "warp")
_SOFTWARE_IDS = frozenset({(0x1AE0, 0xC0DE), (0x1414, 0x008C)})


class AdapterKind(IntEnum):
    """What stands behind an adapter, with the numbers of VkPhysicalDeviceType."""

    OTHER = 0
    INTEGRATED = 1
    DISCRETE = 2
    VIRTUAL = 3
    CPU = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A device that computes for a graphics interface, as its driver describes it; the numbers are the PCI bus's."""

    name: str
    vendor_id: int
    device_id: int
    kind: AdapterKind

    @property
    def is_software(self) -> bool:
        """Whether no hardware stands behind it."""
        named = any(part in self.name.lower() for part in _SOFTWARE_NAMES)
        return named or self.kind is AdapterKind.CPU or (self.vendor_id, self.device_id) in _SOFTWARE_IDS


_RANKS = (AdapterKind.DISCRETE, AdapterKind.INTEGRATED, AdapterKind.VIRTUAL, AdapterKind.OTHER, AdapterKind.CPU)


def preferred(adapters: Iterable[Adapter]) -> Adapter | None:
    """Return the adapter that WebGPU takes where speed is asked for: a card, else what is beside the processor.

    A software adapter comes last; None if there is none at all.
    """
    return min(adapters, key=lambda adapter: (adapter.is_software, _RANKS.index(adapter.kind)), default=None)
