"""What a parent asks of the child process of a case, and what the child answers: JSON lines, one module per border."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weighin_agent.run import CaseFailureReason
from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, Series, SeriesPart
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import Lengths, Rounds, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One case to run in ``folder``; ``full_model`` measures the whole model beside its layer probe.

    ``memory_limit_bytes`` is what the child may take, None if not known; ``clock`` is what its samples are timed with.
    """

    case: Case
    folder: Path
    weights: Weights
    lengths: Lengths
    rounds: Rounds
    full_model: bool
    memory_limit_bytes: int | None
    clock: ClockKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The child has done this share of its work, 0 to 1."""

    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The child could not measure, and knows why."""

    reason: CaseFailureReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The child is done."""

    measurements: tuple[Measurement, ...]


Answer = Progress | Failed | Measured


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
        full_model=data["full_model"],
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
        case "Progress":
            return Progress(share=float(data["share"]))
        case "Failed":
            return Failed(reason=CaseFailureReason(data["reason"]), detail=str(data["detail"]))
        case "Measured":
            return Measured(measurements=tuple(_measurement(row) for row in data["measurements"]))
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
