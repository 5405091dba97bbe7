"""`weighin-analysis evaluate`, as a person and as a program reads it."""

import json
from pathlib import Path

import pytest
from made_rows import THROUGHPUT, csv_of

from weighin_analysis.cli import main


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["evaluate", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_the_document_has_every_predictor_with_its_figures_as_fractions(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(printed(capsys, str(THROUGHPUT), "--json"))
    predictors = document["predictors"]
    assert list(predictors) == [
        "weighin_two_anchors",
        "weighin_one_anchor",
        "two_point_line",
        "nonnegative_line",
        "nearest_scalar",
        "one_scalar",
        "spec_sheet",
    ]
    for figures in predictors.values():
        assert list(figures) == [
            "rows",
            "devices",
            "median_ape",
            "p90_ape",
            "device_balanced_median_ape",
            "interval_coverage",
            "median_interval_width",
        ]
        assert 0 < figures["median_ape"] < figures["p90_ape"] < 2
    assert {figures["rows"] for figures in predictors.values()} == {409}
    assert predictors["spec_sheet"]["interval_coverage"] is None
    assert 0 < document["common_share"]["weighin_two_anchors"]["share"] < 1


def test_a_person_reads_a_table_and_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, str(THROUGHPUT), "--phase", "prefill")
    assert text.startswith("prefill, the easy subset: 280 rows, each predicted as if its device had never been seen")
    assert "\ntwo_point_line " in text
    assert "\none_scalar           each in turn " in text
    assert "\nWhere no run is within 10% of its size (135 rows), from two runs by " in text
    assert "From two runs of a device, the rate of another model is off by at most" in text
    assert "Rows left out: " in text


def test_what_the_documentation_shows_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    shown = (Path(__file__).parents[3] / "docs" / "evaluate.md").read_text(encoding="utf-8")
    assert printed(capsys, str(THROUGHPUT)) in shown
    for arguments in (["--phase", "prefill"], ["--all"]):
        table = printed(capsys, str(THROUGHPUT), *arguments).split("\n\n")[1]
        assert table in shown


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        (csv_of(tokens_per_s="nan"), "line 2, column tokens_per_s: 'nan' is not a number above 0"),
        (csv_of(tokens_per_s="-1"), "line 2, column tokens_per_s: '-1' is not a number above 0"),
        (csv_of().replace("tokens_per_s", "speed"), "line 1: column tokens_per_s is missing"),
        (csv_of(), "usable decode rows: 1"),
    ],
)
def test_a_file_that_says_nothing_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    path = tmp_path / "throughput.csv"
    path.write_text(content)
    assert main(["evaluate", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("\n") == 1


def test_help_has_an_example_and_bad_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--help"])
    assert stopped.value.code == 0
    assert "example: weighin-analysis evaluate throughput.csv" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--phase", "training", str(THROUGHPUT)])
    assert stopped.value.code == 2
