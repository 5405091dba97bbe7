"""Parsers and rules of the probe: tables of input and answer, and texts that nobody expects."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weighin_agent.device import CacheKind, VirtualizationKind
from weighin_agent.probe import (
    board_accelerators,
    caches,
    cgroup,
    child,
    cpuinfo,
    cpuinfo_library,
    execution_providers,
    macos,
    memory,
    pci_names,
    sysctl,
    text,
    windows,
    windows_displays,
)
from weighin_agent.probe.caches import CacheInstance, has_unequal_caches, sum_up_caches
from weighin_agent.probe.operating_system import parse_os_release
from weighin_agent.probe.text import clean_processor_name, clean_text, parse_cpu_list
from weighin_agent.probe.virtualization import Evidence, judge_virtualization, parse_root_mount

WSL2 = "Linux version 6.6.87.2-microsoft-standard-WSL2 (root@build) (gcc) #1 SMP"
WSL1 = "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com) (gcc) #1"

WORDS = 'processor flags Features MemTotal kB K max 10de 0x 0xd08 0 3 ² : = , - / { ] "'
PIECES = [*WORDS.split(), "CPU part", "core id", "physical id", "7" * 30, " ", "\t", "\n", "\n\n", "\0"]

# Text that looks like what the parsers expect, cut and mixed, and text that does not.
odd_text = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))


@given(odd_text, st.frozensets(st.integers(0, 5)))
def test_no_text_at_all_stops_a_reader_of_processors(odd: str, allowed: set[int]) -> None:
    info = cpuinfo.parse_cpuinfo(odd)
    cpuinfo.parse_model(info, allowed)
    cpuinfo.parse_vendor(info, allowed)
    cpuinfo.parse_instruction_sets(info, allowed)
    cpuinfo.parse_physical_core_count(info, allowed)
    cpuinfo.has_hypervisor_flag(info)


@given(odd_text)
def test_no_text_at_all_stops_any_other_parser(odd: str) -> None:
    memory.parse_meminfo(odd)
    parse_os_release(odd)
    parse_cpu_list(odd)
    parse_root_mount(odd)
    text.parse_whole_number(odd)
    caches.parse_cache(odd, odd, odd, odd)
    cgroup.parse_cgroup_paths(odd)
    cgroup.parse_cpu_max(odd)
    cgroup.parse_statistic(odd, "inactive_file")
    text.parse_hexadecimal(odd)
    pci_names.parse_device_name(odd, 0x10DE, 0x2684)
    pci_names.parse_lspci(odd, "0000:00:02.0")
    pci_names.parse_lspci(f"0000:00:02.0 {odd}", "0000:00:02.0")
    board_accelerators.parse_compatible(odd)
    board_accelerators.parse_mali(odd)
    child.parse_answer(odd, 0)
    execution_providers.name_execution_provider(odd)


sysctl_names = st.sampled_from([*sysctl._ARM_SETS, "hw.perflevel0.physicalcpu", "hw.perflevel0.cpusperl2"])
sysctl_names |= st.sampled_from(["hw.perflevel0.l2cachesize", "hw.cacheconfig", "hw.logicalcpu", "hw.l1dcachesize"])
odd_facts = st.dictionaries(sysctl_names, odd_text | st.integers().map(str))


@given(odd_text, odd_facts)
def test_no_text_at_all_stops_a_reader_of_a_mac(odd: str, facts: dict[str, str]) -> None:
    sysctl.parse_sysctl(odd)
    macos.parse_vm_stat(odd)
    sysctl.parse_instruction_sets(facts)
    sysctl.parse_caches(facts)
    sysctl.parse_physical_core_count(facts)
    macos.judge_virtualization(facts)
    assert isinstance(macos.parse_profile(odd, "SPDisplaysDataType"), tuple)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | odd_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_text, inner, max_size=4),
    max_leaves=8,
)
gpu_keys = st.sampled_from(["spdisplays_vendor", "sppci_vendor", "sppci_model", "sppci_cores", "spdisplays_vram"])
display_keys = st.sampled_from(
    ["Name", "PNPDeviceID", "DriverVersion", "MatchingDeviceId", "HardwareInformation.qwMemorySize"]
)


@given(st.dictionaries(gpu_keys, json_values | st.sampled_from(["Intel", "sppci_vendor_amd", "4 GB", "10"])))
def test_no_entry_at_all_stops_a_reader_of_a_macs_gpu(entry: dict[str, object]) -> None:
    accelerator = macos.parse_gpu(entry)
    assert accelerator is None or accelerator.vendor in {"Apple", "AMD", "Intel", "NVIDIA"}


@given(st.builds(json.dumps, json_values) | odd_text, st.dictionaries(display_keys, json_values), json_values)
def test_no_answer_at_all_stops_a_reader_of_windows(odd: str, row: dict[str, object], flags: object) -> None:
    assert all(isinstance(rows, tuple) for rows in windows.parse_rows(odd).values())
    windows_displays.vendor_of(row)
    windows_displays.parse_memory_bytes(row, [row])
    windows_displays.is_integrated("AMD", odd)
    windows_displays.is_integrated("Intel", odd)
    cpuinfo_library.parse_flags(flags)


@given(st.builds(Evidence, *[], hypervisor_flag=st.none() | st.booleans(), firmware=odd_text, kernel_version=odd_text))
def test_any_evidence_gets_a_judgement_or_none(evidence: Evidence) -> None:
    verdict = judge_virtualization(evidence)
    assert verdict is None or verdict.kind in VirtualizationKind


@given(st.text())
def test_cleaned_text_holds_only_what_may_leave_the_device(dirty: str) -> None:
    clean = clean_text(dirty)
    assert clean is None or (0 < len(clean) <= 128 and clean == clean.strip() and "  " not in clean)
    assert clean is None or not set(clean) - set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ().+/_-"
    )


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("AMD Ryzen 7 7840HS w/ Radeon 780M Graphics     ", "AMD Ryzen 7 7840HS w/ Radeon 780M Graphics"),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", "NVIDIA GeForce RTX 4070 Laptop GPU"),
        ("6.6.87.2-microsoft-standard-WSL2", "6.6.87.2-microsoft-standard-WSL2"),
        ("card 00:1a:2b:3c:4d:5e", "card"),
        ("board 4c4c4544-0042-3510-8054-b4c04f4e4432 rev 2", "board rev 2"),
        ("server PF3ABCDE12345678", "server"),
        ("a,b:c&d", "a b c d"),
        ("\0\n\t", None),
    ],
)
def test_free_text_loses_what_identifies_a_copy(dirty: str, clean: str | None) -> None:
    assert clean_text(dirty) == clean


def test_only_a_processors_name_keeps_its_at_sign() -> None:
    """It stands before the clock there; anywhere else it makes an address of a person or a machine."""
    assert clean_text("built by someone@somewhere") == "built by"
    assert clean_processor_name("Intel(R) Core(TM) i7-6700 CPU @ 3.40GHz") == "Intel(R) Core(TM) i7-6700 CPU @ 3.40GHz"


def joined(pairs: list[str], separator: str, *, capitals: bool) -> str:
    text = separator.join(pairs)
    return text.upper() if capitals else text


# Words that other letters and digits are glued to, so that the pattern alone must find where the mark begins and ends.
surroundings = st.one_of(
    st.text(), st.lists(st.sampled_from(["é", "Board", "_", "-", ":", "ab", "00", "K", "ſ"])).map("".join)
)
pairs = st.lists(st.text("0123456789abcdef", min_size=2, max_size=2), min_size=6, max_size=6)
uuids = st.uuids().map(str)
serials = st.from_regex(r"[A-Z]{3}[0-9][A-Z0-9]{10,20}", fullmatch=True)
marks = st.one_of(
    st.builds(joined, pairs, st.sampled_from([":", "-", ""]), capitals=st.booleans()),
    uuids,
    uuids.map(str.upper),
    uuids.map(lambda uuid: uuid.replace("-", "")),
    serials,
)


@given(surroundings, marks, surroundings)
@example("Boardé", "00-11-22-33-44-55", "")
@example("Board_", "00:11:22:33:44:55", "_")
@example("SN_", "PF3ABCDE12345678", "")
def test_what_identifies_a_copy_does_not_come_out_whatever_stands_around_it(before: str, mark: str, after: str) -> None:
    said = clean_text(before + mark + after) or ""
    for separator in ("-", " ", ""):
        shape = mark.replace(":", separator).replace("-", separator)
        assert shape.lower() not in said.lower()


@pytest.mark.parametrize(
    ("listed", "cpus"),
    [("0-3,8\n", {0, 1, 2, 3, 8}), ("", set()), ("5", {5}), ("3-1", set()), ("0-99999999999", set()), ("x,2", {2})],
)
def test_a_list_of_processors_is_parsed(listed: str, cpus: set[int]) -> None:
    assert parse_cpu_list(listed) == cpus


def test_a_processor_with_two_kinds_of_core_states_its_largest_caches() -> None:
    """An Intel Core i7-12700H: six cores with 1.25 MiB each, and two groups of four with 2 MiB a group."""
    large = [CacheInstance(2, CacheKind.UNIFIED, 1280 * 1024, f"{2 * core}-{2 * core + 1}") for core in range(6)]
    small = [CacheInstance(2, CacheKind.UNIFIED, 2048 * 1024, shared_by) for shared_by in ("12-15", "16-19")]
    (cache,) = sum_up_caches([*large, *large, *small])
    assert (cache.size_bytes, cache.instance_count) == (2048 * 1024, 8)
    assert has_unequal_caches([*large, *small])
    assert not has_unequal_caches(large)


def test_instruction_sets_are_those_that_every_core_has() -> None:
    info = cpuinfo.parse_cpuinfo("processor: 0\nflags: avx2 fma\n\nprocessor: 1\nflags: fma avx512f\n")
    assert cpuinfo.parse_instruction_sets(info, [0, 1]) == ("fma",)
    assert cpuinfo.parse_instruction_sets(info, [1]) == ("avx512f", "fma")


def test_threads_of_one_core_count_once_where_only_cpuinfo_tells() -> None:
    blocks = [f"processor: {n}\nphysical id: {n // 4}\ncore id: {n % 2}\n" for n in range(8)]
    assert cpuinfo.parse_physical_core_count(cpuinfo.parse_cpuinfo("\n".join(blocks)), range(8)) == 4


@pytest.mark.parametrize(
    ("evidence", "kind", "product"),
    [
        (Evidence(hypervisor_flag=False, firmware="LENOVO 21CB"), "none", None),
        (Evidence(hypervisor_flag=True), "virtual_machine", None),
        (Evidence(hypervisor_flag=True, clock_sources="tsc kvm-clock"), "virtual_machine", "kvm"),
        (
            Evidence(hypervisor_flag=True, firmware="QEMU Standard PC", clock_sources="kvm-clock"),
            "virtual_machine",
            "kvm",
        ),
        (Evidence(hypervisor_flag=True, firmware="QEMU Standard PC"), "virtual_machine", "qemu"),
        (Evidence(hypervisor_flag=True, firmware="Amazon EC2 t3.micro"), "virtual_machine", "amazon"),
        (Evidence(hypervisor_flag=False, firmware="Amazon EC2 c5.metal"), "none", None),
        (Evidence(firmware="Amazon EC2 c6g.large"), "virtual_machine", "amazon"),
        (Evidence(firmware="Amazon EC2 c6g.metal"), "none", None),
        (Evidence(hypervisor_flag=True, firmware="innotek GmbH VirtualBox"), "virtual_machine", "oracle"),
        (Evidence(hypervisor_flag=True, firmware="VMware, Inc. VMware7,1"), "virtual_machine", "vmware"),
        (
            Evidence(hypervisor_flag=True, firmware="Microsoft Corporation Virtual Machine"),
            "virtual_machine",
            "microsoft",
        ),
        (Evidence(hypervisor_flag=False, firmware="Microsoft Corporation Surface Pro 7"), "none", None),
        (Evidence(firmware="Apple Inc. Apple Virtualization Generic Platform"), "virtual_machine", "apple"),
        (Evidence(board="raspberrypi 5-model-b"), "none", None),
        (Evidence(board="linux dummy-virt"), "virtual_machine", None),
        (Evidence(hypervisor_flag=True, hypervisor_type="xen"), "virtual_machine", "xen"),
        (Evidence(hypervisor_flag=True, hypervisor_type="xen", is_xen_host=True), "none", None),
        (Evidence(hypervisor_flag=True, kernel_version=WSL2, container_manager="wsl"), "virtual_machine", "wsl"),
        (Evidence(kernel_version=WSL2), "virtual_machine", "wsl"),
        (Evidence(hypervisor_flag=False, kernel_version=WSL1), "container", "wsl"),
        (
            Evidence(hypervisor_flag=True, kernel_version=WSL2, has_docker_file=True),
            "container_in_virtual_machine",
            "docker in wsl",
        ),
        (Evidence(hypervisor_flag=False, has_docker_file=True), "container", "docker"),
        (Evidence(hypervisor_flag=False, has_podman_file=True, has_docker_file=True), "container", "podman"),
        (Evidence(hypervisor_flag=False, container_manager="systemd-nspawn"), "container", "systemd-nspawn"),
        (
            Evidence(hypervisor_flag=False, first_process_groups="0::/kubepods/besteffort\n"),
            "container",
            "kubernetes",
        ),
        (
            Evidence(hypervisor_flag=True, clock_sources="kvm-clock", has_docker_file=True),
            "container_in_virtual_machine",
            "docker in kvm",
        ),
        (Evidence(has_docker_file=True), "container", "docker"),
    ],
)
def test_virtualization_is_told_from_what_the_system_shows(
    evidence: Evidence, kind: str | None, product: str | None
) -> None:
    verdict = judge_virtualization(evidence)
    assert verdict is not None
    assert (verdict.kind, verdict.product) == (kind, product)


def test_a_device_is_named_by_the_list_of_its_own_vendor() -> None:
    names = (
        "# names\n1002  AMD\n\t2684  Another\n10de  NVIDIA\n\t2684  AD102 [GeForce RTX 4090]\n\t\t1043 88e2  A card\n"
    )
    assert pci_names.parse_device_name(names, 0x10DE, 0x2684) == "AD102 GeForce RTX 4090"
    assert pci_names.parse_device_name(names, 0x10DE, 0x9999) is None
