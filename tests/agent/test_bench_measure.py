from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from tiny_cases import TINY, TINY_ENCODER, tiny_case

from weighin_agent.bench.measure import Models, Surroundings, join_rounds, run_round, warm_up
from weighin_analysis.estimate import anchor_times, full_model_times
from weighin_analysis.footprint import activation_bytes
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, SeriesPart
from weighin_analysis.suite import Lengths, Rounds

LENGTHS = Lengths(
    decode_context_depths=(16, 960),
    decoder_prompt_tokens=(32, 128, 512),
    encoder_prompt_tokens=(32, 128),
    max_context_tokens=1024,
    long_prompt_limit_seconds=2.0,
    long_prompt_limit_bytes=1_000_000_000,
)
ROUNDS = Rounds(
    least_count=2, most_count=8, target_sd=0.0, decode_samples=3, long_prompt_interval=3, pause_seconds=0.25
)
Call = tuple[str, int, int]  # model, token count, context depth


@dataclass
class Machine:
    """A device that remembers every call, and after which calls the load of others was read."""

    calls: list[Call] = field(default_factory=list)
    readings: list[int] = field(default_factory=list)

    def foreign_share(self) -> float:
        self.readings.append(len(self.calls))
        return len(self.readings) / 100

    def measure(
        self, case: Case, models: Models, *, lengths: Lengths = LENGTHS, round_count: int = 4
    ) -> tuple[Measurement, ...]:
        points = list(warm_up(case, models, lengths))
        surroundings = Surroundings(foreign_share=self.foreign_share, clock=ClockKind.WALL)
        return join_rounds(
            [run_round(case, models, points, number, ROUNDS, surroundings) for number in range(round_count)]
        )

    def round_calls(self, number: int) -> list[Call]:
        """The calls of a round, of a device that has measured one case."""
        return self.calls[self.readings[2 * number] : self.readings[2 * number + 1]]


@dataclass
class KnownModel:
    """A model whose times follow a law."""

    name: str
    machine: Machine
    law: Callable[[int, int], float]

    def time(self, token_count: int, context_depth: int = 0) -> float:
        self.machine.calls.append((self.name, token_count, context_depth))
        return self.law(token_count, context_depth)


def known_models(machine: Machine, *parts: SeriesPart, layers_per_token: float = 0.001) -> Models:
    """Models in the order of a job: a full model takes three times as long as its layers, and a short probe a third."""
    laws: dict[SeriesPart, Callable[[int, int], float]] = {
        SeriesPart.FULL_MODEL: lambda tokens, depth: 3 * layers_per_token * tokens + depth,
        SeriesPart.FULL_MODEL_TWIN: lambda tokens, depth: 3 * layers_per_token * tokens + depth,
        SeriesPart.LAYERS: lambda tokens, depth: layers_per_token * tokens + 1e-6 * depth,
        SeriesPart.SHORT_LAYERS: lambda tokens, depth: layers_per_token / 3 * tokens + 1e-6 * depth,
        SeriesPart.HEAD: lambda _tokens, _depth: 0.0005,
        SeriesPart.CALL: lambda _tokens, _depth: 0.0001,
    }
    return {part: KnownModel(part, machine, law) for part, law in laws.items() if part in parts}


def decoder_models(machine: Machine, *more: SeriesPart, layers_per_token: float = 0.001) -> Models:
    return known_models(machine, SeriesPart.LAYERS, SeriesPart.HEAD, *more, layers_per_token=layers_per_token)


def points(measurements: tuple[Measurement, ...]) -> list[tuple[Phase, int, int]]:
    return [(m.phase, m.token_count, m.context_depth) for m in measurements]


def prompts(measurements: tuple[Measurement, ...]) -> list[int]:
    return [m.token_count for m in measurements if m.phase is Phase.PREFILL]


# What is measured.


def test_a_decoder_is_measured_at_every_depth_and_prompt_length() -> None:
    machine = Machine()
    found = machine.measure(tiny_case(), decoder_models(machine))
    assert points(found) == [
        (Phase.DECODE, 1, 16),
        (Phase.DECODE, 1, 960),
        (Phase.PREFILL, 32, 0),
        (Phase.PREFILL, 128, 0),
        (Phase.PREFILL, 512, 0),
    ]
    for measurement in found[:4]:
        assert measurement.execution_provider == "cpu"
        assert [s.round for s in measurement.series] == [0, 0, 1, 1, 2, 2, 3, 3]
        assert [s.part for s in measurement.series] == [SeriesPart.LAYERS, SeriesPart.HEAD] * 4
        assert {s.clock for s in measurement.series} == {ClockKind.WALL}


