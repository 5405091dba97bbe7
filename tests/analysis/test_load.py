"""A snapshot becomes values unchanged, and one that cannot be trusted is refused in one line that says what to do."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from example_runs import LAPTOP, SMALL_BOARD, example_run, run_id
from example_snapshots import device_id, edit_manifest, make_snapshot, part_path, replace_part, replace_table

from weighin.v1 import run_pb2
from weighin_analysis.errors import SnapshotError
from weighin_analysis.load import load_snapshot
from weighin_analysis.measurement import Phase, SeriesPart
from weighin_analysis.scheme import Scheme


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_snapshot(tmp_path_factory.mktemp("made"), [(device_id(1), example_run(1))])


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A snapshot that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "snapshot"))


def refusal(folder: Path) -> str:
    with pytest.raises(SnapshotError) as caught:
        load_snapshot(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_fact_arrives_as_it_was_sent(folder: Path) -> None:
    sent = example_run(1)
    (device,) = load_snapshot(folder).devices
    assert device.device_id == device_id(1)
    assert device.hardware.cpu_model == sent.device.cpu.model
    assert device.hardware.instruction_sets == tuple(sent.device.cpu.instruction_sets)
    assert [cache.size_bytes for cache in device.hardware.caches] == [c.size_bytes for c in sent.device.cpu.caches]
    assert device.hardware.accelerators[0].memory_total_bytes is None
    assert [provider.reason for provider in device.hardware.execution_providers] == [None, "runs on a remote service"]
    run = device.run
    assert (run.run_id, run.suite, run.suite_version, run.source) == (run_id(1), "quick", 1, "native")
    assert run.observe_time == datetime.fromtimestamp(sent.observe_time.seconds, UTC)
    assert run.before is not None
    assert run.before.power_source == "mains"
    assert run.before.temperature_celsius is None
    assert run.before.canary_matrix_flops == sent.before.canary.matrix_flops
    assert [(gap.fact, gap.reason) for gap in run.gaps] == [("conditions.temperature_celsius", "not_offered")]
    assert [(one.case.architecture.name, one.reason) for one in run.failures] == [("Llama-3.2-1B", "timed_out")]


def test_every_sample_arrives_in_its_series(folder: Path) -> None:
    sent = example_run(1)
    measurements = load_snapshot(folder).devices[0].run.measurements
    assert len(measurements) == len(sent.measurements)
    for got, wanted in zip(measurements, sent.measurements, strict=True):
        assert got.case.architecture.name == wanted.case.architecture.name
        assert got.case.layers_graph_sha256 == wanted.case.layers_graph_sha256.hex()
        assert [one.sample_seconds for one in got.series] == [tuple(one.sample_seconds) for one in wanted.series]
    last = measurements[-1]
    assert (last.case.scheme, last.phase, last.token_count) == (Scheme.INT4_BLOCK32, Phase.PREFILL, 512)
    assert [one.part for one in last.series[:2]] == [SeriesPart.LAYERS, SeriesPart.HEAD]


def test_a_device_counts_once_by_its_newest_run(tmp_path: Path) -> None:
    """Newest by the device's own count: its clock may have been wrong."""
    later = example_run(2, replace(LAPTOP, memory_available_bytes=5 << 30))
    later.observe_time.FromSeconds(1)
    pairs = [(device_id(1), example_run(1)), (device_id(2), example_run(3, SMALL_BOARD)), (device_id(1), later)]
    devices = load_snapshot(make_snapshot(tmp_path, pairs)).devices
    assert [(one.device_id, one.run_count) for one in devices] == [(device_id(1), 2), (device_id(2), 1)]
    assert devices[0].run.memory_available_bytes == 5 << 30
    assert len(devices[0].run.measurements) == len(later.measurements)


def test_what_was_not_readable_is_none(tmp_path: Path) -> None:
    run = example_run(1)
    run.device.cpu.ClearField("model")
    run.device.memory.ClearField("read_bandwidth_bytes_per_second")
    run.after.CopyFrom(run_pb2.Conditions())
    for fact in ("cpu.model", "memory.read_bandwidth_bytes_per_second", "conditions"):
        run.probe_gaps.add(fact=fact, reason=4, detail="the reader took too long")
    (device,) = load_snapshot(make_snapshot(tmp_path, [(device_id(1), run)])).devices
    assert device.hardware.cpu_model is None
    assert device.run.read_bandwidth_bytes_per_second is None
    assert device.run.after is not None
    assert device.run.after.foreign_cpu_share is None


