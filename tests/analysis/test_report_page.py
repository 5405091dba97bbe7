"""The report says what the snapshot holds, says what is missing, and is one safe, well-formed page."""

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from example_runs import LAPTOP, SMALL_BOARD, anchored_run, example_run, run_id
from example_snapshots import device_id, make_snapshot, replace_table
from html_checks import Page
from made_fleet import make_fleet

import weighin_analysis
from weighin.v1 import device_pb2, measurement_pb2, run_pb2
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.limits import current_limits
from weighin_analysis.report import write
from weighin_analysis.report.write import ReportError, write_report

HOSTILE = "<script>alert('1')</script>\"'&{{7*7}}<svg onload=x>"
ABSENT_CASE = "Decode – Prefill – Time to first token – Memory – Download –"


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts blank: drawing them takes longer than all else. The fixtures of a whole module draw theirs."""
    monkeypatch.setattr(write, "draw", lambda chart, width: "<svg></svg>")
    monkeypatch.setattr(write, "to_png", lambda svg: b"")


def page_of(snapshot: Path) -> str:
    """Return the page of a snapshot, written beside it."""
    folder = snapshot.with_name("report")
    with weighin_analysis.open(snapshot) as fleet:
        write_report(fleet, folder)
    return (folder / "index.html").read_text(encoding="utf-8")


def written(tmp_path: Path, *runs: run_pb2.Run, examined: bool = True) -> str:
    """Return the page of a snapshot with one run per device."""
    pairs = [(device_id(number), run) for number, run in enumerate(runs, start=1)]
    return page_of(make_snapshot(tmp_path, pairs, examined=examined))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("one"), example_run(1))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> str:
    board = replace(SMALL_BOARD, memory_available_bytes=1 << 30)
    runs = example_run(1), example_run(2, SMALL_BOARD), example_run(3, board)
    return written(tmp_path_factory.mktemp("fleet"), *runs)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("empty"))


@pytest.fixture(params=["one", "fleet", "empty"])
def html(request: pytest.FixtureRequest) -> str:
    """A page of each kind."""
    text: str = request.getfixturevalue(request.param)
    return text


def test_the_page_is_well_formed_and_every_id_is_used_once(html: str) -> None:
    page = Page(html)
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids))
    labels = {found["aria-labelledby"] for _, found in page.tags if "aria-labelledby" in found}
    assert labels <= set(ids)
    assert set(page.addresses) <= {f"#{name}" for name in ids}


def test_the_page_can_be_read_with_a_screen_reader(html: str) -> None:
    page = Page(html)
    levels = page.headings
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.attributes("caption")) == len(page.attributes("table"))
    assert all("scope" in found for found in page.attributes("th"))
    assert {"header", "main", "footer"} <= {name for name, _ in page.tags}
    charts = [found for name, found in page.tags if name == "div" and "chart" in (found.get("class") or "")]
    assert all(found["role"] == "img" and found["aria-label"] for found in charts)
    assert len(page.attributes("svg")) == len(charts)


def test_the_page_asks_nobody_for_anything(html: str) -> None:
    page = Page(html)
    assert all((address or "").startswith("#") for address in page.addresses)
    assert not {"link", "iframe", "img", "form", "object", "base"} & {name for name, _ in page.tags}
    assert "url(" not in html
    assert "@import" not in html
    assert not [name for _, found in page.tags for name in found if name.startswith("on") or name == "style"]


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(html: str) -> None:
    digests = []
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digests.append(base64.b64encode(hashlib.sha256(text.encode()).digest()).decode())
    policy = next(found["content"] for found in Page(html).attributes("meta") if "http-equiv" in found)
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_one_device_is_headed_by_what_it_runs(one: str) -> None:
    assert "<h1>This device comfortably runs 1B models at int4.</h1>" in one.replace("\N{NO-BREAK SPACE}", " ")


def test_several_devices_are_headed_by_the_decision(fleet: str) -> None:
    (heading,) = re.findall(r"<h1>(.*?)</h1>", fleet.replace("\N{NO-BREAK SPACE}", " "))
    words = r"Ship \S+ to the \d+ % \(\d+ to \d+ %\) of 3 devices that run it comfortably(, .*)?\."
    assert re.fullmatch(words, heading), heading


def test_numbers_stand_with_unit_and_interval(tmp_path: Path) -> None:
    """Known samples: 4 tokens per second everywhere, so the page must say 4, not what some code thinks it says."""
    run = example_run(1)
    for measurement in run.measurements:
        case = measurement.case
        if case.architecture.name == "Llama-3.2-1B" and measurement.phase == measurement_pb2.PHASE_DECODE:
            for series in measurement.series:
                layers = series.part == measurement_pb2.SERIES_PART_LAYERS
                ran, whole = (case.probe_layers, 16) if layers else (case.head_columns, 128256)
                seconds = 0.125 * ran / whole
                series.sample_seconds[:] = [seconds] * len(series.sample_seconds)
    assert re.search(r"Decode 4\.0 tokens/s 3\.\d to 4\.\d", Page(written(tmp_path, run)).text)


def test_what_the_device_is_and_how_the_run_went_is_there(one: str) -> None:
    text = Page(one).text
    for wanted in (
        "AMD Ryzen 7 7840HS w/ Radeon 780M Graphics",
        "8 physical cores, 16 hardware threads",
        "L1 data 8 × 32 KiB, L3 unified 16 MiB",
        "avx, avx2, avx512_vnni, fma",
        "Memory 32 GiB",
        "Free when the run began 20 GiB",
        "40 GB/s",
        "Debian GNU/Linux 12 (x86_64, 6.1.0-18-amd64)",
        "GPU: AMD Radeon 780M Graphics",
        "azure runs on a remote service",
        "Canary: matrix product 400 GFLOP/s 400 GFLOP/s ±0 %",
        "Limits 2026.1",
        "Suite quick 1",
        "Agent 0.1.0",
        "ONNX Runtime 1.31.0",
        run_id(1),
        device_id(1),
    ):
        assert wanted in text


def test_failures_and_gaps_are_listed_with_their_reasons(one: str) -> None:
    text = Page(one).text
    assert "Llama-3.2-1B, int4_block32 on cpu, 1 thread gave no measurement: timed out (no answer within 60 s)" in text
    assert "conditions.temperature_celsius was not read: not offered (the system lists no processor sensor)" in text


def test_a_case_that_failed_has_its_row(tmp_path: Path) -> None:
    run = example_run(1)
    for measurement in [one for one in run.measurements if one.case.architecture.name == "Llama-3.2-1B"]:
        run.measurements.remove(measurement)
    row = "1B Llama-3.2-1B decoder, int4_block32 on cpu, 1 thread; it gave no measurement failed timed out"
    assert f"{row} {ABSENT_CASE}" in Page(written(tmp_path, run)).text


def test_an_absent_fact_says_why_and_is_never_zero(tmp_path: Path) -> None:
    run = example_run(1)
    run.device.memory.ClearField("read_bandwidth_bytes_per_second")
    reason = device_pb2.PROBE_GAP_REASON_TIMED_OUT
    run.probe_gaps.add(fact="memory.read_bandwidth_bytes_per_second", reason=reason, detail="no answer within 5 s")
    text = Page(written(tmp_path, run)).text
    assert "Read bandwidth, measured not readable: no answer within 5 s" in text


def all_failed(seed: int) -> run_pb2.Run:
    """A run in which no case gave a measurement."""
    run = example_run(seed)
    cases = {one.case.SerializeToString(): one.case for one in run.measurements}
    del run.measurements[:]
    for case in cases.values():
        run.failures.add(case=case, reason=measurement_pb2.CASE_FAILURE_REASON_TIMED_OUT, detail="no answer")
    return run


def test_a_device_on_which_all_failed_still_has_its_place(tmp_path: Path) -> None:
    html = written(tmp_path, all_failed(1))
    text = Page(html).text
    assert "No generating model was measured on this device." in text
    assert text.count("it gave no measurement failed timed out") == 4 + 1
    assert "<svg" not in html


def test_a_fleet_on_which_all_failed_says_so_and_draws_nothing(tmp_path: Path) -> None:
    html = written(tmp_path, all_failed(1), all_failed(2))
    assert "Nothing can be said of 2 devices: no run gave a measurement" in Page(html).text
    assert "<svg" not in html


def test_a_device_on_which_all_failed_counts_for_nothing_and_is_told(tmp_path: Path) -> None:
    text = Page(written(tmp_path, all_failed(1), example_run(2), example_run(3))).text
    assert "of 2 judged of 3 devices that run it comfortably" in text
    assert "On 1 device no class could be judged; no share counts them." in text


def test_a_machine_that_changed_speed_is_not_passed_over(tmp_path: Path) -> None:
    run = example_run(1)
    for state in (run.before, run.after):
        state.foreign_cpu_share = 0.25
        state.power_source = run_pb2.POWER_SOURCE_BATTERY
        state.ClearField("frequency_hertz")
    run.after.canary.matrix_flops = 0.6 * run.before.canary.matrix_flops
    text = Page(written(tmp_path, run)).text
    assert "The device computed 40% slower after the run than before it." in text
    assert "Other programs used 25% of the processor" in text
    assert "It ran on battery" in text
    assert "Clock not readable not readable" in text


def test_every_row_says_how_it_was_obtained(one: str) -> None:
    text = Page(one).text
    assert "1B Llama-3.2-1B decoder, int4_block32 on cpu, 8 threads; layer probe: some layers" in text
    assert "0.3B Gemma-3-270M decoder, int4_block32 on cpu, 8 threads; interpolated from other models, not run" in text
    assert "7B Llama-3.1-8B decoder, int4_block32 on cpu, 8 threads; computed from smaller models, not run" in text


def test_a_full_model_that_was_run_is_told(tmp_path: Path) -> None:
    text = Page(written(tmp_path, anchored_run(1.12))).text
    assert "0.1B SmolLM2-135M decoder, int4_block32 on cpu, 8 threads; the whole model was run" in text


def test_a_clean_run_and_a_disturbed_one_are_told_apart(tmp_path: Path) -> None:
    busy = example_run(2)
    for measurement in busy.measurements:
        for series in measurement.series:
            series.foreign_cpu_share = 0.15
    text = Page(written(tmp_path, example_run(1), busy)).text
    assert text.count(", clean run") == text.count(", disturbed run") == 1
    assert "Read with care. Other programs used 15% of the processor while it ran." in text
    assert "1 of the 2 runs was disturbed, by other programs for example; it is less sure." in text


def test_a_software_adapter_is_named_as_one_and_makes_no_tier(tmp_path: Path) -> None:
    run = example_run(1)
    run.device.execution_providers.add(name="webgpu", measured=True, adapter="llvmpipe", is_software=True)
    for measurement in run.measurements:
        if measurement.case.architecture.name == "Llama-3.2-1B":
            measurement.case.execution_provider = measurement.execution_provider = "webgpu"
    text = Page(written(tmp_path, run)).text
    assert "webgpu measured on llvmpipe (software adapter: never counts in a tier)" in text
    assert "1B Llama-3.2-1B decoder, int4_block32 on webgpu, 8 threads, software adapter; layer probe" in text
    assert "This device comfortably runs 1B" not in text


def test_a_device_counts_once_by_its_newest_run(tmp_path: Path) -> None:
    runs = [(device_id(1), example_run(1)), (device_id(1), example_run(2)), (device_id(2), example_run(3))]
    text = Page(page_of(make_snapshot(tmp_path, runs))).text
    assert "A device counts once, by the newest of its runs (3 in all)." in text
    assert f"{run_id(2)} (the newest; 1 older not shown)" in text


def test_two_versions_of_the_limits_stand_side_by_side(tmp_path: Path) -> None:
    limits = current_limits()
    strict = replace(
        limits, version="strict", decoder_comfortable=replace(limits.decoder_comfortable, decode_tokens_per_second=1e4)
    )
    with weighin_analysis.open(make_fleet(tmp_path / "snapshot", devices=40, seed=1)) as opened:
        write_report(opened, tmp_path / "report", limits=[limits, strict])
        page = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    captions = [table.caption for table in page.tables if "ship" in table.classes]
    assert captions == [f"What each choice reaches, under limits {version}" for version in ("2026.1", "strict")]
    head = next(table.rows[0] for table in page.tables if "devices" in table.classes)
    assert head[1:3] == ["Tier, limits 2026.1", "Tier, limits strict"]
    alternative = next(found["aria-label"] or "" for found in page.attributes("div") if found.get("role") == "img")
    assert "comfortable, limits strict: 0.1B 0 %" in alternative.replace("\N{NO-BREAK SPACE}", " ")
    assert "By limits strict: Leave all to a server" in page.text


def test_more_than_two_versions_are_refused(tmp_path: Path) -> None:
    with (
        weighin_analysis.open(make_fleet(tmp_path / "snapshot", devices=1, seed=1)) as opened,
        pytest.raises(ReportError, match="3 versions of the limits; a report sets 2 side by side at most"),
    ):
        write_report(opened, tmp_path / "report", limits=[current_limits()] * 3)


def test_the_page_says_what_it_cannot_say(html: str) -> None:
    text = Page(html).text
    if "No runs yet" in text:
        assert "weighin-agent run" in text
        assert "weighin-aggregator snapshot" in text
    else:
        assert "every number of a device that was weighed in is for ONNX Runtime" in text
        assert "Size is not ability" in text


def test_every_command_that_the_page_names_is_one(empty: str) -> None:
    """Asked of the programs' own help."""
    commands = re.findall(r"“(weighin-[^”]+)”", empty)
    assert [command.split()[:2] for command in commands] == [
        ["weighin-agent", "enroll"],
        ["weighin-agent", "run"],
        ["weighin-aggregator", "snapshot"],
    ]
    for command in commands:
        program, verb, *words = command.split()
        shown = subprocess.run(
            [Path(sys.executable).with_name(program), verb, "--help"], capture_output=True, text=True, check=True
        ).stdout
        usage = shown.split("\n\n")[0]
        for word in words:
            assert word.isdecimal() or word in usage, command
        for needed in re.findall(r" (--[a-z-]+)", re.sub(r"\[[^\]]*\]", "", usage)):
            assert needed in words, command


