"""The rounds of one case: layers, head and whole model in turn; models and clocks from outside."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from weighin_analysis.footprint import activation_bytes
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, Series, SeriesPart
from weighin_analysis.suite import Lengths, Rounds

_WARM_UP_TOKENS = 8
# A prompt this short is over too soon for one sample to say much.
_SHORT_PROMPT_TOKENS = 64
_LAST_TOKEN_PARTS = (SeriesPart.HEAD, SeriesPart.CALL)
_LONG_PROMPT_PARTS = (SeriesPart.SHORT_LAYERS, SeriesPart.LAYERS, SeriesPart.FULL_MODEL)


class TimedModel(Protocol):
    """What can be timed: a loaded graph, or a stand-in with known times."""

    def time(self, token_count: int, context_depth: int = 0) -> float:
        """Run and return the seconds it took."""
        ...


Models = dict[SeriesPart, TimedModel]  # the graphs of one case, in the order in which they run in turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One phase at one length; a ``long`` prompt runs on the smallest layer probe alone, and not in every round."""

    phase: Phase
    token_count: int
    context_depth: int
    long: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a round needs of the world: the load of others, and the kind of clock that the models time with.

    ``foreign_share`` returns, each time it is called, the share of CPU time that other processes used since the call
    before, None if not readable.
    """

    foreign_share: Callable[[], float | None]
    clock: ClockKind


def warm_up(case: Case, models: Models, lengths: Lengths) -> Iterator[Point]:
    """Run every point once, unrecorded, and yield those to measure: long prompts where time and memory allow it."""
    for model in models.values():
        model.time(_WARM_UP_TOKENS)
    decoder = case.head_columns > 0
    for depth in lengths.decode_context_depths if decoder else ():
        point = Point(phase=Phase.DECODE, token_count=1, context_depth=depth)
        _sample(point, models, 1)
        yield point
    per_token = 0.0
    for i, tokens in enumerate(lengths.decoder_prompt_tokens if decoder else lengths.encoder_prompt_tokens):
        # Two lengths are the least that make a line; a longer one must be quick enough.
        point = Point(phase=Phase.PREFILL, token_count=tokens, context_depth=0, long=i >= 2)
        slow = per_token * tokens > lengths.long_prompt_limit_seconds
        large = activation_bytes(case.architecture, tokens) > lengths.long_prompt_limit_bytes
        if point.long and (slow or large):
            continue
        if not point.long:
            per_token = models[_long_prompt_part(models)].time(tokens) / tokens
        yield point


def run_round(
    case: Case, models: Models, points: Sequence[Point], number: int, rounds: Rounds, surroundings: Surroundings
) -> tuple[Measurement, ...]:
    """Run round ``number`` (from 0) and return a measurement for every point that is in it.

    Peak memory and the comparison of outputs are the caller's to add.
    """
    surroundings.foreign_share()
    due = [point for point in points if not point.long or number % rounds.long_prompt_interval == 0]
    samples = {point: _sample(point, models, _sample_count(point, rounds)) for point in due}
    share = surroundings.foreign_share()
    return tuple(
        Measurement(
            case=case,
            execution_provider=case.execution_provider,
            phase=point.phase,
            token_count=point.token_count,
            context_depth=point.context_depth,
            series=tuple(_series(point, parts, number, surroundings.clock, share)),
        )
        for point, parts in samples.items()
    )


def join_rounds(rounds: Sequence[Sequence[Measurement]]) -> tuple[Measurement, ...]:
    """Return one measurement per phase and length with the series of all rounds, and the highest peak of memory."""
    joined: dict[tuple[Phase, int, int], Measurement] = {}
    for measurement in (one for measurements in rounds for one in measurements):
        key = measurement.phase, measurement.token_count, measurement.context_depth
        before = joined.get(key)
        joined[key] = replace(measurement, series=(before.series if before else ()) + measurement.series)
    peak = max((m.peak_memory_bytes for m in joined.values() if m.peak_memory_bytes is not None), default=None)
    return tuple(replace(measurement, peak_memory_bytes=peak) for measurement in joined.values())


def _long_prompt_part(models: Models) -> SeriesPart:
    """Return what a long prompt runs on: it is all arithmetic, and the few layers of a short probe tell enough."""
    return next(part for part in _LONG_PROMPT_PARTS if part in models)


def _sample_count(point: Point, rounds: Rounds) -> int:
    if point.phase is Phase.DECODE:
        return rounds.decode_samples
    # The first long prompt also finds its memory; the second does not.
    return 2 if point.long or point.token_count <= _SHORT_PROMPT_TOKENS else 1


def _sample(point: Point, models: Models, count: int) -> dict[SeriesPart, list[float]]:
    """Return samples by part. Parts alternate, so that each evicts the others from the last-level cache."""
    samples: dict[SeriesPart, list[float]] = defaultdict(list)
    skipped = {SeriesPart.LAYERS} if point.long and SeriesPart.SHORT_LAYERS in models else set()
    for i in range(count):
        depth = point.context_depth + i if point.phase is Phase.DECODE else 0
        for part, model in models.items():
            if part is SeriesPart.CALL and point.phase is Phase.PREFILL:
                continue  # a prefill takes so long that a call is nothing beside it
            if part in _LAST_TOKEN_PARTS:
                samples[part].append(model.time(1))
            elif part not in skipped:
                samples[part].append(model.time(point.token_count, depth))
    return samples


def _series(
    point: Point, parts: dict[SeriesPart, list[float]], number: int, clock: ClockKind, share: float | None
) -> Iterator[Series]:
    for part, seconds in parts.items():
        head = part in _LAST_TOKEN_PARTS
        yield Series(
            part=part,
            round=number,
            phase=Phase.DECODE if head else point.phase,  # the head always sees the last token alone
            token_count=1 if head else point.token_count,
            context_depth=0 if head else point.context_depth,
            clock=clock,
            sample_seconds=tuple(seconds),
            foreign_cpu_share=share,
        )
