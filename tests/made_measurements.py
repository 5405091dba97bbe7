"""Measurements with known times, as a device that obeys a known law would give them; devices and cards by hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.card import Anchor, Basis, Card, CardRow, Estimate, Verdict
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, Series, SeriesPart
from weighin_analysis.scheme import Scheme
from weighin_analysis.snapshot import Hardware, RunRecord
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
    part: SeriesPart,
    number: int,
    samples: Samples,
    *,
    share: float | None = None,
    phase: Phase = Phase.DECODE,
    clock: ClockKind = ClockKind.WALL,
) -> Series:
    """The samples of one part in round ``number``."""
    return Series(
        part=part,
        round=number,
        phase=phase,
        token_count=1,
        context_depth=0,
        clock=clock,
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
    call_seconds: float = 0.0,
    rounds: int = 6,
    share: float | None = None,
    clock: ClockKind = ClockKind.WALL,
) -> Measurement:
    """What a device measures on which every layer costs the same and every column of the head costs the same.

    A call costs ``call_seconds`` more, however many layers or columns it has; in a prefill, where it is activations
    that have left the caches, only that of layers.
    """
    tokens, depth = (1, length) if phase is Phase.DECODE else (length, 0)
    layer = layer_seconds(tokens, depth)
    seconds = {SeriesPart.LAYERS: call_seconds + case.probe_layers * layer}
    if case.short_probe_layers:
        seconds[SeriesPart.SHORT_LAYERS] = call_seconds + case.short_probe_layers * layer
    if case.head_columns:
        seconds[SeriesPart.HEAD] = case.head_columns * column_seconds + (call_seconds if phase is Phase.DECODE else 0)
    found = [
        series(part, i, [time], share=share, phase=phase, clock=clock)
        for part, time in seconds.items()
        for i in range(rounds)
    ]
    return measurement(case, found, phase=phase, length=length)


def full_model_measurement(
    case: Case,
    seconds: float,
    *,
    phase: Phase = Phase.DECODE,
    length: int = 16,
    rounds: int = 6,
    share: float | None = None,
    clock: ClockKind = ClockKind.WALL,
) -> Measurement:
    """What an anchor measures: the full model alone."""
    whole = replace(
        case, probe_layers=case.architecture.layers, short_probe_layers=0, head_columns=case.architecture.vocab
    )
    found = [series(SeriesPart.FULL_MODEL, i, [seconds], share=share, phase=phase, clock=clock) for i in range(rounds)]
    return measurement(whole, found, phase=phase, length=length)


def timed_case(
    case: Case,
    *,
    decode_seconds: float = 0.0,
    first_token_seconds: float,
    prompt_tokens: int = 512,
    share: float | None = None,
    clock: ClockKind = ClockKind.WALL,
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
            clock=clock,
        )

    decodes = [at(Phase.DECODE, depth, decode_seconds) for depth in (16, 960)] if case.head_columns else []
    return [*decodes, at(Phase.PREFILL, prompt_tokens, first_token_seconds)]


def an_anchor(kappa: float, *, sd: float = 0.05, phase: Phase = Phase.DECODE) -> Anchor:
    """What the full model of the smallest class says of int4 on two threads of the processor."""
    return Anchor(
        architecture="SmolLM2-135M",
        scheme=Scheme.INT4_BLOCK32,
        execution_provider="cpu",
        threads=2,
        phase=phase,
        kappa=kappa,
        sd=sd,
    )


HARDWARE = Hardware(
    hardware_id="h",
    cpu_model="Cortex-A76",
    cpu_vendor="ARM",
    cpu_architecture="aarch64",
    physical_core_count=4,
    logical_core_count=4,
    instruction_sets=("asimd",),
    caches=(),
    last_level_cache_bytes=None,
    max_frequency_hertz=None,
    memory_total_bytes=4 << 30,
    os_family="linux",
    os_name=None,
    os_version=None,
    os_kernel=None,
    virtualization_kind=None,
    virtualization_product=None,
    python_version=None,
    onnxruntime_version="1.31.0",
    onnx_version=None,
    numpy_version=None,
    accelerators=(),
    execution_providers=(),
    form_factor=None,
)
RUN = RunRecord(
    run_id="019c1c38-a400-7000-8000-000000000001",
    run_number=1,
    sequence=1,
    receive_time=datetime(2026, 2, 28, 10, 0, tzinfo=UTC),
    observe_time=None,
    elapsed_seconds=None,
    source="native",
    agent_version="0.1.0",
    suite="quick",
    suite_version=1,
    memory_available_bytes=None,
    read_bandwidth_bytes_per_second=None,
    single_thread_read_bandwidth_bytes_per_second=None,
    storage_free_bytes=None,
    accelerator_memory_available_bytes=(),
    before=None,
    after=None,
    measurements=(),
    failures=(),
    gaps=(),
)


def card_row(
    size_class: str = "1B",
    verdict: Verdict = Verdict.COMFORTABLE,
    *,
    decode_tokens_per_second: float | None = 20.0,
    kind: ArchitectureKind = ArchitectureKind.DECODER,
    scheme: str = "int4_block32",
    basis: Basis = Basis.LAYER_PROBE,
    counts: bool = True,
) -> CardRow:
    """A row of a card; only what the tests look at may be chosen."""
    decode = decode_tokens_per_second
    return CardRow(
        size_class=size_class,
        architecture=f"a {size_class} model",
        architecture_kind=kind,
        scheme=scheme,
        execution_provider="cpu",
        threads=4,
        decode_tokens_per_second=None
        if decode is None
        else Estimate(value=decode, low=decode / 1.2, high=decode * 1.2),
        prefill_tokens_per_second=None,
        time_to_first_token_seconds=Estimate(value=2.0, low=1.7, high=2.4),
        latency_seconds=None,
        memory_bytes=1 << 30,
        download_bytes=10**9,
        bytes_read_per_token=10**9,
        verdict=verdict,
        reasons=(),
        basis=basis,
        counts=counts,
    )


def a_card(*rows: CardRow, tier: str | None = None) -> Card:
    """A card of the given rows."""
    return Card(
        limits_version="test", formula_version="test", headline="A headline.", tier=tier, limited_by=None, rows=rows
    )