def test_a_snapshot_without_runs_has_no_devices(tmp_path: Path) -> None:
    assert load_snapshot(make_snapshot(tmp_path, [])).devices == ()


@pytest.mark.parametrize("name", ["it's here", "a [1] b", "50%*", "größe"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    assert len(load_snapshot(make_snapshot(tmp_path / name, [(device_id(1), example_run(1))])).devices) == 1


def test_a_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    text = refusal(tmp_path / "nothing")
    assert str(tmp_path / "nothing") in text
    assert "weighin-aggregator snapshot" in text


def test_a_folder_without_manifest_is_no_snapshot(tmp_path: Path) -> None:
    assert "not a snapshot" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["{", "\xff", ""])
def test_a_manifest_that_is_no_json_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_bytes(text.encode("latin-1"))
    assert "cannot be read as JSON" in refusal(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema_version": 1}'])
def test_a_manifest_of_another_version_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    assert "this program reads 3" in refusal(folder)


@pytest.mark.parametrize("table", ["runs", "series"])
def test_a_damaged_file_is_named(folder: Path, table: str) -> None:
    path = part_path(folder, table)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    text = refusal(folder)
    assert "damaged" in text
    assert str(path) in text
    assert "take a new one" in text


def test_a_missing_file_is_named(folder: Path) -> None:
    path = part_path(folder, "hardware")
    path.unlink()
    assert str(path) in refusal(folder)


@pytest.mark.parametrize("name", ["../runs/1.parquet", "/etc/hostname", "runs/../../1.parquet", ".."])
def test_a_manifest_cannot_name_a_file_outside_the_snapshot(folder: Path, name: str) -> None:
    edit_manifest(folder, lambda manifest: manifest["tables"]["runs"]["files"][0].update(file=name))
    refusal(folder)


@pytest.mark.parametrize("entry", [None, "runs.parquet", {"files": []}, {"files": [{"file": "runs/1.parquet"}]}])
def test_a_manifest_without_a_usable_entry_is_refused(folder: Path, entry: object) -> None:
    edit_manifest(folder, lambda manifest: manifest["tables"].update(runs=entry))
    assert "names no usable files" in refusal(folder)


@pytest.mark.parametrize("time", [None, "yesterday", "0001-01-01T00:00+23:00", 7])
def test_a_manifest_without_a_time_is_refused(folder: Path, time: object) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(snapshot_time=time))
    refusal(folder)


def test_a_file_that_is_no_parquet_is_refused(folder: Path) -> None:
    replace_part(folder, "runs", b"PAR1 or not")
    assert "a table cannot be read" in refusal(folder)


@pytest.mark.parametrize(
    ("table", "select"),
    [
        ("measurements", "SELECT * REPLACE ('int2_block8' AS scheme) FROM it"),
        ("measurements", "SELECT * EXCLUDE (token_count) FROM it"),
        ("runs", "SELECT * REPLACE ('0' AS hardware_id) FROM it"),
        ("runs", "SELECT * EXCLUDE (sequence) FROM it"),
        ("series", "SELECT * REPLACE (NULL AS sample_seconds) FROM it"),
        ("case_failures", "SELECT * REPLACE (NULL AS architecture) FROM it"),
    ],
)
def test_a_table_with_other_content_than_ours_is_refused(folder: Path, table: str, select: str) -> None:
    replace_table(folder, table, select)
    assert str(folder) in refusal(folder)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("measurements", "probe_layers", "NULL::INTEGER"),
        ("measurements", "probe_layers", "'two'"),
        ("measurements", "probe_layers", "0"),
        ("measurements", "probe_layers", "2.5::DOUBLE"),
        ("measurements", "probe_layers", "true"),
        ("measurements", "head_columns", "-1"),
        ("measurements", "short_probe_layers", "-1"),
        ("measurements", "short_layers_graph_sha256", "7"),
        ("measurements", "output_correlation", "'nan'::DOUBLE"),
        ("measurements", "output_relative_rms", "'little'"),
        ("measurements", "threads", "0"),
        ("measurements", "token_count", "NULL::INTEGER"),
        ("measurements", "token_count", "0"),
        ("measurements", "context_depth", "-1"),
        ("measurements", "scheme", "[scheme]"),
        ("measurements", "requested_execution_provider", "NULL::VARCHAR"),
        ("measurements", "execution_provider", "7"),
        ("measurements", "layers_graph_sha256", "7"),
        ("measurements", "ord", "[ord]"),
        ("measurements", "architecture", "struct_update(architecture, layers := 0)"),
        ("measurements", "architecture", "struct_update(architecture, heads := NULL::INTEGER)"),
        ("measurements", "architecture", "struct_update(architecture, name := 7)"),
        ("measurements", "architecture", "struct_update(architecture, tied_embeddings := 'no')"),
        ("measurements", "architecture", "'Qwen2.5-0.5B'"),
        ("measurements", "architecture", "struct_update(architecture, feed_forward := 'relu')"),
        ("measurements", "architecture", "struct_update(architecture, feed_forward := NULL::VARCHAR)"),
        ("measurements", "architecture", "struct_update(architecture, query_key_norm := NULL::BOOLEAN)"),
        ("measurements", "architecture", "struct_update(architecture, sliding_window := 0)"),
        ("measurements", "architecture", "struct_update(architecture, global_layer_interval := 0)"),
        ("case_failures", "architecture", "struct_update(architecture, vocab := -5)"),
        ("case_failures", "probe_layers", "0"),
        ("case_failures", "reason", "NULL::VARCHAR"),
        ("probe_gaps", "fact", "NULL::VARCHAR"),
        ("series", "sample_seconds", "[0.1, NULL]"),
        ("series", "sample_seconds", "['0.1']"),
        ("series", "sample_seconds", "'0.1'"),
        ("series", "round", "NULL::INTEGER"),
        ("series", "foreign_cpu_share", "'much'"),
        ("runs", "memory_available_bytes", "'much'"),
        ("runs", "memory_available_bytes", "-1"),
        ("runs", "read_bandwidth_bytes_per_second", "'fast'"),
        ("runs", "read_bandwidth_bytes_per_second", "'nan'::DOUBLE"),
        ("runs", "elapsed_seconds", "'inf'::DOUBLE"),
        ("runs", "device_id", "NULL::VARCHAR"),
        ("runs", "device_id", "7"),
        ("runs", "agent_version", "NULL::VARCHAR"),
        ("runs", "suite_version", "'1'"),
        ("runs", "receive_time", "'yesterday'"),
        ("runs", "receive_time", "NULL::TIMESTAMP"),
        ("runs", "observe_time", "7"),
        ("runs", "before", "'cold'"),
        ("runs", "before", "struct_update(before, temperature_celsius := 'cold')"),
        ("runs", "before", "struct_update(before, canary_matrix_flops := 'nan'::DOUBLE)"),
        ("hardware", "cpu_model", "7"),
        ("hardware", "hardware_id", "NULL::VARCHAR"),
        ("hardware", "physical_core_count", "'eight'"),
        ("hardware", "instruction_sets", "'avx2'"),
        ("hardware", "instruction_sets", "[7]"),
        ("hardware", "caches", "['L1']"),
        ("hardware", "caches", "[NULL]"),
        ("hardware", "caches", "[struct_update(caches[1], size_bytes := NULL::BIGINT)]"),
        ("hardware", "accelerators", "7"),
        ("hardware", "accelerators", "[struct_update(accelerators[1], shares_main_memory := 'yes')]"),
        ("hardware", "execution_providers", "[struct_update(execution_providers[1], measured := 'yes')]"),
        ("hardware", "execution_providers", "[struct_update(execution_providers[1], is_software := NULL::BOOLEAN)]"),
        ("hardware", "form_factor", "7"),
    ],
)
def test_a_value_that_cannot_be_is_refused(folder: Path, table: str, column: str, value: str) -> None:
    """Text for a number, a null where there must be a fact, a count of none: all of it would fail far from here."""
    replace_table(folder, table, f'SELECT * REPLACE ({value} AS "{column}") FROM it')
    text = refusal(folder)
    assert text.startswith(str(folder))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema_version": ' + "[" * 100_000])
def test_a_manifest_nested_too_deeply_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    assert "cannot be read as JSON" in refusal(folder)


def test_new_columns_do_not_disturb(folder: Path) -> None:
    """A newer aggregator may add facts; additive change needs no new version."""
    replace_table(folder, "runs", "SELECT *, 7 AS something_new FROM it")
    assert len(load_snapshot(folder).devices) == 1
