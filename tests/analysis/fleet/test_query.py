"""The real command `weighin-analysis query`: its formats, its refusals, and what reaches a terminal."""

import csv
import io
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_fleet import make_fleet

import weighin_analysis
from weighin_analysis.errors import QueryError
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.fleet.query.formats import csv_text, json_text, table

LINE = [sys.executable, "-m", "weighin_analysis.cli", "query"]
EVERY_TYPE = """
    SELECT NULL AS nothing, true AS truth, 170141183460469231731687303715884105727 AS huge, 1.5::DECIMAL(4, 2) AS exact,
        0.1::DOUBLE AS number, 'NaN'::DOUBLE AS nan, '-inf'::DOUBLE AS infinite,
        TIMESTAMP '2026-02-03 04:05:06' AS time,
        TIMESTAMPTZ '2026-02-03 04:05:06+01' AS zoned, DATE '2026-02-03' AS day, 'a,"b"\n' AS words, '' AS empty,
        [1, NULL] AS list, {'x': 'NaN'::DOUBLE, 'y': [TIMESTAMP '2026-01-01']} AS struct, '\\xAB'::BLOB AS bytes
"""


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fleet(tmp_path_factory.mktemp("made") / "snapshot", devices=60, seed=3, measurements_per_run=4)


@pytest.fixture(scope="module")
def fleet(snapshot: Path) -> Iterator[Fleet]:
    with weighin_analysis.open(snapshot) as opened:
        yield opened


def query(snapshot: Path, *arguments: str | Path, asked: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    line = [*LINE, "--snapshot", str(snapshot), *map(str, arguments)]
    return subprocess.run(line, input=asked, capture_output=True, timeout=120, check=False)


def test_a_table_shows_forty_rows_and_tells_how_many_are_left(snapshot: Path) -> None:
    done = query(snapshot, "SELECT device_id, tier FROM tiers")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0
    assert lines[0].split() == ["device_id", "tier"]
    assert len(lines) == 41
    assert done.stderr.decode() == "not shown: 20 more rows; --format csv gives everything\n"


def test_a_small_answer_is_nothing_but_the_answer(snapshot: Path) -> None:
    done = query(snapshot, "-", asked="SELECT count(*) AS devices, 'né' AS text FROM devices".encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "devices  text\n     60  né\n"


def test_columns_that_a_terminal_has_no_room_for_are_named(fleet: Fleet) -> None:
    shown = table(fleet.sql("SELECT 1 AS a, 'text' AS b, 2 AS long_name"), 40, 10)
    assert shown.lines == ("a  b", "1  text")
    assert shown.left_out_columns == ("long_name",)
    assert table(fleet.sql("SELECT 'wide' AS a"), 40, 1).lines == ("a", "wide")


def test_csv_is_read_back_as_it_was(snapshot: Path) -> None:
    done = query(snapshot, "SELECT * FROM tiers ORDER BY device_id", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode(), newline="")))
    with weighin_analysis.open(snapshot) as opened:
        expected = opened.sql("SELECT * FROM tiers ORDER BY device_id").arrow().to_pylist()
    assert done.stderr == b""
    assert len(rows) == 60
    for row, wanted in zip(rows, expected, strict=True):
        assert row["device_id"] == wanted["device_id"]
        assert (row["tier"] or None) == wanted["tier"]
        assert (float(row["tier_probability"]) if row["tier_probability"] else None) == wanted["tier_probability"]


def test_json_is_one_document_with_an_object_per_row(snapshot: Path) -> None:
    document = json.loads(query(snapshot, "SELECT * FROM devices", "--format", "json").stdout)
    assert len(document) == 60
    assert document[0]["memory_total_bytes"] % 2**30 == 0
    assert document[0]["last_receive_time"].endswith("Z")
    assert json.loads(query(snapshot, "SELECT 1 WHERE false", "--format", "json").stdout) == []


def test_every_type_has_its_form_in_json(fleet: Fleet) -> None:
    (row,) = json.loads("".join(json_text(fleet.sql(EVERY_TYPE))))
    assert row == {
        "nothing": None,
        "truth": True,
        "huge": 2**127 - 1,
        "exact": 1.5,
        "number": 0.1,
        "nan": None,
        "infinite": None,
        "time": "2026-02-03T04:05:06Z",
        "zoned": "2026-02-03T03:05:06Z",
        "day": "2026-02-03",
        "words": 'a,"b"\n',
        "empty": "",
        "list": [1, None],
        "struct": {"x": None, "y": ["2026-01-01T00:00:00Z"]},
        "bytes": "ab",
    }


