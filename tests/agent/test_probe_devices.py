"""Whole devices as captured machines show them, gaps included; see SOURCE.txt in each folder of tests/captured."""

from pathlib import Path

import pytest
from captured_system import NOT_CAPTURED, captured_system

from weighin_agent.device import (
    Accelerator,
    AcceleratorKind,
    Cache,
    CacheKind,
    Cpu,
    Device,
    FormFactor,
    Memory,
    OperatingSystem,
    RuntimeVersions,
    Storage,
    Virtualization,
    VirtualizationKind,
)
from weighin_agent.probe.assemble import read_machine
from weighin_agent.probe.gaps import Gaps

KIB, MIB = 2**10, 2**20
BARE = Virtualization(kind=VirtualizationKind.NONE)
X86_2013 = ("avx", "avx2", "f16c", "fma", "sse4_2")
NEURAL_ENGINE = Accelerator(
    kind=AcceleratorKind.NPU, vendor="Apple", model="Apple Neural Engine", shares_main_memory=True
)
UNEQUAL_CACHES = "cpu.caches: the cores have caches of different sizes; the largest of each level and kind is stated"
NO_RELEASE = {
    "operating_system.name: the distribution does not name itself",
    "operating_system.version: the distribution states no version",
}
NO_KERNEL = "operating_system.kernel: the kernel's release is not readable"
NO_CLOCK = "cpu.max_frequency_hertz: the kernel does not state a highest clock; most virtual machines have none"
NO_CLOCK_OF_A_MAC = "cpu.max_frequency_hertz: no highest clock is stated; Apple's own processors have none"
NO_FORM = "form_factor: the firmware does not say what the device is"
NO_HYPERVISOR_WORD = "virtualization: neither processor nor firmware tells whether a hypervisor runs this system"
NO_MEMINFO = {
    "memory.total_bytes: the kernel does not state the size of the memory",
    "memory.available_bytes: the kernel does not state what is available",
}


def data(size_bytes: int, instance_count: int) -> Cache:
    return Cache(level=1, kind=CacheKind.DATA, size_bytes=size_bytes, instance_count=instance_count)


def instruction(size_bytes: int, instance_count: int) -> Cache:
    return Cache(level=1, kind=CacheKind.INSTRUCTION, size_bytes=size_bytes, instance_count=instance_count)


def unified(level: int, size_bytes: int, instance_count: int) -> Cache:
    return Cache(level=level, kind=CacheKind.UNIFIED, size_bytes=size_bytes, instance_count=instance_count)


def device(
    cpu: Cpu,
    operating_system: OperatingSystem,
    *accelerators: Accelerator,
    memory: Memory | None = None,
    virtualization: Virtualization | None = BARE,
    form_factor: FormFactor | None = None,
) -> Device:
    """Return what a machine tells of itself, with nothing measured on it or installed there."""
    return Device(
        cpu=cpu,
        memory=memory or Memory(),
        storage=Storage(),
        operating_system=operating_system,
        virtualization=virtualization,
        accelerators=accelerators,
        execution_providers=(),
        runtime_versions=RuntimeVersions(),
        form_factor=form_factor,
    )


