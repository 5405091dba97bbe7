"""What others predict with, as it is published or obvious."""

from dataclasses import replace

import pytest
from made_rows import row_of

from weighin_analysis.public.baselines import nonnegative_line, one_scalar, spec_sheet, two_point_line
from weighin_analysis.public.cells import Cell, Question

ROW = row_of(mem_bandwidth_gbps="100")


def cell(work: float, seconds: float, *, device: str = "a", backend: str = "CPU") -> Cell:
    return Cell(row=replace(ROW, device=device, backend=backend), model=str(work), work=work, seconds=seconds)


def question(near: Cell, far: Cell | None = None, *, work: float = 4e9) -> Question:
    return Question(cell=cell(work, 1.0), near=near, far=far)


def test_one_scalar_is_in_proportion_to_the_work() -> None:
    assert one_scalar(question(cell(1e9, 0.1))) == pytest.approx(0.4)


def test_a_line_has_the_fixed_cost_that_two_runs_have() -> None:
    assert two_point_line(question(cell(2e9, 0.3), cell(1e9, 0.2))) == pytest.approx(0.5)


def test_a_line_that_leads_below_nothing_falls_back_to_the_nearer_run() -> None:
    assert two_point_line(question(cell(2e9, 0.3), cell(1e9, 0.1), work=4e8)) == pytest.approx(0.06)


def test_a_nonnegative_line_is_the_line_where_that_costs_something_and_rises() -> None:
    assert nonnegative_line(question(cell(2e9, 0.3), cell(1e9, 0.2))) == pytest.approx(0.5)


@pytest.mark.parametrize("seconds", [0.1, 0.4], ids=["cost below 0", "slope below 0"])
def test_elsewhere_it_errs_as_little_on_both_runs_as_proportion_can(seconds: float) -> None:
    near, far = cell(2e9, 0.3), cell(1e9, seconds)
    found = nonnegative_line(question(near, far)) / 4e9

    def squares(slope: float) -> float:
        return sum((slope * run.work / run.seconds - 1) ** 2 for run in (near, far))

    assert squares(found) < min(squares(0.99 * found), squares(1.01 * found))


def test_a_spec_sheet_takes_the_efficiency_of_other_devices_on_the_same_backend() -> None:
    others = [cell(1e9, 0.02, device="b"), cell(1e9, 0.04, device="c"), cell(1e9, 0.01, device="d", backend="GPU")]
    ((_, seconds),) = spec_sheet([cell(1e9, 5.0), *others], [question(others[0])])
    assert seconds == pytest.approx(4e9 / (100e9 * (0.5 + 0.25) / 2))


def test_a_backend_that_no_other_device_has_takes_the_efficiency_of_all() -> None:
    others = [cell(1e9, 0.02, device="b", backend="GPU"), cell(1e9, 0.01, device="c", backend="NPU")]
    ((_, seconds),) = spec_sheet([cell(1e9, 5.0), *others], [question(others[0])])
    assert seconds == pytest.approx(4e9 / (100e9 * 0.75))


def test_a_spec_sheet_says_nothing_without_a_bandwidth_or_another_device() -> None:
    asked = question(cell(1e9, 0.1))
    unstated = replace(asked, cell=replace(asked.cell, row=replace(ROW, bandwidth_bytes_per_second=None)))
    assert [seconds for _, seconds in spec_sheet([cell(1e9, 0.1, device="b")], [unstated])] == [None]
    assert [seconds for _, seconds in spec_sheet([cell(1e9, 0.1)], [asked])] == [None]