def test_every_type_has_its_form_in_csv(fleet: Fleet) -> None:
    text = "".join(csv_text(fleet.sql(EVERY_TYPE)))
    _, line = text.split("\r\n", maxsplit=1)
    assert line == (
        ",true,170141183460469231731687303715884105727,1.5,0.1,nan,-inf,2026-02-03T04:05:06Z,2026-02-03T03:05:06Z,"
        '2026-02-03,"a,""b""\n","","[1, null]","{""x"": null, ""y"": [""2026-01-01T00:00:00Z""]}",ab\r\n'
    )


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=4))
def test_any_text_survives_csv_and_json(fleet: Fleet, texts: list[str]) -> None:
    literals = ", ".join("('" + text.replace("'", "''") + "')" for text in [*texts, "last"])
    answer = fleet.sql(f"SELECT * FROM (VALUES {literals}) AS it(text)")
    assert [row["text"] for row in json.loads("".join(json_text(answer)))] == [*texts, "last"]
    read = list(csv.reader(io.StringIO("".join(csv_text(answer)), newline="")))
    assert read == [["text"], *([text] for text in texts), ["last"]]


def test_parquet_has_the_rows_and_types_of_the_answer(snapshot: Path, tmp_path: Path) -> None:
    done = query(snapshot, "FROM estimates", "--format", "parquet", "--out", tmp_path / "e.parquet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    with weighin_analysis.open(snapshot) as opened:
        expected = opened.sql("FROM estimates").arrow()
    assert pq.read_table(tmp_path / "e.parquet").equals(expected)
    piped = query(snapshot, "FROM estimates", "--format", "parquet").stdout
    assert pq.read_table(pa.BufferReader(piped)).equals(expected)


def test_an_empty_answer_is_a_parquet_file_with_its_columns(snapshot: Path, tmp_path: Path) -> None:
    query(snapshot, "FROM tiers WHERE false", "--format", "parquet", "--out", tmp_path / "none.parquet")
    found = pq.read_table(tmp_path / "none.parquet")
    assert found.num_rows == 0
    assert found.column_names[:2] == ["device_id", "run_id"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (["SELECT nonsense FROM tiers"], 1, "nonsense"),
        (["DROP VIEW tiers"], 1, "ask with SELECT, not DROP"),
        (["SELECT 1 AS a, 2 AS a", "--format", "json"], 1, "two columns are called a"),
        (["SELECT 1 AS a, 2 AS a", "--format", "parquet"], 1, "two columns are called a"),
        (["SELECT INTERVAL 1 DAY AS a", "--format", "parquet"], 1, "Parquet has no type for a column"),
        (["-- nothing"], 1, "there is no question"),
        (["PIVOT tiers ON tier USING count(*)"], 1, "PIVOT is one with ON column IN (values)"),
        (["SELECT 1", "--out", "/no/such/folder/answer.csv"], 2, "there is no folder /no/such/folder; make it first"),
        (["SELECT 1", "--out", "."], 2, "--out .: is a folder; name a file in it"),
        (["SELECT 1", "--out", "/dev/null"], 2, "--out /dev/null: is not a file"),
    ],
)
def test_what_cannot_be_answered_is_one_line(snapshot: Path, arguments: list[str], exit_code: int, told: str) -> None:
    done = query(snapshot, *arguments)
    assert done.returncode == exit_code
    assert done.stdout == b""
    assert told in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_a_question_that_is_no_text_is_one_line(snapshot: Path) -> None:
    done = query(snapshot, "-", asked=b"SELECT '\xff'")
    assert done.returncode == 2
    assert b"not UTF-8" in done.stderr


def test_an_answer_that_fails_halfway_leaves_the_old_file(snapshot: Path, tmp_path: Path) -> None:
    out = tmp_path / "answer.csv"
    out.write_text("old")
    wrong = "SELECT CAST(CASE WHEN range = 50000 THEN 'x' ELSE '1' END AS INTEGER) FROM range(100000)"
    assert query(snapshot, wrong, "--format", "csv", "--out", out).returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["answer.csv"]
    assert out.read_text() == "old"


