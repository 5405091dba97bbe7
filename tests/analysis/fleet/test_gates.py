"""A gate is passed, not passed, or not known with the reason; a fact that is missing decides nothing."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.fleet.judging.gates import GateAccelerator, GateFacts, Gates, gates

GIB = 2**30
CARD = GateAccelerator(kind="gpu", memory_total_bytes=8 * GIB, shares_main_memory=False)
SMALL_CARD = replace(CARD, memory_total_bytes=4 * GIB)
SHARING_GPU = GateAccelerator(kind="gpu", memory_total_bytes=None, shares_main_memory=True)
NPU = GateAccelerator(kind="npu", memory_total_bytes=None, shares_main_memory=True)

NOTHING = GateFacts(
    form_factor=None,
    os_family=None,
    os_version=None,
    cpu_model=None,
    logical_core_count=None,
    memory_total_bytes=None,
    storage_free_bytes=None,
    accelerators=(),
    accelerators_complete=False,
)
LAPTOP = GateFacts(
    form_factor="laptop",
    os_family="windows",
    os_version="10.0.26100",
    cpu_model="Intel(R) Core(TM) Ultra 7 258V",
    logical_core_count=8,
    memory_total_bytes=round(15.6 * GIB),
    storage_free_bytes=300 * 10**9,
    accelerators=(SHARING_GPU, NPU),
    accelerators_complete=True,
)
DESKTOP = replace(LAPTOP, form_factor="desktop", cpu_model="AMD Ryzen 5 5600X 6-Core Processor", accelerators=(CARD,))
PHONE = replace(
    NOTHING,
    form_factor="phone",
    os_family="android",
    os_version="15",
    logical_core_count=8,
    memory_total_bytes=round(7.2 * GIB),
    storage_free_bytes=60 * 10**9,
)


def test_of_a_device_of_which_nothing_is_known_every_answer_is_none_and_says_why() -> None:
    found = gates(NOTHING)

    assert (found.chrome_built_in_ai, found.copilot_plus_pc, found.android_performance_class) == (None, None, None)
    for gate in ("chrome_built_in_ai", "copilot_plus_pc", "android_performance_class"):
        assert any(gap.startswith(f"{gate}: ") for gap in found.gaps)


def test_chrome_takes_a_gpu_with_more_than_four_gigabytes_or_a_processor_with_memory_and_cores() -> None:
    little = replace(DESKTOP, memory_total_bytes=8 * GIB)

    assert gates(little).chrome_built_in_ai is True
    assert gates(replace(little, accelerators=(SMALL_CARD,))).chrome_built_in_ai is False
    assert gates(replace(DESKTOP, accelerators=())).chrome_built_in_ai is True
    assert gates(replace(DESKTOP, accelerators=(), logical_core_count=2)).chrome_built_in_ai is False


def test_sixteen_gigabytes_as_sold_are_fewer_as_the_system_sees_them() -> None:
    without_gpu = replace(DESKTOP, accelerators=())

    assert gates(replace(without_gpu, memory_total_bytes=round(13.4 * GIB))).chrome_built_in_ai is True
    assert gates(replace(without_gpu, memory_total_bytes=12 * GIB)).chrome_built_in_ai is False


def test_a_gpu_that_shares_main_memory_leaves_chrome_open_where_the_processor_does_not_decide() -> None:
    small = replace(LAPTOP, memory_total_bytes=8 * GIB)

    assert gates(LAPTOP).chrome_built_in_ai is True
    assert gates(small).chrome_built_in_ai is None
    assert "chrome_built_in_ai: how much main memory counts as that of its GPU is not published" in gates(small).gaps


@pytest.mark.parametrize(
    ("os_family", "os_version", "passed"),
    [
        ("windows", "10.0.19045", True),
        ("windows", "6.3.9600", False),
        ("macos", "13.1", True),
        ("macos", "12.7.6", False),
        ("linux", None, True),
        ("android", "15", False),
        ("windows", None, None),
        (None, None, None),
    ],
)
def test_chrome_asks_for_a_system(os_family: str | None, os_version: str | None, passed: bool | None) -> None:
    assert gates(replace(DESKTOP, os_family=os_family, os_version=os_version)).chrome_built_in_ai is passed


def test_chrome_asks_for_free_storage() -> None:
    assert gates(replace(DESKTOP, storage_free_bytes=21 * 10**9)).chrome_built_in_ai is False
    assert gates(replace(DESKTOP, storage_free_bytes=None)).chrome_built_in_ai is None


@pytest.mark.parametrize(
    ("cpu_model", "passed"),
    [
        ("Snapdragon(R) X Elite - X1E78100 - Qualcomm(R) Oryon(TM) CPU", True),
        ("Snapdragon(R) X Plus - X1P42100 - Qualcomm(R) Oryon(TM) CPU", True),
        ("Intel(R) Core(TM) Ultra 7 258V", True),
        ("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", True),
        ("AMD Ryzen AI Max+ 395 w/ Radeon 8060S", True),
        ("Intel(R) Core(TM) Ultra 7 155H", None),
        ("AMD Ryzen 7 7840HS w/ Radeon 780M Graphics", None),
        (None, None),
    ],
)
def test_a_copilot_plus_pc_is_known_by_its_processor_where_it_has_an_npu(
    cpu_model: str | None, passed: bool | None
) -> None:
    assert gates(replace(LAPTOP, cpu_model=cpu_model)).copilot_plus_pc is passed


def test_a_pc_in_which_no_npu_was_found_is_no_copilot_plus_pc() -> None:
    assert gates(DESKTOP).copilot_plus_pc is False
    assert gates(replace(DESKTOP, accelerators_complete=False)).copilot_plus_pc is None


def test_one_fact_decides_whatever_else_is_missing() -> None:
    assert gates(replace(NOTHING, memory_total_bytes=4 * GIB)).copilot_plus_pc is False
    assert gates(replace(NOTHING, form_factor="phone")).copilot_plus_pc is False
    assert gates(replace(NOTHING, form_factor="phone")).chrome_built_in_ai is False
    assert gates(replace(NOTHING, os_family="macos")).copilot_plus_pc is False


def test_a_yes_says_on_what_it_rests() -> None:
    assert any(gap.startswith("copilot_plus_pc: rests on") for gap in gates(LAPTOP).gaps)


def test_an_android_class_is_ruled_out_by_little_memory_or_an_old_system_and_else_not_known() -> None:
    assert gates(PHONE).android_performance_class is None
    assert "android_performance_class: the class that the maker declares is not read" in gates(PHONE).gaps
    assert gates(replace(PHONE, memory_total_bytes=4 * GIB)).android_performance_class == 0
    assert gates(replace(PHONE, os_version="10")).android_performance_class == 0
    assert gates(replace(PHONE, os_family=None, memory_total_bytes=4 * GIB)).android_performance_class is None


def test_an_android_class_elsewhere_is_absent_without_a_gap() -> None:
    found = gates(DESKTOP)

    assert found.android_performance_class is None
    assert not any(gap.startswith("android") for gap in found.gaps)


ACCELERATORS = st.builds(
    GateAccelerator,
    kind=st.sampled_from([None, "gpu", "npu"]),
    memory_total_bytes=st.none() | st.integers(1, 16 * GIB),
    shares_main_memory=st.none() | st.booleans(),
)
FACTS = st.builds(
    GateFacts,
    form_factor=st.sampled_from([None, "phone", "laptop"]),
    os_family=st.sampled_from([None, "windows", "linux", "android", "macos"]),
    os_version=st.sampled_from([None, "10.0.1", "9", "15", "next"]),
    cpu_model=st.sampled_from([None, LAPTOP.cpu_model, DESKTOP.cpu_model]),
    logical_core_count=st.none() | st.integers(1, 16),
    memory_total_bytes=st.none() | st.integers(1, 32 * GIB),
    storage_free_bytes=st.none() | st.integers(0, 10**12),
    accelerators=st.lists(ACCELERATORS, max_size=3).map(tuple),
    accelerators_complete=st.booleans(),
)
NO_ACCELERATORS = {"accelerators": (), "accelerators_complete": False}
FORGOTTEN = [NO_ACCELERATORS, *({field.name: None} for field in fields(GateFacts) if field.name not in NO_ACCELERATORS)]


@given(FACTS, st.sampled_from(FORGOTTEN))
def test_forgetting_a_fact_may_open_an_answer_but_never_turns_it(
    facts: GateFacts, forgotten: dict[str, tuple[()] | bool | None]
) -> None:
    before, after = gates(facts), gates(replace(facts, **forgotten))  # type: ignore[arg-type]

    for answer in ("chrome_built_in_ai", "copilot_plus_pc", "android_performance_class"):
        assert getattr(after, answer) in {None, getattr(before, answer)}


@given(FACTS)
def test_an_answer_is_missing_exactly_where_a_gap_says_why(facts: GateFacts) -> None:
    found: Gates = gates(facts)

    for answer in ("chrome_built_in_ai", "copilot_plus_pc"):
        if getattr(found, answer) is None:
            assert any(gap.startswith(f"{answer}: ") for gap in found.gaps)
        if getattr(found, answer) is False:
            assert not any(gap.startswith(f"{answer}: ") for gap in found.gaps)
