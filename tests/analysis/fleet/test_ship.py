"""The ship table: what reaches a class reaches every smaller one, whatever the estimates of single classes say."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.card import Verdict
from weighin_analysis.fleet.coverage.shares import Cells
from weighin_analysis.fleet.coverage.ship import Choice, ClassStanding, choice_of, ship_table
from weighin_analysis.fleet.coverage.standing import Standing
from weighin_analysis.fleet.grading.grade import VERDICTS, normal_cdf

CLASSES = ("0.5B", "1B", "2B")
CHOICE = Choice(
    scheme="int4_block32",
    download_bytes=1,
    median_decode_tokens_per_second=None,
    median_time_to_first_token_seconds=None,
)


def standing(verdicts: list[int]) -> Standing:
    unknown = np.full(len(verdicts), np.nan)
    verdict = np.array(verdicts, dtype=np.int8)
    margins = [np.where(verdict <= VERDICTS.index(one), 0.3, -0.3) for one in (Verdict.COMFORTABLE, Verdict.USABLE)]
    comfortable, usable = (one.astype(np.float32) for one in margins)
    return Standing(
        verdict=verdict,
        comfortable_margin_sds=comfortable,
        comfortable_probability=normal_cdf(margins[0]).astype(np.float32),
        usable_margin_sds=usable,
        usable_probability=normal_cdf(margins[1]).astype(np.float32),
        decode_tokens_per_second=unknown,
        prefill_tokens_per_second=unknown,
        time_to_first_token_seconds=unknown,
    )


def test_the_scheme_to_ship_is_that_of_most_people_and_the_medians_are_of_all_who_run_the_class() -> None:
    """Three servers run one scheme; the phone, which stands for half of the population, runs another."""
    comfortable, too_slow = VERDICTS.index(Verdict.COMFORTABLE), VERDICTS.index(Verdict.TOO_SLOW)
    servers = replace(
        standing([comfortable] * 3 + [too_slow]),
        decode_tokens_per_second=np.array([200.0, 300.0, 400.0, 1.0]),
        time_to_first_token_seconds=np.array([0.3, 0.2, 0.1, 9.0]),
    )
    phone = replace(
        standing([too_slow] * 3 + [comfortable]),
        decode_tokens_per_second=np.array([1.0, 1.0, 1.0, 20.0]),
        time_to_first_token_seconds=np.array([9.0, 9.0, 9.0, 2.0]),
    )
    best = Standing.nobody(4)
    best.take(servers)
    best.take(phone)
    weights = np.array([0.15, 0.15, 0.15, 0.55])
    choice = choice_of([("Q4_K_M", 1, servers), ("Q4_0", 2, phone)], best, weights)
    assert choice == Choice(
        scheme="Q4_0",
        download_bytes=2,
        median_decode_tokens_per_second=20.0,
        median_time_to_first_token_seconds=2.0,
    )


@given(
    st.integers(1, 30).flatmap(
        lambda count: st.lists(
            st.lists(st.integers(0, len(VERDICTS) - 1), min_size=count, max_size=count), min_size=3, max_size=3
        )
    )
)
def test_a_smaller_class_never_reaches_fewer_devices_and_usable_is_never_less(verdicts: list[list[int]]) -> None:
    count = len(verdicts[0])
    classes = [
        ClassStanding(size_class=name, best=standing(one), choice=CHOICE)
        for name, one in zip(CLASSES, verdicts, strict=True)
    ]
    *choices, nothing = ship_table("made", classes, np.ones(count, dtype=np.bool_), Cells.one(count))
    reach = [row.reach.value for row in choices]
    assert reach == sorted(reach)
    assert all(row.usable_reach.value >= row.reach.value for row in choices)
    assert sum(row.tier_count for row in (*choices, nothing)) == count
    for row in choices:
        assert abs(row.server.value - (1 - row.reach.value)) < 1e-12


def test_without_a_judged_device_there_is_nothing_to_ship() -> None:
    nobody = ClassStanding(size_class="1B", best=Standing.nobody(3), choice=None)
    assert ship_table("made", [nobody], np.zeros(3, dtype=np.bool_), Cells.one(3)) == ()
