"""The readers for Android, as an app such as Termux sees it: Linux's own files, where they may be read, and getprop.

Only the properties that are named here are asked for; beside them lie serial numbers and addresses.
"""

from weighin_agent.device import (
    Accelerator,
    FormFactor,
    OperatingSystem,
    ProbeGapReason,
    Virtualization,
    VirtualizationKind,
)
from weighin_agent.probe.accelerator_list import read_each
from weighin_agent.probe.board_accelerators import find_board_accelerators
from weighin_agent.probe.cpu import read_cpu
from weighin_agent.probe.form_factor import is_virtual, need_form_factor
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.memory import read_available_bytes, read_memory_sizes
from weighin_agent.probe.operating_system import need_kernel
from weighin_agent.probe.power import read_mains_of_a_phone as read_mains
from weighin_agent.probe.system import System
from weighin_agent.probe.text import clean_text

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

_GETPROP = "/system/bin/getprop"
_TIMEOUT_SECONDS = 5.0

# Names of the emulator's boards, in "ro.hardware" (Android Emulator, Cuttlefish).
_EMULATORS = ("goldfish", "ranchu", "cutf_cvm", "vsoc")


def read_operating_system(gaps: Gaps, system: System) -> OperatingSystem:
    """Read version and kernel."""
    version = clean_text(_property(system, "ro.build.version.release"))
    reason = ProbeGapReason.NOT_OFFERED
    return OperatingSystem(
        family="android",
        name="Android",
        version=gaps.need("operating_system.version", version, reason, "the system states no version"),
        kernel=need_kernel(gaps, system),
    )


def judge_virtualization(hardware: str, is_emulated: str) -> Virtualization | None:
    """Judge by the name of the board and the emulator's own property; None if there is neither."""
    if hardware in _EMULATORS or is_emulated == "1":
        return Virtualization(kind=VirtualizationKind.VIRTUAL_MACHINE, product="emulator")
    return Virtualization(kind=VirtualizationKind.NONE) if hardware else None


def read_virtualization(gaps: Gaps, system: System) -> Virtualization | None:
    """Tell a device from an emulator."""
    found = judge_virtualization(_property(system, "ro.hardware"), _property(system, "ro.kernel.qemu"))
    detail = "the system does not name its board"
    return gaps.need("virtualization", found, ProbeGapReason.NOT_OFFERED, detail)


def judge_form_factor(characteristics: str, virtual: bool) -> FormFactor | None:
    """Judge by "ro.build.characteristics"; a watch, a car or a television is nothing that we have a name for."""
    kinds = set(characteristics.split(","))
    if virtual:
        return FormFactor.VIRTUAL_MACHINE
    if "tablet" in kinds:
        return FormFactor.TABLET
    return None if not characteristics or kinds & {"watch", "tv", "automotive", "embedded"} else FormFactor.PHONE


def read_form_factor(gaps: Gaps, system: System, virtualization: Virtualization | None) -> FormFactor | None:
    """Tell phones from tablets."""
    form = judge_form_factor(_property(system, "ro.build.characteristics"), is_virtual(virtualization))
    return need_form_factor(gaps, form)


def read_accelerators(gaps: Gaps, system: System) -> tuple[Accelerator, ...]:
    """List what the kernel shows to an app; most phones hide part of it, so an empty list proves nothing."""
    found = read_each(gaps, find_board_accelerators(gaps, system.root))
    if not found:
        gaps.add("accelerators", ProbeGapReason.NOT_OFFERED, "this system hides its GPU and its NPU from apps")
    return found


def _property(system: System, name: str) -> str:
    return system.ask((_GETPROP, name), _TIMEOUT_SECONDS).text.strip()
