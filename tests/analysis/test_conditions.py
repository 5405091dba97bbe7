"""A run is clean, or disturbed and says why."""

from dataclasses import replace
from typing import Any

import pytest

from weighin_analysis.conditions import CANARY_DRIFT, FOREIGN_SHARE, STEAL_SHARE, Conditions, disturbances

CALM = Conditions(
    memory_available_bytes=8 << 30,
    foreign_cpu_share=0.01,
    steal_cpu_share=0.0,
    power_source="mains",
    frequency_hertz=3_000_000_000,
    temperature_celsius=50.0,
    canary_matrix_flops=100e9,
    canary_read_bytes_per_second=10e9,
)
UNREADABLE = Conditions(
    memory_available_bytes=None,
    foreign_cpu_share=None,
    steal_cpu_share=None,
    power_source=None,
    frequency_hertz=None,
    temperature_celsius=None,
    canary_matrix_flops=None,
    canary_read_bytes_per_second=None,
)


@pytest.mark.parametrize(
    "moments",
    [
        [],
        [UNREADABLE],
        [CALM],
        [CALM, CALM],
        [CALM, UNREADABLE],
        [
            replace(CALM, foreign_cpu_share=2 * FOREIGN_SHARE, steal_cpu_share=STEAL_SHARE),
            replace(CALM, canary_matrix_flops=100e9 * (1 - CANARY_DRIFT + 0.01)),
        ],
        [CALM, replace(CALM, memory_available_bytes=1, frequency_hertz=1, temperature_celsius=99.0)],
    ],
    ids=["nothing known", "nothing readable", "before alone", "the same", "after not readable", "just calm", "heat"],
)
def test_what_is_calm_or_not_known_leaves_a_run_clean(moments: list[Conditions]) -> None:
    assert disturbances(moments, None) == ()
    assert disturbances(moments, FOREIGN_SHARE) == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"foreign_cpu_share": 0.3}, "Other programs used 30% of the processor around the run."),
        ({"steal_cpu_share": 0.2}, "The hypervisor gave 20% of the processor to others around the run."),
        ({"power_source": "battery"}, "It ran on battery: on the mains it may be faster."),
        ({"canary_matrix_flops": 60e9}, "The device computed 40% slower after the run than before it."),
        ({"canary_matrix_flops": 130e9}, "The device computed 30% faster after the run than before it."),
        ({"canary_read_bytes_per_second": 7e9}, "The device read memory 30% slower after the run than before it."),
    ],
)
def test_whatever_disturbs_is_said_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert disturbances([CALM, replace(CALM, **changes)], None) == (sentence,)


def test_load_while_the_rounds_ran_is_told_before_load_around_them() -> None:
    around = replace(CALM, foreign_cpu_share=0.9)
    assert disturbances([around, around], 0.5) == ("Other programs used 50% of the processor while it ran.",)


def test_everything_that_disturbed_is_told() -> None:
    after = replace(CALM, steal_cpu_share=0.5, power_source="battery", canary_read_bytes_per_second=1e9)
    assert len(disturbances([CALM, after], 0.5)) == 4