def test_a_file_of_the_user_beside_the_answer_stays(snapshot: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "answer.csv.part"
    theirs.write_text("theirs")
    assert query(snapshot, "SELECT 1 AS one", "--format", "csv", "--out", tmp_path / "answer.csv").returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"answer.csv", "answer.csv.part"}
    assert theirs.read_text() == "theirs"


def test_an_answer_never_takes_the_place_of_a_file_of_the_snapshot(snapshot: Path) -> None:
    table = next((snapshot / "devices").iterdir())
    before = table.read_bytes()
    done = query(snapshot, "FROM devices", "--format", "parquet", "--out", table)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is in the snapshot, which is only read; name a file elsewhere" in done.stderr
    assert table.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs a FIFO, and links that anybody may make")
def test_an_answer_takes_the_place_of_the_file_behind_a_link_and_never_of_a_device(
    snapshot: Path, tmp_path: Path
) -> None:
    real, link, pipe = tmp_path / "real.csv", tmp_path / "link.csv", tmp_path / "pipe"
    real.touch()
    link.symlink_to(real)
    os.mkfifo(pipe)
    assert query(snapshot, "SELECT 1 AS one", "--format", "csv", "--out", link).returncode == 0
    assert (link.is_symlink(), real.read_text()) == (True, "one\n1\n")
    assert query(snapshot, "SELECT 1 AS one", "--format", "csv", "--out", pipe).returncode == 2
    assert pipe.is_fifo()


def test_what_memory_does_not_hold_lies_in_a_folder_of_its_own_which_goes_with_the_fleet(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".tmp").mkdir()
    secret = tmp_path / ".tmp" / "secret.txt"
    secret.write_text("secret")
    monkeypatch.chdir(tmp_path)
    with weighin_analysis.open(snapshot) as opened:
        ((spilled,),) = opened.sql("SELECT current_setting('temp_directory')").rows()
        assert stat.S_IMODE(Path(spilled).stat().st_mode) == 0o700
        with pytest.raises(QueryError, match="disabled"):
            opened.sql("SELECT content FROM read_text('.tmp/secret.txt')").rows()
    assert not Path(spilled).exists()


def test_a_reader_that_leaves_early_hears_nothing_more(snapshot: Path) -> None:
    line = [*LINE, "FROM range(10000000)", "--format", "csv", "--snapshot", str(snapshot)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stderr
        assert child.stdout.readline() == b"range\r\n"
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(timeout=60) == 1


@pytest.mark.parametrize(
    "endless",
    [
        "SELECT 'begun' AS it UNION ALL SELECT a.range::VARCHAR FROM range(10000000) a, range(1000000) b "
        "WHERE a.range * b.range % 7 = 9",
        "SELECT count(*) FROM range(10000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3",
    ],
)
def test_ctrl_c_ends_a_query_at_once(snapshot: Path, endless: str) -> None:
    line = [*LINE, endless, "--format", "csv", "--snapshot", str(snapshot)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()  # the header: the query has begun
        child.send_signal(signal.SIGINT)
        try:
            _, said = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 130
    assert said == b"weighin-analysis: interrupted\n"


def test_ctrl_c_while_a_query_is_being_started_leaves_none_running(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = fleet.sql("SELECT count(*) FROM range(10000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3")
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        answer.rows()
    monkeypatch.undo()
    assert fleet.sql("SELECT 1").rows() == [(1,)]  # which waits for what still runs


def test_nothing_reaches_a_terminal_that_it_would_obey(snapshot: Path) -> None:
    nasty = "SELECT chr(27) || '[2J' || chr(13) || chr(155) || 'x' AS it"
    for form in ("table", "csv"):
        shown = on_terminal([*LINE, nasty, "--format", form, "--snapshot", str(snapshot)])
        assert "x" in shown
        assert not set(shown) & {"\x1b", "\x9b"}
        assert "\r" not in shown.replace("\r\n", "")
        assert shown.splitlines()[0] == "it"


def test_parquet_is_nothing_for_a_terminal(snapshot: Path) -> None:
    assert "--out" in on_terminal([*LINE, "SELECT 1", "--format", "parquet", "--snapshot", str(snapshot)])


def on_terminal(line: list[str]) -> str:
    """Return what a command writes when its output is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(line, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL) as child:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += (read := os.read(ours, 4096))
            except OSError:  # how Linux tells that the other side is closed
                break
            if not read:
                break
        child.wait(timeout=60)
    os.close(ours)
    return shown.decode()
