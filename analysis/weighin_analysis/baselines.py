"""What a prediction without layers would say: the roofline, a line through small models, and the peers' CPU formulas.

They exist to be beaten on the same cells: docs/accuracy.md. The peers' formulas are stated as they were published; they
know no depth, no prompt and, but for the last, nothing of the processor.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weighin_analysis.accuracy import Cell
from weighin_analysis.architecture import Architecture
from weighin_analysis.errors import EstimateError
from weighin_analysis.footprint import KV_BYTES_PER_ELEMENT, bytes_read_per_token
from weighin_analysis.measurement import Phase
from weighin_analysis.scheme import Scheme

# Models that somebody would download to fit a line through: the classes 0.1B to 0.5B.
MOST_SMALL_PARAMETERS = 750_000_000
_LLMFIT_SPEED = {Scheme.INT4_BLOCK32: 1.15, Scheme.FP16: 0.6, Scheme.FP32: 1.0}  # eight bits: 0.8
_WHICHLLM_EFFICIENCY = {Scheme.INT4_BLOCK32: 0.53, Scheme.FP16: 0.40, Scheme.FP32: 0.30}  # eight bits: 0.45


def bandwidth_roofline(bytes_read: float, bandwidth_bytes_per_second: float) -> float:
    """Return tokens per second if reading ``bytes_read`` per token were all that decoding does.

    S. Williams, A. Waterman, D. Patterson: Roofline, CACM 52 (4), 2009, on its memory-bound side.
    """
    return bandwidth_bytes_per_second / bytes_read


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteLine:
    """Time of one step as a line in the bytes that it reads; both coefficients are at least 0."""

    fixed_seconds: float
    seconds_per_byte: float

    def seconds(self, bytes_read: float) -> float:
        """Return the time of a step that reads so many bytes."""
        return self.fixed_seconds + self.seconds_per_byte * bytes_read


def two_parameter_fit(points: Sequence[tuple[float, float]]) -> ByteLine:
    """Return the line through (bytes read, seconds) of measured models with the least squared relative error.

    Neither coefficient is negative: no call takes less than nothing. EstimateError for fewer than two sizes.
    """
    if len({size for size, _ in points}) < 2:
        raise EstimateError("a line needs models of two sizes")
    sizes, seconds = np.array(points, float).T
    columns = np.stack([1 / seconds, sizes / seconds], axis=1)
    free = np.linalg.lstsq(columns, np.ones(len(points)), rcond=None)[0]
    if min(free) >= 0:
        return ByteLine(fixed_seconds=float(free[0]), seconds_per_byte=float(free[1]))
    # The best point of the allowed quarter lies on one of its two edges.
    edges = []
    for i in (0, 1):
        value = float(columns[:, i].sum() / (columns[:, i] ** 2).sum())
        edges.append((float(((columns[:, i] * value - 1) ** 2).sum()), i, value))
    _, edge, value = min(edges)
    return ByteLine(fixed_seconds=value if edge == 0 else 0.0, seconds_per_byte=value if edge == 1 else 0.0)


def llmfit_rate(parameter_count: int, scheme: Scheme, *, logical_core_count: int, is_arm: bool) -> float:
    """Return decode tokens per second of a model that runs on the CPU alone, as llmfit estimates it.

    https://github.com/AlexsJones/llmfit at 3f44fd3, llmfit-core/src/fit.rs and models.rs: a constant of the
    architecture over the billions of parameters, times a factor of the quantization (Q4_0, Q8_0), 1.1 from 8 cores on,
    0.3 for the CPU.
    """
    constant = 90.0 if is_arm else 70.0
    cores = 1.1 if logical_core_count >= 8 else 1.0
    rate = constant / max(0.1, parameter_count / 1e9) * _LLMFIT_SPEED.get(scheme, 0.8) * cores * 0.3
    return max(0.1, rate)


def whichllm_rate(parameter_count: int, scheme: Scheme) -> float:
    """Return decode tokens per second on a CPU as whichllm estimates it.

    https://github.com/Andyyyy64/whichllm at a897551, src/whichllm/engine/performance.py: 18 over the billions of
    parameters, times the efficiency of the quantization (Q4_0, Q8_0) over that of the default.
    """
    efficiency = _WHICHLLM_EFFICIENCY.get(scheme, 0.45)
    return max(0.3, 18.0 / max(0.5, parameter_count / 1e9) * efficiency / 0.45)


def llm_checker_rate(
    parameter_count: int,
    *,
    cpu_model: str,
    physical_core_count: int,
    frequency_hertz: float | None,
    memory_total_bytes: float,
) -> float:
    """Return decode tokens per second on a CPU without any GPU as llm-checker estimates it, a whole number.

    https://github.com/Pavelevich/llm-checker at 238b0df, src/utils/token-speed-estimator.js: a baseline for 7B from
    cores, clock (2.4 GHz where not known) and the processor's name, scaled with size and free memory. It knows no
    quantization.
    """
    name, billions = cpu_model.lower(), max(0.7, parameter_count / 1e9)
    gigahertz = 2.4 if frequency_hertz is None else max(1.5, frequency_hertz / 1e9)
    new_intel = "intel" in name and any(generation in name for generation in ("12th", "13th", "14th"))
    vectors = 3.0 if "avx512" in name or new_intel else 1.5 if any(n in name for n in ("avx2", "intel", "amd")) else 0.0
    baseline = min(18.0, max(3.0, 4 + 0.6 * physical_core_count + 2.5 * (gigahertz - 2) + vectors))
    size = min(2.2, max(0.18, (7 / billions) ** 0.72))
    room = 0.65 * max(2.0, memory_total_bytes / 2**30) / (0.75 * billions + 2)
    memory = next(
        (factor for least, factor in ((1.2, 1.05), (1, 1.0), (0.75, 0.85), (0.6, 0.65)) if room >= least), 0.45
    )
    return float(min(35, max(1, math.floor(baseline * size * memory + 0.5))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the baselines know of a device; without a read bandwidth there is no roofline."""

    read_bandwidth_bytes_per_second: float | None
    cpu_model: str
    is_arm: bool
    physical_core_count: int
    logical_core_count: int
    frequency_hertz: float | None
    memory_total_bytes: float


