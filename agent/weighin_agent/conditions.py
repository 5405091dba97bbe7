"""The state of the device around a run: free memory, load of others, power, clock, temperature, and a canary."""

import time
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import psutil

from weighin_agent.cpu_load import busy_share, read_cpu_seconds, steal_share
from weighin_agent.device import ProbeGap, ProbeGapReason
from weighin_agent.probe import available_bytes, draws_from_mains
from weighin_agent.run import Canary, Conditions, PowerSource
from weighin_analysis.estimate import percentile_20

_LOAD_INTERVAL_SECONDS = 0.5
_CANARY_MATRIX = 1024
_CANARY_BLOCK_BYTES = 64 << 20
_CANARY_SAMPLES = 8
# Names under which Linux drivers report the processor's own sensors.
_PROCESSOR_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")
# What psutil raises where a kernel offers half of what it looks for: a gap here, never the end of a run.
_SENSOR_ERRORS = (psutil.Error, NotImplementedError, OSError, RuntimeError, ValueError)
Clock = Callable[[], float]


def read_conditions(sleep: Callable[[float], None] = time.sleep) -> Conditions:
    """Read the present conditions; takes about a second."""
    foreign, steal = _load(sleep)
    return Conditions(
        memory_available_bytes=available_bytes(),
        foreign_cpu_share=foreign,
        steal_cpu_share=steal,
        power_source=_power_source(),
        frequency_hertz=_frequency_hertz(),
        temperature_celsius=_temperature_celsius(),
        canary=run_canary(),
    )


def condition_gaps(*found: Conditions) -> tuple[ProbeGap, ...]:
    """Return a gap for every condition that this system did not tell, be it once."""
    names = [field.name for field in fields(Conditions)]
    missing = [name for name in names if any(getattr(conditions, name) is None for conditions in found)]
    return tuple(
        ProbeGap(
            fact=f"conditions.{name}", reason=ProbeGapReason.NOT_OFFERED, detail="the system does not tell it here"
        )
        for name in missing
    )


def run_canary(clock: Clock = time.perf_counter) -> Canary:
    """Time two loads of known size, about 0.2 s together."""
    matrix = np.ones((_CANARY_MATRIX, _CANARY_MATRIX), np.float32)
    block = np.ones(_CANARY_BLOCK_BYTES // 8, np.uint64)
    product = _quick_time(lambda: matrix @ matrix, clock)
    summing = _quick_time(lambda: np.add.reduce(block), clock)
    return Canary(matrix_flops=2 * _CANARY_MATRIX**3 / product, read_bytes_per_second=block.nbytes / summing)


def _quick_time(work: Callable[[], object], clock: Clock) -> float:
    """Return the 20th percentile of the times of ``work``: below the bursts of other load."""
    times = []
    for _ in range(_CANARY_SAMPLES):
        begin = clock()
        work()
        times.append(clock() - begin)
    return percentile_20(times)


def _load(sleep: Callable[[float], None]) -> tuple[float | None, float | None]:
    """Return the shares of CPU time of others and of the hypervisor, while this process sleeps."""
    before = read_cpu_seconds()
    sleep(_LOAD_INTERVAL_SECONDS)
    after = read_cpu_seconds()
    return busy_share(before, after), steal_share(before, after)


def _power_source() -> PowerSource | None:
    on_mains = draws_from_mains()
    return None if on_mains is None else PowerSource.MAINS if on_mains else PowerSource.BATTERY


def _frequency_hertz() -> int | None:
    try:
        frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    except _SENSOR_ERRORS:
        return None
    return round(frequency.current * 1e6) if frequency and frequency.current else None


def _temperature_celsius() -> float | None:
    read = getattr(psutil, "sensors_temperatures", None)  # Linux and FreeBSD only
    try:
        sensors = read() if read else {}
    except _SENSOR_ERRORS:
        return None
    found = [s.current for name in _PROCESSOR_SENSORS for s in sensors.get(name, ()) if s.current is not None]
    return max(found, default=None)