def test_a_large_fleet_is_counted_in_full_and_shown_in_part(tmp_path: Path) -> None:
    page = Page(page_of(make_fleet(tmp_path / "snapshot", devices=600, seed=1)))
    assert "of 600 devices that run it comfortably" in page.text
    assert "The 50 devices with the newest runs of 600; all are counted above." in page.text
    assert "The 500 devices with the newest runs of 600; devices.csv has them all." in page.text
    assert "An even part of 300 devices is drawn." in page.text
    assert len([found for found in page.attributes("details") if found.get("class") == "device"]) == 50
    (table,) = [table for table in page.tables if "devices" in table.classes]
    assert len(table.rows) == 1 + 500
    lines = (tmp_path / "report" / "devices.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 600


def test_a_hostile_text_is_shown_and_never_obeyed(tmp_path: Path) -> None:
    run = example_run(1)
    run.agent_version = HOSTILE[:20]
    run.device.cpu.model = run.device.accelerators[0].model = HOSTILE
    run.device.operating_system.name = HOSTILE
    run.device.execution_providers[1].reason = HOSTILE
    run.failures[0].detail = run.probe_gaps[0].detail = HOSTILE
    for measurement in run.measurements:
        measurement.case.architecture.name = HOSTILE
    html = written(tmp_path, run, example_run(2), examined=False)
    page = Page(html)
    assert html.count("<script>") == 1
    assert not [name for _, found in page.tags for name in found if name.startswith("on")]
    assert "{{7*7}}" in page.text
    assert page.text.count(HOSTILE) >= 6


@pytest.mark.parametrize("value", ["'nan'::DOUBLE", "-1.0", "'inf'::DOUBLE", "0.0"])
def test_an_estimate_that_cannot_be_is_shown_as_none(tmp_path: Path, value: str) -> None:
    snapshot = make_snapshot(tmp_path, [(device_id(1), example_run(1)), (device_id(2), example_run(2))])
    where = "architecture = 'Llama-3.2-1B'"
    names = ("decode_tokens_per_second", "prefill_tokens_per_second", "time_to_first_token_seconds")
    columns = ", ".join(f"CASE WHEN {where} THEN {value} ELSE {name} END AS {name}" for name in names)
    replace_table(snapshot, "estimates", f"SELECT * REPLACE ({columns}) FROM it")
    text = Page(page_of(snapshot)).text
    assert not re.search(r"\bnan\b|\binf\b|tokens/s -", text)
    assert "Llama-3.2-1B decoder, int4_block32 on cpu, 8 threads; layer probe" in text


def test_an_old_report_is_replaced_whole(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path / "a", [(device_id(1), example_run(1))])
    for source in (snapshot, make_snapshot(tmp_path / "b", [])):
        with Fleet(source) as opened:
            write_report(opened, tmp_path / "report")
    assert "No runs yet" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert not [found for found in (tmp_path / "report").rglob("*") if found.name.startswith(".")]


def test_a_report_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with (
        weighin_analysis.open(make_fleet(tmp_path / "snapshot", devices=1, seed=1)) as opened,
        pytest.raises(ReportError, match="taken: cannot write the report"),
    ):
        write_report(opened, tmp_path / "taken")


def test_a_laptop_beside_a_board_shows_what_only_one_of_them_has(fleet: str) -> None:
    text = Page(fleet).text
    assert SMALL_BOARD.cpu_model in text
    assert LAPTOP.cpu_model in text
    assert "None was found." in text
