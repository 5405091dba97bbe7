"""The readers for macOS: sysctl, vm_stat and system_profiler.

Its short report leaves serial numbers and UUIDs out (system_profiler(8), "mini").
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial

from weighin_agent.device import (
    Accelerator,
    AcceleratorKind,
    Cpu,
    FormFactor,
    OperatingSystem,
    ProbeGapReason,
    Virtualization,
    VirtualizationKind,
)
from weighin_agent.probe.accelerator_list import AcceleratorReader, read_each
from weighin_agent.probe.caches import has_unequal_caches, sum_up_caches
from weighin_agent.probe.form_factor import is_virtual, need_form_factor
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.memory import need_memory_sizes
from weighin_agent.probe.memory import read_available_bytes_portably as read_available_bytes
from weighin_agent.probe.operating_system import need_kernel
from weighin_agent.probe.power import read_mains_portably as read_mains
from weighin_agent.probe.sysctl import (
    number_of,
    parse_caches,
    parse_instruction_sets,
    parse_physical_core_count,
    parse_sysctl,
)
from weighin_agent.probe.system import System
from weighin_agent.probe.text import clean_processor_name, clean_text, parse_whole_number
from weighin_agent.probe.virtualization import need_virtualization

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

# The tree "kern" as a whole would also tell the name of the machine.
_SYSCTL = ("/usr/sbin/sysctl", "hw", "machdep.cpu", "kern.osproductversion", "kern.hv_vmm_present")
_VM_STAT = ("/usr/bin/vm_stat",)
_PROFILER = ("/usr/sbin/system_profiler", "-json", "-detailLevel", "mini", "SPHardwareDataType", "SPDisplaysDataType")
_TIMEOUT_SECONDS = 5.0
_PROFILER_TIMEOUT_SECONDS = 20.0

_GPU_VENDORS = {"apple": "Apple", "amd": "AMD", "ati": "AMD", "intel": "Intel", "nvidia": "NVIDIA"}
_SIZE = re.compile(r"([0-9]{1,6}) (MB|GB)", re.ASCII)
_PAGE_SIZE = re.compile(r"page size of ([0-9]{1,7}) bytes", re.ASCII)


def read_cpu(gaps: Gaps, system: System) -> Cpu:
    """Read the processor; the counts are of all its cores, for macOS binds no process to some of them."""
    output = system.ask(_SYSCTL, _TIMEOUT_SECONDS)
    facts = parse_sysctl(output.text)
    reason, detail = output.reason or ProbeGapReason.NOT_OFFERED, output.detail or "the system does not say"
    caches = parse_caches(facts)
    if has_unequal_caches(caches):
        text = "the cores have caches of different sizes; the largest of each level and kind is stated"
        gaps.add("cpu.caches", ProbeGapReason.NOT_OFFERED, text)
    elif not caches:
        gaps.add("cpu.caches", reason, detail)
    logical = number_of(facts, "hw.logicalcpu")
    frequency = number_of(facts, "hw.cpufrequency_max")
    return Cpu(
        model=_model(facts),
        vendor=gaps.need("cpu.vendor", _vendor(facts), reason, detail),
        architecture=gaps.need("cpu.architecture", clean_text(system.architecture), reason, detail),
        physical_core_count=gaps.need("cpu.physical_core_count", parse_physical_core_count(facts), reason, detail),
        logical_core_count=gaps.need("cpu.logical_core_count", logical, reason, detail),
        instruction_sets=gaps.need("cpu.instruction_sets", parse_instruction_sets(facts), reason, detail) or (),
        caches=sum_up_caches(caches),
        max_frequency_hertz=gaps.need(
            "cpu.max_frequency_hertz",
            frequency,
            reason,
            output.detail or "no highest clock is stated; Apple's own processors have none",
        ),
    )


def parse_vm_stat(text: str) -> int | None:
    """Count the bytes that a new process can take without swapping: free, speculative and inactive pages.

    The same sum as psutil's "available". None if the text has no such counts.
    """
    page = _PAGE_SIZE.search(text)
    pages = {name.strip(): parse_whole_number(value.strip(" .")) for name, value in _pairs(text)}
    counts = [pages.get(f"Pages {name}") for name in ("free", "speculative", "inactive")]
    present = [count for count in counts if count is not None]
    return None if page is None or len(present) < len(counts) else int(page[1]) * sum(present)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        yield name, value


def read_memory_sizes(gaps: Gaps, system: System) -> tuple[int | None, int | None]:
    """Return total and available bytes."""
    sizes, pages = system.ask(_SYSCTL, _TIMEOUT_SECONDS), system.ask(_VM_STAT, _TIMEOUT_SECONDS)
    total, available = number_of(parse_sysctl(sizes.text), "hw.memsize"), parse_vm_stat(pages.text)
    reason, detail = sizes.reason or pages.reason, sizes.detail or pages.detail
    missing = "the system did not tell the size of the memory"
    return need_memory_sizes(gaps, total, available, reason or ProbeGapReason.NOT_OFFERED, detail or missing)


def read_operating_system(gaps: Gaps, system: System) -> OperatingSystem:
    """Read version and kernel."""
    output = system.ask(_SYSCTL, _TIMEOUT_SECONDS)
    version = clean_text(parse_sysctl(output.text).get("kern.osproductversion", ""))
    reason = output.reason or ProbeGapReason.NOT_OFFERED
    return OperatingSystem(
        family="macos",
        name="macOS",
        version=gaps.need("operating_system.version", version, reason, "the system states no version"),
        kernel=need_kernel(gaps, system),
    )


def judge_virtualization(facts: Mapping[str, str]) -> Virtualization | None:
    """Judge by the kernel's own word and the model, which names the hypervisor; None if the kernel has no word."""
    word, model = facts.get("kern.hv_vmm_present"), facts.get("hw.model", "").lower()
    if word not in ("0", "1"):
        return None
    if word == "0":
        return Virtualization(kind=VirtualizationKind.NONE)
    traces = (("virtualmac", "apple"), ("vmware", "vmware"), ("parallels", "parallels"))
    product = next((name for trace, name in traces if trace in model), None)
    return Virtualization(kind=VirtualizationKind.VIRTUAL_MACHINE, product=product)


