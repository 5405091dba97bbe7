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
    """Which graph a sample timed: the layer probe, one of fewer layers, the head slice, next to nothing, or all of it.

    ``CALL`` is the graph with next to nothing in it: what a call costs, whatever it computes.
    The twin is a second load of the whole model in the same process: how far the model is from itself.
    """

    LAYERS = "layers"
    SHORT_LAYERS = "short_layers"
    HEAD = "head"
    CALL = "call"
    FULL_MODEL = "full_model"
    FULL_MODEL_TWIN = "full_model_twin"


class ClockKind(StrEnum):
    """Monotonic wall clock, or CPU time of the calling thread (one thread only)."""

    WALL = "wall"
    THREAD_CPU = "thread_cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One child process: an architecture in a scheme on an execution provider with a number of threads.

    ``probe_layers`` is m, ``short_probe_layers`` is m1 and ``head_columns`` is Vs of docs/method.md; the last two are 0
    where there is no second layer probe, and no head. The graph hashes are hexadecimal SHA-256, empty without a graph.
    """

    architecture: Architecture
    scheme: Scheme
    execution_provider: str
    threads: int
    probe_layers: int
    head_columns: int
    short_probe_layers: int = 0
    layers_graph_sha256: str = ""
    short_layers_graph_sha256: str = ""
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
    readable. ``output_correlation`` and ``output_relative_rms`` compare the outputs of a small model of this case with
    those of the CPU on the same weights; None on the CPU itself.
    """

    case: Case
    execution_provider: str
    phase: Phase
    token_count: int
    context_depth: int
    series: tuple[Series, ...]
    peak_memory_bytes: int | None = None
    output_correlation: float | None = None
    output_relative_rms: float | None = None
