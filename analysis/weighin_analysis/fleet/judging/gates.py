"""Gates that others set before what they offer, and which of them a device passes as far as its facts tell.

The rules are in data/gates.toml alone, with version and sources. An answer is True, False, or None where a fact is
missing; a missing fact decides nothing, another one may: a PC with 4 GB is no Copilot+ PC, whatever else is not known.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from weighin_analysis.data_files import read_data

_SYSTEM_GAP = "the operating system is not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateAccelerator:
    """A GPU or NPU; ``memory_total_bytes`` is its own, None where it has none or it is not known."""

    kind: str | None
    memory_total_bytes: int | None
    shares_main_memory: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFacts:
    """The facts that the gates ask for, each None where it is not known.

    Names are those of the view ``devices``. ``accelerators`` are those that were found; all that there are only where
    they are ``accelerators_complete``, so that what is not among them is not there.
    """

    form_factor: str | None
    os_family: str | None
    os_version: str | None
    cpu_model: str | None
    logical_core_count: int | None
    memory_total_bytes: int | None
    storage_free_bytes: int | None
    accelerators: Sequence[GateAccelerator]
    accelerators_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """Which gates a device passes; ``gaps`` say why an answer is None, or on what it rests.

    ``android_performance_class`` is 0 for an Android device that can be in none, None elsewhere or where not known.
    """

    chrome_built_in_ai: bool | None
    copilot_plus_pc: bool | None
    android_performance_class: int | None
    gaps: tuple[str, ...]
    version: str


def gates(facts: GateFacts) -> Gates:
    """Return which gates a device with these facts passes."""
    chrome, copilot, android = _chrome(facts), _copilot(facts), _android(facts)
    return Gates(
        chrome_built_in_ai=chrome.passed,
        copilot_plus_pc=copilot.passed,
        android_performance_class=0 if android.passed is False else None,
        gaps=(
            *(f"chrome_built_in_ai: {gap}" for gap in chrome.gaps),
            *(f"copilot_plus_pc: {gap}" for gap in copilot.gaps),
            *(f"android_performance_class: {gap}" for gap in android.gaps),
        ),
        version=_rules()["version"],
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    passed: bool | None
    gaps: tuple[str, ...] = ()


def _chrome(facts: GateFacts) -> _Answer:
    rule = _rules()["chrome_built_in_ai"]
    by_processor = _all(
        _at_least(facts.memory_total_bytes, _usable(rule["least_memory_bytes"]), "memory is not known"),
        _at_least(facts.logical_core_count, rule["least_logical_core_count"], "cores are not known"),
    )
    return _all(
        _not_a_phone(facts),
        _system(facts, rule["least_major_version"]),
        _at_least(facts.storage_free_bytes, rule["least_storage_free_bytes"], "free storage is not known"),
        _any(_large_gpu(facts, rule["gpu_memory_above_bytes"]), by_processor),
    )


def _copilot(facts: GateFacts) -> _Answer:
    rule = _rules()["copilot_plus_pc"]
    answer = _all(
        _not_a_phone(facts),
        _system(facts, {"windows": 0}),
        _at_least(facts.memory_total_bytes, _usable(rule["least_memory_bytes"]), "memory is not known"),
        _fast_npu(facts, rule["processors"]),
    )
    rests_on = "rests on the maker's list of processors; the size of the drive is not read"
    return _Answer(True, (rests_on,)) if answer.passed else answer


def _android(facts: GateFacts) -> _Answer:
    """Answer False for an Android device that can be in no class; None for all else, elsewhere without a gap."""
    rule = _rules()["android_performance_class"]
    if facts.os_family != "android":
        return _Answer(None, () if facts.os_family else (_SYSTEM_GAP,))
    return _all(
        _system(facts, {"android": rule["least_major_version"]}),
        _at_least(facts.memory_total_bytes, rule["least_usable_memory_bytes"], "memory is not known"),
        _Answer(None, ("the class that the maker declares is not read",)),
    )


def _not_a_phone(facts: GateFacts) -> _Answer:
    """Answer False for a phone; another form says nothing, and no gap: the system decides."""
    return _Answer(facts.form_factor != "phone")


def _system(facts: GateFacts, least_major_version: dict[str, int]) -> _Answer:
    if facts.os_family is None:
        return _Answer(None, (_SYSTEM_GAP,))
    if facts.os_family not in least_major_version:
        return _Answer(False)
    major = re.match(r"[0-9]+", facts.os_version or "")
    least = least_major_version[facts.os_family]
    return _at_least(int(major[0]) if major else None, least, f"the version of {facts.os_family} is not known")


def _large_gpu(facts: GateFacts, above_bytes: int) -> _Answer:
    no_other = _Answer(False) if facts.accelerators_complete else _Answer(None, ("whether it has a GPU is not known",))
    return _any(no_other, *(_is_large(one, above_bytes) for one in facts.accelerators if one.kind != "npu"))


def _is_large(accelerator: GateAccelerator, above_bytes: int) -> _Answer:
    if accelerator.kind is None:
        return _Answer(None, ("what kind of accelerator it has is not known",))
    if accelerator.shares_main_memory:
        return _Answer(None, ("how much main memory counts as that of its GPU is not published",))
    return _at_least(accelerator.memory_total_bytes, above_bytes + 1, "the memory of its GPU is not known")


def _fast_npu(facts: GateFacts, processors: Iterable[str]) -> _Answer:
    if facts.cpu_model is None:
        return _Answer(None, ("its processor is not known",))
    if any(re.search(pattern, facts.cpu_model) for pattern in processors):
        return _Answer(True)
    if not all(one.kind == "gpu" for one in facts.accelerators):
        return _Answer(None, ("how fast its NPU is, is not read, and its processor is not on the list",))
    if facts.accelerators_complete:
        return _Answer(False)
    return _Answer(None, ("whether it has an NPU is not known",))


def _usable(sold_bytes: int) -> int:
    share: float = _rules()["usable_share"]
    return round(share * sold_bytes)


def _at_least(value: int | None, least: int, gap: str) -> _Answer:
    if value is None and least > 0:
        return _Answer(None, (gap,))
    return _Answer(value is None or value >= least)


def _all(*answers: _Answer) -> _Answer:
    """Answer False where one does, then None where one does."""
    if any(one.passed is False for one in answers):
        return _Answer(False)
    gaps = tuple(gap for one in answers if one.passed is None for gap in one.gaps)
    return _Answer(None if any(one.passed is None for one in answers) else True, gaps)


def _any(*answers: _Answer) -> _Answer:
    """Answer True where one does, then None where one does."""
    if any(one.passed for one in answers):
        return _Answer(True)
    gaps = tuple(gap for one in answers if one.passed is None for gap in one.gaps)
    return _Answer(None if any(one.passed is None for one in answers) else False, gaps)


@cache
def _rules() -> dict[str, Any]:
    return read_data("gates.toml")
