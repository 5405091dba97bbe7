"""Rules of the readers for macOS, Windows and Android, and of form factors: tables of input and answer."""

import json
from pathlib import Path

import pytest
from captured_system import system_at

from weighin_agent.device import AcceleratorKind, FormFactor, VirtualizationKind
from weighin_agent.probe import android, macos, sysctl, windows, windows_displays
from weighin_agent.probe.assemble import read_machine
from weighin_agent.probe.caches import sum_up_caches
from weighin_agent.probe.form_factor import judge_form_factor
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.system import System

# Form factors.


@pytest.mark.parametrize(
    ("chassis_type", "tree_chassis", "is_board", "battery", "form"),
    [
        (10, "", False, True, FormFactor.LAPTOP),
        (3, "", False, False, FormFactor.DESKTOP),
        (35, "", False, False, FormFactor.DESKTOP),
        (23, "", False, False, FormFactor.SERVER),
        (30, "", False, True, FormFactor.TABLET),
        (2, "", False, True, FormFactor.LAPTOP),
        (2, "", False, False, None),
        (None, "", True, False, FormFactor.SINGLE_BOARD),
        (None, "", True, True, FormFactor.LAPTOP),
        (None, "laptop", True, True, FormFactor.LAPTOP),
        (None, "handset", True, True, FormFactor.PHONE),
        (None, "", False, False, None),
    ],
)
def test_linux_tells_the_form_by_chassis_and_device_tree(
    chassis_type: int | None, tree_chassis: str, is_board: bool, battery: bool, form: FormFactor | None
) -> None:
    assert judge_form_factor(chassis_type, tree_chassis, is_board, battery, virtual=False) == form
    assert judge_form_factor(chassis_type, tree_chassis, is_board, battery, virtual=True) == "virtual_machine"


@pytest.mark.parametrize(
    ("name", "model", "form"),
    [
        ("MacBook Air", "Mac14,2", FormFactor.LAPTOP),
        ("Mac mini", "Mac16,10", FormFactor.DESKTOP),
        ("iMac", "Mac15,5", FormFactor.DESKTOP),
        ("", "MacBookPro18,1", FormFactor.LAPTOP),
        ("", "Macmini9,1", FormFactor.DESKTOP),
        ("", "Mac14,2", None),
    ],
)
def test_a_mac_tells_its_form_by_its_name(name: str, model: str, form: FormFactor | None) -> None:
    assert macos.judge_form_factor(name, model, virtual=False) == form


@pytest.mark.parametrize(
    ("characteristics", "form"),
    [("default", "phone"), ("nosdcard", "phone"), ("tablet,nosdcard", "tablet"), ("tv", None), ("", None)],
)
def test_android_tells_phones_from_tablets(characteristics: str, form: str | None) -> None:
    assert android.judge_form_factor(characteristics, virtual=False) == form


def test_an_android_emulator_is_a_virtual_machine(tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "getprop").write_text("[ro.hardware]: [ranchu]\n[ro.build.characteristics]: [emulator]\n")
    device = read_machine(Gaps(), system_at(tmp_path, name="Android"))
    assert device.virtualization is not None
    assert (device.virtualization.kind, device.virtualization.product) == ("virtual_machine", "emulator")
    assert device.form_factor == FormFactor.VIRTUAL_MACHINE


# macOS.


def test_free_speculative_and_inactive_pages_are_available() -> None:
    """What vm_stat printed on a Mac with Apple's processor: https://github.com/HMCL-dev/HMCL/pull/4876."""
    text = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                                3857.\n"
        "Pages active:                            446206.\n"
        "Pages inactive:                          443760.\n"
        "Pages speculative:                         1075.\n"
        "Pages throttled:                              0.\n"
        '"Translation faults":                8667427138.\n'
    )
    assert macos.parse_vm_stat(text) == (3857 + 443760 + 1075) * 16384
    assert macos.parse_vm_stat(text.replace("Pages inactive", "Pages unknown")) is None


