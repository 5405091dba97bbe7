"""A cost model for architectures that were not run, fitted to the layer probes of one device, provider and scheme.

A call of a graph takes the sum of what it does times what each unit of it costs: the weights it reads, its operators,
the elements between the matrices, keys and values, scores (docs/method.md, section 8). The costs, none below zero, are
the least squares of the relative error over the layer probes and head slices that were run.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.errors import EstimateError
from weighin_analysis.estimate import (
    LAYER_PROBE_SD,
    RoundTimes,
    foreign_cpu_share,
    quiet_series,
    round_statistic,
)
from weighin_analysis.measurement import Measurement, Phase, SeriesPart
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import CALL_COLUMNS

# Two shapes tell a slope; the third tells how far the line is off.
LEAST_SHAPES = 3
# The spread of the model is never taken to be less, however well few shapes happen to agree.
LEAST_SPREAD = 0.04
# Block-wise kernels of the CPU take four blocks of 32 weights at a time and what is left of a row one by one. A block
# left over costs this much more than one of four: widths that are no multiple of 128 took 6 to 11 % longer.
LEFT_OVER_BLOCK_COST = 1.5
# Errors beyond this share count linearly and not squared: one wild case must not bend the rest (Huber).
_WILD_ERROR = 0.1
_REWEIGHTINGS = 10
_BLOCK, _BLOCKS_AT_ONCE = 32, 4

# The median of the absolute value of a normal variable, in standard deviations.
_MEDIAN_OF_NORMAL = 0.6745

_Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Graph:
    """What was or would be run: some layers of an architecture and columns of its head, in a scheme and provider."""

    shape: Architecture
    layers: int
    columns: int
    blockwise: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """One graph at one length: what was timed."""

    graph: _Graph
    tokens: int
    depth: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Costs:
    """Seconds per unit of work in one phase, with the spread of ln(time) when a measured shape is left out.

    ``sizes`` are ln(weights of a layer) of the shapes that were measured, ``lengths`` their depths or prompts.
    """

    seconds_per_unit: _Vector
    spread: float
    sizes: tuple[float, ...]
    lengths: tuple[int, ...]

    def method_sd(self, shape: Architecture) -> float:
        """Return the spread for a shape: wider the farther it lies from what was measured."""
        distance = _distance(_size(shape), self.sizes)
        return math.hypot(LAYER_PROBE_SD, self.spread * math.sqrt(1 + distance**2))

    def beyond(self, length: int) -> bool:
        """Return whether a length lies outside those that were measured."""
        return not min(self.lengths) <= length <= max(self.lengths)


@dataclass(frozen=True, slots=True)
class CostModel:
    """Times of full models of any architecture on the device, provider, scheme and threads that it was fitted to."""

    _decode: _Costs | None
    _prefill: _Costs
    _blockwise: bool
    _foreign_cpu_share: float | None

    def decode_times(self, shape: Architecture, context_depth: int) -> RoundTimes:
        """Return the time of one decode step behind ``context_depth`` tokens, as of a single round.

        EstimateError for an encoder, and where no decoder was measured.
        """
        if self._decode is None or shape.kind is ArchitectureKind.ENCODER:
            raise EstimateError(f"no decode time for {shape.name}: not a decoder, or none was measured")
        work = _decode_work(self._graph(shape, shape.vocab), context_depth)
        seconds = float(work @ self._decode.seconds_per_unit)
        return self._times(shape, seconds, self._decode, context_depth)

    def prefill_times(self, shape: Architecture, token_count: int) -> RoundTimes:
        """Return the time of a prompt of ``token_count`` tokens up to the first token's logits, as of a single round.

        EstimateError for a decoder where none was measured.
        """
        work = _prefill_work(self._graph(shape, 0), token_count)
        seconds = float(work @ self._prefill.seconds_per_unit)
        if shape.kind is ArchitectureKind.DECODER:
            if self._decode is None:
                raise EstimateError(f"no prefill time for {shape.name}: no decoder was measured")
            # The head runs once, for the last token: a matrix-vector product, as in decode, and the cost of the call.
            head = _Graph(shape, 0, shape.vocab, self._blockwise)
            seconds += float(_decode_work(head, 0) @ self._decode.seconds_per_unit)
        return self._times(shape, seconds, self._prefill, token_count)

    def _graph(self, shape: Architecture, columns: int) -> _Graph:
        return _Graph(shape, shape.layers, columns, self._blockwise)

    def _times(self, shape: Architecture, seconds: float, costs: _Costs, length: int) -> RoundTimes:
        return RoundTimes(
            seconds=(seconds,),
            method_sd=costs.method_sd(shape),
            extrapolated=costs.beyond(length),
            foreign_cpu_share=self._foreign_cpu_share,
        )


def fit(measurements: Sequence[Measurement]) -> CostModel:
    """Return the cost model of layer probes of one device, execution provider, scheme and number of threads.

    EstimateError when fewer than three shapes of usable samples are left, or when the measurements are of more than
    one provider, scheme or thread count.
    """
    settings = {(m.case.execution_provider, m.case.scheme, m.case.threads) for m in measurements}
    if len(settings) > 1:
        raise EstimateError("a cost model is of one execution provider, scheme and number of threads")
    decode_rows = [row for m in measurements if m.phase is Phase.DECODE for row in _layer_rows(m)]
    depths = tuple(sorted({row.depth for row in decode_rows}))
    decode = None
    if decode_rows:
        decode = _fit_costs([*decode_rows, *_head_rows(measurements)], _decode_work_of, depths)
    # A call costs what it costs in decode, where it weighs enough to be seen.
    call = float(decode.seconds_per_unit[0]) if decode else 0.0
    prefill_rows = [row for m in measurements if m.phase is Phase.PREFILL for row in _layer_rows(m, less=call)]
    prompts = tuple(sorted({row.tokens for row in prefill_rows}))
    return CostModel(
        _decode=decode,
        _prefill=_fit_costs(prefill_rows, _prefill_work_of, prompts),
        _blockwise=any(_is_blockwise(m) for m in measurements),
        _foreign_cpu_share=foreign_cpu_share(one for m in measurements for one in m.series),
    )


def _is_blockwise(measurement: Measurement) -> bool:
    case = measurement.case
    return case.execution_provider == "cpu" and case.scheme in {Scheme.INT4_BLOCK32, Scheme.INT8_BLOCK32}


def _layer_rows(measurement: Measurement, less: float = 0.0) -> list[_Row]:
    """Return what the layer probes of a measurement took, ``less`` seconds that are accounted for elsewhere."""
    case = measurement.case
    parts = [(SeriesPart.LAYERS, case.probe_layers), (SeriesPart.SHORT_LAYERS, case.short_probe_layers)]
    return [
        _Row(graph, measurement.token_count, measurement.context_depth, seconds - less)
        for part, layers in parts
        for graph in [_Graph(case.architecture, layers, 0, _is_blockwise(measurement))]
        for seconds in _part_seconds([measurement], part)
        if seconds > less
    ]


def _head_rows(measurements: Iterable[Measurement]) -> list[_Row]:
    """Return what the head slices took: one row per slice, whatever it ran beside."""
    slices: defaultdict[tuple[SeriesPart, _Graph], list[Measurement]] = defaultdict(list)
    for one in measurements:
        shape, columns = one.case.architecture, one.case.head_columns
        for part, count in ((SeriesPart.HEAD, columns), (SeriesPart.CALL, min(columns, CALL_COLUMNS))):
            if columns:
                slices[part, _Graph(shape, 0, count, _is_blockwise(one))].append(one)
    return [
        _Row(graph, 1, 0, seconds) for (part, graph), found in slices.items() for seconds in _part_seconds(found, part)
    ]


def _part_seconds(measurements: Iterable[Measurement], part: SeriesPart) -> list[float]:
    """Return the median over rounds as a list of one, or an empty list where nothing usable was timed."""
    rounds = [s for one in measurements for s in round_statistic(quiet_series(one.series), part).values()]
    return [float(np.median(rounds))] if rounds else []


# What is done in one call, in the order of the costs.


def _decode_work(graph: _Graph, depth: int) -> _Vector:
    """Return calls, weights read, operators, elements of keys and values read, products of queries and keys."""
    shape, layers = graph.shape, graph.layers
    seen = _scores(graph, 1, depth)
    head_weights = graph.columns * (shape.hidden + _left_over(graph, shape.hidden))
    return np.array(
        [
            1.0,
            layers * _layer_weights(graph) + head_weights,
            layers * _operators(shape) + (1 if graph.columns else 0),
            seen * shape.kv_heads * shape.head_dim,
            seen * shape.heads * shape.head_dim,
        ]
    )


def _prefill_work(graph: _Graph, tokens: int) -> _Vector:
    """Return weights unpacked, weights multiplied, operators, elements between the matrices, products of attention."""
    shape, layers = graph.shape, graph.layers
    weights = layers * _layer_weights(graph)
    return np.array(
        [
            weights,
            tokens * weights,
            layers * _operators(shape),
            tokens * layers * _elements(shape),
            _scores(graph, tokens, 0) * shape.heads * shape.head_dim,
        ]
    )


def _decode_work_of(row: _Row) -> _Vector:
    return _decode_work(row.graph, row.depth)


def _prefill_work_of(row: _Row) -> _Vector:
    return _prefill_work(row.graph, row.tokens)


def _layer_weights(graph: _Graph) -> float:
    """Return the weights of one layer, those in left-over blocks counted by what they cost."""
    shape = graph.shape
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    into_ffn = (shape.feed_forward.projections - 1) * shape.ffn
    left_over = (
        (queries + 2 * keys + into_ffn) * _left_over(graph, shape.hidden)
        + shape.hidden * _left_over(graph, queries)
        + shape.hidden * _left_over(graph, shape.ffn)
    )
    return shape.layer_weight_count + left_over


def _left_over(graph: _Graph, width: int) -> float:
    """Return the weights that the left-over blocks of a row of ``width`` weights cost more."""
    blocks = -(-width // _BLOCK) % _BLOCKS_AT_ONCE
    return LEFT_OVER_BLOCK_COST * _BLOCK * blocks if graph.blockwise else 0.0


def _operators(shape: Architecture) -> int:
    """Return the operators of one layer: each is a call of a kernel, and on more threads a wake-up."""
    encoder = shape.kind is ArchitectureKind.ENCODER
    projections = (3 if encoder else 1) + 1 + shape.feed_forward.projections
    attention = 1 + (7 if shape.query_key_norm else 0)
    return projections + attention + _norms(shape) + _activations(shape)


def _elements(shape: Architecture) -> int:
    """Return the elements that one token of one layer takes through what is no matrix product."""
    rotated = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    return _norms(shape) * shape.hidden + (2 if shape.query_key_norm else 1) * rotated + _activations(shape) * shape.ffn


def _norms(shape: Architecture) -> int:
    return 4 if shape.sandwich_norm else 2


def _activations(shape: Architecture) -> int:
    """Return the element-wise operators of the feed-forward block: sigmoid and two products, GELU and one, GELU."""
    return {FeedForward.SWIGLU: 3, FeedForward.GEGLU: 2, FeedForward.GELU: 1}[shape.feed_forward]


def _scores(graph: _Graph, tokens: int, depth: int) -> int:
    """Return the pairs of a new token and a token that it attends to, over all layers.

    Sliding windows save nothing: the CPU's kernel goes through the whole cache and masks what lies outside (measured
    with ONNX Runtime 1.31, docs/method.md, section 8).
    """
    return graph.layers * tokens * (depth + tokens)


# The fit.


def _fit_costs(rows: Sequence[_Row], work_of: Callable[[_Row], _Vector], lengths: tuple[int, ...]) -> _Costs:
    shapes = list(dict.fromkeys(row.graph.shape for row in rows if row.graph.layers))
    if len(shapes) < LEAST_SHAPES:
        raise EstimateError(f"a cost model needs layer probes of at least {LEAST_SHAPES} shapes, not {len(shapes)}")
    work = np.array([work_of(row) for row in rows])
    seconds = np.array([row.seconds for row in rows])
    sizes = [_size(shape) for shape in shapes]
    errors: list[float] = []
    for i, left_out in enumerate(shapes):
        own = np.array([row.graph.shape == left_out for row in rows])
        tested = own & np.array([row.graph.layers > 0 for row in rows])
        predicted = work[tested] @ _robust_costs(work[~own], seconds[~own])
        widening = math.sqrt(1 + _distance(sizes[i], sizes[:i] + sizes[i + 1 :]) ** 2)
        errors += list(np.abs(predicted / seconds[tested] - 1) / widening)
    return _Costs(
        seconds_per_unit=_robust_costs(work, seconds),
        spread=max(LEAST_SPREAD, float(np.median(errors)) / _MEDIAN_OF_NORMAL),
        sizes=tuple(sizes),
        lengths=lengths,
    )


def _size(shape: Architecture) -> float:
    return math.log(shape.layer_weight_count)


def _distance(size: float, sizes: Sequence[float]) -> float:
    """Return how far a shape is from the nearest measured one: the logarithm of the ratio of weights per layer."""
    return min(abs(size - other) for other in sizes)


def _robust_costs(work: _Vector, seconds: _Vector) -> _Vector:
    """Return the costs, none below zero, that minimise the Huber loss of the relative error of all rows."""
    relative = work / seconds[:, None]
    weights = np.ones(len(seconds))
    for _ in range(_REWEIGHTINGS):
        costs = non_negative_least_squares(relative * weights[:, None], weights)
        errors = np.abs(relative @ costs - 1)
        before, weights = weights, np.sqrt(np.minimum(1, _WILD_ERROR / np.maximum(errors, 1e-12)))
        if np.array_equal(weights, before):  # nothing is wild, as nearly always
            break
    return costs


def non_negative_least_squares(matrix: _Vector, target: _Vector) -> _Vector:
    """Return the x >= 0 that minimises |matrix x - target|, by the active sets of Lawson and Hanson (1974, ch. 23)."""
    norms = np.linalg.norm(matrix, axis=0)
    scale = np.where(norms > 0, norms, 1.0)  # columns from single calls to thousands of millions of weights
    scaled = matrix / scale
    x = np.zeros(len(scale))
    free = np.zeros(len(scale), bool)
    for _ in range(3 * len(scale)):  # each set is better than the one before; rounding alone could make it turn
        gradient = np.where(free, -np.inf, scaled.T @ (target - scaled @ x))
        entering = int(np.argmax(gradient))
        if gradient[entering] <= 1e-10 * np.linalg.norm(target):
            break
        free[entering] = True
        best = _least_squares(scaled, target, free)
        while np.any(best[free] <= 0):
            leaving = free & (best <= 0)
            step = float(np.min(x[leaving] / (x[leaving] - best[leaving])))
            x = x + step * (best - x)
            free &= x > 1e-12 * float(np.max(x, initial=0.0))
            x[~free] = 0
            best = _least_squares(scaled, target, free)
        x = best
    return x / scale


def _least_squares(matrix: _Vector, target: _Vector, free: npt.NDArray[np.bool_]) -> _Vector:
    x = np.zeros(len(free))
    x[free] = np.linalg.lstsq(matrix[:, free], target, rcond=None)[0]
    return x
