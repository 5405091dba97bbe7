"""What was run and how long it took: the facts that every estimate starts from.

These values are defined here, beside the formula that reads them, and not in the agent that fills them: the agent's
local card and the fleet's report then judge one and the same type, with no conversion between.
"""

from dataclasses import dataclass
from enum import StrEnum

from weighin_analysis.architecture import Architecture
from weighin_analysis.scheme import Scheme


class Phase(StrEnum):
    """The prompt in parallel, or one token per step."""

    PREFILL = "prefill"
    DECODE = "decode"


class SeriesPart(StrEnum):
    """Which graph a sample timed: the layer probe, the head slice, or the whole model."""

    LAYERS = "layers"
    HEAD = "head"
    FULL_MODEL = "full_model"


class ClockKind(StrEnum):
    """Monotonic wall clock, or CPU time of the calling thread (one thread only)."""

    WALL = "wall"
    THREAD_CPU = "thread_cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One child process: an architecture in a scheme on an execution provider with a number of threads.

    ``probe_layers`` is m and ``head_columns`` is Vs of docs/method.md; ``head_columns`` is 0 without a head.
    The graph hashes are hexadecimal SHA-256; ``head_graph_sha256`` is empty without a head.
    """

    architecture: Architecture
    scheme: Scheme
    execution_provider: str
    threads: int
    probe_layers: int
    head_columns: int
    layers_graph_sha256: str = ""
    head_graph_sha256: str = ""

    @property
    def is_whole_model(self) -> bool:
        """Whether the layer probe is the whole model: all layers, and the whole head where there is one."""
        return self.probe_layers == self.architecture.layers and self.head_columns in (0, self.architecture.vocab)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Samples of one part, in seconds, taken next to each other within one round.

    ``foreign_cpu_share`` is the share of all CPU time that other processes used in that round, None if not readable.
    """

    part: SeriesPart
    round: int
    phase: Phase
    token_count: int
    context_depth: int
    clock: ClockKind
    sample_seconds: tuple[float, ...]
    foreign_cpu_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One phase at one length within a case, with the series that its time is computed from.

    ``execution_provider`` is the one that really ran; ``peak_memory_bytes`` is the measuring child's, None if not
    readable.
    """

    case: Case
    execution_provider: str
    phase: Phase
    token_count: int
    context_depth: int
    series: tuple[Series, ...]
    peak_memory_bytes: int | None = None