def test_the_caches_of_an_intel_mac_are_counted_by_how_many_processors_share_one() -> None:
    """An Intel Core i9-9980HK; see https://github.com/apache/arrow/pull/7408 for the names."""
    facts = {
        "hw.logicalcpu": "16",
        "hw.cacheconfig": "16 2 2 16 0 0 0 0 0 0",
        "hw.l1dcachesize": "32768",
        "hw.l2cachesize": "262144",
        "hw.l3cachesize": "16777216",
    }
    caches = sum_up_caches(sysctl.parse_caches(facts))
    assert [(cache.level, cache.size_bytes, cache.instance_count) for cache in caches] == [
        (1, 32768, 8),
        (2, 262144, 8),
        (3, 16777216, 1),
    ]


def test_the_second_level_of_an_apple_processor_is_shared_by_a_cluster() -> None:
    """An M1 Pro with 6 fast cores; see https://github.com/dotnet/runtime/pull/75881."""
    facts = {
        "hw.perflevel0.physicalcpu": "6",
        "hw.perflevel0.cpusperl2": "3",
        "hw.perflevel0.l2cachesize": "12582912",
        "hw.perflevel1.physicalcpu": "2",
    }
    (cache,) = sum_up_caches(sysctl.parse_caches(facts))
    assert (cache.size_bytes, cache.instance_count) == (12582912, 2)
    assert sysctl.parse_physical_core_count(facts) == 8


@pytest.mark.parametrize(
    ("entry", "model", "memory_bytes", "shares_memory"),
    [
        # https://github.com/zeam-vm/cpu_info/issues/17, in the words that system_profiler uses in JSON
        (
            {"sppci_model": "Radeon Pro Vega 64", "spdisplays_vendor": "sppci_vendor_amd", "spdisplays_vram": "16 GB"},
            "Radeon Pro Vega 64",
            16 * 2**30,
            False,
        ),
        (
            {"sppci_model": "Intel Iris Pro", "spdisplays_vendor": "Intel", "spdisplays_vram_shared": "1536 MB"},
            "Intel Iris Pro",
            None,
            True,
        ),
    ],
)
def test_the_gpus_of_an_intel_mac_have_or_share_memory(
    entry: dict[str, object], model: str, memory_bytes: int | None, shares_memory: bool
) -> None:
    gpu = macos.parse_gpu(entry)
    assert gpu is not None
    assert (gpu.model, gpu.memory_total_bytes, gpu.shares_main_memory) == (model, memory_bytes, shares_memory)


def test_a_virtual_mac_names_its_hypervisor_and_has_no_neural_engine(tmp_path: Path) -> None:
    (tmp_path / "commands").mkdir()
    facts = "hw.model: VirtualMac2,1\nkern.hv_vmm_present: 1\nmachdep.cpu.brand_string: Apple M4 Max (Virtual)\n"
    (tmp_path / "commands/sysctl").write_text(facts)
    device = read_machine(Gaps(), system_at(tmp_path, name="Darwin", architecture="arm64"))
    assert device.virtualization is not None
    assert (device.virtualization.kind, device.virtualization.product) == (VirtualizationKind.VIRTUAL_MACHINE, "apple")
    assert device.form_factor == FormFactor.VIRTUAL_MACHINE
    assert device.accelerators == ()


# Windows.


