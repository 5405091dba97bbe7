"""Is `check` right on this machine? One run of the suite, then full models beside what `check` says of them from it.

    python tools/bench_check.py [--models NAME ...] [--scheme S] [--seed N] [--resume | --write-only]

The run is that of the standard suite, in real child processes. Then every model is built in full, in random order, and
its decode timed behind 512 tokens of context: does it lie in the interval that `check` states? Every step is appended
to the raw file as soon as it is measured, so that --resume goes on where Ctrl-C stopped. Ends with one line of JSON and
exit code 0 where at least 8 of 10 intervals held, else 1.
"""

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench_accuracy import EXECUTION_PROVIDER, RawFile, run_suite

from weighin_agent.bench.job import Measured, decode_answer, encode_answer
from weighin_agent.errors import CaseError
from weighin_agent.probe import probe
from weighin_agent.verify import Bench, Step, StepKind, run_step
from weighin_agent.weigh_in import device_facts, work_folder
from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.check import Question, check
from weighin_analysis.card import Basis, Estimate
from weighin_analysis.estimate import anchor_times
from weighin_analysis.evidence import DeviceFacts, evidence_of
from weighin_analysis.limits import current_limits
from weighin_analysis.measurement import Measurement, Phase
from weighin_analysis.models.catalogue import entry
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes.artefact import Format
from weighin_analysis.suite import SUITE_NAMES, Suite, load_suite, suite_case

