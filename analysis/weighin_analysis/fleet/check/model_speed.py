"""How fast a model would be on many devices at once, from the estimates of two reference models on each.

The two that are nearest in size speak for it, by the law of ``public/predictors.py``: decode by the bytes that a token
reads, a prompt by the weights of the layers that it passes. A reference model speaks for itself alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from weighin_analysis.architecture import Architecture
from weighin_analysis.catalog import architectures
from weighin_analysis.fleet.check.ways import NATIVE_RUNTIME, Group
from weighin_analysis.fleet.coverage.shares import FloatArray
from weighin_analysis.fleet.grading.expressions import text_list
from weighin_analysis.fleet.grading.grade import log_sd
from weighin_analysis.footprint import KV_BYTES_PER_ELEMENT
from weighin_analysis.limits import Limits
from weighin_analysis.measurement import Phase
from weighin_analysis.public.predictors import ln_times, shipped_law

_MOST_REFERENCES = 3  # that are asked about: a device rarely lacks the nearest
_KV_BYTES_ELSEWHERE = 2  # 16 bits, in llama.cpp and most other runtimes
_ENDS = ("", "_low", "_high")
_RATES = {Phase.DECODE: "decode_tokens_per_second", Phase.PREFILL: "prefill_tokens_per_second"}

_ROWS = """
    SELECT place, list_position({names}, architecture) - 1 AS number, memory_available_bytes, {columns}
    FROM estimates JOIN coverage_devices USING (run_number)
    WHERE runtime = $1 AND execution_provider = $2 AND scheme = $3 AND counts AND list_contains({names}, architecture)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """How fast a model is on the devices at ``place``; NaN is not known. ``..._log_sd`` are of the logarithms."""

    place: NDArray[np.int64]
    memory_available_bytes: FloatArray
    decode_tokens_per_second: FloatArray
    decode_log_sd: FloatArray
    prefill_tokens_per_second: FloatArray
    prefill_log_sd: FloatArray


def bytes_read(group: Group, shape: Architecture) -> float:
    """Return the bytes of weights that a token of any shape reads, in proportion to the nearest model of a group."""
    nearest = _nearest(group, shape)[0]
    return group.bytes_read[nearest.name] * weights_read(shape) / weights_read(nearest)


def weights_read(shape: Architecture) -> int:
    """Return how many weights a decoded token reads: those of all layers and of the head."""
    return shape.layers * shape.layer_weight_count + shape.head_weight_count


def kv_bytes_per_element(group: Group) -> int:
    """Return how wide a group's runtime keeps keys and values."""
    return KV_BYTES_PER_ELEMENT if group.runtime == NATIVE_RUNTIME else _KV_BYTES_ELSEWHERE


def speeds(
    connection: duckdb.DuckDBPyConnection, group: Group, name: str, shape: Architecture, depth: int, limits: Limits
) -> Speeds:
    """Return how fast a model of a name and shape is on the devices of a group, with decode behind ``depth`` tokens."""
    nearest = _nearest(group, shape)
    references = [one for one in nearest if one.name == name] or nearest[:_MOST_REFERENCES]
    places, columns = _read(connection, group, references)
    element = kv_bytes_per_element(group)
    decode, decode_sd = _rates(
        Phase.DECODE,
        bytes_read(group, shape) + shape.kv_cache_bytes(depth, element),
        [group.bytes_read[one.name] + one.kv_cache_bytes(limits.decode_context_depth, element) for one in references],
        columns,
        limits,
    )
    prefill, prefill_sd = _rates(
        Phase.PREFILL, _layer_weights(shape), [_layer_weights(one) for one in references], columns, limits
    )
    return Speeds(
        place=places,
        memory_available_bytes=np.fmax.reduce(columns["memory_available_bytes"], axis=0),
        decode_tokens_per_second=decode,
        decode_log_sd=decode_sd,
        prefill_tokens_per_second=prefill,
        prefill_log_sd=prefill_sd,
    )


def _nearest(group: Group, shape: Architecture) -> list[Architecture]:
    """Return the reference models of a group, the nearest in size first."""
    known = [architectures()[name] for name in group.bytes_read]
    return sorted(known, key=lambda one: abs(math.log(weights_read(one) / weights_read(shape))))


def _layer_weights(shape: Architecture) -> int:
    return shape.layers * shape.layer_weight_count


def _read(
    connection: duckdb.DuckDBPyConnection, group: Group, references: Sequence[Architecture]
) -> tuple[NDArray[np.int64], dict[str, FloatArray]]:
    """Return the places of a group's devices and, by column, a value per reference model and device; NaN is absent.

    DuckDB picks the rows and numpy puts them side by side: as many filtered aggregates take four times as long.
    """
    names = ["memory_available_bytes", *(f"{rate}{end}" for rate in _RATES.values() for end in _ENDS)]
    query = _ROWS.format(columns=", ".join(names[1:]), names=text_list(one.name for one in references))
    found = connection.execute(query, [group.runtime, group.execution_provider, group.scheme]).fetchnumpy()
    places, row_of = np.unique(np.asarray(found["place"], dtype=np.int64), return_inverse=True)
    number = np.asarray(found["number"], dtype=np.int64)
    columns = {name: np.full((len(references), len(places)), np.nan) for name in names}
    for name, values in columns.items():
        values[number, row_of] = np.ma.filled(np.ma.asarray(found[name], dtype=np.float64), np.nan)
    return places, columns


def _rates(
    phase: Phase, work: float, works: Sequence[float], columns: Mapping[str, FloatArray], limits: Limits
) -> tuple[FloatArray, FloatArray]:
    """Return the rate of a step of ``work``, and the standard deviation of its logarithm, from those of ``works``."""
    value, low, high = (columns[f"{_RATES[phase]}{end}"] for end in _ENDS)
    sds = log_sd(low, high, limits.interval_probability)
    known = (value > 0) & np.isfinite(value) & np.isfinite(sds)
    seconds = -np.log(np.where(known, value, np.nan))
    sizes = np.log(np.asarray(works))
    # The known ones first, otherwise in the order of the models, which is that of their distance.
    order = np.argsort(~known, axis=0, kind="stable")
    near = _runs(order[0], sizes, seconds)
    far = _runs(order[1], sizes, seconds) if len(works) > 1 else np.full_like(near, np.nan)
    mean, variance = ln_times(shipped_law(phase), np.full(len(near), math.log(work)), near, far)
    own = np.take_along_axis(sds, order[:1], axis=0)[0]
    return np.exp(-mean), own if work == works[0] else np.hypot(own, np.sqrt(variance))


def _runs(chosen: NDArray[np.int64], sizes: FloatArray, seconds: FloatArray) -> FloatArray:
    """Return ln(work) and ln(seconds) of the chosen model of every device; NaN where that is not known."""
    times = np.take_along_axis(seconds, chosen[None], axis=0)[0]
    return np.stack([np.where(np.isnan(times), np.nan, sizes[chosen]), times], axis=1)
