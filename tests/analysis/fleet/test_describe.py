"""A device in one row: its largest accelerator, and numbers that cannot be left out."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.fleet.judging.describe import device_row, gates_version
from weighin_analysis.fleet.snapshot.views import DEVICES

GIB = 2**30
RUN: dict[str, Any] = {
    "device_id": "d",
    "run_id": "r",
    "run_number": 1,
    "source": "native",
    "receive_time": None,
    "hardware_id": "h",
    "memory_available_bytes": 4 * GIB,
    "read_bandwidth_bytes_per_second": 40e9,
    "storage_free_bytes": 100 * GIB,
}


def accelerator(kind: str | None, memory: int | None, shares: bool | None = False) -> dict[str, Any]:
    return {"kind": kind, "model": f"{kind} {memory}", "memory_total_bytes": memory, "shares_main_memory": shares}


def described(*accelerators: dict[str, Any], looked: bool = True, **run: Any) -> dict[str, Any]:
    return device_row(RUN | run, {"accelerators": list(accelerators)}, looked=looked, disturbed=False)


def test_a_row_has_every_column_of_the_view_but_the_count_of_runs() -> None:
    assert [column.name for column in DEVICES.columns if column.name not in described()] == ["run_count"]


def test_the_accelerator_with_the_most_memory_of_its_own_is_named() -> None:
    row = described(accelerator("npu", None, shares=True), accelerator("gpu", 8 * GIB), accelerator("gpu", 24 * GIB))
    assert (row["accelerator_kind"], row["accelerator_memory_bytes"]) == ("gpu", 24 * GIB)
    assert row["accelerator_model"] == f"gpu {24 * GIB}"


def test_a_gpu_that_shares_main_memory_is_integrated_and_has_none_of_its_own() -> None:
    row = described(accelerator("npu", None, shares=True), accelerator("gpu", 2 * GIB, shares=True))
    assert (row["accelerator_kind"], row["accelerator_memory_bytes"]) == ("integrated_gpu", None)


def test_no_accelerator_is_an_answer_only_where_it_was_looked_for() -> None:
    assert described()["accelerator_kind"] == "none"
    assert described(looked=False)["accelerator_kind"] is None


def test_an_accelerator_of_unknown_kind_is_one() -> None:
    assert described(accelerator(None, GIB))["accelerator_kind"] is None


@given(size=st.integers(max_value=-1), rate=st.sampled_from([float("nan"), float("inf"), -1.0, 0.0]))
def test_numbers_that_cannot_be_are_absent(size: int, rate: float) -> None:
    row = described(
        accelerator("gpu", size),
        memory_available_bytes=size,
        storage_free_bytes=size,
        read_bandwidth_bytes_per_second=rate,
    )
    names = ("memory_available_bytes", "storage_free_bytes", "read_bandwidth_bytes_per_second")
    assert [row[name] for name in (*names, "accelerator_memory_bytes")] == [None] * 4


def test_gates_say_by_which_rules_they_answer() -> None:
    assert described()["gates_version"] == gates_version()
