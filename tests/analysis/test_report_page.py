"""The report says everything that the cards say, says what is missing, and is one safe, well-formed page."""

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from example_runs import LAPTOP, SMALL_BOARD, anchored_run, example_run, run_id
from example_snapshots import device_id, make_snapshot
from html_checks import Page
from made_measurements import DEVICE, RUN, a_card, card_row

from weighin.v1 import device_pb2, measurement_pb2, run_pb2
from weighin_analysis.card import Basis, shown_rows
from weighin_analysis.conditions import Conditions
from weighin_analysis.limits import current_limits
from weighin_analysis.load import load_snapshot
from weighin_analysis.report import page as page_module
from weighin_analysis.report.devices import device_view
from weighin_analysis.report.fleet import VERDICTS, DeviceResult, judge_device, tier_table
from weighin_analysis.report.write import ReportError, write_report
from weighin_analysis.snapshot import Snapshot

HOSTILE = "<script>alert('1')</script>\"'&{{7*7}}<svg onload=x>"
TIME = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def written(tmp_path: Path, *runs: run_pb2.Run, examined: bool = True) -> tuple[Snapshot, str]:
    """Return the snapshot of one run per device, and its report."""
    pairs = [(device_id(number), run) for number, run in enumerate(runs, start=1)]
    snapshot = load_snapshot(make_snapshot(tmp_path, pairs, examined=examined))
    return snapshot, write_report(snapshot, tmp_path / "report").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, str]:
    return written(tmp_path_factory.mktemp("one"), example_run(1))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, str]:
    board = replace(SMALL_BOARD, memory_available_bytes=1 << 30)
    return written(tmp_path_factory.mktemp("fleet"), example_run(1), example_run(2, SMALL_BOARD), example_run(3, board))


