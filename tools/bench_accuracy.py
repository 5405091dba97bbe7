"""How right is weighin on this machine? Full models against predictions, and docs/accuracy.md from what was found.

    python tools/bench_accuracy.py [--size full|small] [--all] [--seed N] [--resume | --write-only]

Four questions, their steps spread over the same time: models beside their own layer probes; shapes that the suite never
saw; whole runs of the suite against full models that run alone and later; simpler predictions on the same cells. Every
step is appended to the raw file as soon as it is measured, so Ctrl-C loses one step: the page is written from what is
there, and --resume goes on where it stopped. Ends with one line of JSON.
"""

import argparse
import json
import platform
import random
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_page import Findings, Intervals, page

from weighin_agent.bench.job import Measured, decode_answer, encode_answer
from weighin_agent.bench.suite_run import Watcher
from weighin_agent.device import Device, last_level_cache
from weighin_agent.errors import CaseError
from weighin_agent.probe import probe
from weighin_agent.run import Run
from weighin_agent.verify import (
    Bench,
    Result,
    Step,
    StepKind,
    own_layers_loads,
    own_layers_plan,
    run_step,
    unseen_loads,
    unseen_plan,
)
from weighin_agent.weigh_in import disturbances_of, weigh_in, work_folder
from weighin_analysis.accuracy import (
    OWN_LAYERS_RULE,
    UNSEEN_RULE,
    Load,
    Verification,
    cells_of,
    interval_check,
    later_loads,
    verification,
)
from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.baselines import Machine, baseline_errors
from weighin_analysis.catalog import architecture, architectures
from weighin_analysis.errors import EstimateError
from weighin_analysis.estimate import FORMULA_VERSION
from weighin_analysis.limits import current_limits
from weighin_analysis.measurement import Measurement, Phase
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import Processor, Suite, load_suite, suite_case

ROOT = Path(__file__).resolve().parent.parent
LOADS = 3
# Runs of the suite, each followed by full models alone: at 34 cells each, more than 150 in all.
RUNS = 5
EXECUTION_PROVIDER = "cpu"
# Full models above this take minutes to load and to run once.
MOST_FULL_MODEL_PARAMETERS = 2_800_000_000
OWN_LAYERS = "own_layers"
UNSEEN = "unseen"
INTERVALS = "intervals"


def _decoder(name: str, layers: int, hidden: int, ffn: int, heads: tuple[int, int, int], vocab: int) -> Architecture:
    """Return a decoder; ``heads`` are query heads, key heads and the width of one."""
    count, kv_count, width = heads
    return Architecture(
        name=name, kind=ArchitectureKind.DECODER, layers=layers, hidden=hidden, ffn=ffn, heads=count,
        kv_heads=kv_count, head_dim=width, vocab=vocab, tied_embeddings=name != "TinyLlama-1.1B",
    )  # fmt: skip


# From each model's published configuration; none of them is in the suite.
SMOLLM2_360M = _decoder("SmolLM2-360M", 32, 960, 2560, (15, 5, 64), 49152)
TINYLLAMA = _decoder("TinyLlama-1.1B", 22, 2048, 5632, (32, 4, 64), 32000)
QWEN25_15B = _decoder("Qwen2.5-1.5B", 28, 1536, 8960, (12, 2, 128), 151936)


