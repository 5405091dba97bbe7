"""The timing loop of one case: rounds spread over time, layers and head in turn; models and clocks from outside."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from weighin_analysis.estimate import disturbed_round
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, Series, SeriesPart
from weighin_analysis.suite import Lengths, Rounds

_WARM_UP_TOKENS = 8
# A prompt this short is over too soon for one sample to say much.
_SHORT_PROMPT_TOKENS = 64


class TimedModel(Protocol):
    """What can be timed: a loaded graph, or a stand-in with known times."""

    def time(self, token_count: int, context_depth: int = 0) -> float:
        """Run and return the seconds it took."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The graphs of one case: ``head`` is None for an encoder, ``full_model`` is None unless it is an anchor."""

    layers: TimedModel
    head: TimedModel | None
    full_model: TimedModel | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One phase at one length."""

    phase: Phase
    token_count: int
    context_depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the loop needs of the world: a monotonic clock, a pause, and the load of others.

    ``foreign_share`` returns, each time it is called, the share of CPU time that other processes used since the call
    before, None if not readable. ``clock`` is the kind that the models time with.
    """

    now_seconds: Callable[[], float]
    sleep: Callable[[float], None]
    foreign_share: Callable[[], float | None]
    clock: ClockKind


def measure(
    case: Case,
    models: Models,
    lengths: Lengths,
    rounds: Rounds,
    surroundings: Surroundings,
    on_round: Callable[[int, int], None],
) -> tuple[Measurement, ...]:
    """Warm up, run all rounds and return one measurement per phase and length.

    A round that other programs disturbed is kept and followed by one more. ``on_round(quiet, wanted)`` is called after
    each round. Peak memory and the provider that ran are the caller's to add.
    """
    points = list(warm_up(case, models, lengths))
    series: defaultdict[Point, list[Series]] = defaultdict(list)
    begin = surroundings.now_seconds()
    surroundings.foreign_share()
    quiet = 0
    for number in range(rounds.most_count):
        spent = number >= rounds.least_count and surroundings.now_seconds() - begin > rounds.budget_seconds
        if quiet == rounds.count or spent:
            break
        samples = {point: _sample(point, models, rounds) for point in points}
        share = surroundings.foreign_share()
        for point, parts in samples.items():
            series[point] += _series(point, parts, number, surroundings.clock, share)
        quiet += not disturbed_round(share)
        on_round(quiet, rounds.count)
        # The noise is slow (bursts of about half a second): rounds apart see different moments of it.
        surroundings.sleep(rounds.pause_seconds)
    return tuple(
        Measurement(
            case=case,
            execution_provider=case.execution_provider,
            phase=point.phase,
            token_count=point.token_count,
            context_depth=point.context_depth,
            series=tuple(found),
        )
        for point, found in series.items()
    )


def warm_up(case: Case, models: Models, lengths: Lengths) -> Iterator[Point]:
    """Run every point once, unrecorded, and yield those to measure: long prompts only where they are quick enough."""
    for model in (models.layers, models.head, models.full_model):
        if model:
            model.time(_WARM_UP_TOKENS)
    decoder = case.head_columns > 0
    for depth in lengths.decode_context_depths if decoder else ():
        point = Point(phase=Phase.DECODE, token_count=1, context_depth=depth)
        _sample(point, models, None)
        yield point
    per_token = 0.0
    for i, tokens in enumerate(lengths.decoder_prompt_tokens if decoder else lengths.encoder_prompt_tokens):
        # Two lengths are the least that make a line; a longer one must be quick enough.
        if i >= 2 and per_token * tokens > lengths.long_prompt_limit_seconds:
            continue
        per_token = models.layers.time(tokens) / tokens
        yield Point(phase=Phase.PREFILL, token_count=tokens, context_depth=0)


def _sample(point: Point, models: Models, rounds: Rounds | None) -> dict[SeriesPart, list[float]]:
    """Return samples by part. Parts alternate, so that each evicts the others from the last-level cache."""
    samples: dict[SeriesPart, list[float]] = defaultdict(list)
    decode = point.phase is Phase.DECODE
    count = 2 if not decode and point.token_count <= _SHORT_PROMPT_TOKENS else 1
    if decode:
        count = rounds.decode_samples if rounds else 1
    for i in range(count):
        depth = point.context_depth + i if decode else 0
        if models.full_model:
            samples[SeriesPart.FULL_MODEL].append(models.full_model.time(point.token_count, depth))
        samples[SeriesPart.LAYERS].append(models.layers.time(point.token_count, depth))
        if models.head:
            samples[SeriesPart.HEAD].append(models.head.time(1))
    return samples


def _series(
    point: Point, parts: dict[SeriesPart, list[float]], number: int, clock: ClockKind, share: float | None
) -> Iterator[Series]:
    for part, seconds in parts.items():
        head = part is SeriesPart.HEAD
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
