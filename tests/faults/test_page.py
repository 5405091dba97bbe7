"""docs/reliability.md says which size its figures come from, and hides no bound that was missed."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from faults import __main__ as program
from faults.catalogue import FAULTS, Size
from faults.page import Record, page, surroundings

FAULT = next(fault for fault in FAULTS if fault.name == "lost-replies")
RECORD = Record(
    fault=FAULT.name,
    size=Size.TENTH,
    count=FAULT.sizes[Size.TENTH],
    date="2026-11-22",
    seconds=12.0,
    seed=7,
    surroundings=surroundings(),
    load_average=0.5,
    missed=(),
    figures={"lost_replies": 1_234, "longest_seconds": 0.5, "set_aside": [], "books": {"kept_runs": 5_000}},
)


def test_a_fault_is_shown_with_its_size_and_its_figures() -> None:
    text = page([RECORD])
    assert "| Replies are lost | 5,000 runs (a tenth of the long size) | held | 2026-11-22 |" in text
    assert "| lost replies | 1,234 |" in text
    assert "| longest seconds | 0.50 |" in text
    assert "| set aside | none |" in text
    assert "| the books | 5,000 kept runs |" in text
    assert FAULT.must in text


def test_a_bound_that_was_missed_is_shown() -> None:
    assert "| **missed**: 3 rows are duplicated |" in page([replace(RECORD, missed=("3 rows are duplicated",))])


def test_the_page_takes_the_largest_size_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "FIGURES", tmp_path)
    for size in (Size.CI, Size.TENTH):
        record = replace(RECORD, size=size, count=FAULT.sizes[size])
        (tmp_path / size).mkdir()
        (tmp_path / size / f"{FAULT.name}.json").write_text(json.dumps(asdict(record)))
    largest = program.largest(FAULT)
    assert largest is not None
    assert largest.size == Size.TENTH


@pytest.mark.parametrize("record", [asdict(RECORD) | {"count": 4}, {"fault": FAULT.name}])
def test_figures_of_another_size_or_version_are_not_taken_for_these(
    record: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "FIGURES", tmp_path)
    (tmp_path / Size.TENTH).mkdir()
    (tmp_path / Size.TENTH / f"{FAULT.name}.json").write_text(json.dumps(record))
    assert program.largest(FAULT) is None
