from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import psutil
import pytest

from weighin_agent import conditions as conditions_module
from weighin_agent.conditions import condition_gaps, read_conditions, run_canary
from weighin_agent.cpu_load import ForeignLoad, read_cpu_seconds
from weighin_agent.device import ProbeGapReason
from weighin_agent.probe import available_bytes
from weighin_agent.run import PowerSource

Linux = namedtuple("Linux", "user nice system idle iowait irq softirq steal guest guest_nice")
Mac = namedtuple("Mac", "user nice system idle")
Own = namedtuple("Own", "user system")
Sensor = namedtuple("Sensor", "label current high critical")
Frequency = namedtuple("Frequency", "current min max")
IDLE = Linux(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def in_turn(values: Sequence[Any]) -> Callable[..., Any]:
    remaining = iter(values)
    return lambda *_arguments, **_settings: next(remaining)


def raising(error: Exception) -> Callable[..., Any]:
    def read(*_arguments: Any, **_settings: Any) -> Any:
        raise error

    return read


def share_between(
    monkeypatch: pytest.MonkeyPatch, before: Any, after: Any, own_before: float = 0.0, own_after: float = 0.0
) -> float | None:
    """What the load of others is when the system's counters move from one state to another."""
    monkeypatch.setattr(psutil, "cpu_times", in_turn([before, after]))
    monkeypatch.setattr(psutil.Process, "cpu_times", in_turn([Own(own_before, 0.0), Own(own_after, 0.0)]))
    return ForeignLoad().share_since_last()


# The load of others.


def test_the_load_of_others_is_what_was_busy_but_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    after = IDLE._replace(user=6, system=1, idle=2, iowait=1)
    assert share_between(monkeypatch, IDLE, after, own_after=4) == pytest.approx(3 / 10)


def test_stolen_time_is_the_load_of_others_and_guests_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    after = IDLE._replace(user=4, guest=4, idle=5, steal=1)
    assert share_between(monkeypatch, IDLE, after, own_after=2) == pytest.approx(3 / 10)


def test_systems_with_fewer_counters_have_a_load_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share_between(monkeypatch, Mac(10, 0, 10, 10), Mac(12, 0, 11, 17)) == pytest.approx(3 / 10)


@pytest.mark.parametrize(("own", "share"), [(5.0, 0.0), (-5.0, 1.0)])
def test_the_load_of_others_is_a_share_even_where_counters_disagree(
    own: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert share_between(monkeypatch, IDLE, IDLE._replace(user=4, idle=4), 0.0, own) in (share, pytest.approx(share))


def test_too_short_a_time_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share_between(monkeypatch, IDLE, IDLE._replace(user=0.01, idle=0.01)) is None


def test_what_was_too_short_counts_with_the_next_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [IDLE, IDLE._replace(user=0.02, idle=0.02), IDLE._replace(user=0.02, idle=0.08)]
    monkeypatch.setattr(psutil, "cpu_times", in_turn(states))
    monkeypatch.setattr(psutil.Process, "cpu_times", in_turn([Own(0.0, 0.0)] * 3))
    load = ForeignLoad()
    assert load.share_since_last() is None
    assert load.share_since_last() == pytest.approx(0.2)


def test_the_counters_of_this_system_can_be_read() -> None:
    counted = read_cpu_seconds()
    assert counted is not None
    assert 0 < counted.busy <= counted.total


# The canary.


def test_the_canary_is_work_over_time() -> None:
    """With a clock that moves one second at each reading, every load takes a second."""
    ticks = iter(range(10_000))
    canary = run_canary(clock=lambda: float(next(ticks)))
    assert canary.matrix_flops == 2 * 1024**3
    assert canary.read_bytes_per_second == 64 * 2**20


# The conditions of this machine, and of machines that tell less.


def test_the_conditions_of_this_machine_are_sane() -> None:
    found = read_conditions()
    available = available_bytes()
    assert available is not None
    assert found.memory_available_bytes == pytest.approx(available, rel=0.5)
    assert found.foreign_cpu_share is None or 0 <= found.foreign_cpu_share <= 1
    assert found.steal_cpu_share is None or 0 <= found.steal_cpu_share <= 1
    assert found.canary is not None
    assert found.canary.matrix_flops > 0
    assert found.canary.read_bytes_per_second > 0


@pytest.fixture
def quick_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause and no real canary: the tests below are about the other readings."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(conditions_module, "_LOAD_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(conditions_module, "_CANARY_SAMPLES", 1)
    monkeypatch.setattr(conditions_module, "_CANARY_MATRIX", 2)
    monkeypatch.setattr(conditions_module, "run_canary", lambda: run_canary(clock=lambda: float(next(ticks))))


@pytest.mark.parametrize(
    ("on_mains", "source"),
    [(True, PowerSource.MAINS), (False, PowerSource.BATTERY), (None, None)],
    ids=["mains", "battery", "not told"],
)
@pytest.mark.usefixtures("quick_readings")
def test_the_power_source_is_what_the_system_says(
    on_mains: bool | None, source: PowerSource | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions_module, "draws_from_mains", lambda: on_mains)
    assert read_conditions().power_source is source


@pytest.mark.usefixtures("quick_readings")
def test_the_temperature_is_that_of_the_hottest_processor_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    sensors = {
        "nvme": [Sensor("", 99.0, None, None)],
        "coretemp": [Sensor("Core 0", 61.5, None, None), Sensor("Core 1", 72.25, None, None)],
        "acpitz": [Sensor("", None, None, None)],
    }
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    assert read_conditions().temperature_celsius == 72.25
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: {"nvme": sensors["nvme"]}, raising=False)
    assert read_conditions().temperature_celsius is None


@pytest.mark.parametrize(("megahertz", "hertz"), [(2400.0, 2_400_000_000), (0.0, None)])
@pytest.mark.usefixtures("quick_readings")
def test_the_frequency_is_in_hertz_and_zero_is_not_one(
    megahertz: float, hertz: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda: Frequency(megahertz, 0, 0), raising=False)
    assert read_conditions().frequency_hertz == hertz


@pytest.mark.parametrize(
    "error",
    [NotImplementedError("can't find current frequency file"), FileNotFoundError(2, "gone"), RuntimeError("odd")],
    ids=["not implemented", "no file", "refused"],
)
@pytest.mark.usefixtures("quick_readings")
def test_a_sensor_that_cannot_be_read_is_a_gap_and_never_an_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psutil raises on boards and virtual machines whose kernel offers half of what it looks for."""
    for name in ("cpu_freq", "sensors_temperatures"):
        monkeypatch.setattr(psutil, name, raising(error), raising=False)
    found = read_conditions()
    assert (found.frequency_hertz, found.temperature_celsius) == (None, None)
    facts = {gap.fact for gap in condition_gaps(found)}
    assert {"conditions.frequency_hertz", "conditions.temperature_celsius"} <= facts


@pytest.mark.usefixtures("quick_readings")
def test_a_system_without_these_sensors_has_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cpu_freq", "sensors_temperatures"):
        monkeypatch.delattr(psutil, name, raising=False)
    found = read_conditions()
    assert (found.frequency_hertz, found.temperature_celsius) == (None, None)


@pytest.mark.usefixtures("quick_readings")
def test_every_absent_condition_has_exactly_one_gap() -> None:
    found = read_conditions()
    names = [field.name for field in fields(found)]
    nothing = replace(found, **dict.fromkeys(names))
    gaps = condition_gaps(nothing)
    assert [gap.fact for gap in gaps] == [f"conditions.{name}" for name in names]
    assert {gap.reason for gap in gaps} == {ProbeGapReason.NOT_OFFERED}
    assert all(gap.detail and "\n" not in gap.detail for gap in gaps)
    present = [name for name in names if getattr(found, name) is not None]
    assert len(condition_gaps(found)) == len(names) - len(present)


# Counters that a system does not let us read, or that step back.


def test_counters_that_cannot_be_read_are_absent_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_times", raising(PermissionError("/proc/stat")))
    found = read_conditions(sleep=lambda _seconds: None)
    assert (found.foreign_cpu_share, found.steal_cpu_share) == (None, None)
    assert ForeignLoad().share_since_last() is None
    assert {"conditions.foreign_cpu_share", "conditions.steal_cpu_share"} <= {g.fact for g in condition_gaps(found)}


def test_a_counter_that_steps_back_leaves_the_shares_between_0_and_1(monkeypatch: pytest.MonkeyPatch) -> None:
    before = IDLE._replace(user=10, idle=10, iowait=2, steal=2)
    after = IDLE._replace(user=15, idle=10, iowait=1, steal=1)
    monkeypatch.setattr(psutil, "cpu_times", in_turn([before, after]))
    found = read_conditions(sleep=lambda _seconds: None)
    assert (found.foreign_cpu_share, found.steal_cpu_share) == (1.0, 0.0)


def test_a_condition_that_was_lost_during_the_run_is_a_gap() -> None:
    first = read_conditions(sleep=lambda _seconds: None)
    last = replace(first, memory_available_bytes=None)
    assert "conditions.memory_available_bytes" in {gap.fact for gap in condition_gaps(first, last)}
