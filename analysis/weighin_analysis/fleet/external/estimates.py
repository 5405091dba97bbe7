"""What the reference decoders would do on an external device, by what was published of other models on it.

The rows of one device, runtime, back end and quantization tell of one another, as ``public/predictors.py`` has it. What
no row says is assumed, and every estimate says so in its notes: docs/external.md.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist, median

from weighin_analysis.answers.speed import stated_bits
from weighin_analysis.card import Basis
from weighin_analysis.catalog import size_classes
from weighin_analysis.fleet.external.memory import AssumedMemory, Setup, assumed_memory, needs
from weighin_analysis.fleet.external.published import SOURCE, ExternalDevice, Row, prompt_tokens
from weighin_analysis.limits import Limits
from weighin_analysis.memory.kv_cache import KvType, kv_cache_bytes
from weighin_analysis.models.catalogue import catalogue
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.public.bytes_read import bytes_read, known_model, weight_bytes_read
from weighin_analysis.public.predictors import Anchor, Prediction, PrefillAnchor, predict, predict_prefill
from weighin_analysis.public.rows import Confidence, PublicPhase, PublicRow

FORMULA_VERSION = "external-1"

# A kernel of these widths may stand for a class: with 2 or 3 bits it is slower than its bytes say, 16 nobody ships.
_LEAST_BITS, _MOST_BITS = 4, 8
# Runs speak of models that read at most so many times the bytes of the nearest, or as many times fewer: of public rows
# predicted from others 4 to 6 times as large or small, nearly nine in ten of 156 lay in their interval of 80 %.
_MOST_RATIO = 6.0
_DECODE, _PREFILL = "decode_tokens_per_second", "prefill_tokens_per_second"
_LEAST_MEMORY = "its memory is at least its weights and KV cache: nobody measured what this runtime adds"
_TWO_THREADS = "2-thread"  # how the notes of a row name so few of many threads that they cannot use the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A model as it ran in a set-up: the median over its rows of seconds per token."""

    model: ModelEntry
    row: PublicRow
    bytes_read: float
    seconds: float


def left_out(row: PublicRow) -> str | None:
    """Return why a row says nothing of other models, None where it does."""
    return next((reason for reason, applies in _REASONS if applies(row)), None)


def _has_other_bits(row: PublicRow) -> bool:
    bits = stated_bits(row.quantization)
    return bits is None or not _LEAST_BITS <= bits <= _MOST_BITS or row.quantization.startswith("IQ")


def _is_not_dense(row: PublicRow) -> bool:
    model = _model(row)  # a crowd's row may not know that its model is a mixture
    return row.is_mixture_of_experts or model.active_parameters not in {None, model.parameters} or model.shape is None


def _is_impossible(row: PublicRow) -> bool:
    """Return whether a row decodes faster than even the nominal bandwidth lets weights be read."""
    if row.phase is PublicPhase.PREFILL or row.bandwidth_bytes_per_second is None or row.tokens_per_second is None:
        return False
    return (bytes_read(row) or 0) * row.tokens_per_second > row.bandwidth_bytes_per_second


# The first that applies is told. None of them asks what an earlier one rules out.
_REASONS: tuple[tuple[str, Callable[[PublicRow], bool]], ...] = (
    ("the model did not load", lambda row: row.phase is PublicPhase.OUT_OF_MEMORY),
    ("low confidence", lambda row: row.confidence is Confidence.LOW),
    ("two threads of many", lambda row: _TWO_THREADS in row.notes),
    (f"not {_LEAST_BITS} to {_MOST_BITS} plain bits", _has_other_bits),
    ("a model that is not in the catalogue", lambda row: known_model(row.model, row.parameters) is None),
    ("a mixture of experts, a hybrid, or without a published shape", _is_not_dense),
    ("nobody tells what the model weighs", lambda row: bytes_read(row) is None),
    ("faster than the memory that it reads", _is_impossible),
)


