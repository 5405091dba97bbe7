"""docs/views.md: its tables are those of the code, and its examples run on a snapshot as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from made_fleet import make_fleet
from views_doc import DOCUMENT, text_with_tables

import weighin_analysis
from weighin_analysis.fleet.snapshot.views import VIEWS

TEXT = DOCUMENT.read_text(encoding="utf-8")
EXAMPLES = [(language, code) for language, code in re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a snapshot and a question in it, in which the examples run."""
    folder = tmp_path_factory.mktemp("reader")
    make_fleet(folder / "snapshot", devices=50, seed=5)
    (folder / "question.sql").write_text("SELECT count(*) FROM devices")
    return folder


def test_the_tables_of_the_document_are_those_of_the_code() -> None:
    assert text_with_tables(TEXT) == TEXT
    assert all(f"| `{column.name}` |" in TEXT for view in VIEWS for column in view.columns)


def test_the_document_has_examples_for_every_reader() -> None:
    languages = [language for language, _ in EXAMPLES]
    assert (languages.count("sh"), languages.count("sql"), languages.count("python")) == (1, 1, 4)


@pytest.mark.parametrize("code", [code for language, code in EXAMPLES if language == "python"])
def test_an_example_in_python_runs(folder: Path, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("code", [code for language, code in EXAMPLES if language == "sql"])
def test_an_example_in_sql_has_an_answer(folder: Path, code: str) -> None:
    with weighin_analysis.open(folder / "snapshot") as snapshot:
        assert snapshot.sql(code).rows()


@pytest.mark.parametrize(
    "line", [line for language, code in EXAMPLES if language == "sh" for line in code.splitlines()]
)
def test_an_example_of_the_command_runs(folder: Path, line: str) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout or any((folder / name).stat().st_size for name in ("verdicts.parquet", "answer.csv"))
