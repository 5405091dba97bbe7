"""`make bench-accuracy`: the smallest real measurement, and the page from the raw file of a device that obeys a law."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench_accuracy import Options, RawFile, Task, odd_shape, own_schemes, own_shapes, plan, unseen_shapes
from made_measurements import measurement, series
from tiny_cases import PATIENCE_SECONDS, case_children, wait_until

from weighin_agent.bench.job import Measured, encode_answer
from weighin_agent.verify import StepKind
from weighin_analysis.architecture import Architecture
from weighin_analysis.baselines import Machine
from weighin_analysis.measurement import Case, Measurement, Phase, SeriesPart
from weighin_analysis.suite import Processor, SuiteCase, load_suite

TOOL = Path(__file__).resolve().parents[2] / "tools" / "bench_accuracy.py"
SUITE = load_suite("standard")
FULL = Options(size="full", all_schemes=False, seed=7)


def bench(folder: Path, *arguments: str) -> list[str]:
    """The command line, with the raw file and the page in a folder."""
    return [
        sys.executable,
        str(TOOL),
        "--raw",
        str(folder / "raw.jsonl"),
        "--page",
        str(folder / "page.md"),
        *arguments,
    ]


def write_page(folder: Path) -> tuple[str, dict[str, Any]]:
    """Write the page from the raw file; the page and the line of JSON."""
    line = bench(folder, "--write-only")
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    return (folder / "page.md").read_text(encoding="utf-8"), json.loads(done.stdout)


# A device on which every weight and every token in the cache costs the same, and nothing else costs anything.


def layer_seconds(shape: Architecture, phase: Phase, length: int) -> float:
    if phase is Phase.PREFILL:
        return 5e-11 * length * shape.layer_weight_count
    return 1e-10 * shape.layer_weight_count + 1e-10 * length * shape.kv_heads * shape.head_dim


def full_seconds(shape: Architecture, phase: Phase, length: int) -> float:
    return shape.layers * layer_seconds(shape, phase, length) + 1e-10 * shape.head_weight_count


def measured_case(planned: SuiteCase, kind: StepKind) -> list[Measurement]:
    """What the device measures in such a step."""
    shape = planned.architecture
    case = Case(
        architecture=shape,
        scheme=planned.scheme,
        execution_provider="cpu",
        threads=2,
        probe_layers=planned.probe_layers,
        short_probe_layers=planned.short_probe_layers,
        head_columns=planned.head_columns,
    )
    loads = {StepKind.OWN_LAYERS: 2, StepKind.ALONE: 2, StepKind.ALONE_ONCE: 1, StepKind.SUITE_LAYERS: 0}[kind]
    lengths = [(Phase.PREFILL, 32), (Phase.PREFILL, 128)]
    lengths += [(Phase.DECODE, 16), (Phase.DECODE, 960)] if planned.head_columns else []
    found = []
    for phase, length in lengths:
        layer = layer_seconds(shape, phase, length)
        parts = {
            SeriesPart.FULL_MODEL: full_seconds(shape, phase, length) if loads >= 1 else 0.0,
            SeriesPart.FULL_MODEL_TWIN: 1.01 * full_seconds(shape, phase, length) if loads >= 2 else 0.0,
        }
        if kind in (StepKind.OWN_LAYERS, StepKind.SUITE_LAYERS):
            parts[SeriesPart.LAYERS] = planned.probe_layers * layer
            parts[SeriesPart.SHORT_LAYERS] = planned.short_probe_layers * layer
            parts[SeriesPart.HEAD] = 1e-10 * shape.hidden * planned.head_columns
        rounds = [series(part, i, [s], phase=phase) for part, s in parts.items() if s for i in range(4)]
        found.append(measurement(case, rounds, phase=phase, length=length))
    return found


def measured_task(task: Task) -> list[Measurement]:
    if task.step:
        return [one for case in task.step.cases for one in measured_case(case, task.step.kind)]
    kinds = {False: StepKind.SUITE_LAYERS, True: StepKind.ALONE_ONCE}
    return [one for case in SUITE.cases_on(Processor.CPU) for one in measured_case(case, kinds[case.anchor])]


def write_raw(folder: Path, tasks: Sequence[Task], options: Options = FULL) -> None:
    """The raw file of the device after these tasks, one a minute."""
    machine = Machine(
        read_bandwidth_bytes_per_second=2e10,
        cpu_model="Intel(R) Xeon(R) Processor",
        is_arm=False,
        physical_core_count=2,
        logical_core_count=2,
        frequency_hertz=None,
        memory_total_bytes=24 * 2**30,
    )
    raw = RawFile(folder / "raw.jsonl")
    raw.begin(
        {
            "options": {"size": options.size, "all_schemes": options.all_schemes, "seed": options.seed},
            "begin": "2026-11-22 10:00 UTC",
            "words": "a device that obeys a law",
            "versions": {"weighin": "1.2.3"},
            "machine": {name: getattr(machine, name) for name in Machine.__slots__},
        }
    )
    for minute, task in enumerate(tasks):
        measured = encode_answer(Measured(measurements=tuple(measured_task(task))))
        end = {"end_seconds": 60.0 * minute, "end": "2026-11-22 11:00 UTC"}
        raw.append({"key": task.key, "measured": measured, "clean": True, **end})


# The plan.


def test_every_step_has_a_name_of_its_own() -> None:
    tasks = plan(SUITE, Options(size="full", all_schemes=True, seed=1))
    assert len({task.key for task in tasks}) == len(tasks)


def test_a_run_of_the_suite_comes_before_the_full_models_that_are_held_against_it() -> None:
    kinds = [task.step.kind if task.step else "run" for task in plan(SUITE, FULL) if task.question == "intervals"]
    assert kinds[0] == "run"
    assert kinds.count("run") == 5
    assert kinds[-1] is StepKind.ALONE_ONCE


@pytest.mark.parametrize("seed", range(20))
def test_the_drawn_shape_is_odd_and_can_be_built(seed: int) -> None:
    shape = odd_shape(seed)
    assert shape == odd_shape(seed)
    assert shape.hidden % 64 == shape.ffn % 64 == 32
    assert shape.vocab % 128 == 64
    assert shape.heads * shape.head_dim % 32 == 0
    assert shape.heads % shape.kv_heads == 0
    assert 200_000_000 <= shape.parameter_count <= 1_200_000_000


# The page.


def test_the_page_answers_all_questions(tmp_path: Path) -> None:
    write_raw(tmp_path, plan(SUITE, FULL))
    text, line = write_page(tmp_path)
    for word in ("a device that obeys a law", "weighin 1.2.3", "2026-11-22 10:00 UTC", FULL.command):
        assert word in text
    own = {f"| {shape.name} | {scheme} | 3 |" for shape in own_shapes() for scheme in own_schemes(FULL)}
    assert [row for row in own if row not in text] == []
    unseen = text.split("## Shapes that were never seen")[1].split("\n## ")[0]
    assert [shape.name for shape in unseen_shapes(7) if f"| {shape.name} | int4_block32 | 3 |" not in unseen] == []
    assert line["own_layers"]["passed"]
    assert (line["own_layers"]["decode"]["cells"], line["own_layers"]["prefill"]["cells"]) == (24, 24)
    assert line["own_layers"]["decode"]["p90_abs_error"] == pytest.approx(0, abs=1e-6)
    assert line["own_layers"]["decode"]["median_scatter"] == pytest.approx(0.00995, abs=1e-4)
    assert (line["unseen"]["decode"]["cells"], line["unseen"]["prefill"]["cells"]) == (8, 8)
    assert "not run" not in text


def test_every_run_is_held_against_the_full_models_after_it(tmp_path: Path) -> None:
    """Five runs; after each eight decoders of four cells and an encoder of two."""
    write_raw(tmp_path, plan(SUITE, FULL))
    _, line = write_page(tmp_path)
    found = line["intervals"]
    assert (found["runs"], found["clean_runs"]) == (5, 5)
    assert found["nearest"]["cells"] == found["clean"]["cells"] == 5 * 34
    assert found["every"]["cells"] == 34 * (1 + 2 + 3 + 4 + 5)
    assert found["nearest"]["coverage"] == 1
    assert found["nearest"]["median_width"] > 1
    assert 0 < found["least_minutes"] < found["most_minutes"]


def test_simpler_predictions_stand_beside_on_the_same_cells(tmp_path: Path) -> None:
    write_raw(tmp_path, plan(SUITE, FULL))
    _, line = write_page(tmp_path)
    ours, *others = (errors["decode"] for errors in line["baselines"].values())
    assert len(others) == 6
    assert ours == pytest.approx(0, abs=1e-6)
    assert all(other > ours for other in others)


def test_what_was_not_measured_is_named(tmp_path: Path) -> None:
    tasks = plan(SUITE, FULL)
    write_raw(tmp_path, tasks[:8])
    text, line = write_page(tmp_path)
    assert all(f"- {task.key}: not run" in text for task in tasks[8:])
    assert line["unseen"]["passed"] is None
    assert line["intervals"] is None


def test_a_step_that_failed_is_named_with_its_reason(tmp_path: Path) -> None:
    (task,) = plan(SUITE, Options(size="small", all_schemes=False, seed=7))
    write_raw(tmp_path, [], Options(size="small", all_schemes=False, seed=7))
    failure = {"key": task.key, "failure": "SmolLM2-135M int4_block32: crashed: ended by signal 9", "end": "later"}
    RawFile(tmp_path / "raw.jsonl").append(failure)
    text, line = write_page(tmp_path)
    assert f"- {task.key}: SmolLM2-135M int4_block32: crashed: ended by signal 9" in text
    assert line["own_layers"]["passed"] is None


def test_a_line_that_was_cut_off_is_not_measured_yet(tmp_path: Path) -> None:
    tasks = plan(SUITE, FULL)
    write_raw(tmp_path, tasks[:4])
    path = tmp_path / "raw.jsonl"
    path.write_text(path.read_text()[:-100])
    RawFile(path).append({"key": tasks[4].key, "failure": "after the cut", "end": "later"})
    text, _ = write_page(tmp_path)
    assert f"- {tasks[3].key}: not run" in text
    assert f"- {tasks[4].key}: after the cut" in text
    assert f"- {tasks[2].key}: not run" not in text


def test_beginning_anew_keeps_what_was_measured_before(tmp_path: Path) -> None:
    write_raw(tmp_path, plan(SUITE, FULL)[:2])
    before = (tmp_path / "raw.jsonl").read_text()
    write_raw(tmp_path, [])
    assert (tmp_path / "raw.previous.jsonl").read_text() == before


def test_without_a_raw_file_there_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(bench(tmp_path, "--write-only"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("No such file or directory; run without --write-only")


# The measurement.


@pytest.mark.slow
def test_the_smallest_size_measures_one_model_and_resuming_it_measures_nothing_more(tmp_path: Path) -> None:
    line = bench(tmp_path, "--size", "small", "--seed", "7")
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    found = json.loads(last)
    assert (found["own_layers"]["decode"]["cells"], found["own_layers"]["prefill"]["cells"]) == (2, 2)
    assert found["own_layers"]["decode"]["median_scatter"] >= 0
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| 0.1B | SmolLM2-135M | int4_block32 | 1 |" in page
    assert str(Path.home()) not in (tmp_path / "raw.jsonl").read_text(encoding="utf-8")
    again = subprocess.run([*line, "--resume"], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert "0 steps" in again.stderr
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page


@pytest.mark.slow
def test_ctrl_c_still_writes_the_page(tmp_path: Path) -> None:
    line = bench(tmp_path, "--size", "small")
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: case_children(psutil.Process(process.pid)), "a model is measured")
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "--resume goes on from here" in errors
    assert json.loads(output)["own_layers"]["passed"] is None
    assert "own_layers/own_layers/0/SmolLM2-135M/int4_block32: not run" in (tmp_path / "page.md").read_text()
