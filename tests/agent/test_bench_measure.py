from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from tiny_cases import TINY, TINY_ENCODER, tiny_case

from weighin_agent.bench.measure import Models, Surroundings, measure
from weighin_analysis.estimate import full_model_times
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase, SeriesPart
from weighin_analysis.suite import Lengths, Rounds

LENGTHS = Lengths(
    decode_context_depths=(16, 960),
    decoder_prompt_tokens=(32, 128, 512),
    encoder_prompt_tokens=(32, 128),
    max_context_tokens=1024,
    long_prompt_limit_seconds=2.0,
)
ROUNDS = Rounds(count=4, most_count=8, least_count=2, budget_seconds=100.0, decode_samples=3, pause_seconds=0.25)
Call = tuple[str, int, int]  # model, token count, context depth


@dataclass
class Machine:
    """A device whose time passes only by running models and by pausing; it remembers every call."""

    seconds: float = 0.0
    calls: list[Call] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)
    busy_rounds: int = 0  # so many rounds from the first on are disturbed

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.calls.append(("pause", 0, 0))

    def foreign_share(self) -> float:
        busy = 0 < len(self.shares) <= self.busy_rounds
        self.shares.append(0.5 if busy else len(self.shares) / 100)
        return self.shares[-1]

    def surroundings(self) -> Surroundings:
        return Surroundings(
            now_seconds=lambda: self.seconds,
            sleep=self.sleep,
            foreign_share=self.foreign_share,
            clock=ClockKind.WALL,
        )

    def measure(self, case: Case, models: Models, rounds: Rounds = ROUNDS) -> tuple[Measurement, ...]:
        return measure(
            case,
            models,
            LENGTHS,
            rounds,
            self.surroundings(),
            lambda done, planned: self.progress.append((done, planned)),
        )


@dataclass
class KnownModel:
    """A model whose times follow a law."""

    name: str
    machine: Machine
    law: Callable[[int, int], float]

    def time(self, token_count: int, context_depth: int = 0) -> float:
        seconds = self.law(token_count, context_depth)
        self.machine.seconds += seconds
        self.machine.calls.append((self.name, token_count, context_depth))
        return seconds


def decoder_models(machine: Machine, *, layers_per_token: float = 0.001, full_model: bool = False) -> Models:
    return Models(
        layers=KnownModel("layers", machine, lambda tokens, depth: layers_per_token * tokens + 1e-6 * depth),
        head=KnownModel("head", machine, lambda _tokens, _depth: 0.0005),
        full_model=KnownModel("full", machine, lambda tokens, depth: 0.003 * tokens + depth) if full_model else None,
    )


def points(measurements: tuple[Measurement, ...]) -> list[tuple[Phase, int, int]]:
    return [(m.phase, m.token_count, m.context_depth) for m in measurements]


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
    for measurement in found:
        assert measurement.execution_provider == "cpu"
        assert [s.round for s in measurement.series] == [0, 0, 1, 1, 2, 2, 3, 3]
        assert [s.part for s in measurement.series] == [SeriesPart.LAYERS, SeriesPart.HEAD] * 4
        assert {s.clock for s in measurement.series} == {ClockKind.WALL}


def test_an_encoder_has_prompts_and_layers_alone() -> None:
    machine = Machine()
    models = Models(
        layers=KnownModel("layers", machine, lambda tokens, _depth: tokens / 1000), head=None, full_model=None
    )
    found = machine.measure(tiny_case(TINY_ENCODER), models)
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


def test_short_prompts_are_timed_twice_and_long_ones_once() -> None:
    machine = Machine()
    found = machine.measure(tiny_case(), decoder_models(machine))
    sample_counts = {
        m.token_count: {len(s.sample_seconds) for s in m.series} for m in found if m.phase is Phase.PREFILL
    }
    assert sample_counts == {32: {2}, 128: {1}, 512: {1}}


