"""Whether what is said of devices that are not in the file holds, and is what the documentation shows."""

from pathlib import Path

import numpy as np
import pytest
from evaluation_tables import decode, enough, resampled, tables
from made_rows import THROUGHPUT

from weighin_analysis.public.rows import read_rows


def test_the_documentation_shows_the_tables_that_the_tool_prints() -> None:
    shown = (Path(__file__).parents[3] / "docs" / "evaluate.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in tables(read_rows(THROUGHPUT)) if line not in shown] == []


def test_most_samples_of_devices_reach_what_is_asked() -> None:
    """15 % better than the line in median and p90, and intervals that hold in 72 to 88 %, from two and from one."""
    sampled = resampled(decode(read_rows(THROUGHPUT)), samples=500)
    assert min(enough(sampled)) >= 0.8
    assert np.median(sampled, axis=0)[:2] == pytest.approx([0.25, 0.4], abs=0.06)
    assert np.quantile(sampled, 0.025, axis=0)[0] > 0


def test_a_share_of_verdicts_is_enough_only_where_it_reaches_the_bound() -> None:
    verdicts = np.array([[0.2, 0.2, 0.80, 0.80], [0.1, 0.2, 0.90, 0.70]])
    assert enough(verdicts) == [0.5, 1.0, 0.5, 0.5]
