"""Snapshots hold exactly what was sent, are complete or absent, and can be made while a server runs."""

import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aggregator_process
import duckdb
import example_runs
import grpc
import pytest
import stored_runs
from aggregator_process import command, wait_until

from weighin.v1 import measurement_pb2, services_pb2, services_pb2_grpc
from weighin_aggregator.errors import SnapshotError
from weighin_aggregator.identity.roster import tombstone
from weighin_aggregator.limits import Limits
from weighin_aggregator.serve.assembly import Config
from weighin_aggregator.serve.ports import Endpoint
from weighin_aggregator.serve.server import running
from weighin_aggregator.serve.serving import SECRET_METADATA, Serving
from weighin_aggregator.store import snapshot as snapshot_module
from weighin_aggregator.store.deletion import delete_device
from weighin_aggregator.store.snapshot import Written, copy_snapshot, numbered_snapshots, write_snapshot
from weighin_aggregator.store.store import Store, utc_now
from weighin_aggregator.store.upkeep import Upkeep
from weighin_analysis.fleet.snapshot.views import TABLES


def write(store: Store, target: Path) -> Written:
    """Write a snapshot as the command does, from a store that is open."""

    async def export(folder: Path) -> datetime:
        return store.export(folder)

    return asyncio.run(write_snapshot(export, target))


