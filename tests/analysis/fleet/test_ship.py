"""The ship table: what reaches a class reaches every smaller one, whatever the estimates of single classes say."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.card import Verdict
from weighin_analysis.fleet.coverage.shares import Cells
from weighin_analysis.fleet.coverage.ship import Choice, ClassStanding, ship_table
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
