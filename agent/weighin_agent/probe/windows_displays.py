"""What the rows of Windows say of a display adapter: maker, kind and memory. Pure; nothing here raises on any row."""

import re
from collections.abc import Mapping, Sequence

# Makers of GPUs that compute, by the number of their PCI devices or the letters of ACPI's; the screens of remote
# desktops and hypervisors have others.
_VENDORS = {"VEN_10DE": "NVIDIA", "VEN_1002": "AMD", "VEN_8086": "Intel", "QCOM": "Qualcomm"}

# Windows tells no program without DirectX whether a GPU's memory is its own; its maker's naming does. Intel: cards are
# called by a letter and digits (A380, B580, "Pro B60"), "MAX" or "Flex"; B370 and B390 are processors' own.
_INTEL_CARD = re.compile(r"\bA[357][0-9]0M?\b|\bB[57][0-9]0\b|\bPro [AB][0-9]{2}\b|\bMAX\b|\bFlex\b")
_INTEL_OWN = re.compile(r"\bArc\b|\bUHD\b|\bHD\b|\bIris\b|\bGraphics\b")
# AMD: processors' graphics have no number, three digits and "M" or "S", or "Vega" with the count of units (3 to 11).
_AMD_OWN = re.compile(r"Radeon *(?:Graphics|[0-9]{3}M\b|80[0-9]{2}S\b|R[2-9] Graphics|(?:RX )?Vega *(?:[3-9]|1[01])\b)")
_AMD_CARD = re.compile(r"\bRX\b|\bPRO [WVR]|\bPro\b|\bVII\b|\bR[579]\b|\bInstinct\b|\bAI PRO\b")


def vendor_of(row: Mapping[str, object]) -> str | None:
    """Return the maker of a display adapter, None for one that computes nothing."""
    place = text_of(row, "PNPDeviceID").upper()
    return next((vendor for trace, vendor in _VENDORS.items() if trace in place), None)


def is_integrated(vendor: str, name: str) -> bool | None:
    """Whether a GPU is part of the processor, by its maker's naming; None where that does not say."""
    plain = name.replace("(R)", "").replace("(TM)", " ")
    if vendor == "Intel":
        return False if _INTEL_CARD.search(plain) else (True if _INTEL_OWN.search(plain) else None)
    if vendor == "AMD":
        return True if _AMD_OWN.search(plain) else (False if _AMD_CARD.search(plain) else None)
    return vendor == "Qualcomm"


def parse_memory_bytes(row: Mapping[str, object], drivers: Sequence[Mapping[str, object]]) -> int | None:
    """Return the 64-bit size that the adapter's driver wrote into the registry, None if it wrote none.

    The registry also lists adapters that were taken out: one belongs to the row whose place begins like its own.
    """
    place = text_of(row, "PNPDeviceID").upper()
    for driver in drivers:
        matching = text_of(driver, "MatchingDeviceId").upper()
        name = "HardwareInformation.qwMemorySize"
        if matching and place.startswith(matching.split("&REV_")[0]):
            octets = driver.get(name)
            return _little_endian(octets) if isinstance(octets, list) else number_of(driver, name)
    return None


def _little_endian(size: list[object]) -> int | None:
    # Some drivers write the eight bytes instead of the number.
    octets = [byte for byte in size if isinstance(byte, int) and 0 <= byte < 256]
    return number_of({"size": int.from_bytes(bytes(octets), "little")}, "size") if len(octets) == len(size) else None


def text_of(row: Mapping[str, object], name: str) -> str:
    """Return one property as a text, "" if it is none."""
    value = row.get(name)
    return value if isinstance(value, str) else ""


def number_of(row: Mapping[str, object], name: str) -> int | None:
    """Return one property as a number, None if it is none or 0."""
    # CIM's 64-bit numbers come as texts in some versions of PowerShell.
    value = row.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    return value if isinstance(value, int) and 0 < value < 2**63 else None