def test_an_encoder_has_prompts_and_layers_alone() -> None:
    machine = Machine()
    found = machine.measure(tiny_case(TINY_ENCODER), known_models(machine, SeriesPart.LAYERS))
    assert points(found) == [(Phase.PREFILL, 32, 0), (Phase.PREFILL, 128, 0)]
    assert {s.part for m in found for s in m.series} == {SeriesPart.LAYERS}
    assert {s.token_count for s in found[1].series} == {128}


def test_a_decode_series_walks_on_from_its_depth_one_token_at_a_time() -> None:
    machine = Machine()
    shallow, deep, *_ = machine.measure(tiny_case(), decoder_models(machine))
    for measurement, depth in ((shallow, 16), (deep, 960)):
        layers = [s for s in measurement.series if s.part is SeriesPart.LAYERS]
        assert {s.context_depth for s in layers} == {depth}
        for one in layers:
            assert one.sample_seconds == pytest.approx([0.001 + 1e-6 * (depth + i) for i in range(3)])


def test_a_head_series_is_one_token_in_whatever_phase_it_was_timed() -> None:
    machine = Machine()
    for measurement in machine.measure(tiny_case(), decoder_models(machine)):
        head = [s for s in measurement.series if s.part is SeriesPart.HEAD]
        assert {(s.phase, s.token_count, s.context_depth) for s in head} == {(Phase.DECODE, 1, 0)}
        assert all(set(s.sample_seconds) == {0.0005} for s in head)


def test_a_bare_call_is_timed_beside_every_token_and_beside_no_prompt() -> None:
    machine = Machine()
    for measurement in machine.measure(tiny_case(), decoder_models(machine, SeriesPart.CALL)):
        calls = [s for s in measurement.series if s.part is SeriesPart.CALL]
        assert bool(calls) == (measurement.phase is Phase.DECODE)
        assert {(s.token_count, s.context_depth, s.sample_seconds) for s in calls} <= {(1, 0, (0.0001,) * 3)}


def test_short_prompts_are_timed_twice_and_longer_ones_once() -> None:
    machine = Machine()
    found = machine.measure(tiny_case(), decoder_models(machine))
    sample_counts = {
        m.token_count: {len(s.sample_seconds) for s in m.series} for m in found if m.phase is Phase.PREFILL
    }
    assert sample_counts == {32: {2}, 128: {1}, 512: {2}}


def test_all_parts_alternate_so_that_each_evicts_the_others() -> None:
    machine = Machine()
    more = SeriesPart.FULL_MODEL, SeriesPart.FULL_MODEL_TWIN, SeriesPart.SHORT_LAYERS
    machine.measure(tiny_case(), decoder_models(machine, *more))
    in_turn = ["full_model", "full_model_twin", "layers", "short_layers", "head"]
    without_long_prompt = machine.round_calls(1)
    assert [name for name, _tokens, _depth in without_long_prompt] == in_turn * (3 + 3 + 2 + 1)
    assert without_long_prompt[:15] == [
        (name, 1, 0 if name == "head" else 16 + i) for i in range(3) for name in in_turn
    ]


def test_warm_ups_are_not_among_the_samples() -> None:
    machine = Machine()

    def cold_at_first(tokens: int, _depth: int) -> float:
        return (0.001 if machine.readings else 9.0) * tokens  # the load is first read when the rounds begin

    models = decoder_models(machine) | {SeriesPart.LAYERS: KnownModel("layers", machine, cold_at_first)}
    found = machine.measure(tiny_case(), models)
    assert max(s for m in found for one in m.series for s in one.sample_seconds) < 1


def test_every_point_is_warm_before_the_first_round_but_for_the_long_prompt() -> None:
    machine = Machine()
    machine.measure(tiny_case(), decoder_models(machine), round_count=1)
    warmed = {(tokens, depth) for _name, tokens, depth in machine.calls[: machine.readings[0]]}
    assert {(1, 16), (1, 960), (32, 0), (128, 0)} <= warmed
    assert (512, 0) not in warmed


# Long prompts: seconds each on a slow device.


def test_a_long_prompt_runs_in_the_first_round_and_every_third() -> None:
    machine = Machine()
    found = machine.measure(tiny_case(), decoder_models(machine), round_count=8)
    rounds = {m.token_count: sorted({s.round for s in m.series}) for m in found if m.phase is Phase.PREFILL}
    assert rounds == {32: [*range(8)], 128: [*range(8)], 512: [0, 3, 6]}


def test_a_long_prompt_runs_on_the_short_probe_where_there_is_one() -> None:
    machine = Machine()
    found = machine.measure(tiny_case(), decoder_models(machine, SeriesPart.SHORT_LAYERS))
    parts = {m.token_count: {s.part for s in m.series} for m in found if m.phase is Phase.PREFILL}
    short = {SeriesPart.SHORT_LAYERS, SeriesPart.HEAD}
    assert parts == {32: short | {SeriesPart.LAYERS}, 128: short | {SeriesPart.LAYERS}, 512: short}


