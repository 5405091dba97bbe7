"""The conditions of a run, before and after, as the page shows them."""

from collections.abc import Callable
from dataclasses import dataclass

from weighin_analysis.conditions import Conditions
from weighin_analysis.report.cards import RunFacts
from weighin_analysis.report.numbers import gb_per_second, gib, percent, rounded, signed_percent, significant
from weighin_analysis.report.view import ConditionView

# Why, is told with everything else that is missing from the run.
ABSENT = "not readable"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Condition:
    """How one condition is shown; ``compared`` tells that its change in percent means something."""

    name: str
    field: str
    show: Callable[[float], str]
    compared: bool = False


_CONDITIONS = (
    _Condition(name="Free memory", field="memory_available_bytes", show=lambda value: gib(int(value))),
    _Condition(name="Load of other programs", field="foreign_cpu_share", show=percent),
    _Condition(name="Taken by the hypervisor", field="steal_cpu_share", show=percent),
    _Condition(
        name="Clock", field="frequency_hertz", show=lambda value: f"{rounded(value / 1e9, 2)} GHz", compared=True
    ),
    _Condition(name="Hottest sensor", field="temperature_celsius", show=lambda value: f"{value:.0f} °C"),
    _Condition(
        name="Canary: matrix product",
        field="canary_matrix_flops",
        show=lambda value: f"{significant(value / 1e9)} GFLOP/s",
        compared=True,
    ),
    _Condition(name="Canary: reading 64 MiB", field="canary_read_bytes_per_second", show=gb_per_second, compared=True),
)


def conditions_view(run: RunFacts) -> tuple[ConditionView, ...]:
    """Return a row per condition."""
    rows = [_condition_view(run, condition) for condition in _CONDITIONS]
    power = [_power_text(state) for state in (run.before, run.after)]
    rows.insert(3, ConditionView(name="Power", before=power[0], after=power[1], change=""))
    return tuple(rows)


def _condition_view(run: RunFacts, condition: _Condition) -> ConditionView:
    before, after = _value(run.before, condition.field), _value(run.after, condition.field)
    change = _change(before, after) if condition.compared else None
    return ConditionView(
        name=condition.name,
        before=ABSENT if before is None else condition.show(before),
        after=ABSENT if after is None else condition.show(after),
        change="" if change is None else signed_percent(change),
    )


def _value(state: Conditions | None, field: str) -> float | None:
    value: float | None = getattr(state, field) if state else None
    return value


def _change(before: float | None, after: float | None) -> float | None:
    return after / before - 1 if before and after is not None else None


def _power_text(state: Conditions | None) -> str:
    return (state.power_source if state else None) or ABSENT
