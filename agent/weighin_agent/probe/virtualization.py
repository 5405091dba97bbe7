"""What stands between the system and the hardware, told from files alone, on Linux.

The processor names its hypervisor by an instruction that Python cannot issue; the kernel's clock sources and the
firmware's product name tell nearly as much. The rules follow what systemd-detect-virt documents.
"""

from dataclasses import dataclass
from pathlib import Path

from weighin_agent.device import ProbeGapReason, Virtualization, VirtualizationKind
from weighin_agent.probe.cpuinfo import has_hypervisor_flag, parse_cpuinfo
from weighin_agent.probe.files import exists, read_line, read_source
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.system import System
from weighin_agent.probe.text import clean_text

# What the firmware's vendor and product say, in lower case; most specific first. The right-hand names are systemd's.
_FIRMWARE_PRODUCTS = (
    ("amazon ec2", "amazon"),
    ("google compute engine", "google"),
    ("apple virtualization", "apple"),
    ("parallels", "parallels"),
    ("vmware", "vmware"),
    ("virtualbox", "oracle"),
    ("innotek", "oracle"),
    ("bhyve", "bhyve"),
    ("bochs", "bochs"),
    ("xen", "xen"),
    ("openstack", "kvm"),
    ("kubevirt", "kvm"),
    ("droplet", "kvm"),
    ("kvm", "kvm"),
    ("qemu", "qemu"),
    ("microsoft corporation virtual machine", "microsoft"),
)

# Clock sources that exist only under one hypervisor.
_CLOCK_SOURCES = (("kvm-clock", "kvm"), ("hyperv", "microsoft"), ("xen", "xen"), ("vmware", "vmware"))