def test_layers_head_and_full_model_alternate_so_that_each_evicts_the_others() -> None:
    machine = Machine()
    machine.measure(tiny_case(), decoder_models(machine, full_model=True))
    first = machine.calls.index(("pause", 0, 0))
    round_calls = machine.calls[first + 1 : machine.calls.index(("pause", 0, 0), first + 1)]
    names = [name for name, _tokens, _depth in round_calls]
    assert names == ["full", "layers", "head"] * (3 + 3 + 2 + 1 + 1)
    assert round_calls[:9] == [
        call for i in range(3) for call in (("full", 1, 16 + i), ("layers", 1, 16 + i), ("head", 1, 0))
    ]


def test_warm_ups_are_not_among_the_samples() -> None:
    machine = Machine()

    def cold_at_first(tokens: int, _depth: int) -> float:
        return (0.001 if machine.shares else 9.0) * tokens  # the load is first read when the rounds begin

    models = replace(decoder_models(machine), layers=KnownModel("layers", machine, cold_at_first))
    found = machine.measure(tiny_case(), models)
    assert max(s for m in found for one in m.series for s in one.sample_seconds) < 1


@pytest.mark.parametrize(("per_token", "lengths"), [(0.0039, [32, 128, 512]), (0.0040, [32, 128]), (1.0, [32, 128])])
def test_a_long_prompt_is_left_out_where_it_would_take_too_long(per_token: float, lengths: list[int]) -> None:
    machine = Machine()
    found = machine.measure(tiny_case(), decoder_models(machine, layers_per_token=per_token), replace(ROUNDS, count=1))
    assert [m.token_count for m in found if m.phase is Phase.PREFILL] == lengths


@pytest.mark.parametrize(("budget_seconds", "rounds"), [(0.0, 2), (2.5, 3), (100.0, 4)])
def test_a_slow_device_ends_after_its_budget_but_not_before_the_least_rounds(
    budget_seconds: float, rounds: int
) -> None:
    machine = Machine()
    found = machine.measure(tiny_case(), decoder_models(machine), replace(ROUNDS, budget_seconds=budget_seconds))
    assert {len({s.round for s in m.series}) for m in found} == {rounds}
    assert machine.progress == [(i + 1, 4) for i in range(rounds)]


def test_a_round_carries_the_load_of_others_while_it_ran() -> None:
    machine = Machine()
    found = machine.measure(tiny_case(), decoder_models(machine))
    # The first reading ends what came before the rounds; every series of a round carries that round's.
    for measurement in found:
        assert [s.foreign_cpu_share for s in measurement.series] == [0.01, 0.01, 0.02, 0.02, 0.03, 0.03, 0.04, 0.04]


@pytest.mark.parametrize(("busy_rounds", "rounds"), [(0, 4), (1, 5), (3, 7), (20, 8)])
def test_a_disturbed_round_is_kept_and_followed_by_one_more(busy_rounds: int, rounds: int) -> None:
    machine = Machine(busy_rounds=busy_rounds)
    found = machine.measure(tiny_case(), decoder_models(machine))
    assert {len({s.round for s in m.series}) for m in found} == {rounds}


def test_rounds_are_apart_by_their_pause() -> None:
    machine = Machine()
    machine.measure(tiny_case(), decoder_models(machine))
    assert machine.calls.count(("pause", 0, 0)) == ROUNDS.count


def test_what_is_measured_predicts_the_device_that_was_measured() -> None:
    machine = Machine()
    case = replace(tiny_case(replace(TINY, layers=10, vocab=1024)), probe_layers=2, head_columns=256)
    shallow, *_ = machine.measure(case, decoder_models(machine))
    # p20 of the three samples at depths 16, 17 and 18, of two of ten layers and a quarter of the head
    assert full_model_times(shallow).median_seconds == pytest.approx(5 * (0.001 + 16.4e-6) + 4 * 0.0005)