def read_virtualization(gaps: Gaps, system: System) -> Virtualization | None:
    """Read kind and product of the virtualization."""
    facts = parse_sysctl(system.ask(_SYSCTL, _TIMEOUT_SECONDS).text)
    return need_virtualization(gaps, judge_virtualization(facts))


def judge_form_factor(machine_name: str, model: str, virtual: bool) -> FormFactor | None:
    """Judge by the name of the machine ("MacBook Pro") or by the model, which said it too until 2022."""
    if virtual:
        return FormFactor.VIRTUAL_MACHINE
    name = machine_name or model
    if name.startswith("MacBook"):
        return FormFactor.LAPTOP
    # "Mac14,2" is a model of both kinds; "iMac", "Mac mini", "Macmini9,1", "Mac Studio" and "Mac Pro" are not.
    return FormFactor.DESKTOP if name.startswith(("iMac", "Mac ", "Macmini", "MacPro")) else None


def read_form_factor(gaps: Gaps, system: System, virtualization: Virtualization | None) -> FormFactor | None:
    """Tell laptops from desktops."""
    hardware = next(iter(parse_profile(_profile(system), "SPHardwareDataType")), {})
    model = parse_sysctl(system.ask(_SYSCTL, _TIMEOUT_SECONDS).text).get("hw.model", "")
    name = _text(hardware, "machine_name")
    return need_form_factor(gaps, judge_form_factor(name, model, is_virtual(virtualization)))


