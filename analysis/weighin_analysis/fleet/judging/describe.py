"""A device in one row: what its newest run and its hardware say of it, and which gates of others it passes."""

import math
from collections.abc import Sequence
from typing import Any

from weighin_analysis.fleet.judging.gates import GateAccelerator, GateFacts, Gates, gates
from weighin_analysis.fleet.snapshot.rows import Row

_NO_HARDWARE: Row = {}
# From what carries the largest models to the least, where sizes of memory do not tell.
_KINDS = ("gpu", "integrated_gpu", "npu", None)


def gates_version() -> str:
    """Return the version of the rules of the gates that ship with this package."""
    return _gates(_NO_HARDWARE, _NO_HARDWARE, looked=False).version


def device_row(run: Row, hardware: Row, *, looked: bool, disturbed: bool | None) -> dict[str, Any]:
    """Return a row of the view ``devices`` without ``run_count``.

    ``looked`` tells whether a list of accelerators that is empty means that there is none. Numbers that cannot be, such
    as a negative size, are absent.
    """
    accelerator = _largest(hardware)
    answers = _gates(run, hardware, looked=looked)
    return {
        "device_id": run["device_id"],
        "source": run["source"],
        "run_id": run["run_id"],
        "run_number": run["run_number"],
        "last_receive_time": run["receive_time"],
        "hardware_id": run["hardware_id"],
        "name": hardware.get("cpu_model"),
        **{name: hardware.get(name) for name in ("form_factor", "os_family", "os_version")},
        **{name: hardware.get(name) for name in ("cpu_model", "cpu_architecture")},
        "physical_core_count": _count(hardware.get("physical_core_count")),
        "logical_core_count": _count(hardware.get("logical_core_count")),
        "memory_total_bytes": _count(hardware.get("memory_total_bytes")),
        "memory_available_bytes": _count(run["memory_available_bytes"]),
        "read_bandwidth_bytes_per_second": _rate(run["read_bandwidth_bytes_per_second"]),
        "storage_free_bytes": _count(run["storage_free_bytes"]),
        "accelerator_kind": _kind(accelerator) if accelerator else ("none" if looked else None),
        "accelerator_model": accelerator.get("model") if accelerator else None,
        "accelerator_memory_bytes": _own_memory(accelerator) if accelerator else None,
        "disturbed": disturbed,
        "chrome_built_in_ai": answers.chrome_built_in_ai,
        "copilot_plus_pc": answers.copilot_plus_pc,
        "android_performance_class": answers.android_performance_class,
        "gate_gaps": list(answers.gaps),
        "gates_version": answers.version,
    }


def _gates(run: Row, hardware: Row, *, looked: bool) -> Gates:
    listed = [
        GateAccelerator(
            kind=one["kind"],
            memory_total_bytes=_own_memory(one),
            shares_main_memory=one["shares_main_memory"],
        )
        for one in _accelerators(hardware)
    ]
    return gates(
        GateFacts(
            form_factor=hardware.get("form_factor"),
            os_family=hardware.get("os_family"),
            os_version=hardware.get("os_version"),
            cpu_model=hardware.get("cpu_model"),
            logical_core_count=_count(hardware.get("logical_core_count")),
            memory_total_bytes=_count(hardware.get("memory_total_bytes")),
            storage_free_bytes=_count(run.get("storage_free_bytes")),
            accelerators=listed,
            accelerators_complete=looked,
        )
    )


def _accelerators(hardware: Row) -> Sequence[Row]:
    return [one for one in hardware.get("accelerators") or () if one]


def _largest(hardware: Row) -> Row | None:
    """Return the accelerator with the most memory of its own, else the most useful kind."""
    return min(
        _accelerators(hardware), key=lambda one: (-(_own_memory(one) or 0), _KINDS.index(_kind(one))), default=None
    )


def _kind(accelerator: Row) -> str | None:
    kind = accelerator["kind"]
    if kind == "gpu" and accelerator["shares_main_memory"]:
        return "integrated_gpu"
    return kind if kind in _KINDS else None


def _own_memory(accelerator: Row) -> int | None:
    return None if accelerator["shares_main_memory"] else _count(accelerator["memory_total_bytes"])


def _count(value: int | None) -> int | None:
    return value if value is not None and value >= 0 else None


def _rate(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None
