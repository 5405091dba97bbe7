"""How fast a model is in a scheme of any format, at any depth of context, from what a run says of ONNX Runtime."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from weighin_analysis.card import Basis
from weighin_analysis.estimate import RoundTimes
from weighin_analysis.evidence import Evidence, ModelTimes, Subject
from weighin_analysis.limits import Limits
from weighin_analysis.measurement import Phase
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes.artefact import Format

# Added standard deviations of ln(time). Public decode rates of one device: a run of another model in the same scheme
# errs by 20.5 % in the median and 69 % at the 90th percentile, that is 0.30; a run in any scheme by 39.5 and 177 %,
# 0.59. The same model and bits in another runtime (47 pairs, 9 devices): factors of 1.12 in the median, 1.49 at the
# 90th percentile, within the 0.30 (docs/check.md).
OTHER_KERNEL_SD = 0.30
OTHER_BITS_SD = 0.59
# For every doubling of the context depth beyond the deepest that was run; a judgement, no measurement.
DEPTH_SD_PER_DOUBLING = 0.10

# A scheme that was measured speaks for one whose weights have at most so many times more bits, or fewer.
_MOST_BITS_RATIO = 1.5
# Fewer bits take longer to unpack, whatever they save: Q4_0 at 37.5 tokens/s, Q2_K 26.2, IQ2_M 18.3 (one phone).
_LEAST_BITS = 4
_BITS = {
    Scheme.FP32: 32,
    Scheme.FP16: 16,
    Scheme.INT8_DYNAMIC: 8,
    Scheme.INT8_BLOCK32: 8,
    Scheme.INT4_BLOCK32: 4,
}
# What Transformers.js calls the same kernels.
_SAME_KERNELS = {
    Scheme.INT8_DYNAMIC: ("int8", "uint8", "q8", "quantized"),
    Scheme.INT4_BLOCK32: ("q4",),
}


@dataclass(frozen=True, slots=True)
class StandIn:
    """A measured scheme that speaks for another one, and what that adds to the spread of ln(time): 0 for itself."""

    scheme: Scheme
    sd: float


def stand_in(form: Format, scheme: str, measured: Collection[Scheme]) -> StandIn | None:
    """Return the measured scheme whose speed stands for that of a scheme of any format, None where none is near.

    It is the scheme itself, else the nearest by the bits that the name states: ``Q4_K_M``, ``q4f16_1``, ``BF16``.
    Nothing speaks for fewer bits than four.
    """
    if form is Format.ONNX:
        same = next((one for one in measured if scheme in {one, *_SAME_KERNELS.get(one, ())}), None)
        if same is not None:
            return StandIn(same, 0.0)
    bits = stated_bits(scheme)
    if bits is None or bits < _LEAST_BITS or not measured:
        return None
    ratios = {one: max(_BITS[one], bits) / min(_BITS[one], bits) for one in measured}
    nearest = min(ratios, key=lambda one: (ratios[one], one))
    if ratios[nearest] > _MOST_BITS_RATIO:
        return None
    return StandIn(nearest, OTHER_KERNEL_SD if _BITS[nearest] == bits else OTHER_BITS_SD)


def has_few_bits(scheme: str) -> bool:
    """Return whether a scheme's name states fewer bits than any kernel that is measured unpacks."""
    return (stated_bits(scheme) or _LEAST_BITS) < _LEAST_BITS


def stated_bits(scheme: str) -> int | None:
    """Return the bits that a scheme's name states; in ``q0f16`` the 0 says that nothing is quantized."""
    numbers = [int(number) for number in re.findall(r"[0-9]+", scheme[:40])]
    return next((number for number in numbers if 0 < number <= 32), None)


def widened(times: ModelTimes, sd: float) -> ModelTimes:
    """Return times as another kernel's, whose ln(time) differs by ``sd``; as they are where that is 0."""
    if not sd:
        return times
    decode = times.decode and _spread(times.decode, sd)
    return replace(times, prefill=_spread(times.prefill, sd), decode=decode, basis=Basis.NEIGHBOURS)


def _spread(times: RoundTimes, sd: float) -> RoundTimes:
    return replace(times, method_sd=math.hypot(times.method_sd, sd))


def decode_depth(context_tokens: int, limits: Limits) -> int:
    """Return the depth at which decode is judged: beyond the reference context, that of a context that is full."""
    return limits.decode_context_depth if context_tokens <= limits.memory_context_tokens else context_tokens


def deepened(times: ModelTimes, subject: Subject, depth: int, evidence: Evidence) -> ModelTimes | None:
    """Return a decoder's times with decode behind ``depth`` tokens instead of the reference depth.

    The cost model says by how much a step grows. None where the run has none. Sliding windows save nothing.
    """
    reference, model = evidence.limits.decode_context_depth, evidence.models.get(subject.group)
    if times.decode is None or depth == reference:
        return times
    if model is None:
        return None
    target, known = model.decode_times(subject.shape, depth), model.decode_times(subject.shape, reference)
    factor = target.median_seconds / known.median_seconds
    depths = [
        m.context_depth
        for case, found in evidence.cases.items()
        if Subject.of(case).group == subject.group
        for m in found
        if m.phase is Phase.DECODE
    ]
    doublings = max(0.0, math.log2(depth / max(1, *depths)))
    decode = replace(
        _spread(times.decode, DEPTH_SD_PER_DOUBLING * doublings),
        seconds=tuple(factor * seconds for seconds in times.decode.seconds),
        extrapolated=target.extrapolated,
    )
    return replace(times, decode=decode, basis=Basis.FORMULA if target.extrapolated else times.basis)
