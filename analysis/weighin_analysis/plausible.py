"""Which measurements cannot be true: faster than the memory of the device is, or no times at all.

Decoding a token reads every weight once, and what the caches cannot hold comes from memory. So a graph of n bytes of
weights takes at least (n - cache) / read bandwidth. The bytes are a lower bound (weights as stored; no keys and values,
no input embedding), so that the rule errs towards keeping. Prefill and encoders are bound by arithmetic and pass.
The numbers are in data/plausibility.toml; docs/method.md says what they let pass.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from statistics import median

from weighin_analysis.architecture import Architecture
from weighin_analysis.card import CardRow
from weighin_analysis.data_files import read_data
from weighin_analysis.measurement import Measurement, Phase, SeriesPart
from weighin_analysis.scheme import Scheme


class Plausibility(StrEnum):
    """What is to be said of a measurement; ``UNCHECKED`` is one that nothing can be held against."""

    OK = "ok"
    UNCHECKED = "unchecked"
    SAMPLE_INVALID = "sample_invalid"
    CLOCK_SUSPECT = "clock_suspect"
    BANDWIDTH_MISSING = "bandwidth_missing"
    EXCEEDS_BANDWIDTH = "exceeds_bandwidth"

    @property
    def counts(self) -> bool:
        """Whether a measurement may tell anything of the device."""
        return self in {Plausibility.OK, Plausibility.UNCHECKED}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlausibilityRules:
    """The numbers of one version of the rules."""

    version: str
    bandwidth_tolerance: float
    unknown_cache_bytes: int
    clock_tolerance_seconds: float


@cache
def plausibility_rules() -> PlausibilityRules:
    """Return the rules by which this version of the package tells what cannot be."""
    return PlausibilityRules(**read_data("plausibility.toml"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MainMemory:
    """What decides how fast the processor reads weights; None is not known. The cache is all of its last level."""

    read_bandwidth_bytes_per_second: float | None
    last_level_cache_bytes: int | None

    def delivers(self, weight_bytes: float, seconds: float) -> bool:
        """Return whether weights can be read in a time; True where the bandwidth is not known."""
        rules, cached = plausibility_rules(), self.last_level_cache_bytes
        from_memory = max(0.0, weight_bytes - (rules.unknown_cache_bytes if cached is None else cached))
        bandwidth = self.read_bandwidth_bytes_per_second
        return bandwidth is None or from_memory <= rules.bandwidth_tolerance * bandwidth * seconds


def plausibility(measurement: Measurement, memory: MainMemory) -> Plausibility:
    """Return whether a measurement can be true on a device with this main memory."""
    if not _is_timed(measurement):
        return Plausibility.SAMPLE_INVALID
    if measurement.phase is not Phase.DECODE:
        return Plausibility.OK
    if measurement.execution_provider != "cpu":  # nobody measures how fast an accelerator reads its memory
        return Plausibility.UNCHECKED
    if memory.read_bandwidth_bytes_per_second is None:
        return Plausibility.BANDWIDTH_MISSING
    parts = _decode_parts(measurement)
    return Plausibility.OK if all(memory.delivers(*part) for part in parts) else Plausibility.EXCEEDS_BANDWIDTH


def possible_measurements(measurements: Iterable[Measurement], memory: MainMemory) -> list[Measurement]:
    """Return the measurements of one's own device that can be true; without a bandwidth nothing speaks against them."""
    kept = {Plausibility.OK, Plausibility.UNCHECKED, Plausibility.BANDWIDTH_MISSING}
    return [one for one in measurements if plausibility(one, memory) in kept]


def is_plausible_row(row: CardRow, memory: MainMemory) -> bool:
    """Return whether the decode rate of a whole model can be true, at the slow end of its interval.

    A probe may fit into the caches where the model that is computed from it does not.
    """
    rate = row.decode_tokens_per_second
    if rate is None or row.execution_provider != "cpu":
        return True
    scheme = Scheme(row.scheme)
    stored_bytes = row.bytes_read_per_token * scheme.stored_bytes_per_weight / scheme.resident_bytes_per_weight
    return memory.delivers(stored_bytes, 1 / rate.low)


def clock_is_suspect(*, receive_time: datetime, observe_time: datetime | None, send_time: datetime | None) -> bool:
    """Return whether a device's clock was far off the aggregator's when it sent a run.

    A run may wait in the spool for weeks, so only its sending is held against its arrival; but none begins after that.
    """
    tolerance = plausibility_rules().clock_tolerance_seconds
    ahead = [(time - receive_time).total_seconds() for time in (send_time, observe_time) if time]
    behind = (receive_time - send_time).total_seconds() if send_time else 0.0
    return max([behind, *ahead]) > tolerance


def _is_timed(measurement: Measurement) -> bool:
    samples = [one for series in measurement.series for one in series.sample_seconds]
    return bool(samples) and all(math.isfinite(one) and one > 0 for one in samples)


def _decode_parts(measurement: Measurement) -> Iterator[tuple[float, float]]:
    """Yield (bytes of weights read, seconds per token) of every graph that was timed."""
    case = measurement.case
    shape, scheme = case.architecture, case.scheme
    layer = shape.layer_weight_count * scheme.stored_bytes_per_weight
    whole = _weight_bytes(shape, scheme)
    weight_bytes = {
        SeriesPart.LAYERS: case.probe_layers * layer,
        SeriesPart.SHORT_LAYERS: case.short_probe_layers * layer,
        SeriesPart.HEAD: case.head_columns * shape.hidden * scheme.stored_bytes_per_weight,
        SeriesPart.FULL_MODEL: whole,
        SeriesPart.FULL_MODEL_TWIN: whole,
    }
    samples: defaultdict[SeriesPart, list[float]] = defaultdict(list)
    for series in measurement.series:
        samples[series.part] += series.sample_seconds
    for part, seconds in samples.items():
        if part in weight_bytes:
            yield weight_bytes[part], median(seconds) / measurement.token_count


def _weight_bytes(shape: Architecture, scheme: Scheme) -> float:
    """Return the bytes of stored weights that a token reads: all layers and the head."""
    return (shape.layers * shape.layer_weight_count + shape.head_weight_count) * scheme.stored_bytes_per_weight
