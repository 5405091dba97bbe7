"""What a parent asks of the child processes of a case, and what they answer: JSON lines, one module per border.

The synthesiser takes a job a line and answers `Synthesised`. The child that measures takes one job, answers `Ready`,
then takes the number of a round a line and answers `Measured`. Either may answer `Failed` instead.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weighin_agent.run import CaseFailureReason
from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, Series, SeriesPart
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import Lengths, Rounds, Weights

# Where in its folder a job finds the graph of each part, the weights beside it.
GRAPH_FILES = {
    SeriesPart.FULL_MODEL: "full.onnx",
    SeriesPart.FULL_MODEL_TWIN: "full.onnx",
    SeriesPart.LAYERS: "layers.onnx",
    SeriesPart.SHORT_LAYERS: "short_layers.onnx",
    SeriesPart.HEAD: "head.onnx",
    SeriesPart.CALL: "call.onnx",
}

# The model whose outputs are compared with the CPU's.
SMALL_MODEL_FILE = "small.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One case to run with its models in ``folder``.

    ``layer_probe`` is False where the whole model runs alone. ``full_model_loads`` says how often it is loaded: 0, 1,
    or 2 to see how far it is from itself. ``memory_limit_bytes`` is what the child may take, None if not known;
    ``clock`` is what its samples are timed with.
    """

    case: Case
    folder: Path
    weights: Weights
    lengths: Lengths
    rounds: Rounds
    layer_probe: bool
    full_model_loads: int
    memory_limit_bytes: int | None
    clock: ClockKind

    @property
    def parts(self) -> dict[SeriesPart, int]:
        """The graphs that run in turn, each with its number of layers."""
        case, probe = self.case, self.layer_probe
        layers = {
            SeriesPart.FULL_MODEL: case.architecture.layers if self.full_model_loads >= 1 else None,
            SeriesPart.FULL_MODEL_TWIN: case.architecture.layers if self.full_model_loads >= 2 else None,
            SeriesPart.LAYERS: case.probe_layers if probe else None,
            SeriesPart.SHORT_LAYERS: case.short_probe_layers if probe and case.short_probe_layers else None,
            SeriesPart.HEAD: 0 if probe and case.head_columns else None,
            SeriesPart.CALL: 0 if probe and case.head_columns else None,
        }
        return {part: count for part, count in layers.items() if count is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesised:
    """The models of the job lie in its folder; ``case`` is the job's with the hashes of its graphs."""

    case: Case


@dataclass(frozen=True, slots=True)
class Ready:
    """The models are loaded and warm: rounds may be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One round is done: a measurement for each phase and length, with the series of this round alone."""

    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The child could not do what was asked, and knows why."""

    reason: CaseFailureReason
    detail: str


Answer = Synthesised | Ready | Measured | Failed


def encode_job(job: Job) -> str:
    """Return the job as one line of JSON."""
    return json.dumps(asdict(job) | {"folder": str(job.folder)})


def decode_job(text: str) -> Job:
    """Return the job of a line made by ``encode_job``."""
    data = json.loads(text)
    return Job(
        case=_case(data["case"]),
        folder=Path(data["folder"]),
        weights=Weights(**data["weights"]),
        lengths=Lengths.from_table(data["lengths"]),
        rounds=Rounds(**data["rounds"]),
        layer_probe=data["layer_probe"],
        full_model_loads=data["full_model_loads"],
        memory_limit_bytes=data["memory_limit_bytes"],
        clock=ClockKind(data["clock"]),
    )


def encode_answer(answer: Answer) -> str:
    """Return an answer as one line of JSON."""
    return json.dumps({"kind": type(answer).__name__, **asdict(answer)})


def decode_answer(line: str) -> Answer:
    """Return the answer of a line made by ``encode_answer``; ValueError, KeyError or TypeError if it is not one."""
    data = json.loads(line)
    if not isinstance(data, dict):  # whatever a library of the child prints there
        raise ValueError("an answer is a JSON object")
    match data.pop("kind"):
        case "Synthesised":
            return Synthesised(case=_case(data["case"]))
        case "Ready":
            return Ready()
        case "Measured":
            return Measured(measurements=tuple(_measurement(row) for row in data["measurements"]))
        case "Failed":
            return Failed(reason=CaseFailureReason(data["reason"]), detail=str(data["detail"]))
        case kind:
            raise ValueError(f"unknown kind of answer {kind!r}")


def _case(data: dict[str, Any]) -> Case:
    shape = data["architecture"]
    typed = {"kind": ArchitectureKind(shape["kind"]), "feed_forward": FeedForward(shape["feed_forward"])}
    architecture = Architecture(**shape | typed)
    return Case(**data | {"architecture": architecture, "scheme": Scheme(data["scheme"])})


def _measurement(data: dict[str, Any]) -> Measurement:
    typed = {
        "case": _case(data["case"]),
        "phase": Phase(data["phase"]),
        "series": tuple(_series(row) for row in data["series"]),
    }
    return Measurement(**data | typed)


def _series(data: dict[str, Any]) -> Series:
    typed = {
        "part": SeriesPart(data["part"]),
        "phase": Phase(data["phase"]),
        "clock": ClockKind(data["clock"]),
        "sample_seconds": tuple(data["sample_seconds"]),
    }
    return Series(**data | typed)
