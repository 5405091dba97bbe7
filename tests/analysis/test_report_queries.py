"""Queries of the report held against plainer ones: every device by its newest run, whether or not it ran before."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from made_fleet import make_fleet

from weighin_analysis.fleet.coverage.cover import count
from weighin_analysis.fleet.coverage.population import parse_population
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.report.queries import STOCK_SHARES, free_memory, memory_needs, select_estimates


@pytest.mark.parametrize("runs_per_device", [1, 3])
def test_memory_is_told_of_the_newest_run_of_every_device(runs_per_device: int, tmp_path: Path) -> None:
    folder = make_fleet(tmp_path / "made", devices=40, seed=5, measurements_per_run=0, runs_per_device=runs_per_device)
    newest = "FROM estimates WHERE run_id IN (SELECT run_id FROM devices) AND counts"
    with Fleet(folder) as fleet:
        cells = count(fleet, fleet.limits(), source=None, population=None).cells
        select_estimates(fleet)
        rows = fleet.sql(
            f"SELECT size_class, min(memory_bytes), max(memory_bytes), count(*) {newest} GROUP BY ALL"
        ).rows()
        assert {
            (one.size_class, one.least_bytes, one.most_bytes, one.estimate_count) for one in memory_needs(fleet)
        } == {*rows}
        amounts = sorted(
            amount for (amount,) in fleet.sql(f"SELECT max(memory_available_bytes) {newest} GROUP BY run_id").rows()
        )
        assert len(amounts) == 40
        for share, one in zip(STOCK_SHARES, free_memory(fleet, cells), strict=True):
            assert one.known_count == 40
            assert sum(amount >= one.memory_bytes for amount in amounts) >= 40 * share
            assert one.memory_bytes in amounts


def test_free_memory_is_that_of_the_people_that_devices_stand_for(tmp_path: Path) -> None:
    population = parse_population("form_factor,share\nphone,80 %\nlaptop,20 %\n")
    with Fleet(make_fleet(tmp_path / "made", devices=60, seed=5, measurements_per_run=0)) as fleet:
        cells = count(fleet, fleet.limits(), source=None, population=population).cells
        select_estimates(fleet)
        found = free_memory(fleet, cells)
        rows = fleet.sql(
            "SELECT max(estimates.memory_available_bytes), any_value(form_factor) "
            "FROM estimates JOIN devices USING (run_id) WHERE counts "
            "AND form_factor IN ('phone', 'laptop') GROUP BY run_id"
        ).rows()
    counts = Counter(form_factor for _, form_factor in rows)
    part = {"phone": Fraction(8, 10) / counts["phone"], "laptop": Fraction(2, 10) / counts["laptop"]}
    for share, one in zip(STOCK_SHARES, found, strict=True):
        less = [sum(part[form] for amount, form in rows if amount <= most) for most, _ in rows]
        wanted = min(most for (most, _), people in zip(rows, less, strict=True) if people >= 1 - Fraction(str(share)))
        assert one.memory_bytes == wanted
        assert one.known_count == len(rows)
