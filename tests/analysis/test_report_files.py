"""The files beside the page say what the page says: Markdown, CSV and JSON, and charts that stand alone."""

import csv
import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import duckdb
import pytest
from example_runs import example_run
from example_snapshots import device_id, make_snapshot
from html_checks import Page
from made_fleet import make_fleet
from made_rows import row_of

import weighin_analysis
from weighin_analysis.fleet.external.importing import import_rows
from weighin_analysis.limits import current_limits
from weighin_analysis.report.numbers import percent
from weighin_analysis.report.write import write_report

CSV_FILES = {
    "coverage.csv",
    "ship.csv",
    "tiers.csv",
    "speeds.csv",
    "baselines.csv",
    "gates.csv",
    "memory.csv",
    "free_memory.csv",
    "versions.csv",
    "devices.csv",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a made fleet."""
    made = tmp_path_factory.mktemp("files")
    with weighin_analysis.open(make_fleet(made / "snapshot", devices=60, seed=2)) as fleet:
        write_report(fleet, made / "report")
    return made / "report"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_everything_that_is_promised_is_there_and_nothing_else(folder: Path) -> None:
    charts = {f"charts/{name}.{kind}" for name in ("coverage", "speed", "memory") for kind in ("svg", "png")}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == CSV_FILES | charts | {"index.html", "report.md", "report.json"}


def test_the_markdown_holds_every_table_of_the_page_row_by_row(folder: Path) -> None:
    page = Page((folder / "index.html").read_text(encoding="utf-8"))
    lines = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    written = {re.sub(r"[\W_]+", " ", line).strip() for line in lines if line.startswith("|")}
    tables = [table for table in page.tables if "data" in table.classes]
    assert len(tables) > 8
    for row in [row for table in tables for row in table.rows]:
        assert re.sub(r"[\W_]+", " ", " ".join(row)).strip() in written


def test_the_markdown_says_every_sentence_of_the_page(folder: Path) -> None:
    page = Page((folder / "index.html").read_text(encoding="utf-8"))
    text = re.sub(r"[\W_]+", " ", (folder / "report.md").read_text(encoding="utf-8"))
    for block in page.blocks:
        words = re.sub(r"[\W_]+", " ", block).strip()
        assert words in text or block == "weighin report", block


def test_the_shares_of_the_csv_are_those_of_the_page(folder: Path) -> None:
    (table,) = [
        table
        for table in Page((folder / "index.html").read_text(encoding="utf-8")).tables
        if "coverage" in table.classes
    ]
    shown = {row[0].split(" ")[0]: row[1] for row in table.rows[1:]}
    found = [row for row in rows(folder / "coverage.csv") if row["level"] == "comfortable" and not row["scheme"]]
    assert {row["size_class"] for row in found} == set(shown)
    for row in found:
        assert shown[row["size_class"]].startswith(percent(float(row["share"])))
        assert float(row["share_low"]) <= float(row["share"]) <= float(row["share_high"])


def test_the_devices_are_all_there_with_their_tiers(folder: Path) -> None:
    with duckdb.connect() as connection:
        query = f"SELECT device_id, tier FROM '{folder.with_name('snapshot')}/tiers/*.parquet'"
        wanted = dict(connection.execute(query).fetchall())
    found = {row["device_id"]: row["tier"] or None for row in rows(folder / "devices.csv")}
    assert found == wanted


def test_the_columns_of_the_devices_have_names_and_times_like_those_of_a_query(tmp_path: Path, undrawn: None) -> None:
    (row,) = rows(report_of(tmp_path) / "devices.csv")
    assert all(re.fullmatch("[a-z_]+", name) for name in row)
    assert row["last_receive_time"] == "2026-03-01T12:30:00.000000Z"


def test_of_two_limits_the_name_of_a_column_tells_by_which_its_tier_is(tmp_path: Path, undrawn: None) -> None:
    patient = replace(current_limits(), version='pa"tient', decoder_comfortable=current_limits().decoder_usable)
    with weighin_analysis.open(make_fleet(tmp_path / "snapshot", devices=9, seed=2)) as fleet:
        write_report(fleet, tmp_path / "report", limits=[current_limits(), patient])
    found = rows(tmp_path / "report" / "devices.csv")
    assert "tier" not in found[0]
    assert any(row["tier_under_2026.1"] != row['tier_under_pa"tient'] == row["usable_tier"] for row in found)


def test_the_json_is_one_document_of_the_same_values(folder: Path) -> None:
    document: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert document["headline"] == Page((folder / "index.html").read_text(encoding="utf-8")).blocks[1]
    assert document["coverage"]["sample"]["device_count"] == 60
    assert len(document["coverage"]["rows"]) == len(rows(folder / "coverage.csv"))
    assert len(document["tiers"]) == len(rows(folder / "tiers.csv"))


def test_a_chart_stands_alone_as_svg_and_as_png(folder: Path) -> None:
    for path in (folder / "charts").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert "var(" not in text, "a colour that only the page knows"
        assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG\r\n")


def test_no_chart_of_an_earlier_report_stays_beside_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "report" / "charts").mkdir(parents=True)
    for name in ("decode.svg", "my-own.svg"):
        (tmp_path / "report" / "charts" / name).write_text("old")
    with weighin_analysis.open(make_fleet(tmp_path / "snapshot", devices=3, seed=2)) as fleet:
        write_report(fleet, tmp_path / "report")
    names = {path.name for path in (tmp_path / "report" / "charts").iterdir()}
    assert "decode.svg" not in names
    assert {"my-own.svg", "coverage.svg"} <= names


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without pictures, which take most of the time."""
    monkeypatch.setattr("weighin_analysis.report.write.draw", lambda chart, width: "<svg></svg>")
    monkeypatch.setattr("weighin_analysis.report.write.to_png", lambda svg: b"")


@pytest.fixture
def hostile(tmp_path: Path, undrawn: None) -> Path:
    """The report of devices whose names are formulas and markup."""
    runs = [(device_id(number), example_run(number)) for number in (1, 2)]
    for name, (_, run) in zip(('=HYPERLINK("http://x")', "[a](http://x) | b <script>"), runs, strict=True):
        run.device.cpu.model = name
    with weighin_analysis.open(make_snapshot(tmp_path, runs, examined=False)) as fleet:
        write_report(fleet, tmp_path / "report")
    return tmp_path / "report"


def test_no_text_of_a_device_is_a_formula_in_a_spreadsheet(hostile: Path) -> None:
    names = {row["name"] for path in (hostile / "devices.csv", hostile / "baselines.csv") for row in rows(path)}
    assert '\'=HYPERLINK("http://x")' in names
    assert not [name for name in names if name.startswith("=")]


@pytest.mark.parametrize("formula", ["=cmd|'/C calc'!A0", "+1", "-1+1", "@SUM(1)"])
def test_no_text_of_an_imported_file_is_a_formula_in_a_spreadsheet(formula: str, tmp_path: Path, undrawn: None) -> None:
    report = report_of(tmp_path, device=formula, backend=formula, runtime=formula)
    cells = [cell for path in report.glob("*.csv") for row in rows(path) for cell in row.values()]
    assert cells.count(f"'{formula}") > 2
    assert formula not in cells


def report_of(folder: Path, **texts: str) -> Path:
    """Return the report of one device that an imported file tells of in these texts."""
    published = [row_of(**texts), row_of(**texts, phase="prefill", test="pp512", tokens_per_s="200")]
    limits, now = current_limits(), datetime(2026, 3, 1, 12, 30)
    import_rows(published, folder / "snapshot", base=None, limits=limits, import_time=now, file_sha256="")
    with weighin_analysis.open(folder / "snapshot") as fleet:
        write_report(fleet, folder / "report")
    return folder / "report"


@pytest.mark.parametrize("name", sorted(CSV_FILES))
def test_the_docs_tell_what_every_column_of_a_csv_is(name: str, folder: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    (table,) = re.findall(rf"\*\*`{name}`\*\*.*?\n\n((?:\|.*\n)+)", text)
    told = [column for line in table.splitlines()[2:] for column in re.findall("`(.*?)`", line.split(" | ")[0])]
    assert told == next(csv.reader((folder / name).read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize("form", ["index.html", "report.md"])
def test_what_there_is_to_say_of_a_verdict_is_said_once(form: str, tmp_path: Path, undrawn: None) -> None:
    """The reasons of a verdict end with the notes of its estimate."""
    text = (report_of(tmp_path) / form).read_text(encoding="utf-8")
    of_rows = [line for line in text.splitlines() if "pp512" in line]
    assert of_rows
    assert {line.count("pp512") for line in of_rows} == {1}


def test_no_text_of_a_device_is_markup_in_markdown(hostile: Path) -> None:
    text = (hostile / "report.md").read_text(encoding="utf-8")
    assert "\\[a\\](http\\://x) \\| b \\<script\\>" in text
    assert "[a](" not in text
    assert "<script>" not in text


def test_no_text_of_a_device_is_a_link_in_markdown(tmp_path: Path, undrawn: None) -> None:
    """Many readers of Markdown make one of a bare address."""
    text = (report_of(tmp_path, device="http://a.example www.b.example") / "report.md").read_text(encoding="utf-8")
    assert "http\\://a.example www\\.b.example" in text
    assert not re.search(r"https?://|www\.", text)


def test_no_file_beside_the_page_holds_what_a_terminal_would_obey(tmp_path: Path, undrawn: None) -> None:
    """Nor what turns the direction of the text around it; what such a character was stays to be seen."""
    report = report_of(tmp_path, device="a\x00b\x1b[31m\u202ec\x7fd", backend="CPU\x9bx")
    for path in report.glob("*.*"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert path.suffix == ".html" or all(line.isprintable() for line in lines), path.name
    assert {row["name"] for row in rows(report / "devices.csv")} == {"a�b�[31m�c�d"}
