"""What a prediction without layers would say: the roofline, a line through small models, and the peers' CPU formulas.

They exist to be beaten on the same cells: docs/accuracy.md. The peers' formulas are stated as they were published; they
know no depth, no prompt and, but for the last, nothing of the processor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weighin_analysis.errors import EstimateError
from weighin_analysis.scheme import Scheme

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