@pytest.mark.parametrize(
    ("parts", "seconds_at_512"),
    [
        ((SeriesPart.LAYERS, SeriesPart.HEAD), lambda per_token: 512 * per_token),
        ((SeriesPart.LAYERS, SeriesPart.SHORT_LAYERS, SeriesPart.HEAD), lambda per_token: 512 * per_token / 3),
        ((SeriesPart.FULL_MODEL,), lambda per_token: 3 * 512 * per_token),
    ],
    ids=["layers", "short layers", "full model"],
)
@pytest.mark.parametrize("expected_seconds", [1.99, 2.01, 500.0])
def test_a_long_prompt_is_left_out_where_it_would_take_too_long_on_what_it_runs_on(
    parts: tuple[SeriesPart, ...], seconds_at_512: Callable[[float], float], expected_seconds: float
) -> None:
    machine = Machine()
    models = known_models(machine, *parts, layers_per_token=expected_seconds / seconds_at_512(1.0))
    found = machine.measure(tiny_case(), models, round_count=1)
    assert prompts(found) == ([32, 128, 512] if expected_seconds < 2 else [32, 128])


@pytest.mark.parametrize(("spare_bytes", "lengths"), [(0, [32, 128, 512]), (-1, [32, 128])])
def test_a_long_prompt_is_left_out_where_its_activations_would_take_too_much(
    spare_bytes: int, lengths: list[int]
) -> None:
    machine = Machine()
    tight = replace(LENGTHS, long_prompt_limit_bytes=activation_bytes(TINY, 512) + spare_bytes)
    assert prompts(machine.measure(tiny_case(), decoder_models(machine), lengths=tight)) == lengths


def test_the_first_two_lengths_run_however_long_they_take() -> None:
    """Two are the least that make a line."""
    machine = Machine()
    tight = replace(LENGTHS, long_prompt_limit_bytes=1)
    found = machine.measure(tiny_case(), decoder_models(machine, layers_per_token=60.0), lengths=tight)
    assert prompts(found) == [32, 128]


# Rounds.


def test_a_round_carries_the_load_of_others_while_it_ran() -> None:
    machine = Machine()
    found = machine.measure(tiny_case(), decoder_models(machine))
    # The reading before a round ends what came before it; every series of a round carries the reading after it.
    for measurement in found[:4]:
        assert [s.foreign_cpu_share for s in measurement.series] == [0.02, 0.02, 0.04, 0.04, 0.06, 0.06, 0.08, 0.08]


def test_joined_rounds_keep_every_series_once_in_the_order_of_the_rounds() -> None:
    machine = Machine()
    case, models = tiny_case(), decoder_models(machine)
    points = list(warm_up(case, models, LENGTHS))
    surroundings = Surroundings(foreign_share=machine.foreign_share, clock=ClockKind.THREAD_CPU)
    rounds = [run_round(case, models, points, number, ROUNDS, surroundings) for number in range(5)]
    joined = join_rounds(rounds)
    assert [(m.phase, m.token_count, m.context_depth) for m in joined] == [
        (point.phase, point.token_count, point.context_depth) for point in points
    ]
    assert sorted(map(repr, (s for m in joined for s in m.series))) == sorted(
        map(repr, (s for one in rounds for m in one for s in m.series))
    )
    for measurement in joined:
        numbers = [s.round for s in measurement.series]
        assert numbers == sorted(numbers)


def test_joined_rounds_tell_the_highest_peak_of_memory_everywhere() -> None:
    """It is that of the process; a long prompt ran in some rounds alone."""
    machine = Machine()
    (first, *others) = machine.measure(tiny_case(), decoder_models(machine), round_count=1)
    grown = [replace(first, peak_memory_bytes=200)], [replace(one, peak_memory_bytes=300) for one in others], [first]
    assert {m.peak_memory_bytes for m in join_rounds(grown)} == {300}
    assert {m.peak_memory_bytes for m in join_rounds([[first], others])} == {None}
    assert join_rounds([]) == ()


# What is measured predicts the device that was measured.


def test_layers_and_head_predict_the_full_model() -> None:
    machine = Machine()
    case = replace(tiny_case(replace(TINY, layers=10, vocab=1024)), probe_layers=2, head_columns=256)
    shallow, *_ = machine.measure(case, decoder_models(machine))
    # p20 of the three samples at depths 16, 17 and 18, of two of ten layers and a quarter of the head
    assert full_model_times(shallow).median_seconds == pytest.approx(5 * (0.001 + 16.4e-6) + 4 * 0.0005)


def test_an_anchor_is_what_the_full_model_took() -> None:
    machine = Machine()
    found = machine.measure(tiny_case(), known_models(machine, SeriesPart.FULL_MODEL))
    assert {s.part for m in found for s in m.series} == {SeriesPart.FULL_MODEL}
    assert anchor_times(found[2]).median_seconds == pytest.approx(3 * 0.032)