# Traces of container engines in the first process's control groups and in the options of the root file system.
_CONTAINER_TRACES = (
    ("/docker", "docker"),
    ("libpod", "podman"),
    ("/var/lib/containers/storage", "podman"),
    ("kubepods", "kubernetes"),
    ("containerd", "containerd"),
    ("/lxc", "lxc"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the system shows. Texts are as the kernel prints them, "" where there is none.

    ``hypervisor_flag`` is the processor's own word, None where a processor has none to give (ARM).
    """

    hypervisor_flag: bool | None = None
    firmware: str = ""
    hypervisor_type: str = ""
    is_xen_host: bool = False
    clock_sources: str = ""
    board: str = ""
    kernel_version: str = ""
    container_manager: str = ""
    has_docker_file: bool = False
    has_podman_file: bool = False
    first_process_groups: str = ""
    root_mount: str = ""


def judge_virtualization(evidence: Evidence) -> Virtualization | None:
    """Return kind and product; None if nothing tells whether this is a virtual machine."""
    machine = _is_virtual_machine(evidence)
    machine_product = _machine_product(evidence) if machine else None
    container = _container_product(evidence)
    if container is not None and machine:
        product = container if machine_product is None else f"{container} in {machine_product}"
        return Virtualization(kind=VirtualizationKind.CONTAINER_IN_VIRTUAL_MACHINE, product=clean_text(product))
    if container is not None:
        return Virtualization(kind=VirtualizationKind.CONTAINER, product=clean_text(container))
    if machine is None:
        return None
    kind = VirtualizationKind.VIRTUAL_MACHINE if machine else VirtualizationKind.NONE
    return Virtualization(kind=kind, product=machine_product)


def _is_virtual_machine(evidence: Evidence) -> bool | None:
    if evidence.is_xen_host:
        return False
    if _is_wsl(evidence):
        # Version 1 translates system calls: no hypervisor and no other kernel.
        return "wsl2" in evidence.kernel_version.lower() or evidence.hypervisor_flag is True
    if evidence.hypervisor_type or evidence.hypervisor_flag is not None:
        return bool(evidence.hypervisor_type or evidence.hypervisor_flag)
    return _is_firmware_of_a_machine(evidence)


def _is_firmware_of_a_machine(evidence: Evidence) -> bool | None:
    """Judge by firmware and board alone, where the processor has no word to give; None if there is neither."""
    firmware = evidence.firmware.lower()
    # Amazon's machines without a hypervisor carry the same vendor and ".metal" in the product.
    if ".metal" in firmware:
        return False
    if any(trace in firmware for trace, _ in _FIRMWARE_PRODUCTS) or "dummy-virt" in evidence.board:
        return True
    return False if firmware.strip() or evidence.board else None


def _machine_product(evidence: Evidence) -> str | None:
    if _is_wsl(evidence):
        return "wsl"
    if evidence.hypervisor_type:
        return clean_text(evidence.hypervisor_type.lower())
    firmware = evidence.firmware.lower()
    by_firmware = next((name for trace, name in _FIRMWARE_PRODUCTS if trace in firmware), None)
    by_clock = next((name for trace, name in _CLOCK_SOURCES if trace in evidence.clock_sources), None)
    # QEMU's firmware says "qemu" also when KVM runs it; the clock source knows.
    return by_clock if by_firmware in (None, "qemu") and by_clock else by_firmware


def _container_product(evidence: Evidence) -> str | None:
    """Return the innermost container, None outside of any."""
    if _is_wsl(evidence) and not _is_virtual_machine(evidence):
        return "wsl"
    if evidence.container_manager and evidence.container_manager != "wsl":
        return evidence.container_manager
    if evidence.has_podman_file:
        return "podman"
    if evidence.has_docker_file:
        return "docker"
    traces = evidence.first_process_groups + evidence.root_mount
    return next((name for trace, name in _CONTAINER_TRACES if trace in traces), None)


def _is_wsl(evidence: Evidence) -> bool:
    version = evidence.kernel_version.lower()
    return "microsoft" in version or "wsl" in version


def parse_root_mount(text: str) -> str:
    """Return the line of /proc/self/mountinfo that says what the root folder is; "" if there is none."""
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) > 4 and fields[4] == "/":
            return line
    return ""


def read_evidence(root: Path = Path("/")) -> Evidence:
    """Read everything that `judge_virtualization` asks for. Serial numbers and UUIDs beside it are never opened."""
    firmware = root / "sys/class/dmi/id"
    clock_sources = "sys/devices/system/clocksource/clocksource0/available_clocksource"
    return Evidence(
        hypervisor_flag=has_hypervisor_flag(parse_cpuinfo(read_source(root / "proc/cpuinfo").text)),
        firmware=f"{read_line(firmware / 'sys_vendor')} {read_line(firmware / 'product_name')}",
        hypervisor_type=read_line(root / "sys/hypervisor/type"),
        is_xen_host="control_d" in read_line(root / "proc/xen/capabilities"),
        clock_sources=read_line(root / clock_sources),
        board=" ".join(read_line(root / "proc/device-tree" / name) for name in ("compatible", "model")).strip(),
        kernel_version=read_line(root / "proc/version"),
        container_manager=read_line(root / "run/systemd/container"),
        has_docker_file=exists(root / ".dockerenv"),
        has_podman_file=exists(root / "run/.containerenv"),
        first_process_groups=read_source(root / "proc/1/cgroup").text,
        root_mount=parse_root_mount(read_source(root / "proc/self/mountinfo").text),
    )


def read_virtualization(gaps: Gaps, system: System) -> Virtualization | None:
    """Read kind and product of the virtualization on Linux."""
    return need_virtualization(gaps, judge_virtualization(read_evidence(system.root)))


def need_virtualization(gaps: Gaps, virtualization: Virtualization | None) -> Virtualization | None:
    """Record what is absent of a judgement: all of it, or the product of a hypervisor."""
    if virtualization is None:
        detail = "neither processor nor firmware tells whether a hypervisor runs this system"
        gaps.add("virtualization", ProbeGapReason.NOT_OFFERED, detail)
    elif virtualization.kind is not VirtualizationKind.NONE and virtualization.product is None:
        gaps.add("virtualization.product", ProbeGapReason.NOT_OFFERED, "the hypervisor does not name itself")
    return virtualization