def rows(folder: Path, sql: str) -> list[dict[str, Any]]:
    """Ask plain DuckDB about the files of a snapshot; ``{name}`` stands for the file of a table."""
    files = {name: f"read_parquet('{folder / name}/*.parquet')" for name in TABLES}
    with duckdb.connect() as connection:
        result = connection.execute(sql.format(**files))
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of two runs, made while the server that took them was running."""
    folder = tmp_path_factory.mktemp("snapshot")
    with aggregator_process.serving(folder / "data", folder / "log") as server:
        with aggregator_process.client(server.address) as client:
            client.submit(example_runs.example_envelope(1), example_runs.example_envelope(2, example_runs.SMALL_BOARD))
        done = command("snapshot", "--data", folder / "data", "--out", folder / "out", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["folder"] == str(folder / "out")
    return folder / "out"


def test_the_manifest_names_every_file_with_its_rows_and_its_hash(snapshot: Path) -> None:
    manifest = json.loads((snapshot / "manifest.json").read_text())
    assert manifest["schema_version"] == 3
    assert manifest["snapshot_time"].endswith("Z")
    assert set(manifest["tables"]) == set(TABLES)
    for name, table in manifest["tables"].items():
        for part in table["files"]:
            data = (snapshot / part["file"]).read_bytes()
            assert (part["bytes"], part["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert [{"rows": table["rows"]}] == rows(snapshot, f"SELECT count(*) AS rows FROM {{{name}}}")


def test_a_run_row_says_what_was_sent(snapshot: Path) -> None:
    sent, run = example_runs.example_envelope(1), example_runs.example_run(1)
    (row,) = rows(snapshot, f"SELECT *, epoch(observe_time) AS observed FROM {{runs}} WHERE run_id = '{sent.run_id}'")
    assert row["device_id"] == example_runs.DEVICE_ID
    assert row["run_sha256"] == sent.run_sha256.hex()
    assert row["observed"] == run.observe_time.seconds
    assert row["elapsed_seconds"] == 41.5
    assert (row["source"], row["suite"], row["suite_version"]) == ("native", "quick", 1)
    assert row["suite_sha256"] == run.suite_sha256.hex()
    assert row["read_bandwidth_bytes_per_second"] == 40e9
    assert row["accelerator_memory_available_bytes"] == [None]
    assert row["attempt_count"] == 0
    assert row["send_time"] == datetime.fromtimestamp(run.observe_time.seconds + 59, UTC).replace(tzinfo=None)
    assert (row["spool_dropped_count"], row["spool_quarantined_count"]) == (0, 0)
    assert row["before"]["power_source"] == "mains"
    assert row["before"]["temperature_celsius"] is None
    assert row["after"]["foreign_cpu_share"] == run.after.foreign_cpu_share
    assert row["after"]["canary_matrix_flops"] == run.after.canary.matrix_flops


def test_a_measurement_says_what_was_run_and_its_median(snapshot: Path) -> None:
    (probe, *_) = rows(
        snapshot, f"SELECT * FROM {{measurements}} WHERE run_id = '{example_runs.run_id(1)}' ORDER BY ord"
    )
    sent = example_runs.example_run(1).measurements[0]
    times = [s for one in sent.series if one.part == measurement_pb2.SERIES_PART_LAYERS for s in one.sample_seconds]
    assert (probe["model"], probe["kind"]) == (sent.case.architecture.name, "layer_probe")
    assert (probe["source"], probe["runtime"]) == ("native", "onnxruntime")
    assert probe["sample_count"] == len(times)
    assert probe["median_seconds"] == pytest.approx(statistics.median(times))
    assert probe["tokens_per_second"] is None


def test_the_raw_bytes_stay_in_the_store(snapshot: Path) -> None:
    (row,) = rows(snapshot, "SELECT * FROM {runs} LIMIT 1")
    assert "raw" not in row


def test_hardware_is_kept_once_per_kind_of_machine_and_absent_facts_are_null(snapshot: Path) -> None:
    laptop, board = rows(snapshot, "SELECT * FROM {hardware} ORDER BY memory_total_bytes DESC")
    assert laptop["cpu_model"] == example_runs.LAPTOP.cpu_model
    assert laptop["last_level_cache_bytes"] == 16 << 20
    assert laptop["caches"][0] == {"level": 1, "kind": "data", "size_bytes": 32 << 10, "instance_count": 8}
    assert laptop["instruction_sets"] == ["avx", "avx2", "avx512_vnni", "fma"]
    assert (laptop["virtualization_kind"], laptop["virtualization_product"]) == ("none", None)
    assert laptop["accelerators"][0]["memory_total_bytes"] is None
    assert laptop["execution_providers"][0] == {
        "name": "cpu",
        "measured": True,
        "reason": None,
        "adapter": None,
        "is_software": False,
    }
    assert laptop["accelerators"][0]["shares_main_memory"] is True
    assert (laptop["form_factor"], board["form_factor"]) == ("laptop", "single_board")
    assert board["accelerators"] == []


def test_every_measurement_and_every_sample_of_every_series_is_there(snapshot: Path) -> None:
    sent = example_runs.example_run(1)
    stored = rows(
        snapshot,
        f"""SELECT m.architecture, m.scheme, m.execution_provider, m.phase AS measured_phase, m.layers_graph_sha256,
            s.* FROM {{measurements}} m JOIN {{series}} s ON s.run_id = m.run_id AND s.measurement_ord = m.ord
            WHERE m.run_id = '{example_runs.run_id(1)}' ORDER BY m.ord, s.ord""",
    )
    expected = [(measurement, series) for measurement in sent.measurements for series in measurement.series]
    assert len(stored) == len(expected) == 192
    for row, (measurement, series) in zip(stored, expected, strict=True):
        assert row["architecture"]["name"] == measurement.case.architecture.name
        assert row["architecture"]["vocab"] == measurement.case.architecture.vocab
        assert row["layers_graph_sha256"] == measurement.case.layers_graph_sha256.hex()
        assert row["measured_phase"] in {"prefill", "decode"}
        assert row["sample_seconds"] == list(series.sample_seconds)
        assert (row["round"], row["token_count"], row["context_depth"]) == (
            series.round,
            series.token_count,
            series.context_depth,
        )
        assert row["foreign_cpu_share"] == series.foreign_cpu_share


def test_enums_are_lower_case_words(snapshot: Path) -> None:
    words = rows(snapshot, "SELECT DISTINCT part, clock FROM {series} ORDER BY part")
    assert words == [{"part": "head", "clock": "wall"}, {"part": "layers", "clock": "wall"}]
    kinds = rows(
        snapshot, "SELECT DISTINCT architecture.feed_forward AS block, scheme FROM {measurements} ORDER BY block"
    )
    assert kinds == [{"block": "gelu", "scheme": "int8_dynamic"}, {"block": "swiglu", "scheme": "int4_block32"}]


def test_failures_and_gaps_keep_their_reasons(snapshot: Path) -> None:
    (failure,) = rows(snapshot, "SELECT DISTINCT reason, detail, threads FROM {case_failures}")
    assert failure == {"reason": "timed_out", "detail": "no answer within 60 s", "threads": 1}
    (gap,) = rows(snapshot, "SELECT DISTINCT fact, reason FROM {probe_gaps}")
    assert gap == {"fact": "conditions.temperature_celsius", "reason": "not_offered"}


def test_a_snapshot_is_replaced_by_a_newer_one(data: Path, tmp_path: Path) -> None:
    command("init", "--data", data)
    out = tmp_path / "out"
    times = []
    for _ in range(2):
        assert command("snapshot", "--data", data, "--out", out).returncode == 0
        times.append(json.loads((out / "manifest.json").read_text())["snapshot_time"])
    assert times[0] < times[1]
    assert [path.name for path in tmp_path.iterdir() if path not in {data, out}] == []


def test_an_empty_folder_is_filled(data: Path, tmp_path: Path) -> None:
    command("init", "--data", data)
    (tmp_path / "out").mkdir()
    assert command("snapshot", "--data", data, "--out", tmp_path / "out").returncode == 0
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_a_folder_with_something_else_in_it_is_left_alone(data: Path, tmp_path: Path) -> None:
    command("init", "--data", data)
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("dear")
    done = command("snapshot", "--data", data, "--out", out)
    assert done.returncode == 1
    assert "name a new or an empty folder" in done.stderr
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


NOT_OURS = [
    '{"short_name": "web app", "icons": []}',
    '{"schema_version": 1}',
    '{"schema_version": 1, "tables": ["run"]}',
    '{"schema_version": 1, "tables": {"run": {"file": "run.parquet"}}}',
    "[]",
    "no JSON",
]


@pytest.mark.parametrize("manifest", NOT_OURS)
def test_a_folder_with_a_manifest_that_is_not_ours_is_left_alone(data: Path, tmp_path: Path, manifest: str) -> None:
    Store.open(data, create=True).close()
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text(manifest)
    (out / "index.html").write_text("dear")
    with Store.open(data) as store, pytest.raises(SnapshotError, match="no snapshot"):
        write(store, out)
    assert {path.name for path in out.iterdir()} == {"manifest.json", "index.html"}


def test_a_snapshot_to_which_something_was_added_is_left_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Store.open(data, create=True) as store:
        write(store, out)
        (out / "notes.txt").write_text("dear")
        with pytest.raises(SnapshotError, match="no snapshot"):
            write(store, out)
    assert (out / "notes.txt").is_file()


def test_a_link_to_a_folder_stays_a_link_and_nothing_is_left_behind(data: Path, tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "real", tmp_path / "links" / "out"
    real.mkdir(parents=True)
    link.parent.mkdir()
    link.symlink_to(real)
    with Store.open(data, create=True) as store:
        for _ in range(2):
            write(store, link)
        copy_snapshot(real, link)
    assert link.is_symlink()
    assert (real / "manifest.json").is_file()
    assert [list(folder.iterdir()) for folder in (real.parent, link.parent)] == [[real], [link]]


def test_a_child_that_fails_leaves_the_old_snapshot_and_says_why(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with Store.open(data, create=True) as store:
        write(store, out)
        before = (out / "manifest.json").read_text()
        monkeypatch.setattr(snapshot_module, "_JUDGE", (sys.executable, "-c", "import sys; sys.exit('no room')"))
        with pytest.raises(SnapshotError, match="not judged: no room"):
            write(store, out)
    assert (out / "manifest.json").read_text() == before
    assert {path for path in tmp_path.iterdir() if path != data} == {out}


def test_a_serving_aggregator_keeps_its_three_newest_snapshots(data: Path, tmp_path: Path) -> None:
    with aggregator_process.serving(data, tmp_path / "log"):
        for _ in range(4):
            assert command("snapshot", "--data", data, "--out", tmp_path / "out").returncode == 0
        assert len(list((data / "snapshots").iterdir())) == 3


def test_what_a_killed_server_leaves_behind_confuses_nobody(data: Path, tmp_path: Path) -> None:
    server = aggregator_process.start(data, tmp_path / "log")
    server.kill()
    assert (data / "serving.json").is_file()
    assert command("snapshot", "--data", data, "--out", tmp_path / "out").returncode == 0
    with aggregator_process.serving(data, tmp_path / "log"):
        assert command("stats", "--data", data).returncode == 0
    assert not (data / "serving.json").exists()


@dataclass(frozen=True, slots=True)
class Operator:
    """Calls a serving aggregator as the operator's commands do."""

    stub: "services_pb2_grpc.OperatorServiceAsyncStub"
    metadata: tuple[tuple[str, str]]

    @classmethod
    @asynccontextmanager
    async def of(cls, server: Serving) -> "AsyncIterator[Operator]":
        async with grpc.aio.insecure_channel(server.operator_address) as channel:
            stub = services_pb2_grpc.OperatorServiceStub(channel)
            yield cls(stub, ((SECRET_METADATA, server.operator_secret),))

    def create_snapshot(self) -> "grpc.aio.UnaryUnaryCall[Any, services_pb2.CreateSnapshotResponse]":
        return self.stub.CreateSnapshot(services_pb2.CreateSnapshotRequest(), metadata=self.metadata)

    def get_stats(self) -> "grpc.aio.UnaryUnaryCall[Any, services_pb2.GetStatsResponse]":
        return self.stub.GetStats(services_pb2.GetStatsRequest(), metadata=self.metadata)