def odd_shape(seed: int) -> Architecture:
    """Draw an architecture that nobody built, of 0.2B to 1.2B: widths are odd multiples of 32, of the heads, of 64."""
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    while True:
        head_dim, kv_heads = draw.choice((64, 80, 96, 128)), draw.randint(1, 5)
        heads = kv_heads * draw.randint(1, 7)
        hidden = 32 * (2 * draw.randint(10, 31) + 1)
        shape = _decoder(
            f"odd-{seed}",
            draw.randint(12, 28),
            hidden,
            32 * (2 * draw.randint(hidden // 32, 2 * hidden // 32) + 1),
            (heads, kv_heads, head_dim),
            64 * (2 * draw.randint(250, 1250) + 1),
        )
        # Blocks of 32 weights along the input of every matrix, the attention's output included.
        fits = heads * head_dim % 32 == 0 and heads * head_dim <= 2 * hidden
        if fits and 200_000_000 <= shape.parameter_count <= 1_200_000_000:
            return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is to be measured; kept in the raw file, so that it can be continued and read."""

    size: str
    all_schemes: bool
    seed: int

    @property
    def command(self) -> str:
        """The command that measures the same."""
        words = ["--all"] if self.all_schemes else []
        words += [f"--size {self.size}"] if self.size != "full" else []
        words += [f"--seed {self.seed}"]
        return f'make bench-accuracy ARGS="{" ".join(words)}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One step of one question; None is a whole run of the suite, the ``load``-th of all."""

    question: str
    load: int
    step: Step | None

    @property
    def key(self) -> str:
        """What the task is known by in the raw file."""
        if self.step is None:
            return f"{self.question}/run/{self.load}"
        names = "suite" if self.step.kind is StepKind.SUITE_LAYERS else self.step.cases[0].architecture.name
        return f"{self.question}/{self.step.kind}/{self.load}/{names}/{self.step.scheme}"


def plan(suite: Suite, options: Options) -> list[Task]:
    """Return all tasks in their order: each load of each question, a run of the suite before and in between."""
    if options.size == "small":
        case = suite_case(architecture("SmolLM2-135M"), Scheme.INT4_BLOCK32, suite.probe)
        return [Task(question=OWN_LAYERS, load=s.load, step=s) for s in own_layers_plan([case], 1)]
    own = [suite_case(shape, scheme, suite.probe) for shape in own_shapes() for scheme in own_schemes(options)]
    unseen_schemes = (Scheme.INT4_BLOCK32, Scheme.INT8_DYNAMIC) if options.all_schemes else (Scheme.INT4_BLOCK32,)
    unseen = [
        suite_case(shape, scheme, suite.probe) for shape in unseen_shapes(options.seed) for scheme in unseen_schemes
    ]
    later = [
        case
        for case in suite.cases_on(Processor.CPU)
        if not case.anchor and case.architecture.parameter_count <= MOST_FULL_MODEL_PARAMETERS
    ]
    steps = {OWN_LAYERS: own_layers_plan(own, LOADS), UNSEEN: unseen_plan(suite, unseen, LOADS)}
    tasks = []
    for load in range(LOADS + 1):
        for i, (question, found) in enumerate(steps.items()):
            number = 2 * load + i
            tasks += [Task(question=INTERVALS, load=number, step=None)] if number < RUNS else []
            tasks += [Task(question=question, load=load, step=step) for step in found if step.load == load]
            if number < RUNS:
                once = [Step(kind=StepKind.ALONE_ONCE, load=number, cases=(case,)) for case in later]
                tasks += [Task(question=INTERVALS, load=number, step=step) for step in once]
    return tasks


def own_shapes() -> list[Architecture]:
    """Return the shapes that run beside their own layer probes."""
    suite_names = ("SmolLM2-135M", "Gemma-3-270M", "Qwen2.5-0.5B", "Llama-3.2-1B", "Gemma-2B")
    return [SMOLLM2_360M, *map(architecture, suite_names)]


def own_schemes(options: Options) -> tuple[Scheme, ...]:
    """Return the schemes that they run in: one of 4 bits and one or two of 8."""
    schemes = (Scheme.INT4_BLOCK32, Scheme.INT8_BLOCK32)
    return (*schemes, Scheme.INT8_DYNAMIC) if options.all_schemes else schemes


def unseen_shapes(seed: int) -> list[Architecture]:
    """Return shapes that the suite never runs."""
    return [SMOLLM2_360M, TINYLLAMA, QWEN25_15B, odd_shape(seed)]


# The raw file: one JSON object a line, the first about the machine and what is to be measured.


class RawFile:
    """What was measured so far, on disk. A line that was cut off by a crash is skipped, and its step run again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, head: Mapping[str, Any]) -> None:
        """Begin anew; what was there is kept beside it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            self._path.replace(self._path.with_suffix(".previous.jsonl"))
        self._path.write_text(json.dumps(head), encoding="utf-8")

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line))

    def read(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the first line and the others; SystemExit with one line where there is no such file."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError as error:
            raise SystemExit(f"bench-accuracy: {self._path}: {error.strerror}; run without --write-only") from error
        found = []
        for line in text.split("\n"):
            with suppress(ValueError):
                found.append(json.loads(line))
        return found[0], found[1:]


def machine_head(options: Options, suite: Suite, state: Path) -> dict[str, Any]:
    """Return what the raw file begins with: options, versions, and the machine without anything that identifies it."""
    device, _ = probe(state)
    return {
        "options": asdict(options),
        "begin": _now(),
        "words": _machine_words(device),
        "versions": {
            "weighin": version("weighin-agent"),
            "onnxruntime": device.runtime_versions.onnxruntime,
            "numpy": np.__version__,
            "Python": platform.python_version(),
            "suite": f"{suite.name} {suite.version}",
            "formula": FORMULA_VERSION,
        },
        "machine": asdict(
            Machine(
                read_bandwidth_bytes_per_second=device.memory.read_bandwidth_bytes_per_second,
                cpu_model=device.cpu.model or "",
                is_arm=(device.cpu.architecture or "").startswith(("arm", "aarch")),
                physical_core_count=device.cpu.physical_core_count or 1,
                logical_core_count=device.cpu.logical_core_count or 1,
                frequency_hertz=device.cpu.max_frequency_hertz,
                memory_total_bytes=device.memory.total_bytes or 0,
            )
        ),
    }


def _machine_words(device: Device) -> str:
    cpu, cache = device.cpu, last_level_cache(device.cpu)
    bandwidth = device.memory.read_bandwidth_bytes_per_second
    kind = device.virtualization.kind.replace("_", " ") if device.virtualization else "machine"
    parts = [
        f"{cpu.physical_core_count} cores of {cpu.model or 'an unknown processor'}",
        f"{cache.size_bytes / 2**20:.0f} MiB of last-level cache" if cache else "",
        f"{(device.memory.total_bytes or 0) / 2**30:.0f} GiB of memory",
        f"reads {bandwidth / 1e9:.1f} GB/s" if bandwidth else "",
        "no virtualisation" if kind == "none" else kind,
        device.operating_system.family or "",
    ]
    return ", ".join(part for part in parts if part)


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


# Measuring.


def measure(suite: Suite, tasks: Sequence[Task], raw: RawFile, state: Path) -> None:
    """Run the tasks in their order and append what each measured, or why it measured nothing."""
    device, _ = probe(state, bandwidth=False)
    runs = state / "runs"
    runs.mkdir(exist_ok=True)
    begin = time.monotonic()
    with work_folder(state) as folder:
        bench = Bench(suite=suite, device=device, execution_provider=EXECUTION_PROVIDER, folder=folder)
        for number, task in enumerate(tasks, start=1):
            task_begin = time.monotonic()
            line = {"key": task.key, **_run_task(bench, task, runs), "end_seconds": time.time(), "end": _now()}
            raw.append(line)
            now = time.monotonic()
            left = (now - begin) / number * (len(tasks) - number) / 60
            found = line.get("failure") or f"{now - task_begin:.0f} s"
            _tell(f"[{number}/{len(tasks)}] {task.key}: {found}; about {left:.0f} min left")


def _run_task(bench: Bench, task: Task, runs: Path) -> dict[str, Any]:
    if task.step is None:
        run = run_suite(bench.suite, runs)
        measured = encode_answer(Measured(measurements=run.measurements))
        return {"measured": measured, "clean": not disturbances_of(run)}
    try:
        result = run_step(bench, task.step, lambda _: None)
    except CaseError as error:
        return {"failure": str(error)}
    return {"measured": encode_answer(Measured(measurements=result.measurements))}


def run_suite(suite: Suite, state: Path) -> Run:
    """Return one run of a suite on the processor, in real child processes; nothing is shown of it."""
    silent = Watcher(
        on_case=lambda _: None, on_measured=lambda _: None, on_failure=lambda _: None, on_progress=lambda _: None
    )
    return weigh_in(
        suite,
        execution_provider=EXECUTION_PROVIDER,
        allow_software_adapter=False,
        state_folder=state,
        consent_version=0,
        watch=lambda _: silent,
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# From the raw file to the page.


def findings(suite: Suite, head: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Findings:
    """Return everything that the page tells of what was measured so far."""
    options = Options(**head["options"])
    tasks = plan(suite, options)
    measured = {line["key"]: line for line in lines if "measured" in line}
    results = {
        question: [
            Result(step=task.step, measurements=_measurements(measured[task.key]))
            for task in tasks
            if task.question == question and task.step and task.key in measured
        ]
        for question in (OWN_LAYERS, UNSEEN)
    }
    not_reached = [f"{line['key']}: {line['failure']}" for line in lines if "failure" in line]
    missing = [task.key for task in tasks if task.key not in {line["key"] for line in lines}]
    not_reached += [f"{key}: not run" for key in missing]
    not_reached += ["one device, one execution provider: nothing here was measured elsewhere"]
    own = verification(cells_of(own_layers_loads(results[OWN_LAYERS])), OWN_LAYERS_RULE)
    try:
        unseen = verification(cells_of(unseen_loads(_with_layers_around(results[UNSEEN]))), UNSEEN_RULE)
    except EstimateError as error:
        not_reached.append(f"shapes that were never seen: {error}")
        unseen = verification([], UNSEEN_RULE)
    known = [*architectures().values(), *own_shapes(), *unseen_shapes(options.seed)]
    shapes = {shape.name: shape for shape in known}
    decoders = [cell for cell in own.cells if shapes[cell.architecture].head_weight_count and cell.judged]
    weighin = {phase: [abs(cell.error) for cell in decoders if cell.phase is phase] for phase in Phase}
    return Findings(
        begin=head["begin"],
        end=lines[-1]["end"] if lines else head["begin"],
        command=options.command,
        surroundings=_surroundings(head, options),
        own_layers=own,
        unseen=unseen,
        intervals=intervals(tasks, measured),
        baselines={"weighin": weighin, **baseline_errors(own.cells, shapes, Machine(**head["machine"]))},
        shapes=shapes,
        not_reached=not_reached,
    )


def _with_layers_around(results: Sequence[Result]) -> list[Result]:
    """Leave out full models whose layers before or after are missing: a run that was stopped in between."""
    layers = {(r.step.scheme, r.step.load) for r in results if r.step.kind is StepKind.SUITE_LAYERS}
    return [
        r
        for r in results
        if r.step.kind is StepKind.SUITE_LAYERS or {(r.step.scheme, r.step.load + i) for i in (0, 1)} <= layers
    ]


def _measurements(line: Mapping[str, Any]) -> tuple[Measurement, ...]:
    answer = decode_answer(line["measured"])
    assert isinstance(answer, Measured)
    return answer.measurements


def _surroundings(head: Mapping[str, Any], options: Options) -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in head["versions"].items())
    return [
        f"Machine: {head['words']}.",
        f"Versions: {versions}.",
        f"The shape odd-{options.seed} was drawn at random with that seed. All weights are synthesised.",
    ]


def intervals(tasks: Sequence[Task], measured: Mapping[str, Mapping[str, Any]]) -> Intervals | None:
    """Hold every run of the suite against the full models that ran after it; None where there are none."""
    probability = current_limits().interval_probability
    before: list[Mapping[str, Any]] = []
    nearest: list[Load] = []
    clean: list[Load] = []
    every: list[Load] = []
    minutes: list[float] = []
    for task in tasks:
        line = measured.get(task.key)
        if task.question != INTERVALS or line is None:
            continue
        if task.step is None:
            before.append(line)
            continue
        found = [later_loads(_measurements(run), _measurements(line), probability) for run in before]
        if not found or not found[-1]:
            continue
        nearest += found[-1]
        clean += found[-1] if before[-1]["clean"] else []
        every += [load for loads in found for load in loads]
        minutes.append((line["end_seconds"] - before[-1]["end_seconds"]) / 60)
    checked, all_checked = interval_check(nearest), interval_check(every)
    if checked is None or all_checked is None:
        return None
    return Intervals(
        runs=len(before),
        clean_runs=sum(run["clean"] for run in before),
        nearest=checked,
        clean=interval_check(clean),
        every=all_checked,
        least_minutes=min(minutes),
        most_minutes=max(minutes),
    )


def summary(found: Findings, path: Path) -> dict[str, object]:
    """Return the last line: what the page says, for machines."""

    def judged(one: Verification) -> dict[str, object]:
        passed = one.passed if one.cells else None
        return {"decode": asdict(one.decode), "prefill": asdict(one.prefill), "passed": passed}

    return {
        "page": path.name,
        "own_layers": judged(found.own_layers),
        "unseen": judged(found.unseen),
        "intervals": asdict(found.intervals) if found.intervals else None,
        "baselines": {
            name: {phase: float(np.median(values)) if values else None for phase, values in errors.items()}
            for name, errors in found.baselines.items()
        },
        "not_reached": len(found.not_reached),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("full", "small"), default="full", help="small: one model, one load")
    parser.add_argument("--all", action="store_true", help="int8_dynamic too")
    parser.add_argument("--seed", type=int, help="of the shape that is drawn (default: another one each time)")
    parser.add_argument("--raw", type=Path, default=ROOT / ".bench" / "accuracy.jsonl", metavar="FILE")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "accuracy.md", metavar="FILE")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--resume", action="store_true", help="go on where the raw file ends")
    end.add_argument("--write-only", action="store_true", help="write the page from the raw file; measure nothing")
    return parser


def main() -> int:
    """Measure, write the page, print one line of JSON; 130 where Ctrl-C ended it early."""
    options = _parser().parse_args()
    suite, raw, code = load_suite("standard"), RawFile(options.raw), 0
    if not options.write_only:
        state = options.raw.parent / "work"
        state.mkdir(parents=True, exist_ok=True)
        if not (options.resume and options.raw.exists()):
            seed = random.randrange(10_000) if options.seed is None else options.seed  # noqa: S311
            raw.begin(machine_head(Options(size=options.size, all_schemes=options.all, seed=seed), suite, state))
        head, lines = raw.read()
        done = {line["key"] for line in lines}
        tasks = [task for task in plan(suite, Options(**head["options"])) if task.key not in done]
        _tell(f"{len(tasks)} steps, seed {head['options']['seed']}; Ctrl-C keeps what was measured")
        try:
            measure(suite, tasks, raw, state)
        except KeyboardInterrupt:
            _tell("stopped; --resume goes on from here")
            code = 130
    head, lines = raw.read()
    found = findings(suite, head, lines)
    options.page.write_text(page(found), encoding="utf-8")
    print(json.dumps(summary(found, options.page)))
    return code


if __name__ == "__main__":
    sys.exit(main())