def parse_profile(text: str, data_type: str) -> tuple[dict[str, object], ...]:
    """Return the entries of one data type in system_profiler's JSON; none if it does not parse."""
    try:
        profile = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    entries = profile.get(data_type) if isinstance(profile, dict) else None
    return tuple(entry for entry in entries if isinstance(entry, dict)) if isinstance(entries, list) else ()


def parse_gpu(entry: Mapping[str, object]) -> Accelerator | None:
    """Make an accelerator of one display adapter; None for one whose maker makes no GPUs that compute."""
    said = f"{_text(entry, 'spdisplays_vendor')} {_text(entry, 'sppci_vendor')}".lower().replace("_", " ").split()
    vendor = next((_GPU_VENDORS[word] for word in said if word in _GPU_VENDORS), None)
    if vendor is None:
        return None
    model, cores = clean_text(_text(entry, "sppci_model")), parse_whole_number(_text(entry, "sppci_cores"))
    own = _size_bytes(_text(entry, "spdisplays_vram"))
    shares_memory = vendor == "Apple" or "spdisplays_vram_shared" in entry
    return Accelerator(
        kind=AcceleratorKind.GPU,
        vendor=vendor,
        # Apple's documents name a GPU by the chip and the number of its cores.
        model=f"{model} {cores}-core GPU" if model and cores else model,
        memory_total_bytes=None if shares_memory else own,
        shares_main_memory=True if shares_memory else (None if own is None else False),
    )


def read_accelerators(gaps: Gaps, system: System) -> tuple[Accelerator, ...]:
    """List the GPUs, and the Neural Engine, which every one of Apple's own processors for Macs has."""
    facts = parse_sysctl(system.ask(_SYSCTL, _TIMEOUT_SECONDS).text)
    output = system.ask(_PROFILER, _PROFILER_TIMEOUT_SECONDS)
    entries = parse_profile(output.text, "SPDisplaysDataType")
    if not entries:
        reason = output.reason or ProbeGapReason.READ_FAILED
        gaps.add("accelerators", reason, output.detail or "system_profiler lists no display adapter")
    gpus = [gpu for entry in entries if (gpu := parse_gpu(entry))]
    found: list[AcceleratorReader] = [partial(_note_gpu, gaps, gpu) for gpu in gpus]
    # A virtual machine is given a GPU at most.
    if _vendor(facts) == "Apple" and facts.get("kern.hv_vmm_present") != "1":
        found.append(_neural_engine)
    return read_each(gaps, found)


def _note_gpu(gaps: Gaps, gpu: Accelerator, fact: str) -> Accelerator:
    gaps.need(f"{fact}.model", gpu.model, ProbeGapReason.NOT_OFFERED, "system_profiler does not name it")
    if not gpu.shares_main_memory:
        detail = "system_profiler does not tell its memory"
        gaps.need(f"{fact}.memory_total_bytes", gpu.memory_total_bytes, ProbeGapReason.NOT_OFFERED, detail)
        gaps.need(f"{fact}.shares_main_memory", gpu.shares_main_memory, ProbeGapReason.NOT_OFFERED, detail)
    return gpu


def _neural_engine(_: str) -> Accelerator:
    return Accelerator(kind=AcceleratorKind.NPU, vendor="Apple", model="Apple Neural Engine", shares_main_memory=True)


def _profile(system: System) -> str:
    return system.ask(_PROFILER, _PROFILER_TIMEOUT_SECONDS).text


def _model(facts: Mapping[str, str]) -> str | None:
    return clean_processor_name(facts.get("machdep.cpu.brand_string", ""))


def _vendor(facts: Mapping[str, str]) -> str | None:
    # Only Intel's processors name their maker in a fact of its own.
    is_apple = (_model(facts) or "").startswith("Apple")
    return "Apple" if is_apple else clean_text(facts.get("machdep.cpu.vendor", ""))


def _text(entry: Mapping[str, object], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def _size_bytes(text: str) -> int | None:
    match = _SIZE.fullmatch(text.strip())
    return None if match is None else int(match[1]) * {"MB": 2**20, "GB": 2**30}[match[2]]