@pytest.mark.parametrize(
    ("vendor", "name", "integrated"),
    [
        ("Intel", "Intel(R) UHD Graphics 770", True),
        ("Intel", "Intel(R) Iris(R) Xe Graphics", True),
        ("Intel", "Intel(R) Iris(R) Xe MAX Graphics", False),
        ("Intel", "Intel(R) Arc(TM) Graphics", True),
        ("Intel", "Intel(R) Arc(TM) 140V GPU (16GB)", True),
        ("Intel", "Intel(R) Arc(TM) B390 GPU", True),
        ("Intel", "Intel(R) Arc(TM) A770 Graphics", False),
        ("Intel", "Intel(R) Arc(TM) A370M Graphics", False),
        ("Intel", "Intel(R) Arc(TM) B580 Graphics", False),
        ("Intel", "Intel(R) Arc(TM) Pro B70 Graphics", False),
        ("AMD", "AMD Radeon(TM) Graphics", True),
        ("AMD", "AMD Radeon(TM)  860M Graphics", True),
        ("AMD", "AMD Radeon 780M Graphics", True),
        ("AMD", "AMD Radeon(TM) 8060S Graphics", True),
        ("AMD", "AMD Radeon(TM) RX Vega 10 Graphics", True),
        ("AMD", "AMD Radeon(TM) R7 Graphics", True),
        ("AMD", "Radeon RX Vega", False),
        ("AMD", "AMD Radeon RX 7900 XTX", False),
        ("AMD", "AMD Radeon RX 6600M", False),
        ("AMD", "AMD Radeon AI PRO R9700", False),
        ("AMD", "AMD Radeon R9 200 Series", False),
        ("AMD", "AMD Radeon 530", None),
        ("Qualcomm", "Qualcomm(R) Adreno(TM) X1-85 GPU", True),
        ("NVIDIA", "NVIDIA GeForce RTX 4060", False),
    ],
)
def test_a_gpu_of_windows_is_told_by_its_makers_naming(vendor: str, name: str, integrated: bool | None) -> None:
    assert windows_displays.is_integrated(vendor, name) is integrated


def windows_with(root: Path, nvidia: dict[str, object] | None = None, **rows: object) -> System:
    (root / "commands").mkdir()
    (root / "commands/powershell.exe").write_text("\ufeff" + json.dumps(rows))
    return system_at(root, name="Windows", architecture="AMD64", kernel="10", nvidia=nvidia)


def test_the_size_of_a_cards_memory_is_the_64_bits_that_its_driver_wrote(tmp_path: Path) -> None:
    """Beside the entry of a card that was taken out, and in the two forms that drivers write."""
    system = windows_with(
        tmp_path,
        Win32_VideoController=[
            {"Name": "AMD Radeon RX 7900 XTX", "PNPDeviceID": "PCI\\VEN_1002&DEV_744C&SUBSYS_0E3B1002&REV_C8"},
            {"Name": "Intel(R) Arc(TM) A770 Graphics", "PNPDeviceID": "PCI\\VEN_8086&DEV_56A0&SUBSYS_10208086&REV_08"},
            {"Name": "Parsec Virtual Display Adapter", "PNPDeviceID": "ROOT\\DISPLAY"},
        ],
        DisplayDrivers=[
            {"MatchingDeviceId": "PCI\\VEN_1002&DEV_73FF&REV_C7", "HardwareInformation.qwMemorySize": 8 * 2**30},
            {"MatchingDeviceId": "pci\\ven_1002&dev_744c&rev_c8", "HardwareInformation.qwMemorySize": 24 * 2**30},
            {
                "MatchingDeviceId": "PCI\\VEN_8086&DEV_56A0",
                "HardwareInformation.qwMemorySize": list((16 * 2**30).to_bytes(8, "little")),
            },
        ],
    )
    accelerators = windows.read_accelerators(Gaps(), system)
    assert [(one.vendor, one.memory_total_bytes) for one in accelerators] == [
        ("AMD", 24 * 2**30),
        ("Intel", 16 * 2**30),
    ]


def test_what_a_live_windows_wrote_of_a_card_with_8_gib_is_read_in_64_bits() -> None:
    """The registry of a desktop with a GeForce RTX 4060, whose 32-bit size beside it is 4293918720."""
    driver = {
        "DriverDesc": "NVIDIA GeForce RTX 4060",
        "MatchingDeviceId": "PCI\\VEN_10DE&DEV_2882",
        "HardwareInformation.qwMemorySize": 8585740288,
        "HardwareInformation.MemorySize": 4293918720,
    }
    place = {"PNPDeviceID": "PCI\\VEN_10DE&DEV_2882&SUBSYS_00000000&REV_A1"}
    assert windows_displays.parse_memory_bytes(place, [driver]) == 8585740288