@dataclass(frozen=True, slots=True)
class Judging:
    """A child process that says when it has ``started`` and waits for a ``word`` before it judges."""

    started: Path
    word: Path


@pytest.fixture
def judging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judging:
    pipes = Judging(tmp_path / "started", tmp_path / "word")
    os.mkfifo(pipes.started)
    os.mkfifo(pipes.word)
    waits = f"import sys; open({str(pipes.started)!r}, 'w').close(); open({str(pipes.word)!r}).read(); "
    judges = "from weighin_analysis.fleet.judging.judge_runs import main; sys.exit(main(sys.argv[1:]))"
    monkeypatch.setattr(snapshot_module, "_JUDGE", (sys.executable, "-c", waits + judges))
    return pipes


def test_nobody_is_forgotten_while_a_snapshot_is_made_without_a_server(
    data: Path, tmp_path: Path, judging: Judging
) -> None:
    with Store.open(data, create=True) as store:
        store.insert(stored_runs.rows(1))
    program = (
        "import sys; from weighin_aggregator import cli; from weighin_aggregator.store import snapshot; "
        f"snapshot._JUDGE = {snapshot_module._JUDGE!r}; sys.exit(cli.main(sys.argv[1:]))"
    )
    out = tmp_path / "out"
    line = [sys.executable, "-c", program, "snapshot", "--data", str(data), "--out", str(out)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        judging.started.read_text()
        done = command("forget", "--data", data, example_runs.DEVICE_ID)
        assert done.returncode == 1
        assert f"in use by process {process.pid};" in done.stderr
        judging.word.write_text("go")
        process.communicate(timeout=60)
    assert rows(out, "SELECT count(*) AS runs FROM {runs}") == [{"runs": 1}]
    assert command("forget", "--data", data, example_runs.DEVICE_ID).returncode == 0


def test_a_compaction_of_a_server_waits_for_the_snapshot_and_takes_it_along(
    data: Path, judging: Judging, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(data, create=True) as store:
        store.insert(stored_runs.rows(1))
    keepers: list[Upkeep] = []

    def keep_nothing_up(upkeep: Upkeep) -> None:
        keepers.append(upkeep)

    monkeypatch.setattr(Upkeep, "start", keep_nothing_up)
    forget = partial(
        delete_device,
        device_id=example_runs.DEVICE_ID,
        digest=tombstone(example_runs.DEVICE_ID),
        moment=utc_now(),
    )

    async def compact_while_it_judges() -> None:
        config = Config(data=data, run=Endpoint(host="127.0.0.1", port=0), limits=Limits())
        async with running(config) as server, Operator.of(server) as operator:
            (upkeep,) = keepers
            answer = asyncio.create_task(_answer(operator.create_snapshot()))
            await asyncio.to_thread(judging.started.read_text)
            committer = upkeep._committer
            await asyncio.wrap_future(committer.between_commits(lambda store: store.transact(forget)))
            keeping = asyncio.create_task(upkeep._copying(upkeep._keep_up))
            for _ in range(20):  # a compaction that does not wait is through by then
                await operator.get_stats()
                assert not keeping.done()
            drafts = list((data / "snapshots").iterdir())
            assert drafts, "the snapshot is on its way"
            await asyncio.to_thread(judging.word.write_text, "go")
            await answer
            await keeping
            assert not (data / "snapshots").exists()

    asyncio.run(compact_while_it_judges())


def test_runs_are_stored_while_a_child_process_judges(data: Path, judging: Judging) -> None:
    async def submit_while_it_judges() -> Path:
        config = Config(data=data, run=Endpoint(host="127.0.0.1", port=0), limits=Limits())
        async with (
            running(config) as server,
            Operator.of(server) as operator,
            grpc.aio.insecure_channel(server.run_address) as channel,
        ):
            answer = asyncio.create_task(_answer(operator.create_snapshot()))
            await asyncio.to_thread(judging.started.read_text)
            submit: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(aggregator_process.SUBMIT_RUNS)
            request = example_runs.request([example_runs.example_envelope(1)]).SerializeToString()
            stored = await submit(request, metadata=(("weighin-device-id", example_runs.DEVICE_ID),))
            results = services_pb2.SubmitRunsResponse.FromString(stored).results
            assert aggregator_process.outcomes(results) == [("STORED", "")]
            await asyncio.to_thread(judging.word.write_text, "go")
            return Path((await answer).folder)

    folder = asyncio.run(submit_while_it_judges())
    assert rows(folder, "SELECT count(*) AS runs FROM {runs}") == [{"runs": 0}]


async def _answer(call: Awaitable[services_pb2.CreateSnapshotResponse]) -> services_pb2.CreateSnapshotResponse:
    return await call


def test_a_snapshot_is_finished_when_the_connection_of_who_asked_for_it_ends(data: Path, judging: Judging) -> None:
    async def leave_while_it_judges() -> None:
        config = Config(data=data, run=Endpoint(host="127.0.0.1", port=0), limits=Limits())
        async with running(config) as server, Operator.of(server) as operator:
            call = operator.create_snapshot()
            await asyncio.to_thread(judging.started.read_text)
            call.cancel()
            await asyncio.to_thread(judging.word.write_text, "go")
            await asyncio.to_thread(wait_until, lambda: len(numbered_snapshots(data / "snapshots")) == 1)

    asyncio.run(leave_while_it_judges())


def test_who_asks_again_while_a_snapshot_is_made_gets_that_one(data: Path, judging: Judging) -> None:
    async def ask_twice() -> set[str]:
        config = Config(data=data, run=Endpoint(host="127.0.0.1", port=0), limits=Limits())
        async with running(config) as server, Operator.of(server) as operator:
            first = operator.create_snapshot()
            await asyncio.to_thread(judging.started.read_text)
            first.cancel()
            again = asyncio.create_task(_answer(operator.create_snapshot()))
            await operator.get_stats()  # the server has read the call before this one
            await asyncio.to_thread(judging.word.write_text, "go")
            return {(await again).folder}

    assert asyncio.run(ask_twice()) == {str(one) for one in numbered_snapshots(data / "snapshots")}


def test_a_server_that_is_stopped_stops_judging_too(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    never = f"import sys; file = open({str(alive)!r}, 'w'); print(file=file, flush=True); sys.stdin.read()"
    monkeypatch.setattr(snapshot_module, "_JUDGE", (sys.executable, "-c", never))

    async def stop_while_it_judges() -> str:
        config = Config(data=data, run=Endpoint(host="127.0.0.1", port=0), limits=Limits(drain_seconds=0.1))
        async with running(config) as server, Operator.of(server) as operator:
            answer = asyncio.create_task(_answer(operator.create_snapshot()))
            file = await asyncio.to_thread(alive.open)
            assert await asyncio.to_thread(file.readline) == "\n"
        await asyncio.wait({answer})
        with file:
            return await asyncio.to_thread(file.read)  # ends when the child has

    assert asyncio.run(stop_while_it_judges()) == ""
    assert list((data / "snapshots").iterdir()) == []
