"""The readers for Linux, run on files that real machines showed; see SOURCE.txt in each folder of tests/captured."""

from dataclasses import replace
from pathlib import Path

import pytest
from captured_system import captured_system, lay_out, system_at

from weighin_agent.device import Cache, CacheKind, Cpu, ProbeGapReason, last_level_cache
from weighin_agent.probe import cpu_quota_cores
from weighin_agent.probe.cpu import read_cpu
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.memory import read_available_bytes, read_memory_sizes
from weighin_agent.probe.operating_system import read_operating_system
from weighin_agent.probe.virtualization import read_evidence, read_virtualization


def cpu_of(machine: str, root: Path, logical_core_count: int) -> tuple[Cpu, Gaps]:
    gaps = Gaps()
    return read_cpu(gaps, system_at(lay_out(machine, root), processors=frozenset(range(logical_core_count)))), gaps


def reasons(gaps: Gaps) -> dict[str, ProbeGapReason]:
    return {gap.fact: gap.reason for gap in gaps.all()}


@pytest.mark.parametrize(
    ("machine", "logical_core_count", "model", "vendor", "instruction_sets"),
    [
        ("raspberry_pi_5", 4, "Cortex-A76", "ARM", ("dotprod", "fp16", "neon")),
        ("raspberry_pi_4", 4, "Cortex-A72", "ARM", ("neon",)),
        ("raspberry_pi_4_32bit", 4, "Cortex-A72", "ARM", ("neon",)),
        ("rockchip_rk3576", 6, "Cortex-A53 + Cortex-A72", "ARM", ("neon",)),
        ("ampere_one_a", 1, "Ampere-1a", "Ampere", ("bf16", "dotprod", "fp16", "i8mm", "neon")),
        ("apple_m3_max_virtual", 2, None, "Apple", ("dotprod", "fp16", "neon")),
        (
            "ryzen_7_5800x3d",
            1,
            "AMD Ryzen 7 5800X3D 8-Core Processor",
            "AuthenticAMD",
            ("avx", "avx2", "f16c", "fma", "sse4_2"),
        ),
        (
            "core_ultra_9_285",
            1,
            "Intel(R) Core(TM) Ultra 9 285",
            "GenuineIntel",
            ("avx", "avx2", "avx_vnni", "f16c", "fma", "sse4_2"),
        ),
    ],
)
def test_the_processor_is_named_with_the_instruction_sets_that_decide_kernels(
    tmp_path: Path, machine: str, logical_core_count: int, model: str, vendor: str, instruction_sets: tuple[str, ...]
) -> None:
    cpu, _ = cpu_of(machine, tmp_path, logical_core_count)
    assert (cpu.model, cpu.vendor, cpu.instruction_sets) == (model, vendor, instruction_sets)
    assert cpu.logical_core_count == logical_core_count


def test_a_kvm_guest_is_read_in_full(tmp_path: Path) -> None:
    cpu, gaps = cpu_of("xeon_kvm_guest", tmp_path, 2)
    assert cpu.model == "Intel(R) Xeon(R) Processor"
    assert cpu.physical_core_count == 2
    assert {"amx_int8", "avx512_vnni", "avx_vnni"} <= set(cpu.instruction_sets)
    assert cpu.caches == (
        Cache(level=1, kind=CacheKind.DATA, size_bytes=48 * 1024, instance_count=2),
        Cache(level=1, kind=CacheKind.INSTRUCTION, size_bytes=32 * 1024, instance_count=2),
        Cache(level=2, kind=CacheKind.UNIFIED, size_bytes=2 * 2**20, instance_count=2),
        Cache(level=3, kind=CacheKind.UNIFIED, size_bytes=105 * 2**20, instance_count=1),
    )
    assert reasons(gaps) == {"cpu.max_frequency_hertz": ProbeGapReason.NOT_OFFERED}
    virtualization = read_virtualization(Gaps(), system_at(tmp_path))
    assert virtualization is not None
    assert (virtualization.kind, virtualization.product) == ("virtual_machine", "kvm")


