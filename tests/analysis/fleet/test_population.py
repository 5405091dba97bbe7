"""A population as a CSV of shares: what is read, and the one line for what cannot be one."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.errors import PopulationError
from weighin_analysis.fleet.coverage.population import ACCELERATORS, FORM_FACTORS, parse_population, read_population


def test_a_population_is_read_cell_by_cell() -> None:
    text = "form_factor,memory,accelerator,share\nphone,<8,none,40 %\nphone,>=8,npu,0.25\nlaptop,8-16,gpu,35%\n"
    cells = parse_population(text).cells
    assert [cell.name for cell in cells] == [
        "phone, <8 GiB, no accelerator",
        "phone, >=8 GiB, npu",
        "laptop, 8-16 GiB, gpu",
    ]
    assert [cell.share for cell in cells] == pytest.approx([0.40, 0.25, 0.35])


def test_shares_that_were_rounded_sum_to_one_afterwards() -> None:
    cells = parse_population("form_factor,share\nphone,33 %\nlaptop,33 %\ntablet,33 %\n").cells
    assert math.fsum(cell.share for cell in cells) == pytest.approx(1, abs=1e-12)


def test_a_device_belongs_to_the_band_of_the_memory_that_it_was_sold_with() -> None:
    (small, large) = parse_population("memory,share\n<8,50 %\n>=8,50 %\n").cells
    reported = int(6.64 * 2**30)  # what a phone sold with 8 GiB tells
    assert small.memory is not None
    assert large.memory is not None
    assert small.memory.most_bytes is not None
    assert reported > small.memory.most_bytes
    assert reported > large.memory.above_bytes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("form_factor,share\n", "has a heading and no row"),
        ("share\n1\n", "no column to tell devices apart"),
        ("form_factor\nphone\n", "no column share"),
        ("form_factor,shoe_size,share\nphone,44,1\n", "column 'shoe_size' is not known"),
        ("form_factor,form_factor,share\nphone,phone,1\n", "column form_factor is there twice"),
        ("form_factor,share\nphone\n", "row 2 has 1 fields, the heading 2"),
        ("form_factor,share\ntelephone,1\n", "row 2: form_factor 'telephone' is not one of"),
        ("accelerator,share\nvoodoo,1\n", "row 2: accelerator 'voodoo' is not one of"),
        ("memory,share\n8..16,1\n", "row 2: memory '8..16' is no band"),
        ("memory,share\n16-8,1\n", "row 2: memory '16-8' is no band"),
        ("form_factor,share\nphone,much\n", "row 2: share 'much' is no number"),
        ("form_factor,share\nphone,-0.5\nlaptop,1.5\n", "row 2: share '-0.5' is not between 0 and 1"),
        ("form_factor,share\nphone,nan\n", "row 2: share 'nan' is not between 0 and 1"),
        ("form_factor,share\nphone,60\nlaptop,40\n", "write percent as 25 %"),
        ("form_factor,share\nphone,0.5\nlaptop,0.4\n", "the shares sum to 90 %"),
        ("form_factor,share\nphone,0.5\nphone,0.5\n", "row 3 overlaps row 2"),
        ("memory,share\n<8,0.5\n4-16,0.5\n", "row 3 overlaps row 2"),
        ('form_factor,share\n"phone,1\n', "is no CSV"),
    ],
)
def test_what_is_no_population_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(PopulationError) as refused:
        parse_population(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PopulationError, match=r"none\.csv: cannot be read"):
        read_population(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PopulationError, match=r"binary\.csv: is no text"):
        read_population(tmp_path / "binary.csv")


@given(st.text(alphabet=st.sampled_from('form_factor,memory,share\n"<>=-0189.% phonelaptopgpu\r\x00é'), max_size=200))
def test_any_text_is_a_population_or_one_line(text: str) -> None:
    try:
        total = math.fsum(cell.share for cell in parse_population(text).cells)
    except PopulationError as refused:
        total, said = 1.0, str(refused)
    else:
        said = ""
    assert total == pytest.approx(1)
    assert "\n" not in said


@given(
    st.lists(
        st.tuples(st.sampled_from(FORM_FACTORS), st.sampled_from(ACCELERATORS)), min_size=1, max_size=28, unique=True
    ),
    st.data(),
)
def test_a_population_that_is_written_is_read_back(cells: list[tuple[str, str]], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 100), min_size=len(cells), max_size=len(cells)))
    shares = [weight / sum(weights) for weight in weights]
    rows = [f"{form},{kind},{share!r}" for (form, kind), share in zip(cells, shares, strict=True)]
    found = parse_population("form_factor,accelerator,share\n" + "\n".join(rows)).cells
    assert [(cell.form_factor, cell.accelerator) for cell in found] == cells
    assert [cell.share for cell in found] == pytest.approx(shares)
