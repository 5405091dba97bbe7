"""The commands `report` and `tiers`: exit codes, one JSON document, one line for bad input."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from example_runs import SMALL_BOARD, example_run
from example_snapshots import device_id, make_snapshot, part_path, replace_table

COMMAND = (str(Path(sys.executable).with_name("weighin-analysis")),)
BOTH = pytest.mark.parametrize("name", ["report", "tiers"])


def run(*arguments: str | Path, command: tuple[str, ...] = COMMAND) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def options(name: str, snapshot: Path, out: Path) -> tuple[str | Path, ...]:
    return (name, "--snapshot", snapshot, *(("--out", out) if name == "report" else ()))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = [(device_id(1), example_run(1)), (device_id(2), example_run(2, SMALL_BOARD))]
    return make_snapshot(tmp_path_factory.mktemp("fleet"), pairs)


def test_report_writes_the_page_and_says_where(snapshot: Path, tmp_path: Path) -> None:
    done = run("report", "--snapshot", snapshot, "--out", tmp_path / "new" / "report")
    path = tmp_path / "new" / "report" / "index.html"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}: 2 devices\n", "")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_report_as_json_is_one_document(snapshot: Path, tmp_path: Path) -> None:
    done = run("report", "--snapshot", snapshot, "--out", tmp_path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"report": str(tmp_path / "index.html"), "devices": 2}


@pytest.mark.parametrize("inside", [".", "report/new"])
def test_no_report_is_written_into_a_snapshot(inside: str, tmp_path: Path) -> None:
    """It would be none any more: who takes the next one there is refused, and the schedule that does it ends."""
    folder = make_snapshot(tmp_path, [(device_id(1), example_run(1))])
    there = sorted(tmp_path.rglob("*"))
    done = run("report", "--snapshot", folder, "--out", folder / inside)
    assert (done.returncode, done.stdout) == (1, "")
    reason = "a report in a snapshot would make it none; choose another --out"
    assert done.stderr == f"weighin-analysis: {folder / inside}: {reason}\n"
    assert sorted(tmp_path.rglob("*")) == there


def test_a_manifest_of_another_program_does_not_keep_a_report_away(snapshot: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web site"}')
    assert run("report", "--snapshot", snapshot, "--out", tmp_path).returncode == 0


@BOTH
def test_a_snapshot_without_runs_is_an_answer(name: str, tmp_path: Path) -> None:
    empty = make_snapshot(tmp_path, [])
    done = run(*options(name, empty, tmp_path / "out"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("name", ["report", "coverage", "check", "tiers"])
def test_that_nobody_who_was_asked_about_is_there_is_not_told_as_an_empty_snapshot(
    name: str, snapshot: Path, tmp_path: Path
) -> None:
    model = ["Qwen2.5-0.5B"] if name == "check" else []
    done = run(*options(name, snapshot, tmp_path / "out"), *model, "--source", "browser")
    said = (tmp_path / "out" / "report.md").read_text(encoding="utf-8") if name == "report" else done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert "are counted" in said.splitlines()[0]
    assert "No runs yet" not in said
    assert "--source" in said


def test_a_report_for_people_whom_no_device_stands_for_says_so(snapshot: Path, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("form_factor,share\nserver,1\n", encoding="utf-8")
    run("report", "--snapshot", snapshot, "--out", tmp_path, "--population", tmp_path / "people.csv")
    said = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "# No devices are counted." in said
    assert "No judged device stands for server, 100 % of the population." in said


@pytest.mark.parametrize(("name", "option"), [("tiers", "--limits"), ("check", "--limits"), ("report", "--population")])
def test_of_two_values_for_one_none_is_dropped_in_silence(
    name: str, option: str, snapshot: Path, tmp_path: Path
) -> None:
    model = ["Qwen2.5-0.5B"] if name == "check" else []
    done = run(*options(name, snapshot, tmp_path / "out"), *model, option, "a", option, "b")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{option} is given twice; this command takes one" in done.stderr


@BOTH
@pytest.mark.parametrize("state", ["missing", "not a snapshot", "damaged"])
def test_a_snapshot_that_cannot_be_read_is_told_in_one_line(name: str, state: str, tmp_path: Path) -> None:
    folder = tmp_path / "it"
    if state == "not a snapshot":
        folder.mkdir()
    if state == "damaged":
        folder = make_snapshot(folder, [(device_id(1), example_run(1))])
        part_path(folder, "devices").write_bytes(b"")
    done = run(*options(name, folder, tmp_path / "out"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"weighin-analysis: {folder}")
    assert done.stderr.count("\n") == 1
    assert "weighin-aggregator snapshot" in done.stderr
    assert not (tmp_path / "out").exists()


@BOTH
def test_no_text_of_a_snapshot_drives_the_terminal(name: str, tmp_path: Path) -> None:
    """Escape sequences of one byte (U+009B) work in terminals as well as those that begin with ESC."""
    folder = make_snapshot(tmp_path, [(device_id(1), example_run(1))])
    hostile = "'\x1b[2J' || chr(155) || '2J' || chr(8238) || chr(10) || 'x'"
    for table in ("devices", "tiers"):
        replace_table(folder, table, f"SELECT * REPLACE ({hostile} AS device_id) FROM it")
    for extra in ((), ("--json",)):
        done = run(*options(name, folder, tmp_path / "out"), *extra)
        assert (done.returncode, done.stderr) == (0, "")
        assert all(character.isprintable() for line in done.stdout.split("\n") for character in line)
    line = run("tiers", "--snapshot", folder).stdout.splitlines()[-1]
    assert line.split()[:2] == ["�[2J�2J��x", "1B"]


def test_an_error_about_a_snapshot_does_not_drive_the_terminal_either(tmp_path: Path) -> None:
    folder = make_snapshot(tmp_path, [])
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["tables"]["tiers"]["files"][0]["file"] = "\x1b[2J\n\x9b"
    path.write_text(json.dumps(manifest))
    done = run("tiers", "--snapshot", folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert all(character.isprintable() for character in done.stderr.rstrip("\n"))


@BOTH
@pytest.mark.parametrize(
    ("module", "how"),
    [
        ("weighin_analysis.fleet.query.fleet", "signal.raise_signal(signal.SIGINT)"),
        ("weighin_analysis.judge", "signal.raise_signal(signal.SIGINT)"),
        ("duckdb", "signal.raise_signal(signal.SIGINT)"),
        ("duckdb", "raise ImportError('initialization failed') from KeyboardInterrupt()"),
    ],
)
def test_ctrl_c_is_one_line_also_while_modules_are_imported(
    name: str, module: str, how: str, snapshot: Path, tmp_path: Path
) -> None:
    code = (
        "import signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        f"            {how}\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from weighin_analysis.cli import main\n"
        "sys.exit(main())\n"
    )
    done = run(*options(name, snapshot, tmp_path / "out"), command=(sys.executable, "-c", code))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "weighin-analysis: interrupted\n")
    assert not (tmp_path / "out").exists()


def test_ctrl_c_while_the_report_is_drawn_leaves_neither_a_page_nor_a_file_of_it(
    snapshot: Path, tmp_path: Path
) -> None:
    code = (
        "import signal, sys\n"
        "import weighin_analysis.report.charts.theme as theme\n"
        "def interrupted(*arguments, **options):\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "theme.vl_convert.vegalite_to_svg = interrupted\n"
        "from weighin_analysis.cli import main\n"
        "sys.exit(main())\n"
    )
    done = run("report", "--snapshot", snapshot, "--out", tmp_path / "out", command=(sys.executable, "-c", code))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "weighin-analysis: interrupted\n")
    assert not list(tmp_path.rglob("*.html"))


@pytest.mark.parametrize(
    "arguments", [(), ("dance",), ("report",), ("report", "--snapshot", "x"), ("tiers",), ("tiers", "--snapshot")]
)
def test_wrong_usage_is_exit_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: weighin-analysis" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("report",), ("tiers",)])
def test_help_shows_an_example(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "example: weighin-analysis" in done.stdout


def test_version_is_that_of_the_installed_package() -> None:
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"weighin-analysis {version('weighin-analysis')}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")
@pytest.mark.parametrize("name", ["report", "tiers", "--version", "--help"])
def test_an_answer_that_cannot_be_written_is_one_line(name: str, snapshot: Path, tmp_path: Path) -> None:
    arguments = (name,) if name.startswith("--") else options(name, snapshot, tmp_path / "out")
    with Path("/dev/full").open("w") as full:
        done = answering_into(full.fileno(), *arguments)
    complaint = "weighin-analysis: cannot write to standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, complaint)


@BOTH
def test_a_reader_that_has_seen_enough_gets_no_complaint_and_the_answers_own_exit_code(
    name: str, snapshot: Path, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = answering_into(writer, *options(name, snapshot, tmp_path / "out"))
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def answering_into(output: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is the open file ``output``."""
    line = [*COMMAND, *map(str, arguments)]
    return subprocess.run(line, stdout=output, stderr=subprocess.PIPE, text=True, timeout=120, check=False)


@BOTH
@pytest.mark.parametrize("module", ["duckdb", "altair", "jinja2"])
def test_without_the_report_extra_one_line_says_what_to_install(
    name: str, module: str, snapshot: Path, tmp_path: Path
) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from weighin_analysis.cli import main; sys.exit(main())"
    done = run(*options(name, snapshot, tmp_path), command=(sys.executable, "-c", code))
    if name == "tiers" and module != "duckdb":
        assert done.returncode == 0, "tiers needs neither charts nor templates"
    else:
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"weighin-analysis: {module} is not installed; install weighin-analysis[report]\n"