ROOT = Path(__file__).resolve().parent.parent
LEAST_HELD_SHARE = 0.8
# Decoders that a machine with a few GiB of free memory can hold in 4 bits; nine of them are not in the suite.
MODELS = (
    "SmolLM2-135M",
    "Gemma-3-270M",
    "SmolLM2-360M",
    "Qwen2.5-0.5B",
    "Qwen3-0.6B",
    "Gemma-3-1B",
    "TinyLlama-1.1B",
    "Llama-3.2-1B",
    "Qwen2.5-1.5B",
    "SmolLM2-1.7B",
    "Qwen3-1.7B",
    "Gemma-2B",
    "Gemma-2-2B",
    "Llama-3.2-3B",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One model: what `check` said of its decode, tokens per second, and what its full model then did.

    ``in_suite`` tells that the run measured layers of this very shape.
    """

    model: str
    in_suite: bool
    stated: Estimate
    actual: float

    @property
    def held(self) -> bool:
        """Whether the stated interval holds what was measured."""
        return self.stated.low <= self.actual <= self.stated.high

    @property
    def error(self) -> float:
        """Stated over measured, less 1: positive where `check` promises too much."""
        return self.stated.value / self.actual - 1


def measure(suite: Suite, models: Sequence[ModelEntry], scheme: Scheme, raw: RawFile, state: Path) -> None:
    """Run the suite unless the raw file holds a run, then every model that it does not hold, and append each."""
    _, lines = raw.read()
    done = {line["key"] for line in lines}
    if "run" not in done:
        _tell("the suite")
        raw.append({"key": "run", **_run_suite(suite, state)})
    device, _ = probe(state, bandwidth=False)
    depth = current_limits().decode_context_depth
    # The prompt is not asked about; the shortest shows that the model computes.
    lengths = replace(
        suite.lengths, decode_context_depths=(depth,), decoder_prompt_tokens=suite.lengths.decoder_prompt_tokens[:1]
    )
    with work_folder(state) as folder:
        bench = Bench(
            suite=replace(suite, lengths=lengths), device=device, execution_provider=EXECUTION_PROVIDER, folder=folder
        )
        waiting = [one for one in models if one.name not in done]
        for number, model in enumerate(waiting, start=1):
            _tell(f"[{number}/{len(waiting)}] {model.name}")
            assert model.shape is not None
            case = suite_case(model.shape.architecture, scheme, suite.probe)
            step = Step(kind=StepKind.ALONE_ONCE, load=0, cases=(case,))
            try:
                found = run_step(bench, step, lambda _: None).measurements
            except CaseError as error:
                raw.append({"key": model.name, "failure": str(error)})
                continue
            raw.append({"key": model.name, "measured": encode_answer(Measured(measurements=found))})


def _run_suite(suite: Suite, state: Path) -> dict[str, Any]:
    run = run_suite(suite, state)
    facts = device_facts(run.device)
    return {
        "measured": encode_answer(Measured(measurements=run.measurements)),
        "memory_available_bytes": facts.memory_available_bytes,
        "core_count": facts.core_count,
    }


def results(models: Sequence[ModelEntry], scheme: Scheme, lines: Sequence[Mapping[str, Any]]) -> list[Held]:
    """Return what was found out of every model that was measured, in the order of ``models``."""
    measured = {line["key"]: line for line in lines if "measured" in line}
    if "run" not in measured:
        return []
    run = measured["run"]
    facts = DeviceFacts(memory_available_bytes=run["memory_available_bytes"], core_count=run["core_count"])
    evidence = evidence_of(_measurements(run), facts, current_limits())
    found = []
    for model in models:
        question = Question(
            candidate=Candidate(entry=model, format=Format.ONNX, scheme=scheme),
            context_tokens=evidence.limits.memory_context_tokens,
        )
        rows = check(question, evidence)
        if model.name in measured and rows and rows[0].decode_tokens_per_second:
            found.append(
                Held(
                    model=model.name,
                    in_suite=rows[0].basis in {Basis.MEASURED, Basis.LAYER_PROBE},
                    stated=rows[0].decode_tokens_per_second,
                    actual=_decode_tokens_per_second(_measurements(measured[model.name])),
                )
            )
    return found


def _decode_tokens_per_second(measurements: Sequence[Measurement]) -> float:
    (decode,) = (one for one in measurements if one.phase is Phase.DECODE)
    return 1 / anchor_times(decode).median_seconds


def _measurements(line: Mapping[str, Any]) -> tuple[Measurement, ...]:
    answer = decode_answer(line["measured"])
    assert isinstance(answer, Measured)
    return answer.measurements


def table(found: Sequence[Held]) -> str:
    """Return a line per model for a person."""
    lines = [f"{'model':<20} {'in suite':<9} {'stated (80 %)':>22} {'measured':>9} {'error':>7}  held"]
    for one in found:
        stated = f"{one.stated.value:.1f} ({one.stated.low:.1f}-{one.stated.high:.1f})"
        lines.append(
            f"{one.model:<20} {'yes' if one.in_suite else 'no':<9} {stated:>22} {one.actual:>9.1f} "
            f"{one.error:>+7.1%}  {'yes' if one.held else 'NO'}"
        )
    return "\n".join(lines)


def summary(models: Sequence[ModelEntry], found: Sequence[Held]) -> dict[str, object]:
    """Return the last line, for machines; ``missing`` are models of which nothing can be said."""
    errors = [abs(one.error) for one in found]
    return {
        "models": len(found),
        "held": sum(one.held for one in found),
        "not_in_suite": sum(not one.in_suite for one in found),
        "not_in_suite_held": sum(one.held for one in found if not one.in_suite),
        "median_abs_error": median(errors) if errors else None,
        "missing": [one.name for one in models if one.name not in {held.model for held in found}],
    }


def passed(found: Sequence[Held]) -> bool:
    """Return whether enough intervals held; nothing measured is no proof."""
    return bool(found) and sum(one.held for one in found) >= LEAST_HELD_SHARE * len(found)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME", help="decoders of the catalogue")
    parser.add_argument("--scheme", type=Scheme, choices=list(Scheme), default=Scheme.INT4_BLOCK32, metavar="S")
    parser.add_argument("--suite", choices=SUITE_NAMES, default="standard")
    parser.add_argument("--seed", type=int, help="of the order of the models (default: another one each time)")
    parser.add_argument("--raw", type=Path, default=ROOT / ".bench" / "check.jsonl", metavar="FILE")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--resume", action="store_true", help="go on where the raw file ends")
    end.add_argument("--write-only", action="store_true", help="print what the raw file holds; measure nothing")
    return parser


def main() -> int:
    """Measure, print the table and one line of JSON; 130 where Ctrl-C ended it early."""
    options = _parser().parse_args()
    raw, suite, code = RawFile(options.raw), load_suite(options.suite), None
    models = [entry(name) for name in options.models]
    if not options.write_only:
        state = options.raw.parent / "check-work"
        state.mkdir(parents=True, exist_ok=True)
        if not (options.resume and options.raw.exists()):
            raw.begin({"suite": f"{suite.name} {suite.version}", "scheme": options.scheme})
        order = random.Random(options.seed).sample(models, len(models))  # noqa: S311 - an order, no secret
        try:
            measure(suite, order, options.scheme, raw, state)
        except KeyboardInterrupt:
            _tell("stopped; --resume goes on from here")
            code = 130
    found = results(models, options.scheme, raw.read()[1])
    print(table(found))
    print(json.dumps(summary(models, found)))
    return (0 if passed(found) else 1) if code is None else code


if __name__ == "__main__":
    sys.exit(main())