MACHINES = {
    "elitebook_840_g10": (
        device(
            Cpu(
                model="13th Gen Intel(R) Core(TM) i7-1370P",
                vendor="GenuineIntel",
                architecture="x86_64",
                physical_core_count=14,
                logical_core_count=20,
                instruction_sets=("avx", "avx2", "avx_vnni", "f16c", "fma", "sse4_2"),
                caches=(data(48 * KIB, 14), instruction(64 * KIB, 14), unified(2, 2 * MIB, 8), unified(3, 24 * MIB, 1)),
                max_frequency_hertz=5_200_000_000,
            ),
            OperatingSystem(family="linux", kernel="6.1.0-13-amd64"),
            memory=Memory(total_bytes=32489496 * KIB, available_bytes=28934524 * KIB),
            form_factor=FormFactor.LAPTOP,
        ),
        {UNEQUAL_CACHES, *NO_RELEASE},
    ),
    "dgx_spark": (
        device(
            Cpu(
                model="Cortex-A725 + Cortex-X925",
                vendor="ARM",
                architecture="aarch64",
                physical_core_count=20,
                logical_core_count=20,
                instruction_sets=("bf16", "dotprod", "fp16", "i8mm", "neon", "sve", "sve2"),
                caches=(
                    data(64 * KIB, 20),
                    instruction(64 * KIB, 20),
                    unified(2, 2 * MIB, 20),
                    unified(3, 16 * MIB, 2),
                ),
                max_frequency_hertz=3_900_000_000,
            ),
            OperatingSystem(family="linux", kernel="6.17.0-1014-nvidia"),
            memory=Memory(total_bytes=125508468 * KIB, available_bytes=121737812 * KIB),
            form_factor=FormFactor.SERVER,  # its firmware says "main server chassis"
        ),
        {UNEQUAL_CACHES, *NO_RELEASE},
    ),
    "kunpeng_920": (
        device(
            Cpu(
                model="TaiShan-v110",
                vendor="HiSilicon",
                architecture="aarch64",
                physical_core_count=4,
                logical_core_count=4,
                instruction_sets=("dotprod", "fp16", "neon"),
                caches=(data(64 * KIB, 4), instruction(64 * KIB, 4), unified(2, 512 * KIB, 4), unified(3, 32 * MIB, 1)),
            ),
            OperatingSystem(family="linux", kernel="5.15.0-rc1"),
            memory=Memory(total_bytes=527031224 * KIB, available_bytes=478155232 * KIB),
            form_factor=FormFactor.SERVER,
        ),
        {NO_CLOCK, *NO_RELEASE},
    ),
    "cezanne_apu": (
        device(
            Cpu(architecture="x86_64"),
            OperatingSystem(family="linux"),
            Accelerator(
                kind=AcceleratorKind.GPU,
                vendor="AMD",
                model="Cezanne",
                memory_total_bytes=2 * 2**30,
                memory_available_bytes=2 * 2**30 - 76235669,
                shares_main_memory=True,
            ),
            virtualization=None,
        ),
        {
            "cpu.model: nothing on this system names the processor",
            "cpu.vendor: the kernel does not name the maker",
            "cpu.instruction_sets: the kernel lists no instruction sets",
            "cpu.physical_core_count: the kernel does not say which logical processors share a core",
            "cpu.logical_core_count: the system does not say which processors this process may run on",
            "cpu.caches: the kernel does not describe the caches",
            NO_CLOCK,
            *NO_MEMINFO,
            *NO_RELEASE,
            NO_KERNEL,
            NO_HYPERVISOR_WORD,
            NO_FORM,
        },
    ),
    "raspberry_pi_5": (
        device(
            Cpu(
                model="Cortex-A76",
                vendor="ARM",
                architecture="aarch64",
                physical_core_count=4,
                logical_core_count=4,
                instruction_sets=("dotprod", "fp16", "neon"),
                caches=(data(64 * KIB, 4), instruction(64 * KIB, 4), unified(2, 512 * KIB, 4), unified(3, 2 * MIB, 1)),
            ),
            OperatingSystem(family="linux"),
            form_factor=FormFactor.SINGLE_BOARD,
        ),
        {NO_CLOCK, *NO_MEMINFO, *NO_RELEASE, NO_KERNEL},
    ),
    "xeon_kvm_guest": (
        device(
            Cpu(
                model="Intel(R) Xeon(R) Processor",
                vendor="GenuineIntel",
                architecture="x86_64",
                physical_core_count=2,
                logical_core_count=2,
                instruction_sets=(
                    *("amx_bf16", "amx_int8", "amx_tile", "avx", "avx2", "avx512_bf16", "avx512_fp16", "avx512_vnni"),
                    *("avx512bw", "avx512f", "avx512vl", "avx_vnni", "f16c", "fma", "sse4_2"),
                ),
                caches=(data(48 * KIB, 2), instruction(32 * KIB, 2), unified(2, 2 * MIB, 2), unified(3, 105 * MIB, 1)),
            ),
            OperatingSystem(family="linux"),
            memory=Memory(total_bytes=25276502016, available_bytes=24837787648),
            virtualization=Virtualization(kind=VirtualizationKind.VIRTUAL_MACHINE, product="kvm"),
            form_factor=FormFactor.VIRTUAL_MACHINE,
        ),
        {NO_CLOCK, *NO_RELEASE, NO_KERNEL},
    ),
    "galaxy_s9": (
        device(
            Cpu(
                model="Kryo-3XX-Silver + Kryo-3XX-Gold",
                vendor="Qualcomm",
                architecture="aarch64",
                physical_core_count=8,
                logical_core_count=8,
                instruction_sets=("fp16", "neon"),
                caches=(data(64 * KIB, 8), instruction(64 * KIB, 8), unified(2, 256 * KIB, 8), unified(3, 2 * MIB, 1)),
                max_frequency_hertz=2_803_200_000,
            ),
            OperatingSystem(family="android", name="Android", version="8.0.0"),
            Accelerator(kind=AcceleratorKind.GPU, vendor="Qualcomm", model="Adreno630v2", shares_main_memory=True),
            form_factor=FormFactor.PHONE,
        ),
        {UNEQUAL_CACHES, *NO_MEMINFO, NO_KERNEL},
    ),
    "pixel_8": (
        device(
            Cpu(
                model="Cortex-A510 + Cortex-A715 + Cortex-X3",
                vendor="ARM",
                architecture="aarch64",
                physical_core_count=9,
                logical_core_count=9,
                instruction_sets=("dotprod", "fp16", "i8mm", "neon", "sve", "sve2"),
                max_frequency_hertz=2_914_000_000,
            ),
            OperatingSystem(family="android", name="Android", version="14"),
            form_factor=FormFactor.PHONE,
        ),
        {
            "cpu.caches: the kernel does not describe the caches",
            "accelerators: this system hides its GPU and its NPU from apps",
            *NO_MEMINFO,
            NO_KERNEL,
        },
    ),
    "macbook_air_m2": (
        device(
            Cpu(
                model="Apple M2",
                vendor="Apple",
                architecture="arm64",
                physical_core_count=8,
                logical_core_count=8,
                instruction_sets=("bf16", "dotprod", "fp16", "i8mm", "neon"),
                caches=(data(128 * KIB, 8), instruction(192 * KIB, 8), unified(2, 16 * MIB, 2)),
            ),
            OperatingSystem(family="macos", name="macOS"),
            NEURAL_ENGINE,
            memory=Memory(total_bytes=16 * 2**30),
            virtualization=None,
        ),
        {
            UNEQUAL_CACHES,
            NO_CLOCK_OF_A_MAC,
            f"memory.available_bytes: {NOT_CAPTURED}",
            f"accelerators: {NOT_CAPTURED}",
            "operating_system.version: the system states no version",
            NO_KERNEL,
            NO_HYPERVISOR_WORD,
            NO_FORM,
        },
    ),
    "macbook_pro_m5": (
        device(
            Cpu(model="Apple M5", vendor="Apple", architecture="arm64", physical_core_count=10),
            OperatingSystem(family="macos", name="macOS", version="26.6.2"),
            Accelerator(
                kind=AcceleratorKind.GPU, vendor="Apple", model="Apple M5 10-core GPU", shares_main_memory=True
            ),
            NEURAL_ENGINE,
            memory=Memory(total_bytes=24 * 2**30),
            form_factor=FormFactor.LAPTOP,
        ),
        {
            "cpu.logical_core_count: the system does not say",
            "cpu.instruction_sets: the system does not say",
            "cpu.caches: the system does not say",
            NO_CLOCK_OF_A_MAC,
            f"memory.available_bytes: {NOT_CAPTURED}",
            NO_KERNEL,
        },
    ),
    "mac_mojave_haswell": (
        device(
            Cpu(
                model="Intel(R) Core(TM) i7-4980HQ CPU @ 2.80GHz",
                vendor="GenuineIntel",
                architecture="x86_64",
                instruction_sets=X86_2013,
            ),
            OperatingSystem(family="macos", name="macOS"),
            virtualization=None,
        ),
        {
            "cpu.physical_core_count: the system does not say",
            "cpu.logical_core_count: the system does not say",
            "cpu.caches: the system does not say",
            NO_CLOCK_OF_A_MAC,
            f"memory.total_bytes: {NOT_CAPTURED}",
            f"memory.available_bytes: {NOT_CAPTURED}",
            f"accelerators: {NOT_CAPTURED}",
            "operating_system.version: the system states no version",
            NO_KERNEL,
            NO_HYPERVISOR_WORD,
            NO_FORM,
        },
    ),
    "core_ultra_7_155h": (
        device(
            Cpu(
                model="Intel(R) Core(TM) Ultra 7 155H",
                vendor="GenuineIntel",
                architecture="AMD64",
                physical_core_count=16,
                logical_core_count=22,
                caches=(unified(2, 18 * MIB, 1), unified(3, 24 * MIB, 1)),
            ),
            OperatingSystem(family="windows", name="Microsoft Windows 11 Home Single Language", version="10.0.26200"),
            Accelerator(
                kind=AcceleratorKind.GPU,
                vendor="Intel",
                model="Intel(R) Arc(TM) Graphics",
                shares_main_memory=True,
            ),
            Accelerator(kind=AcceleratorKind.NPU, vendor="Intel", model="Intel(R) AI Boost", shares_main_memory=True),
            virtualization=None,
        ),
        {
            "cpu.instruction_sets: nothing here tells instruction sets",
            "cpu.caches: Windows states the sum of each level over a processor, and no first level",
            "cpu.max_frequency_hertz: Windows states the base clock only",
            "memory.total_bytes: Windows does not tell it",
            "memory.available_bytes: Windows does not tell it",
            "accelerators.0.driver_version: Windows does not tell it",
            NO_KERNEL,
            NO_HYPERVISOR_WORD,
            NO_FORM,
        },
    ),
    "ryzen_7_7700x_r9700": (
        device(
            Cpu(model="AMD Ryzen 7 7700X 8-Core Processor", architecture="AMD64", logical_core_count=16),
            OperatingSystem(family="windows"),
            Accelerator(
                kind=AcceleratorKind.GPU,
                vendor="AMD",
                model="AMD Radeon AI PRO R9700",
                driver_version="32.0.31035.1003",
                shares_main_memory=False,
            ),
            virtualization=None,
        ),
        {
            "cpu.vendor: Windows does not tell it",
            "cpu.physical_core_count: Windows does not tell it",
            "cpu.instruction_sets: nothing here tells instruction sets",
            "cpu.caches: Windows does not tell it",
            "cpu.max_frequency_hertz: Windows states the base clock only",
            "memory.total_bytes: Windows does not tell it",
            "memory.available_bytes: Windows does not tell it",
            "operating_system.name: Windows does not tell it",
            "operating_system.version: Windows does not tell it",
            "accelerators.0.memory_total_bytes: the driver wrote no size into the registry",
            NO_KERNEL,
            NO_HYPERVISOR_WORD,
            NO_FORM,
        },
    ),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_captured_machine_is_read_whole_with_a_gap_for_everything_that_its_source_does_not_show(
    machine: str, tmp_path: Path
) -> None:
    expected, missing = MACHINES[machine]
    gaps = Gaps()
    assert read_machine(gaps, captured_system(machine, tmp_path)) == expected
    said = [f"{gap.fact}: {gap.detail}" for gap in gaps.all()]
    assert set(said) == missing
    assert len(said) == len(set(said))
