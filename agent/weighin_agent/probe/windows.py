"""The readers for Windows: one PowerShell script that asks CIM and the drivers' part of the registry.

Classes and properties are named one by one: serial numbers, UUIDs and the names of machine and user lie beside them.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from weighin_agent.device import (
    Accelerator,
    AcceleratorKind,
    Cache,
    CacheKind,
    Cpu,
    FormFactor,
    OperatingSystem,
    ProbeGapReason,
    Virtualization,
)
from weighin_agent.probe.accelerator_list import AcceleratorReader, read_each
from weighin_agent.probe.child import CommandOutput
from weighin_agent.probe.cpuinfo_library import read_instruction_sets
from weighin_agent.probe.form_factor import form_of_chassis, is_virtual, need_form_factor
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.memory import need_memory_sizes
from weighin_agent.probe.memory import read_available_bytes_portably as read_available_bytes
from weighin_agent.probe.nvidia import find_nvidia
from weighin_agent.probe.operating_system import need_kernel
from weighin_agent.probe.power import read_mains_portably as read_mains
from weighin_agent.probe.system import System
from weighin_agent.probe.text import clean_processor_name, clean_text
from weighin_agent.probe.virtualization import Evidence, judge_virtualization, need_virtualization
from weighin_agent.probe.windows_displays import is_integrated, number_of, parse_memory_bytes, text_of, vendor_of

__all__ = [
    "read_accelerators",
    "read_available_bytes",
    "read_cpu",
    "read_form_factor",
    "read_mains",
    "read_memory_sizes",
    "read_operating_system",
    "read_virtualization",
]

# No double quotes: they would have to survive two parsers of command lines. Of a device's place in the machine only
# maker and model are kept; what follows tells one copy from another. AdapterRAM is never asked for: it has 32 bits.
_SCRIPT = r"""
$ErrorActionPreference = 'SilentlyContinue'
[Console]::OutputEncoding = [Text.Encoding]::UTF8
function Ask($class, $names) {
  @(Get-CimInstance -ClassName $class -Property $names | Select-Object -Property $names)
}
$place = @{ Name = 'PNPDeviceID'; Expression = { ($_.PNPDeviceID -split '\\')[0..1] -join '\' } }
$drivers = 'HKLM:\SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}\0*'
@{
  Win32_Processor = Ask 'Win32_Processor' @('Name', 'Manufacturer', 'NumberOfCores', 'NumberOfLogicalProcessors',
    'L2CacheSize', 'L3CacheSize')
  Win32_ComputerSystem = Ask 'Win32_ComputerSystem' @('Manufacturer', 'Model')
  Win32_SystemEnclosure = Ask 'Win32_SystemEnclosure' @('ChassisTypes')
  Win32_OperatingSystem = Ask 'Win32_OperatingSystem' @('Caption', 'Version', 'TotalVisibleMemorySize',
    'FreePhysicalMemory')
  Win32_Battery = Ask 'Win32_Battery' @('BatteryStatus')
  Win32_VideoController = @(Get-CimInstance -ClassName Win32_VideoController |
    Select-Object -Property Name, DriverVersion, $place)
  DisplayDrivers = @(Get-ItemProperty -Path $drivers |
    Select-Object -Property DriverDesc, MatchingDeviceId, 'HardwareInformation.qwMemorySize')
  ComputeAccelerators = @(Get-CimInstance -ClassName Win32_PnPEntity -Filter 'PNPClass=''ComputeAccelerator''' |
    Select-Object -Property Name, Manufacturer)
} | ConvertTo-Json -Depth 4 -Compress
"""
# A first PowerShell after start takes seconds on a slow disk.
_TIMEOUT_SECONDS = 60.0

Rows = tuple[dict[str, object], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The rows of every class that the script asked for, and why there are none where there are none."""

    rows: Mapping[str, Rows]
    reason: ProbeGapReason
    detail: str

    def first(self, name: str) -> dict[str, object]:
        """Return the first row of a class, empty if there is none."""
        return next(iter(self.rows.get(name, ())), {})


def parse_rows(text: str) -> dict[str, Rows]:
    """Parse the script's JSON into rows by class; PowerShell writes a list of one as the one itself."""
    try:
        answer = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(answer, dict):
        return {}
    lists = {name: rows if isinstance(rows, list) else [rows] for name, rows in answer.items()}
    return {name: tuple(row for row in rows if isinstance(row, dict)) for name, rows in lists.items()}


def read_cpu(gaps: Gaps, system: System) -> Cpu:
    """Read the processor; the counts are of all processors in the machine."""
    answer = _ask(system)
    rows = answer.rows.get("Win32_Processor", ())
    first = answer.first("Win32_Processor")
    vendor = clean_text(text_of(first, "Manufacturer"))
    physical, logical = _sum(rows, "NumberOfCores"), _sum(rows, "NumberOfLogicalProcessors")
    gaps.add("cpu.max_frequency_hertz", ProbeGapReason.NOT_OFFERED, "Windows states the base clock only")
    return Cpu(
        model=clean_processor_name(text_of(first, "Name")),
        vendor=gaps.need("cpu.vendor", vendor, answer.reason, answer.detail),
        architecture=gaps.need("cpu.architecture", clean_text(system.architecture), answer.reason, answer.detail),
        physical_core_count=gaps.need("cpu.physical_core_count", physical, answer.reason, answer.detail),
        logical_core_count=gaps.need("cpu.logical_core_count", logical, answer.reason, answer.detail),
        instruction_sets=read_instruction_sets(gaps, system),
        caches=_caches(gaps, answer, rows),
    )


def _caches(gaps: Gaps, answer: Answer, rows: Rows) -> tuple[Cache, ...]:
    """State the sum of each level over one processor as one cache: CIM does not tell how many there are."""
    caches = []
    for level in (2, 3):
        kibibytes = max((number_of(row, f"L{level}CacheSize") or 0 for row in rows), default=0)
        if kibibytes:
            size_bytes = kibibytes * 1024
            caches.append(Cache(level=level, kind=CacheKind.UNIFIED, size_bytes=size_bytes, instance_count=len(rows)))
    detail = "Windows states the sum of each level over a processor, and no first level"
    gaps.add("cpu.caches", ProbeGapReason.NOT_OFFERED if caches else answer.reason, detail if caches else answer.detail)
    return tuple(caches)


def read_memory_sizes(gaps: Gaps, system: System) -> tuple[int | None, int | None]:
    """Return total and available bytes; CIM counts in KiB."""
    answer = _ask(system)
    row = answer.first("Win32_OperatingSystem")
    sizes = [number_of(row, name) for name in ("TotalVisibleMemorySize", "FreePhysicalMemory")]
    total, available = (None if size is None else size * 1024 for size in sizes)
    return need_memory_sizes(gaps, total, available, answer.reason, answer.detail)


def read_operating_system(gaps: Gaps, system: System) -> OperatingSystem:
    """Read edition, version and kernel."""
    answer = _ask(system)
    row = answer.first("Win32_OperatingSystem")
    name, version = clean_text(text_of(row, "Caption")), clean_text(text_of(row, "Version"))
    return OperatingSystem(
        family="windows",
        name=gaps.need("operating_system.name", name, answer.reason, answer.detail),
        version=gaps.need("operating_system.version", version, answer.reason, answer.detail),
        kernel=need_kernel(gaps, system),
    )


def read_virtualization(gaps: Gaps, system: System) -> Virtualization | None:
    """Judge by the firmware's names: Windows 11 runs a hypervisor below itself on most machines, and says no more."""
    row = _ask(system).first("Win32_ComputerSystem")
    firmware = f"{text_of(row, 'Manufacturer')} {text_of(row, 'Model')}"
    return need_virtualization(gaps, judge_virtualization(Evidence(firmware=firmware)))


def read_form_factor(gaps: Gaps, system: System, virtualization: Virtualization | None) -> FormFactor | None:
    """Judge by the chassis; where its type says nothing, only a laptop has a battery."""
    answer = _ask(system)
    if is_virtual(virtualization):
        return FormFactor.VIRTUAL_MACHINE
    types = answer.first("Win32_SystemEnclosure").get("ChassisTypes")
    first = types[0] if isinstance(types, list) and types else types
    chassis = first if isinstance(first, int) else None
    return need_form_factor(gaps, form_of_chassis(chassis, bool(answer.rows.get("Win32_Battery"))))


def read_accelerators(gaps: Gaps, system: System) -> tuple[Accelerator, ...]:
    """List NVIDIA's GPUs by their driver's library, the others and the NPUs by their drivers' own entries."""
    answer = _ask(system)
    by_driver = find_nvidia(gaps, system)
    displays = [row for row in answer.rows.get("Win32_VideoController", ()) if vendor_of(row)]
    if "Win32_VideoController" not in answer.rows:
        gaps.add("accelerators", answer.reason, answer.detail)
    drivers = answer.rows.get("DisplayDrivers", ())
    found: list[AcceleratorReader] = [
        *(by_driver or ()),
        *(
            partial(_read_gpu, gaps, row, parse_memory_bytes(row, drivers))
            for row in displays
            if not (by_driver and vendor_of(row) == "NVIDIA")
        ),
        *(partial(_read_npu, gaps, row) for row in answer.rows.get("ComputeAccelerators", ())),
    ]
    return read_each(gaps, found)


def _read_gpu(gaps: Gaps, row: Mapping[str, object], memory_bytes: int | None, fact: str) -> Accelerator:
    vendor = vendor_of(row) or ""
    shares_memory = is_integrated(vendor, text_of(row, "Name"))
    model, version = clean_text(text_of(row, "Name")), clean_text(text_of(row, "DriverVersion"))
    reason = ProbeGapReason.NOT_OFFERED
    gaps.need(f"{fact}.shares_main_memory", shares_memory, reason, "its name does not tell whether it is a card")
    # Intel's and Qualcomm's drivers write a part of main memory that is not set aside; AMD's is.
    size = memory_bytes if not shares_memory or vendor == "AMD" else None
    if not shares_memory:
        gaps.need(f"{fact}.memory_total_bytes", size, reason, "the driver wrote no size into the registry")
    return Accelerator(
        kind=AcceleratorKind.GPU,
        vendor=vendor,
        model=gaps.need(f"{fact}.model", model, reason, "Windows does not name it"),
        memory_total_bytes=size,
        driver_version=gaps.need(f"{fact}.driver_version", version, reason, "Windows does not tell it"),
        shares_main_memory=shares_memory,
    )


def _read_npu(gaps: Gaps, row: Mapping[str, object], fact: str) -> Accelerator:
    model, vendor = clean_text(text_of(row, "Name")), clean_text(text_of(row, "Manufacturer"))
    reason = ProbeGapReason.NOT_OFFERED
    return Accelerator(
        kind=AcceleratorKind.NPU,
        vendor=gaps.need(f"{fact}.vendor", _short_vendor(vendor), reason, "Windows does not name its maker"),
        model=gaps.need(f"{fact}.model", model, reason, "Windows does not name it"),
        shares_main_memory=True,
    )


def _short_vendor(name: str | None) -> str | None:
    makers = {"Intel": "Intel", "Advanced Micro": "AMD", "AMD": "AMD", "Qualcomm": "Qualcomm"}
    return next((short for trace, short in makers.items() if name and trace in name), name)


def _ask(system: System) -> Answer:
    output: CommandOutput = system.ask(_powershell(), _TIMEOUT_SECONDS)
    rows = parse_rows(output.text)
    fallback = "Windows does not tell it" if rows else "the answer of Windows does not parse"
    return Answer(
        rows=rows,
        reason=output.reason or (ProbeGapReason.NOT_OFFERED if rows else ProbeGapReason.READ_FAILED),
        detail=output.detail or fallback,
    )


def _powershell() -> tuple[str, ...]:
    # By its whole path: a bare name would be looked for in the current folder first.
    folder = os.environ.get("SYSTEMROOT", r"C:\Windows")
    program = rf"{folder}\System32\WindowsPowerShell\v1.0\powershell.exe"
    return (program, "-NoLogo", "-NoProfile", "-NonInteractive", "-Command", _SCRIPT)


def _sum(rows: Rows, name: str) -> int | None:
    return sum(number_of(row, name) or 0 for row in rows) or None
