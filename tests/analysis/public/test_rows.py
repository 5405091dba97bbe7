"""A throughput CSV is read in full or refused with the line and the column that cannot be true."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_rows import THROUGHPUT, csv_of

from weighin_analysis.errors import PublicDataError
from weighin_analysis.public.rows import COLUMNS, Confidence, PublicPhase, parse_rows, read_rows


def test_the_public_file_is_read_to_its_last_row() -> None:
    rows = read_rows(THROUGHPUT)
    phases = [row.phase for row in rows]
    assert len(rows) == 1840
    counts = [phases.count(phase) for phase in (PublicPhase.DECODE, PublicPhase.PREFILL, PublicPhase.OUT_OF_MEMORY)]
    assert counts == [1083, 754, 3]
    assert len({row.device for row in rows}) == 98
    assert [row.confidence for row in rows].count(Confidence.HIGH) == 1425


def test_a_row_keeps_its_units() -> None:
    (row,) = parse_rows(csv_of(), "file.csv")
    assert row.memory_bytes == 8 * 2**30
    assert row.bandwidth_bytes_per_second == pytest.approx(67.2e9)
    assert row.tokens_per_second == 30.2
    assert (row.line, row.parameters, row.model_size_bytes) == (2, 1_235_814_400, 773_025_920)


def test_what_nobody_told_is_none_and_not_zero() -> None:
    (row,) = parse_rows(csv_of(memory_gb="", mem_bandwidth_gbps="", model_size_bytes=""), "file.csv")
    absent = row.memory_bytes, row.bandwidth_bytes_per_second, row.model_size_bytes, row.context_tokens
    assert absent == (None,) * 4


def test_a_model_that_did_not_load_has_no_rate() -> None:
    (row,) = parse_rows(csv_of(phase="oom", tokens_per_s=""), "file.csv")
    assert row.tokens_per_second is None
    with pytest.raises(PublicDataError, match=r"line 2, column tokens_per_s: '3' is not empty"):
        parse_rows(csv_of(phase="oom", tokens_per_s="3"), "file.csv")


@pytest.mark.parametrize("column", ["tokens_per_s", "memory_gb", "mem_bandwidth_gbps", "parameters", "context"])
@pytest.mark.parametrize("text", ["nan", "inf", "-3", "0", "fast", "1e300", "1_000", "５"])
def test_a_number_that_cannot_be_true_is_refused_by_line_and_column(column: str, text: str) -> None:
    with pytest.raises(PublicDataError, match=rf"^file\.csv, line 2, column {column}: '{text}' is not "):
        parse_rows(csv_of(**{column: text}), "file.csv")


@pytest.mark.parametrize(
    ("column", "text", "below"),
    [
        ("tokens_per_s", "1e300", "1,000,000,000,000,000"),
        ("parameters", "1000000000000000", "1,000,000,000,000,000"),
        ("memory_gb", "1e14", "1,000,000"),
    ],
)
def test_a_number_that_is_too_large_is_refused_with_how_large_one_may_be(column: str, text: str, below: str) -> None:
    with pytest.raises(
        PublicDataError, match=rf"column {column}: '{text}' is not a .*number above 0 and below {below}$"
    ):
        parse_rows(csv_of(**{column: text}), "file.csv")


@pytest.mark.parametrize(
    ("column", "text"),
    [("phase", "training"), ("confidence", ""), ("is_moe", "perhaps"), ("active_parameters", "99000000000")],
)
def test_a_word_that_the_format_does_not_have_is_refused(column: str, text: str) -> None:
    with pytest.raises(PublicDataError, match=rf"line 2, column {column}: '{text}' is not "):
        parse_rows(csv_of(**{column: text}), "file.csv")


@pytest.mark.parametrize("column", ["device", "runtime", "backend", "model", "quantization", "tokens_per_s", "source"])
def test_a_row_without_what_identifies_it_is_refused(column: str) -> None:
    with pytest.raises(PublicDataError, match=rf"line 2, column {column} is empty"):
        parse_rows(csv_of(**{column: ""}), "file.csv")


@pytest.mark.parametrize("missing", COLUMNS)
def test_a_missing_column_is_named(missing: str) -> None:
    header = ",".join(column for column in COLUMNS if column != missing)
    with pytest.raises(PublicDataError, match=f"line 1: column {missing} is missing"):
        parse_rows(header + "\n", "file.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        (",".join(COLUMNS), "a header and no row"),
        (",".join((*COLUMNS, "device")), "'device' is there twice"),
        (csv_of() + "a,b\n", "line 3: 2 fields where the header has 22"),
        (csv_of(notes='"never closed'), "line 2: unexpected end of data"),
        (csv_of(notes="x" * 2000), "column notes: longer than 1000 characters"),
        (csv_of(notes='"x' + "y" * 200_000 + '"'), "line 2: field larger"),
    ],
)
def test_a_damaged_file_is_one_clear_line(text: str, says: str) -> None:
    with pytest.raises(PublicDataError, match=says) as caught:
        parse_rows(text, "file.csv")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(PublicDataError, match="No such file"):
        read_rows(tmp_path / "none.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00" * 20)
    with pytest.raises(PublicDataError, match=r"binary\.csv is not a text file in UTF-8"):
        read_rows(binary)


def outcome(text: str) -> str:
    """The error's text, or nothing where the file was read."""
    try:
        rows = parse_rows(text, "file.csv")
    except PublicDataError as error:
        return str(error)
    assert all(row.tokens_per_second is None or row.tokens_per_second > 0 for row in rows)
    return ""


@given(st.sampled_from(COLUMNS), st.text(st.characters(exclude_characters='",\r\n'), max_size=30))
def test_whatever_stands_in_a_field_the_row_is_read_or_refused_in_one_line(column: str, text: str) -> None:
    assert "\n" not in outcome(csv_of(**{column: text}))


@given(st.binary(max_size=200))
def test_no_bytes_at_all_end_in_another_error(content: bytes) -> None:
    text = ",".join(COLUMNS) + "\n" + content.decode("utf-8", errors="replace")
    assert outcome(text).startswith("file.csv") or len(content) > 2 * len(COLUMNS)