@pytest.fixture(params=["one", "fleet", "empty"])
def html(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A page of each kind."""
    if request.param == "empty":
        return write_report(Snapshot(time=TIME, devices=()), tmp_path).read_text(encoding="utf-8")
    text: str = request.getfixturevalue(request.param)[1]
    return text


def test_the_page_is_well_formed_and_every_id_is_used_once(html: str) -> None:
    page = Page(html)
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids))
    labels = {found["aria-labelledby"] for _, found in page.tags if "aria-labelledby" in found}
    assert labels <= set(ids)


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
    assert page.addresses == []
    assert not {"script", "link", "iframe", "img", "form", "object", "base"} & {name for name, _ in page.tags}
    assert "url(" not in html
    assert "@import" not in html
    assert not [name for _, found in page.tags for name in found if name.startswith("on") or name == "style"]


def test_the_policy_allows_this_style_and_nothing_else(html: str) -> None:
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(found["content"] for found in Page(html).attributes("meta") if "http-equiv" in found)
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_one_device_is_headed_by_its_own_card(one: tuple[Snapshot, str]) -> None:
    snapshot, html = one
    card = judge_device(snapshot.devices[0]).card
    assert f"<h1>{card.headline}</h1>" in html.replace("\N{NO-BREAK SPACE}", " ")


def test_every_row_of_the_card_is_there_with_its_reasons(fleet: tuple[Snapshot, str]) -> None:
    snapshot, html = fleet
    text = Page(html).text
    verdicts = set()
    for device in snapshot.devices:
        card = judge_device(device).card
        for row in shown_rows(card.rows):
            verdicts.add(row.verdict)
            assert f"{row.size_class} {row.architecture}" in text
            assert f"{row.scheme} on {row.execution_provider}, {row.threads} threads" in text
            assert all(reason in text for reason in row.reasons)
    assert len(verdicts) == 4, "the example fleet shows every verdict"


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
    assert re.search(r"Decode 4\.0 tokens/s 3\.\d to 4\.\d", Page(written(tmp_path, run)[1]).text)


def test_what_the_device_is_and_how_the_run_went_is_there(one: tuple[Snapshot, str]) -> None:
    text = Page(one[1]).text
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


def test_failures_and_gaps_are_listed_with_their_reasons(one: tuple[Snapshot, str]) -> None:
    text = Page(one[1]).text
    assert "Llama-3.2-1B, int4_block32 on cpu, 1 thread gave no measurement: timed out (no answer within 60 s)" in text
    assert "conditions.temperature_celsius was not read: not offered (the system lists no processor sensor)" in text


def test_a_case_that_failed_has_its_row_and_is_not_counted_as_never_tried(tmp_path: Path) -> None:
    run = example_run(1)
    for measurement in [one for one in run.measurements if one.case.architecture.name == "Llama-3.2-1B"]:
        run.measurements.remove(measurement)
    text = Page(written(tmp_path, run, example_run(2))[1]).text
    row = "1B Llama-3.2-1B decoder, int4_block32 on cpu, 1 thread; it gave no measurement failed timed out"
    assert f"{row} Decode – Prefill – Time to first token – Memory – Download –" in text
    assert "1B Llama-3.2-1B 1 0 0 0 1" in text
    assert text.count("1 device tried 1B and failed.") == 1


def test_no_note_where_every_class_that_was_tried_was_measured(one: tuple[Snapshot, str]) -> None:
    assert "and failed." not in Page(one[1]).text


def test_an_absent_fact_says_why_and_is_never_zero(tmp_path: Path) -> None:
    run = example_run(1)
    run.device.memory.ClearField("read_bandwidth_bytes_per_second")
    reason = device_pb2.PROBE_GAP_REASON_TIMED_OUT
    run.probe_gaps.add(fact="memory.read_bandwidth_bytes_per_second", reason=reason, detail="no answer within 5 s")
    text = Page(written(tmp_path, run)[1]).text
    assert "Read bandwidth, measured not readable: no answer within 5 s" in text


def test_a_device_of_which_nothing_is_known_still_has_its_place(tmp_path: Path) -> None:
    html = write_report(Snapshot(time=TIME, devices=(DEVICE,)), tmp_path).read_text(encoding="utf-8")
    text = Page(html).text
    assert "No generating model was measured on this device." in text
    assert "Highest clock not stated" in text
    assert "<svg" not in html


def test_a_machine_that_changed_speed_is_not_passed_over(tmp_path: Path) -> None:
    before = Conditions(
        memory_available_bytes=None,
        foreign_cpu_share=0.25,
        steal_cpu_share=0.0,
        power_source="battery",
        frequency_hertz=None,
        temperature_celsius=None,
        canary_matrix_flops=100e9,
        canary_read_bytes_per_second=10e9,
    )
    run = replace(RUN, before=before, after=replace(before, canary_matrix_flops=60e9))
    snapshot = Snapshot(time=TIME, devices=(replace(DEVICE, run=run),))
    text = Page(write_report(snapshot, tmp_path).read_text(encoding="utf-8")).text
    assert "The device computed 40% slower after the run than before it." in text
    assert "Other programs used 25% of the processor" in text
    assert "It ran on battery" in text
    assert "read memory" not in text
    assert "Clock not readable not readable" in text


def test_the_tier_table_counts_the_fleet(fleet: tuple[Snapshot, str]) -> None:
    text = Page(fleet[1]).text
    assert "0.1B SmolLM2-135M 3 0 0 0 0" in text


def test_the_tier_table_tells_which_verdicts_were_computed(fleet: tuple[Snapshot, str]) -> None:
    snapshot, html = fleet
    text = Page(html).text
    (row,) = [
        row for row in tier_table([judge_device(device) for device in snapshot.devices]) if row.size_class == "7B"
    ]
    assert row.counts == row.computed_counts
    assert sum(row.counts.values()) == 3
    cells = [f"{row.counts[one]} computed" if row.counts[one] else "0" for one in VERDICTS]
    assert f"7B Llama-3.1-8B {' '.join(cells)} 0" in text
    assert "Computed: nothing of the class was run there" in text


def test_every_row_says_how_it_was_obtained(one: tuple[Snapshot, str]) -> None:
    text = Page(one[1]).text
    assert "1B Llama-3.2-1B decoder, int4_block32 on cpu, 8 threads; layer probe: some layers" in text
    assert "0.3B Gemma-3-270M decoder, int4_block32 on cpu, 8 threads; interpolated from the layers" in text
    assert "7B Llama-3.1-8B decoder, int4_block32 on cpu, 8 threads; computed from the layers" in text


def test_computed_rows_of_classes_that_were_run_are_left_out_and_counted(tmp_path: Path) -> None:
    """Four bit was run in all classes, eight bit in three: the rest of eight bit would hide what was run."""
    card = a_card(
        card_row("2B", scheme="int4_block32"),
        card_row("2B", scheme="int8_dynamic", basis=Basis.FORMULA),
        card_row("4B", scheme="int8_dynamic", basis=Basis.FORMULA),
    )
    view = device_view(DeviceResult(device=DEVICE, card=card), current_limits())
    assert [row.how for row in view.rows] == [
        "decoder, int4_block32 on cpu, 4 threads",
        "decoder, int8_dynamic on cpu, 4 threads",
    ]
    assert [row.computed for row in view.rows] == [False, True]
    assert view.rows_note == "1 computed row is left out, of classes in which another row is better or was run."


def test_a_clean_run_and_a_disturbed_one_are_told_apart(tmp_path: Path) -> None:
    busy = example_run(2)
    for measurement in busy.measurements:
        for series in measurement.series:
            series.foreign_cpu_share = 0.15
    text = Page(written(tmp_path, example_run(1), busy)[1]).text
    assert text.count(", clean run") == text.count(", disturbed run") == 1
    assert "Read with care. Other programs used 15% of the processor while it ran." in text
    assert "1 of the 2 runs were disturbed" in text


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1.12, "the others of its scheme are corrected by that"),
        (1.01, "that is within its error: nothing is corrected"),
        (2.0, "that is too far off to be believed"),
    ],
)
def test_an_anchor_says_what_was_found_and_what_was_made_of_it(tmp_path: Path, factor: float, words: str) -> None:
    text = Page(written(tmp_path, anchored_run(factor))[1]).text
    for phase in ("decode", "prefill"):
        found = re.search(rf"SmolLM2-135M, int4_block32 on cpu, 8 threads, {phase}: it took (\d\.\d\d) ± 0\.0\d ", text)
        assert found is not None
        assert float(found[1]) == pytest.approx(factor, abs=0.03)
    assert text.count(words) == 2
    assert "0.1B SmolLM2-135M decoder, int4_block32 on cpu, 8 threads; the whole model was run" in text


def test_a_software_adapter_is_named_as_one_and_counts_nowhere(tmp_path: Path) -> None:
    run = example_run(1)
    run.device.execution_providers.add(name="webgpu", measured=True, adapter="llvmpipe", is_software=True)
    for measurement in run.measurements:
        if measurement.case.architecture.name == "Llama-3.2-1B":
            measurement.case.execution_provider = measurement.execution_provider = "webgpu"
    text = Page(written(tmp_path, run)[1]).text
    assert "webgpu measured on llvmpipe (software adapter: never counts in a tier)" in text
    assert "1B Llama-3.2-1B decoder, int4_block32 on webgpu, 8 threads, software adapter; layer probe" in text
    assert "1B Llama-3.2-1B 0 0 0 0 1" in text


def test_the_page_says_what_it_cannot_say(html: str) -> None:
    text = Page(html).text
    if "No runs yet" in text:
        assert "weighin-agent run" in text
        assert "weighin-aggregator snapshot" in text
    else:
        assert "every number is for ONNX Runtime" in text
        assert "size is not ability" in text


def test_every_command_that_the_page_names_is_one(tmp_path: Path) -> None:
    """Asked of the programs' own help."""
    text = write_report(Snapshot(time=TIME, devices=()), tmp_path).read_text(encoding="utf-8")
    commands = re.findall(r"“(weighin-[^”]+)”", text)
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


def test_a_large_fleet_is_counted_in_full_and_shown_in_part(
    tmp_path: Path, one: tuple[Snapshot, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "MAX_DEVICE_SECTIONS", 3)
    device = one[0].devices[0]
    devices = tuple(replace(device, device_id=device_id(number)) for number in range(300))
    html = write_report(Snapshot(time=TIME, devices=devices), tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    assert "Of 300 devices, 300 (100 %)" in page.text
    assert "The 3 devices with the newest runs are shown; all 300 are counted above." in page.text
    assert "Of more than 120 in a row an even part is drawn" in page.text
    assert len([found for found in page.attributes("details") if found.get("class") == "device"]) == 3
    assert all(device_id(number) in page.text for number in (0, 150, 299))


def test_a_hostile_text_is_shown_and_never_obeyed(tmp_path: Path) -> None:
    run = example_run(1)
    run.agent_version = HOSTILE[:20]
    run.device.cpu.model = run.device.accelerators[0].model = HOSTILE
    run.device.operating_system.name = HOSTILE
    run.device.execution_providers[1].reason = HOSTILE
    run.failures[0].detail = run.probe_gaps[0].detail = HOSTILE
    for measurement in run.measurements:
        measurement.case.architecture.name = HOSTILE
    html = written(tmp_path, run, examined=False)[1]
    page = Page(html)
    assert "script" not in {name for name, _ in page.tags}
    assert not [name for _, found in page.tags for name in found if name.startswith("on")]
    assert "{{7*7}}" in page.text
    assert page.text.count(HOSTILE) >= 6
    assert any(HOSTILE in (found.get("aria-label") or "") for found in page.attributes("div"))


def test_an_old_report_is_replaced_whole(tmp_path: Path) -> None:
    write_report(Snapshot(time=TIME, devices=(DEVICE,)), tmp_path)
    path = write_report(Snapshot(time=TIME, devices=()), tmp_path)
    assert "No runs yet" in path.read_text(encoding="utf-8")
    assert [found.name for found in tmp_path.iterdir()] == ["index.html"]


def test_a_report_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ReportError, match="taken: cannot write the report"):
        write_report(Snapshot(time=TIME, devices=()), tmp_path / "taken")


def test_a_laptop_beside_a_board_shows_what_only_one_of_them_has(fleet: tuple[Snapshot, str]) -> None:
    text = Page(fleet[1]).text
    assert SMALL_BOARD.cpu_model in text
    assert LAPTOP.cpu_model in text
    assert "None was found." in text
