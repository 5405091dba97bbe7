"""From the CPU time of one thread to the time of several on a quiet device.

On a busy device wall clocks are off by factors; the CPU time of a single thread does not see preemption, and is all
that can be timed.
"""

import math
from dataclasses import replace

from weighin_analysis.estimate import RoundTimes
from weighin_analysis.measurement import Phase

# n threads are n ** exponent times as fast as one: decode shares one memory, prefill is arithmetic. The spread is that
# of ln(speed-up) for two threads, and grows with every doubling. Measured with two: docs/method.md, section 4.
_EXPONENTS = {Phase.DECODE: 0.80, Phase.PREFILL: 0.96}
_SD_PER_DOUBLING = {Phase.DECODE: 0.12, Phase.PREFILL: 0.08}
# What a busy device does to the CPU time of a thread itself: cold caches after every switch, shared memory.
_BUSY_SD = 0.12


def on_threads(times: RoundTimes, phase: Phase, thread_count: int) -> RoundTimes:
    """Return what one thread's CPU times let expect of ``thread_count`` threads on a quiet device."""
    doublings = math.log2(thread_count)
    speedup = thread_count ** _EXPONENTS[phase]
    return replace(
        times,
        seconds=tuple(seconds / speedup for seconds in times.seconds),
        method_sd=math.hypot(times.method_sd, _SD_PER_DOUBLING[phase] * doublings, _BUSY_SD),
        foreign_cpu_share=None,  # CPU time does not see it
    )