def test_a_card_of_nvidia_is_listed_once_whoever_tells_of_it(tmp_path: Path) -> None:
    nvidia = {"driver": True, "devices": [{"model": "NVIDIA GeForce RTX 4060", "memory_total_bytes": 8 * 2**30}]}
    row = {"Name": "NVIDIA GeForce RTX 4060", "PNPDeviceID": "PCI\\VEN_10DE&DEV_2882&SUBSYS_00000000&REV_A1"}
    (card,) = windows.read_accelerators(Gaps(), windows_with(tmp_path, nvidia, Win32_VideoController=row))
    assert (card.model, card.memory_total_bytes, card.shares_main_memory) == (
        "NVIDIA GeForce RTX 4060",
        8 * 2**30,
        False,
    )


@pytest.mark.parametrize(
    ("computer", "chassis", "battery", "kind", "form"),
    [
        ({"Manufacturer": "LENOVO", "Model": "21CB"}, [10], None, "none", FormFactor.LAPTOP),
        ({"Manufacturer": "LENOVO", "Model": "21CB"}, [2], {"BatteryStatus": 2}, "none", FormFactor.LAPTOP),
        ({"Manufacturer": "ASRock", "Model": "X670E Taichi"}, [3], None, "none", FormFactor.DESKTOP),
        (
            {"Manufacturer": "Microsoft Corporation", "Model": "Virtual Machine"},
            [3],
            None,
            "virtual_machine",
            FormFactor.VIRTUAL_MACHINE,
        ),
    ],
)
def test_windows_tells_machine_and_form_by_its_firmware(
    tmp_path: Path, computer: dict[str, str], chassis: list[int], battery: object, kind: str, form: FormFactor
) -> None:
    """It runs a hypervisor below itself on most machines, so that one is present says nothing."""
    system = windows_with(
        tmp_path,
        Win32_ComputerSystem=computer,
        Win32_SystemEnclosure={"ChassisTypes": chassis},
        Win32_Battery=battery,
    )
    gaps = Gaps()
    virtualization = windows.read_virtualization(gaps, system)
    assert virtualization is not None
    assert virtualization.kind == kind
    assert windows.read_form_factor(gaps, system, virtualization) == form


def test_memory_on_windows_is_counted_in_kib_whether_it_comes_as_number_or_as_text(tmp_path: Path) -> None:
    row = {"TotalVisibleMemorySize": "16541312", "FreePhysicalMemory": 8000000}
    system = windows_with(tmp_path, Win32_OperatingSystem=row)
    assert windows.read_memory_sizes(Gaps(), system) == (16541312 * 1024, 8000000 * 1024)


def test_an_npu_of_windows_is_named_as_the_device_manager_names_it(tmp_path: Path) -> None:
    row = {"Name": "NPU Compute Accelerator Device", "Manufacturer": "Advanced Micro Devices, Inc."}
    (npu,) = windows.read_accelerators(
        Gaps(), windows_with(tmp_path, Win32_VideoController=None, ComputeAccelerators=row)
    )
    assert (npu.kind, npu.vendor, npu.model) == (AcceleratorKind.NPU, "AMD", "NPU Compute Accelerator Device")


def test_a_windows_that_does_not_answer_leaves_gaps_and_no_error(tmp_path: Path) -> None:
    gaps = Gaps()
    device = read_machine(gaps, system_at(tmp_path, name="Windows", kernel="10", nvidia=None))
    assert device.accelerators == ()
    assert {"cpu.vendor", "memory.total_bytes", "operating_system.name", "accelerators", "form_factor"} <= {
        gap.fact for gap in gaps.all()
    }


@pytest.mark.parametrize("name", ["SerialNumber", "UUID", "CSName", "UserName", "MACAddress", "AssetTag", "AdapterRAM"])
def test_windows_is_never_asked_for_what_identifies_a_copy_or_for_a_size_of_32_bits(name: str) -> None:
    assert name.lower() not in windows._SCRIPT.lower()


def test_of_what_system_profiler_says_of_a_screen_nothing_is_kept() -> None:
    """The short report leaves serial numbers out; should one stand there all the same, it stays there."""
    entry: dict[str, object] = {
        "sppci_model": "Apple M3 Pro",
        "spdisplays_vendor": "sppci_vendor_Apple",
        "spdisplays_ndrvs": [{"_spdisplays_display-serial-number": "CANARY01"}],
        "serial_number": "CANARY02",
    }
    assert "CANARY" not in repr(macos.parse_gpu(entry))