def test_only_the_processors_that_may_be_used_are_counted(tmp_path: Path) -> None:
    gaps = Gaps()
    system = captured_system("xeon_kvm_guest", tmp_path)
    cpu = read_cpu(gaps, replace(system, processors=frozenset({1})))
    assert (cpu.physical_core_count, cpu.logical_core_count) == (1, 1)
    assert [cache.instance_count for cache in cpu.caches] == [1, 1, 1, 1]


def test_the_caches_of_a_raspberry_pi_5_are_counted_by_who_shares_them(tmp_path: Path) -> None:
    cpu, _ = cpu_of("raspberry_pi_5", tmp_path, 4)
    sizes = [(cache.level, cache.size_bytes, cache.instance_count) for cache in cpu.caches]
    assert sizes == [(1, 65536, 4), (1, 65536, 4), (2, 524288, 4), (3, 2097152, 1)]
    assert last_level_cache(cpu) == cpu.caches[-1]


def test_a_ryzen_5_1600_has_as_many_last_level_caches_as_lscpu_counts(tmp_path: Path) -> None:
    cpu, _ = cpu_of("ryzen_5_1600", tmp_path, 12)
    assert cpu.caches == (Cache(level=3, kind=CacheKind.UNIFIED, size_bytes=8 * 2**20, instance_count=3),)


def test_a_kernel_that_describes_no_caches_and_no_cores_leaves_a_gap_for_the_caches(tmp_path: Path) -> None:
    """The cores it need not describe: a Cortex-A72 runs one thread."""
    cpu, gaps = cpu_of("raspberry_pi_4", tmp_path, 4)
    assert cpu.caches == ()
    assert cpu.physical_core_count == 4
    assert last_level_cache(cpu) is None
    assert set(reasons(gaps)) == {"cpu.caches", "cpu.max_frequency_hertz"}


def test_cores_of_a_kind_that_may_run_two_threads_are_not_counted_by_their_threads(tmp_path: Path) -> None:
    cpu, gaps = cpu_of("ampere_one_a", tmp_path, 1)
    assert cpu.physical_core_count is None
    assert "cpu.physical_core_count" in reasons(gaps)


def test_without_any_file_every_fact_is_a_gap_and_nothing_is_zero(tmp_path: Path) -> None:
    gaps, system = Gaps(), system_at(tmp_path, kernel="", processors=None)
    cpu = read_cpu(gaps, system)
    assert (cpu.model, cpu.vendor, cpu.physical_core_count, cpu.max_frequency_hertz) == (None, None, None, None)
    assert cpu.logical_core_count is None
    assert read_memory_sizes(gaps, system) == (None, None)
    read_operating_system(gaps, system)
    assert read_virtualization(gaps, system) is None
    assert set(reasons(gaps)) == {
        "cpu.vendor",
        "cpu.instruction_sets",
        "cpu.physical_core_count",
        "cpu.logical_core_count",
        "cpu.caches",
        "cpu.max_frequency_hertz",
        "memory.total_bytes",
        "memory.available_bytes",
        "operating_system.name",
        "operating_system.version",
        "operating_system.kernel",
        "virtualization",
    }


def test_memory_is_read_in_bytes(tmp_path: Path) -> None:
    root = lay_out("virtual_ubuntu_17_10", tmp_path)
    assert read_memory_sizes(Gaps(), system_at(root)) == (4042048 * 1024, 3651940 * 1024)


def test_a_container_may_use_less_memory_than_the_machine_has(tmp_path: Path) -> None:
    root = lay_out("virtual_ubuntu_17_10", tmp_path)
    group = root / "sys/fs/cgroup/service"
    group.mkdir(parents=True)
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_text("0::/service\n")
    (group / "memory.max").write_text("1073741824\n")
    (group / "memory.current").write_text("805306368\n")
    (group / "memory.stat").write_text("anon 536870912\ninactive_file 268435456\n")
    assert read_available_bytes(root) == 536870912


