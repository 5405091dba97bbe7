"""Measurements with known times, as a device that obeys a known law would give them."""

from collections.abc import Callable, Sequence

from weighin_analysis.architecture import Architecture
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, Series, SeriesPart
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import load_suite, suite_case

Samples = Sequence[float]
Seconds = Callable[[int, int], float]  # (token count, context depth) -> seconds


def probe_case(shape: Architecture, scheme: Scheme = Scheme.INT4_BLOCK32, *, threads: int = 2) -> Case:
    """The case that the quick suite would run for a shape."""
    planned = suite_case(shape, scheme, load_suite("quick").probe)
    return Case(
        architecture=shape,
        scheme=scheme,
        execution_provider="cpu",
        threads=threads,
        probe_layers=planned.probe_layers,
        head_columns=planned.head_columns,
    )


def series(
    part: SeriesPart, number: int, samples: Samples, *, share: float | None = None, phase: Phase = Phase.DECODE
) -> Series:
    """The samples of one part in round ``number``."""
    return Series(
        part=part,
        round=number,
        phase=phase,
        token_count=1,
        context_depth=0,
        clock=ClockKind.WALL,
        sample_seconds=tuple(samples),
        foreign_cpu_share=share,
    )


def measurement(case: Case, found: Sequence[Series], *, phase: Phase = Phase.DECODE, length: int = 16) -> Measurement:
    """A measurement of given series; ``length`` is the context depth in decode and the prompt in prefill."""
    decode = phase is Phase.DECODE
    return Measurement(
        case=case,
        execution_provider=case.execution_provider,
        phase=phase,
        token_count=1 if decode else length,
        context_depth=length if decode else 0,
        series=tuple(found),
    )


def rounds_of(
    case: Case, layers: Sequence[Samples], head: Sequence[Samples] = (), *, share: float | None = None
) -> Measurement:
    """A decode measurement with one series of each part per round."""
    found = [series(SeriesPart.LAYERS, i, samples, share=share) for i, samples in enumerate(layers)]
    found += [series(SeriesPart.HEAD, i, samples, share=share) for i, samples in enumerate(head)]
    return measurement(case, found)


def lawful_measurement(
    case: Case,
    phase: Phase,
    length: int,
    *,
    layer_seconds: Seconds,
    column_seconds: float,
    rounds: int = 6,
    share: float | None = None,
) -> Measurement:
    """What a device measures on which every layer costs the same and every column of the head costs the same."""
    tokens, depth = (1, length) if phase is Phase.DECODE else (length, 0)
    layers = case.probe_layers * layer_seconds(tokens, depth)
    found = [series(SeriesPart.LAYERS, i, [layers], share=share, phase=phase) for i in range(rounds)]
    if case.head_columns:
        head = case.head_columns * column_seconds
        found += [series(SeriesPart.HEAD, i, [head], share=share) for i in range(rounds)]
    return measurement(case, found, phase=phase, length=length)


def timed_case(
    case: Case,
    *,
    decode_seconds: float = 0.0,
    first_token_seconds: float,
    prompt_tokens: int = 512,
    share: float | None = None,
) -> list[Measurement]:
    """Measurements whose full model takes exactly these times: one decode step at any depth, one prompt.

    An encoder has no decode step; a fifth of a decoder's time is spent in its head.
    """

    def at(phase: Phase, length: int, seconds: float) -> Measurement:
        head_share = 0.2 if case.head_columns else 0.0
        return lawful_measurement(
            case,
            phase,
            length,
            layer_seconds=lambda _tokens, _depth: (1 - head_share) * seconds / case.architecture.layers,
            column_seconds=head_share * seconds / case.architecture.vocab,
            share=share,
        )

    decodes = [at(Phase.DECODE, depth, decode_seconds) for depth in (16, 960)] if case.head_columns else []
    return [*decodes, at(Phase.PREFILL, prompt_tokens, first_token_seconds)]