def estimate_rows(device: ExternalDevice, limits: Limits) -> list[Row]:
    """Return the rows of ``estimates``: a reference decoder in a quantization on a back end, once.

    Where several runtimes tell of it, it is the one with the fastest decode. A set-up of which nobody published a
    prompt tells of none: without the time to the first token there is no verdict.
    """
    setups: defaultdict[Setup, list[PublicRow]] = defaultdict(list)
    for row in device.rows:
        if left_out(row) is None:
            setups[Setup(row.runtime, row.backend, row.quantization)].append(row)
    ran = dict.fromkeys((setup, _model(row).name) for setup, rows in setups.items() for row in rows)
    memory = assumed_memory(device, ran, limits)
    best: dict[tuple[object, ...], dict[str, object]] = {}
    for setup, rows in setups.items():
        for found in _of_setup(setup, rows, memory[setup.pool], limits):
            key = found["architecture"], setup.quantization, setup.backend
            best[key] = max(best.get(key, found), found, key=_decode_rate)
    return [_common(device, limits) | found for found in best.values()]


def _decode_rate(row: Row) -> float:
    rate = row[_DECODE]
    assert isinstance(rate, float)
    return rate


def _common(device: ExternalDevice, limits: Limits) -> dict[str, object]:
    return {
        "run_id": device.run_id,
        "run_number": device.run_number,
        "device_id": device.device_id,
        "source": SOURCE,
        "architecture_kind": "decoder",
        "counts": True,
        "prompt_tokens": limits.prompt_tokens,
        "decode_context_depth": limits.decode_context_depth,
        "memory_context_tokens": limits.memory_context_tokens,
        "encoder_tokens": limits.encoder_tokens,
        "interval_probability": limits.interval_probability,
        "formula_version": FORMULA_VERSION,
    }


def _of_setup(
    setup: Setup, rows: Sequence[PublicRow], memory: AssumedMemory, limits: Limits
) -> Iterator[dict[str, object]]:
    """Yield the reference decoders that the rows of a set-up say something of."""
    decoded = _seen([row for row in rows if row.phase is PublicPhase.DECODE])
    prompted = _seen(_of_one_prompt([row for row in rows if row.phase is PublicPhase.PREFILL], limits))
    for size_class, model in reference_models() if decoded and prompted else ():
        nearest = min(decoded, key=lambda one: abs(math.log(_parameters(one.model) / _parameters(model))))
        weights = weight_bytes_read(_as_it_would_be(model, nearest.row))
        assert weights is not None
        size = weights + kv_cache_bytes(model, limits.decode_context_depth, KvType.FP16)
        if abs(math.log(size / nearest.bytes_read)) > math.log(_MOST_RATIO):
            continue
        needed = needs(setup, model.name, limits)
        least = round(weights) + kv_cache_bytes(model, limits.memory_context_tokens, KvType.FP16)
        yield {
            "size_class": size_class,
            "architecture": model.name,
            "scheme": setup.quantization,
            "execution_provider": setup.backend,
            "runtime": setup.runtime,
            **_speeds(model, size, decoded, prompted, limits),
            "memory_bytes": least if needed.memory_bytes is None else needed.memory_bytes,
            "memory_available_bytes": memory.available_bytes,
            "download_bytes": needed.download_bytes,
            "bytes_read_per_token": round(weights),
            "basis": str(_basis(model, size, decoded)),
            "notes": [
                f"decode by {_counted(decoded)} that somebody published, prompt by {_counted(prompted)}: "
                f"{prompted[0].row.test}",
                *needed.notes,
                *([_LEAST_MEMORY] if needed.memory_bytes is None else ()),
                *memory.notes,
            ],
        }


@cache
def reference_models() -> tuple[tuple[str, ModelEntry], ...]:
    """Return (size class, model) of every decoder that stands for a class."""
    named = ((one.name, one.reference or one.representative) for one in size_classes())
    return tuple((size_class, catalogue()[name]) for size_class, name in named if name)


