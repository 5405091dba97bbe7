"""The oracle of the fault tests finds what it looks for: a store that is wrong on purpose."""

from pathlib import Path

import duckdb
import pytest
from aggregator_process import new_run_id
from faults.devices import SMALL_RUN
from faults.oracle import Books, Ledger, audit
from faults.proxy import Replies

from weighin.v1 import run_pb2

MEASUREMENTS = run_pb2.Run.FromString(SMALL_RUN).measurements


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store with the columns that the oracle reads, and nothing to keep it right."""
    with duckdb.connect(str(tmp_path / "weighin.duckdb")) as store:
        store.execute("CREATE TABLE run(run_id UUID, raw BLOB)")
        store.execute("CREATE TABLE measurement(run_id UUID)")
        store.execute("CREATE TABLE series(run_id UUID)")
    return tmp_path


def store(data: Path, run_id: str, run: bytes = SMALL_RUN, *, rows: int = 1, series: int | None = None) -> None:
    """Put a run there, so many times, with its series or so many of them."""
    wanted = sum(len(one.series) for one in MEASUREMENTS) if series is None else series
    with duckdb.connect(str(data / "weighin.duckdb")) as connection:
        connection.executemany("INSERT INTO run VALUES (?, ?)", [[run_id, run]] * rows)
        connection.executemany("INSERT INTO measurement VALUES (?)", [[run_id]] * len(MEASUREMENTS))
        if wanted:
            connection.executemany("INSERT INTO series VALUES (?)", [[run_id]] * wanted)


def ledger(*run_ids: str, acknowledged: bool = True) -> Ledger:
    """A device that was promised these runs."""
    promised = Ledger()
    for run_id in run_ids:
        promised.keep(run_id, SMALL_RUN)
    promised.acknowledged |= set(run_ids) if acknowledged else set()
    return promised


def books(**counts: int) -> Books:
    none = dict.fromkeys(Books.__dataclass_fields__, 0)
    return Books(**{**none, **counts})


def test_a_store_that_holds_what_was_promised_has_nothing_missed(data: Path) -> None:
    run_id = new_run_id()
    store(data, run_id)
    found = audit(data, [ledger(run_id)])
    assert found == books(kept_runs=1, acknowledged_runs=1, stored_rows=1)
    assert found.missed() == ()


def test_an_empty_store_proves_nothing(data: Path) -> None:
    assert audit(data, []).missed() == ("nothing was stored, so nothing was tried",)


def test_each_wrong_is_found_and_said(data: Path) -> None:
    sound, lost, waiting, twice, altered, torn, unknown = (new_run_id() for _ in range(7))
    for run_id in (sound, unknown):
        store(data, run_id)
    store(data, twice, rows=2)
    store(data, altered, SMALL_RUN + b"\x18\x02")
    store(data, torn, series=0)
    found = audit(data, [ledger(sound, lost, twice, altered), ledger(torn), ledger(waiting, acknowledged=False)])
    assert found == books(
        kept_runs=6,
        acknowledged_runs=5,
        stored_rows=6,
        lost_runs=1,
        duplicated_rows=1,
        altered_runs=1,
        torn_runs=1,
        unknown_runs=1,
        waiting_runs=1,
    )
    assert found.missed() == (
        "1 acknowledged runs are lost",
        "1 rows are duplicated",
        "1 runs are stored altered",
        "1 runs are stored in part",
        "1 stored runs were never kept",
        "1 runs never arrived",
    )
    assert "1 stored runs were never kept" not in found.missed(unknown_runs=1)


def frame(kind: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, 0]) + stream.to_bytes(4) + payload


def test_a_reply_is_seen_where_it_begins_however_the_bytes_come() -> None:
    settings, headers, rest = frame(4, 0, b"settings"), frame(1, 1, b"status"), frame(1, 1, b"trailers")
    seen: list[int] = []

    def note() -> bool:
        seen.append(1)
        return False

    for cut in range(1, 12):
        replies = Replies(note)
        data = settings + headers + rest + frame(1, 3, b"status")
        for start in range(0, len(data), cut):
            assert not replies.lose(data[start : start + cut])
        assert len(seen) == 2, "two streams, so two replies; trailers begin none"
        seen.clear()
    assert Replies(lambda: True).lose(settings) is False
    assert Replies(lambda: True).lose(headers) is True
