"""The law that is shipped is what the fit gives, and the fit finds the law behind rows that follow one."""

import numpy as np
import pytest
from fit_size_law import LAW_FILE, law_text
from made_rows import THROUGHPUT, row_of

from weighin_analysis.public.cells import Cell, from_one, from_two, other_runs
from weighin_analysis.public.fit import fit, weighted_quantile
from weighin_analysis.public.rows import read_rows


def test_the_shipped_law_is_what_the_fit_gives() -> None:
    assert LAW_FILE.read_text(encoding="utf-8") == law_text(read_rows(THROUGHPUT))


def test_the_exponent_behind_made_rows_is_found() -> None:
    generator = np.random.default_rng(1)
    runs: list[Cell] = []
    for device in range(12):
        row, speed = row_of(device=f"device {device}"), generator.uniform(1e9, 1e11)
        for model in range(6):
            work = generator.uniform(5e8, 1e10)
            seconds = work**0.8 / speed**0.8 * np.exp(0.03 * generator.standard_normal())
            runs.append(Cell(row=row, model=str(model), work=work, seconds=seconds))
    others = other_runs(runs)
    law = fit(from_two(others), from_one(others))
    assert law.size_exponent == pytest.approx(0.2, abs=0.021)
    assert law.run_sd < 0.05


def test_a_weighted_quantile_counts_a_value_by_its_weight() -> None:
    values = np.array([3.0, 1.0, 2.0])
    assert weighted_quantile(values, np.array([1.0, 1.0, 1.0]), 0.5) == 2.0
    assert weighted_quantile(values, np.array([98.0, 1.0, 1.0]), 0.5) == pytest.approx(3.0, abs=0.03)