def _model(row: PublicRow) -> ModelEntry:
    model = known_model(row.model, row.parameters)
    assert model is not None
    return model


def _parameters(model: ModelEntry) -> int:
    assert model.parameters is not None
    return model.parameters


def _as_it_would_be(model: ModelEntry, row: PublicRow) -> PublicRow:
    """Return the row of another model in the same file format: as many bytes per parameter as this row's."""
    size = row.model_size_bytes
    parameters = _parameters(model)
    return replace(
        row,
        model=model.name,
        parameters=parameters,
        model_size_bytes=None if size is None else round(size * parameters / row.parameters),
    )


def _of_one_prompt(rows: Sequence[PublicRow], limits: Limits) -> list[PublicRow]:
    """Return the rows of the test whose prompt is nearest to that of the reference workload."""
    tests = {row.test: prompt_tokens(row) for row in rows}
    if not tests:
        return []

    def distance(test: str) -> float:
        tokens = tests[test]
        return math.inf if tokens is None else abs(math.log(tokens / limits.prompt_tokens))

    best = min(tests, key=lambda test: (distance(test), test))
    return [row for row in rows if row.test == best]


def _seen(rows: Sequence[PublicRow]) -> list[_Seen]:
    """Return every model of these rows once."""
    by_model: defaultdict[str, list[PublicRow]] = defaultdict(list)
    for row in rows:
        by_model[_model(row).name].append(row)
    return [_median_of(own) for own in by_model.values()]


def _median_of(rows: Sequence[PublicRow]) -> _Seen:
    size = bytes_read(rows[0])
    assert size is not None
    return _Seen(
        model=_model(rows[0]),
        row=rows[0],
        bytes_read=size,
        seconds=median(1 / row.tokens_per_second for row in rows if row.tokens_per_second),
    )


def _speeds(
    model: ModelEntry, size: float, decoded: Sequence[_Seen], prompted: Sequence[_Seen], limits: Limits
) -> dict[str, float]:
    """Return the columns of speed of a model whose decode step reads ``size`` bytes."""
    runs = [Anchor(bytes_read=one.bytes_read, seconds=one.seconds) for one in _own_or_all(model, decoded)]
    prompts = [
        PrefillAnchor(parameters=_parameters(one.model), seconds=one.seconds) for one in _own_or_all(model, prompted)
    ]
    per_token = predict_prefill(prompts, _parameters(model))
    return {
        **_columns(_DECODE, predict(runs, size), -1, 1, limits),
        **_columns(_PREFILL, per_token, -1, 1, limits),
        **_columns("time_to_first_token_seconds", per_token, 1, limits.prompt_tokens, limits),
    }


def _own_or_all(model: ModelEntry, seen: Sequence[_Seen]) -> Sequence[_Seen]:
    """Return the run of the model itself where there is one: nothing tells more of it."""
    return [one for one in seen if one.model.name == model.name] or seen


def _columns(name: str, time: Prediction, power: int, scale: float, limits: Limits) -> dict[str, float]:
    """Return a value and its interval: the time per token (``power`` 1) or its inverse (-1), times a scale."""
    spread = NormalDist().inv_cdf(0.5 + limits.interval_probability / 2) * time.log_sd
    value = scale * time.seconds**power
    return {name: value, f"{name}_low": value * math.exp(-spread), f"{name}_high": value * math.exp(spread)}


def _basis(model: ModelEntry, size: float, decoded: Sequence[_Seen]) -> Basis:
    if any(one.model.name == model.name for one in decoded):
        return Basis.MEASURED
    sizes = [one.bytes_read for one in decoded]
    return Basis.INTERPOLATED if min(sizes) < size < max(sizes) else Basis.NEIGHBOURS


def _counted(seen: Sequence[_Seen]) -> str:
    return f"{len(seen)} model{'' if len(seen) == 1 else 's'}"
