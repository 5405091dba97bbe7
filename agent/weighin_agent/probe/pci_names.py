"""Names of PCI devices, from the list that distributions install, or from lspci where that list lies elsewhere."""

import shlex

from weighin_agent.probe.files import read_source
from weighin_agent.probe.system import System
from weighin_agent.probe.text import clean_text

_NAME_LISTS = ("usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids")

# -mm: one line per device, quoted for machines; -D: with the number of the bus's domain, as the kernel writes places.
_LSPCI = ("lspci", "-D", "-mm")
_TIMEOUT_SECONDS = 5.0


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


def parse_lspci(text: str, place: str) -> str | None:
    """Find the name of the device at a place, for example "0000:03:00.0", in the output of ``lspci -D -mm``."""
    for line in text.splitlines():
        if line.startswith(f"{place} "):
            try:
                words = shlex.split(line)
            except ValueError:  # a quote that never ends
                return None
            # A device that lspci's own list does not know is called "Device 744c".
            return None if len(words) < 4 or words[3].startswith("Device ") else clean_text(words[3])
    return None


def pci_device_name(system: System, vendor: int, device: int, place: str) -> str | None:
    """Return the name of a device, None if nothing here knows it."""
    texts = (read_source(system.root / path).text for path in _NAME_LISTS)
    by_list = next((name for text in texts if (name := parse_device_name(text, vendor, device))), None)
    return by_list or parse_lspci(system.ask(_LSPCI, _TIMEOUT_SECONDS).text, place)