def baseline_errors(
    cells: Sequence[Cell], shapes: Mapping[str, Architecture], machine: Machine
) -> dict[str, dict[Phase, list[float]]]:
    """Return {baseline: {phase: absolute errors}} on the judged cells of decoders, as fractions of the actual time.

    The line is fitted for each scheme, phase and length on the small models among the cells. Once it may use the model
    that it predicts (``two_parameter_fit_own_point``: somebody has measured that very model), once it may not. The
    roofline and the peers say nothing of a prefill.
    """
    found: defaultdict[str, dict[Phase, list[float]]] = defaultdict(lambda: {phase: [] for phase in Phase})
    for cell in (cell for cell in cells if cell.judged and shapes[cell.architecture].head_weight_count):
        for name, seconds in _baseline_seconds(cell, cells, shapes, machine).items():
            found[name][cell.phase].append(abs(seconds / cell.actual_seconds - 1))
    return dict(found)


def _baseline_seconds(
    cell: Cell, cells: Sequence[Cell], shapes: Mapping[str, Architecture], machine: Machine
) -> dict[str, float]:
    shape, scheme = shapes[cell.architecture], Scheme(cell.scheme)
    seconds = {
        name: line.seconds(_bytes_read(cell, shape))
        for name, others in (("two_parameter_fit", True), ("two_parameter_fit_own_point", False))
        if (line := _line(cell, cells, shapes, without_itself=others))
    }
    if cell.phase is Phase.PREFILL:
        return seconds
    count, bandwidth = shape.parameter_count, machine.read_bandwidth_bytes_per_second
    roofline = {"bandwidth_roofline": bandwidth_roofline(_bytes_read(cell, shape), bandwidth)} if bandwidth else {}
    rates = roofline | {
        "llmfit": llmfit_rate(count, scheme, logical_core_count=machine.logical_core_count, is_arm=machine.is_arm),
        "whichllm": whichllm_rate(count, scheme),
        "llm_checker": llm_checker_rate(
            count,
            cpu_model=machine.cpu_model,
            physical_core_count=machine.physical_core_count,
            frequency_hertz=machine.frequency_hertz,
            memory_total_bytes=machine.memory_total_bytes,
        ),
    }
    return seconds | {name: 1 / rate for name, rate in rates.items()}


def _bytes_read(cell: Cell, shape: Architecture) -> int:
    """Return the bytes of the weights and of the KV cache, which a decode step reads once."""
    cache = shape.kv_cache_bytes(cell.context_depth, KV_BYTES_PER_ELEMENT)
    return bytes_read_per_token(shape, Scheme(cell.scheme)) + cache


def _line(
    cell: Cell, cells: Sequence[Cell], shapes: Mapping[str, Architecture], *, without_itself: bool
) -> ByteLine | None:
    def key(one: Cell) -> tuple[object, ...]:
        return one.scheme, one.phase, one.token_count, one.context_depth

    points = [
        (float(_bytes_read(one, shapes[one.architecture])), one.actual_seconds)
        for one in cells
        if key(one) == key(cell)
        and shapes[one.architecture].head_weight_count > 0
        and shapes[one.architecture].parameter_count <= MOST_SMALL_PARAMETERS
        and not (without_itself and one.architecture == cell.architecture)
    ]
    try:
        return two_parameter_fit(points)
    except EstimateError:
        return None