@pytest.mark.parametrize(
    ("paths", "files"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}),
        ("1:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}),
    ],
)
def test_a_processor_quota_is_said_beside_the_count(tmp_path: Path, paths: str, files: dict[str, str]) -> None:
    root = lay_out("xeon_kvm_guest", tmp_path)
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_text(paths)
    for name, content in files.items():
        # In version 1 every controller has a mount of its own; "cpu,cpuacct" is reached through a link called "cpu".
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    gaps = Gaps()
    assert cpu_quota_cores(root) == 0.5
    assert read_cpu(gaps, system_at(root, processors=frozenset({0, 1}))).logical_core_count == 2
    assert [gap.detail for gap in gaps.all() if gap.fact == "cpu.logical_core_count"] == [
        "a limit of this container or service allows the time of 0.5 processors; the counts leave it out"
    ]


def test_a_process_without_a_quota_has_none(tmp_path: Path) -> None:
    assert cpu_quota_cores(tmp_path) is None
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n1:cpu:/\n")
    (tmp_path / "sys/fs/cgroup/cpu").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    (tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota_cores(tmp_path) is None


def test_the_distribution_is_read_where_etc_has_no_os_release(tmp_path: Path) -> None:
    root = lay_out("opensuse_tumbleweed", tmp_path)
    system = read_operating_system(Gaps(), system_at(root))
    assert (system.family, system.name, system.version) == ("linux", "openSUSE Tumbleweed", "20230108")


def test_bare_metal_is_told_from_not_knowing(tmp_path: Path) -> None:
    machine = read_virtualization(Gaps(), system_at(lay_out("core_ultra_9_285", tmp_path / "intel")))
    assert machine is not None
    assert machine.kind == "none"
    # An ARM processor has no word for it, and this copy shows neither firmware nor board.
    gaps = Gaps()
    assert read_virtualization(gaps, system_at(lay_out("apple_m3_max_virtual", tmp_path / "apple"))) is None
    assert reasons(gaps) == {"virtualization": ProbeGapReason.NOT_OFFERED}


def test_what_identifies_one_machine_is_read_past(tmp_path: Path) -> None:
    """Canaries stand wherever Linux keeps a serial number, a UUID or a name beside what the probe reads."""
    root = lay_out("raspberry_pi_5", tmp_path)
    canaries = [
        "10000000c0ffee42",
        "canaryhost",
        "canaryuser",
        "4c4c4544-0042-3510-8054-b4c04f4e4432",
        "CNRYSERIAL0001",
    ]
    (root / "proc/cpuinfo").write_text((root / "proc/cpuinfo").read_text() + f"Serial\t\t: {canaries[0]}\n")
    (root / "proc/version").write_text(f"Linux version 6.6.31+rpt-rpi-2712 ({canaries[2]}@{canaries[1]}) (gcc) #1\n")
    firmware = root / "sys/class/dmi/id"
    firmware.mkdir(parents=True)
    (firmware / "product_uuid").write_text(canaries[3])
    (firmware / "product_serial").write_text(canaries[4])
    (firmware / "product_name").write_text(f"Virtual Box {canaries[4]} {canaries[3]}")
    (root / "proc/sys/kernel").mkdir(parents=True)
    (root / "proc/sys/kernel/hostname").write_text(canaries[1])
    gaps, system = Gaps(), system_at(root, kernel="6.6.31+rpt-rpi-2712", processors=frozenset(range(4)))
    facts = [read_cpu(gaps, system), read_operating_system(gaps, system)]
    said = repr([*facts, read_virtualization(gaps, system), gaps.all()])
    assert "6.6.31+rpt-rpi-2712" in said
    assert [canary for canary in canaries if canary in said] == []
    assert "CNRYSERIAL0001" in read_evidence(root).firmware  # it was there to be seen
