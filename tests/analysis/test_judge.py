from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_measurements import (
    card_row,
    full_model_measurement,
    lawful_measurement,
    measurement,
    probe_case,
    rounds_of,
    timed_case,
)

from weighin_analysis import judge as judge_module
from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.card import Basis, Card, CardRow, Verdict, best_decoders, shown_rows
from weighin_analysis.catalog import architecture
from weighin_analysis.estimate import FORMULA_VERSION
from weighin_analysis.evidence import DeviceFacts, accelerator_memory_bytes
from weighin_analysis.footprint import bytes_read_per_token, download_bytes
from weighin_analysis.judge import judge
from weighin_analysis.limits import DecoderLimit, EncoderLimit, Limits, current_limits
from weighin_analysis.measurement import Case, ClockKind, Measurement, Phase
from weighin_analysis.models.catalogue import entry
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes.artefact import Format
from weighin_analysis.sizes.download import download_size

PLENTY = 1 << 40
SMOL = probe_case(architecture("SmolLM2-135M"))
QWEN = probe_case(architecture("Qwen2.5-0.5B"))
LLAMA = probe_case(architecture("Llama-3.2-1B"))
GEMMA = probe_case(architecture("Gemma-2B"))
BERT = probe_case(architecture("DistilBERT"), Scheme.INT8_DYNAMIC)


def decoder(case: Case, tokens_per_second: float, first_token_seconds: float) -> list[Measurement]:
    return timed_case(case, decode_seconds=1 / tokens_per_second, first_token_seconds=first_token_seconds)


def encoder(latency_seconds: float) -> list[Measurement]:
    return timed_case(BERT, first_token_seconds=latency_seconds, prompt_tokens=128)


def card_of(
    measurements: Sequence[Measurement],
    *,
    memory: int | None = PLENTY,
    bandwidth: float | None = None,
    facts: DeviceFacts | None = None,
    gated: Sequence[Case] = (),
    failed: Sequence[Case] = (),
) -> Card:
    known = facts or DeviceFacts(memory_available_bytes=memory, read_bandwidth_bytes_per_second=bandwidth)
    return judge(measurements, known, gated_cases=gated, failed_cases=failed)


def only_row(card: Card) -> CardRow:
    (row,) = card.rows
    return row


@dataclass(frozen=True)
class Answer:
    verdict: Verdict
    reasons: tuple[str, ...]


# The verdict of one row.


@pytest.mark.parametrize(
    ("tokens_per_second", "first_token_seconds", "expected"),
    [
        (40, 0.5, Answer(Verdict.COMFORTABLE, ())),
        (10.001, 2.999, Answer(Verdict.COMFORTABLE, ())),
        (9.9, 1, Answer(Verdict.USABLE, ("decode below 10 tokens/s",))),
        (40, 3.1, Answer(Verdict.USABLE, ("first token later than 3 s",))),
        (7, 5, Answer(Verdict.USABLE, ("decode below 10 tokens/s", "first token later than 3 s"))),
        (5.001, 9.99, Answer(Verdict.USABLE, ("decode below 10 tokens/s", "first token later than 3 s"))),
        (4.9, 1, Answer(Verdict.TOO_SLOW, ("decode below 5 tokens/s",))),
        (40, 10.1, Answer(Verdict.TOO_SLOW, ("first token later than 10 s",))),
        (1, 60, Answer(Verdict.TOO_SLOW, ("decode below 5 tokens/s", "first token later than 10 s"))),
    ],
)
def test_a_decoder_is_judged_by_decode_rate_and_first_token(
    tokens_per_second: float, first_token_seconds: float, expected: Answer
) -> None:
    row = only_row(card_of(decoder(QWEN, tokens_per_second, first_token_seconds)))
    assert Answer(row.verdict, row.reasons) == expected


@pytest.mark.parametrize(
    ("latency_seconds", "expected"),
    [
        (0.0499, Answer(Verdict.COMFORTABLE, ())),
        (0.051, Answer(Verdict.USABLE, ("latency above 50 ms",))),
        (0.299, Answer(Verdict.USABLE, ("latency above 50 ms",))),
        (0.301, Answer(Verdict.TOO_SLOW, ("latency above 300 ms",))),
    ],
)
def test_an_encoder_is_judged_by_its_latency(latency_seconds: float, expected: Answer) -> None:
    row = only_row(card_of(encoder(latency_seconds)))
    assert Answer(row.verdict, row.reasons) == expected


def test_a_decoder_has_rates_and_a_first_token_and_no_latency() -> None:
    row = only_row(card_of(decoder(LLAMA, 12, 2)))
    assert row.decode_tokens_per_second is not None
    assert row.decode_tokens_per_second.value == pytest.approx(12)
    assert row.prefill_tokens_per_second is not None
    assert row.prefill_tokens_per_second.value == pytest.approx(512 / 2)
    assert row.time_to_first_token_seconds is not None
    assert row.time_to_first_token_seconds.value == pytest.approx(2)
    assert row.latency_seconds is None
    assert (row.size_class, row.architecture, row.scheme) == ("1B", "Llama-3.2-1B", "int4_block32")
    assert (row.execution_provider, row.threads) == ("cpu", 2)
    assert row.download_bytes == download_size(entry("Llama-3.2-1B"), Format.ONNX, "q4").bytes


def test_a_shape_that_is_not_in_the_catalogue_downloads_its_weights_in_the_scheme() -> None:
    shape = replace(LLAMA.architecture, vocab=LLAMA.architecture.vocab + 64)
    row = only_row(card_of(decoder(replace(LLAMA, architecture=shape), 12, 2)))
    assert row.download_bytes == download_bytes(shape, Scheme.INT4_BLOCK32)


def test_an_encoder_has_a_latency_and_no_decode_rate() -> None:
    row = only_row(card_of(encoder(0.04)))
    assert row.latency_seconds is not None
    assert row.latency_seconds.value == pytest.approx(0.04)
    assert row.decode_tokens_per_second is None
    assert row.time_to_first_token_seconds is None
    assert row.prefill_tokens_per_second is not None
    assert row.prefill_tokens_per_second.value == pytest.approx(128 / 0.04)
    assert row.architecture_kind == ArchitectureKind.ENCODER


def test_a_decode_rate_between_two_depths_is_that_at_the_reference_depth() -> None:
    shallow, deep = decoder(QWEN, 40, 1), decoder(QWEN, 20, 1)
    row = only_row(card_of([shallow[0], deep[1], shallow[2]]))
    seconds = 1 / 40 + (1 / 20 - 1 / 40) * (512 - 16) / (960 - 16)
    assert row.decode_tokens_per_second is not None
    assert row.decode_tokens_per_second.value == pytest.approx(1 / seconds)


def test_a_first_token_from_shorter_prompts_says_so() -> None:
    found = decoder(QWEN, 40, 0.1)[:2]
    found += timed_case(QWEN, decode_seconds=1, first_token_seconds=0.1, prompt_tokens=32)[2:]
    found += timed_case(QWEN, decode_seconds=1, first_token_seconds=0.4, prompt_tokens=128)[2:]
    row = only_row(card_of(found))
    assert row.time_to_first_token_seconds is not None
    assert row.time_to_first_token_seconds.value == pytest.approx(0.1 + 0.3 * (512 - 32) / (128 - 32))
    assert row.reasons == ("time for 512 tokens extrapolated from shorter prompts",)


def test_load_of_others_is_told_once_for_the_run_and_changes_no_verdict() -> None:
    card = card_of(timed_case(QWEN, decode_seconds=1 / 40, first_token_seconds=1, share=0.25))
    row = only_row(card)
    assert (row.verdict, row.reasons) == (Verdict.COMFORTABLE, ())
    assert card.disturbances == ("Other programs used 25% of the processor while it ran.",)


def test_a_run_that_nothing_disturbed_is_clean() -> None:
    assert card_of(timed_case(QWEN, decode_seconds=1 / 40, first_token_seconds=1, share=0.01)).disturbances == ()


def test_all_layers_run_is_a_measurement_and_fewer_a_probe() -> None:
    whole = replace(SMOL, probe_layers=SMOL.architecture.layers, head_columns=SMOL.architecture.vocab)
    assert only_row(card_of(decoder(whole, 40, 1))).basis is Basis.MEASURED
    assert only_row(card_of(decoder(QWEN, 40, 1))).basis is Basis.LAYER_PROBE


def test_a_case_without_a_usable_sample_is_named_and_takes_nothing_from_the_others() -> None:
    broken = [*decoder(QWEN, 40, 1)[:2], measurement(QWEN, [], phase=Phase.PREFILL, length=512)]
    card = card_of([*broken, *decoder(SMOL, 100, 1)])
    assert card.unjudged == ("Qwen2.5-0.5B int4_block32: no round holds usable samples",)
    assert [row.architecture for row in card.rows] == ["SmolLM2-135M"]
    assert card.tier == "0.1B"


# Memory.


def test_what_needs_more_than_its_share_of_the_free_memory_does_not_fit_however_fast() -> None:
    needed = only_row(card_of(decoder(QWEN, 1000, 0.01))).memory_bytes
    just_enough = -(-needed * 10 // 8)
    assert only_row(card_of(decoder(QWEN, 1000, 0.01), memory=just_enough)).verdict is Verdict.COMFORTABLE
    row = only_row(card_of(decoder(QWEN, 1000, 0.01), memory=just_enough - 10))
    assert row.verdict is Verdict.DOES_NOT_FIT
    assert len(row.reasons) == 1
    assert "GiB may be used" in row.reasons[0]
    assert row.decode_tokens_per_second is not None


@pytest.mark.parametrize("rate", [1, 40])
def test_unknown_memory_is_judged_by_speed_and_says_so(rate: float) -> None:
    row = only_row(card_of(decoder(QWEN, rate, 1), memory=None))
    assert row.verdict is (Verdict.COMFORTABLE if rate > 10 else Verdict.TOO_SLOW)
    assert row.reasons[0] == "free memory is not known, judged by speed alone"


def test_a_gated_case_does_not_fit_and_has_no_speed() -> None:
    card = card_of(decoder(SMOL, 40, 0.5), gated=[GEMMA])
    row = card.rows[-1]
    assert (row.size_class, row.verdict, row.basis) == ("2B", Verdict.DOES_NOT_FIT, Basis.FORMULA)
    assert row.decode_tokens_per_second is row.prefill_tokens_per_second is row.time_to_first_token_seconds is None
    assert row.latency_seconds is None
    assert min(row.memory_bytes, row.download_bytes) > 10**9
    assert row.reasons == ("too little free memory to run even its layer probe",)


def test_a_full_model_that_the_memory_gate_stopped_takes_nothing_from_its_layer_probe() -> None:
    shape = SMOL.architecture
    whole = replace(SMOL, probe_layers=shape.layers, head_columns=shape.vocab)
    assert only_row(card_of(decoder(SMOL, 40, 0.5), gated=[whole])).verdict is Verdict.COMFORTABLE
    assert only_row(card_of([], gated=[SMOL, whole])).verdict is Verdict.DOES_NOT_FIT


# What the rows say together.


def comfortable(case: Case) -> list[Measurement]:
    return decoder(case, 40, 0.5)


def usable(case: Case) -> list[Measurement]:
    return decoder(case, 7, 0.5)


def too_slow(case: Case) -> list[Measurement]:
    return decoder(case, 1, 0.5)


@pytest.mark.parametrize(
    ("measurements", "tier", "headline"),
    [
        (
            [*comfortable(SMOL), *comfortable(LLAMA)],
            "1B",
            "This device comfortably runs at least 1B models at int4.",
        ),
        (
            [*comfortable(QWEN), *usable(LLAMA)],
            "0.5B",
            "This device comfortably runs 0.5B models at int4.",
        ),
        (
            [*too_slow(LLAMA), *comfortable(SMOL)],
            "0.1B",
            "This device comfortably runs 0.1B models at int4.",
        ),
        (
            [*usable(SMOL), *too_slow(QWEN)],
            None,
            "This device runs 0.1B models at int4 at reading speed, but no measured class comfortably.",
        ),
        (
            [*too_slow(SMOL), *too_slow(QWEN)],
            None,
            "This device runs none of the measured classes fast enough to be useful.",
        ),
        (encoder(0.01), None, "No generating model was measured on this device."),
        ([], None, "No generating model was measured on this device."),
    ],
    ids=["all", "not the largest", "only the smallest", "usable", "too slow", "encoder only", "nothing"],
)
def test_the_headline_names_the_tier(measurements: list[Measurement], tier: str | None, headline: str) -> None:
    card = card_of(measurements)
    assert (card.tier, card.headline) == (tier, headline)


def test_a_larger_class_that_does_not_fit_takes_the_at_least_away() -> None:
    assert "at least 0.5B" in card_of(comfortable(QWEN)).headline
    assert "at least" not in card_of(comfortable(QWEN), gated=[LLAMA]).headline


def test_a_larger_class_that_was_tried_in_vain_takes_the_at_least_away() -> None:
    """A device that ran out of time on 1B has not shown that it would run it."""
    plain = "This device comfortably runs 0.5B models at int4."
    assert card_of(comfortable(QWEN), failed=[LLAMA]).headline == plain
    unjudged = measurement(LLAMA, [], phase=Phase.PREFILL, length=512)
    assert card_of([*comfortable(QWEN), unjudged]).headline == plain


@pytest.mark.parametrize("failed", [SMOL, probe_case(architecture("Qwen2.5-0.5B"), Scheme.INT8_BLOCK32), BERT])
def test_a_failure_of_no_larger_decoder_leaves_the_at_least(failed: Case) -> None:
    assert "at least 0.5B" in card_of(comfortable(QWEN), failed=[failed]).headline


def test_a_failed_case_makes_no_row_and_no_limit() -> None:
    card = card_of(comfortable(QWEN), failed=[LLAMA])
    assert [row.architecture for row in card.rows] == ["Qwen2.5-0.5B"]
    assert card.limited_by == card_of(comfortable(QWEN)).limited_by


def test_an_encoder_never_makes_a_tier() -> None:
    card = card_of([*encoder(0.01), *too_slow(SMOL)])
    assert card.tier is None
    assert card.rows[0].verdict is Verdict.COMFORTABLE


def test_the_headline_names_the_scheme_that_was_comfortable() -> None:
    eight_bits = probe_case(architecture("Qwen2.5-0.5B"), Scheme.INT8_BLOCK32)
    card = card_of([*too_slow(QWEN), *comfortable(eight_bits)])
    assert card.headline == "This device comfortably runs at least 0.5B models at int8."


def test_rows_come_smallest_class_first_encoders_before_decoders() -> None:
    found = [*comfortable(LLAMA), *comfortable(SMOL), *encoder(0.01)]
    rows = card_of(found, gated=[GEMMA]).rows
    names = ["DistilBERT", "SmolLM2-135M", "Llama-3.2-1B", "Gemma-2B"]
    assert [row.architecture for row in rows] == names


def test_a_card_carries_the_versions_that_made_it() -> None:
    card = card_of([])
    assert (card.limits_version, card.formula_version) == (current_limits().version, FORMULA_VERSION)


def test_a_run_with_nothing_measured_makes_an_empty_card() -> None:
    card = card_of([])
    assert (card.rows, card.tier, card.limited_by) == ((), None, None)


# What the device runs out of first.


def test_a_slow_first_token_is_limited_by_compute() -> None:
    assert card_of(decoder(QWEN, 40, 2.9), bandwidth=1e9).limited_by == "compute"


@pytest.mark.parametrize(
    ("bandwidth_share", "limit"), [(0.5, "compute"), (0.59, "compute"), (0.61, "bandwidth"), (0.9, "bandwidth")]
)
def test_a_slow_decode_is_limited_by_bandwidth_only_where_it_uses_most_of_it(
    bandwidth_share: float, limit: str
) -> None:
    moved = bytes_read_per_token(LLAMA.architecture, LLAMA.scheme) * 11
    card = card_of(decoder(LLAMA, 11, 0.1), bandwidth=moved / bandwidth_share)
    assert card.limited_by == limit


def test_without_a_known_bandwidth_a_slow_decode_is_limited_by_compute() -> None:
    assert card_of(decoder(LLAMA, 11, 0.1), bandwidth=None).limited_by == "compute"


def test_little_memory_for_the_largest_class_is_the_limit() -> None:
    needed = only_row(card_of(decoder(QWEN, 1000, 0.01))).memory_bytes
    assert card_of(decoder(QWEN, 1000, 0.01), memory=2 * needed).limited_by == "memory"
    assert card_of(decoder(QWEN, 1000, 0.01), memory=None).limited_by != "memory"
    assert card_of(comfortable(SMOL), gated=[GEMMA]).limited_by == "memory"


def test_the_smallest_class_that_is_not_comfortable_decides_what_limits() -> None:
    """On the way up it is what the device runs out of first; what is wrong with larger classes comes later."""
    found = [*comfortable(SMOL), *decoder(QWEN, 40, 5), *encoder(9.0)]
    assert card_of(found, gated=[LLAMA], bandwidth=1.0).limited_by == "compute"
    slow_decode = [*comfortable(SMOL), *decoder(QWEN, 7, 1)]
    assert card_of([*slow_decode, *decoder(LLAMA, 7, 90)], bandwidth=1.0).limited_by == "bandwidth"


def test_a_class_is_limited_by_its_best_scheme() -> None:
    eight_bits = probe_case(architecture("Qwen2.5-0.5B"), Scheme.INT8_BLOCK32)
    found = [*decoder(QWEN, 1, 0.1), *comfortable(eight_bits), *decoder(LLAMA, 40, 5)]
    assert card_of(found, bandwidth=1.0).limited_by == "compute"


def test_where_every_class_is_comfortable_the_largest_decides_what_limits() -> None:
    found = [*decoder(SMOL, 11, 0.01), *decoder(LLAMA, 40, 2.9), *encoder(9.0)]
    assert card_of(found, bandwidth=1.0).limited_by == "compute"


# Classes that were not run.


@dataclass(frozen=True)
class Law:
    """A device on which every weight, key and score has its price, and no two devices are the same."""

    weight: float = 6e-11
    key: float = 3e-10
    multiplication: float = 1e-11
    score: float = 2e-10

    def decode(self, shape: Architecture, depth: int) -> float:
        """Seconds of a layer in decode."""
        return self.weight * shape.layer_weight_count + self.key * (depth + 1) * shape.kv_heads * shape.head_dim

    def prefill(self, shape: Architecture, tokens: int) -> float:
        """Seconds of a layer in prefill."""
        products = self.multiplication * shape.layer_weight_count + self.score * tokens * shape.heads * shape.head_dim
        return tokens * products

    def head(self, shape: Architecture) -> float:
        """Seconds of the whole head."""
        return self.weight * shape.hidden * shape.vocab

    def rate(self, name: str) -> float:
        """Decoded tokens per second at the reference depth."""
        shape = architecture(name)
        return 1 / (shape.layers * self.decode(shape, 512) + self.head(shape))

    def first_token(self, name: str) -> float:
        """Seconds to the first token of the reference prompt."""
        shape = architecture(name)
        return shape.layers * self.prefill(shape, 512) + self.head(shape)


LAW = Law()
# int8_dynamic has no blocks: its rows cost the same per weight at any width.
THREE = tuple(
    probe_case(architecture(name), Scheme.INT8_DYNAMIC) for name in ("SmolLM2-135M", "Qwen2.5-0.5B", "Llama-3.2-1B")
)


def lawful(
    case: Case, law: Law = LAW, *, prompts: Sequence[int] = (32, 128, 512), clock: ClockKind = ClockKind.WALL
) -> list[Measurement]:
    """What the suite measures of a case on the device of the law."""
    shape = case.architecture
    points = [*((Phase.DECODE, depth) for depth in (16, 960)), *((Phase.PREFILL, prompt) for prompt in prompts)]
    return [
        lawful_measurement(
            case,
            phase,
            length,
            layer_seconds=lambda tokens, depth: law.decode(shape, depth) if tokens == 1 else law.prefill(shape, tokens),
            column_seconds=law.head(shape) / shape.vocab,
            clock=clock,
        )
        for phase, length in points
    ]


def everything(cases: Sequence[Case] = THREE, law: Law = LAW, **how: Any) -> list[Measurement]:
    return [one for case in cases for one in lawful(case, law, **how)]


def test_classes_that_were_not_run_are_computed_from_those_that_were() -> None:
    rows = {row.size_class: row for row in card_of(everything()).rows}
    layer_probe, within, beyond = Basis.LAYER_PROBE, Basis.INTERPOLATED, Basis.FORMULA
    bases = [layer_probe, within, layer_probe, layer_probe, *[beyond] * 6]
    names = ("0.1B", "0.3B", "0.5B", "1B", "2B", "4B", "7B", "14B", "32B", "70B")
    assert {name: row.basis for name, row in rows.items()} == dict(zip(names, bases, strict=True))
    for row in rows.values():
        assert row.decode_tokens_per_second is not None
        assert row.decode_tokens_per_second.value == pytest.approx(LAW.rate(row.architecture), rel=0.02)
        assert row.time_to_first_token_seconds is not None
        assert row.time_to_first_token_seconds.value == pytest.approx(LAW.first_token(row.architecture), rel=0.02)


def test_a_computed_row_is_less_sure_than_one_that_was_run() -> None:
    rows = {row.size_class: row for row in card_of(everything()).rows}

    def width(size_class: str) -> float:
        decode = rows[size_class].decode_tokens_per_second
        assert decode is not None
        return decode.high / decode.low

    assert width("1B") < width("2B") < width("70B")


def test_two_shapes_are_too_few_to_compute_others() -> None:
    assert [row.size_class for row in card_of(everything(THREE[:2])).rows] == ["0.1B", "0.5B"]


def test_without_any_decode_nothing_is_computed() -> None:
    card = card_of([one for one in everything() if one.phase is Phase.PREFILL])
    assert card.rows == ()
    assert len(card.unjudged) == 3


def test_schemes_providers_and_thread_counts_do_not_make_up_for_each_other() -> None:
    other = [
        replace(THREE[0], scheme=Scheme.INT8_BLOCK32),
        replace(THREE[1], execution_provider="webgpu"),
        replace(THREE[2], threads=1),
    ]
    for case in other:
        cases = [case if case.architecture == one.architecture else one for one in THREE]
        assert not any(row.computed for row in card_of(everything(cases)).rows)


def test_what_was_tried_is_never_computed() -> None:
    """Not even where it could be: the device has shown that it does not run it."""
    gated, failed, unusable = (
        probe_case(architecture(name), Scheme.INT8_DYNAMIC) for name in ("Llama-3.1-8B", "Gemma-2B", "Phi-3-mini")
    )
    found = [*everything(), measurement(unusable, [], phase=Phase.PREFILL, length=512)]
    card = card_of(found, gated=[gated], failed=[failed])
    rows = {row.size_class: row for row in card.rows}
    assert not {"2B", "4B"} & rows.keys()
    assert (rows["7B"].verdict, rows["7B"].decode_tokens_per_second) == (Verdict.DOES_NOT_FIT, None)
    assert {"14B", "32B", "70B"} <= rows.keys()


def test_a_class_that_the_memory_gate_stopped_stays_so_whatever_could_be_computed() -> None:
    gated = probe_case(architecture("Gemma-2B"), Scheme.INT8_DYNAMIC)
    card = card_of(everything(law=Law(weight=1e-13, multiplication=1e-14)), gated=[gated])
    (row,) = [row for row in card.rows if row.size_class == "2B"]
    assert (row.verdict, row.computed) == (Verdict.DOES_NOT_FIT, False)


def test_a_computed_class_that_needs_too_much_memory_does_not_fit() -> None:
    rows = {row.size_class: row for row in card_of(everything(), memory=8 << 30).rows}
    assert rows["2B"].verdict is not Verdict.DOES_NOT_FIT
    assert rows["70B"].verdict is Verdict.DOES_NOT_FIT
    assert "GiB may be used" in rows["70B"].reasons[0]


def test_a_computed_class_makes_a_tier() -> None:
    card = card_of(everything(law=Law(weight=3e-12, multiplication=2e-13, score=1e-12)))
    assert card.tier == "14B"
    assert card.headline == "This device comfortably runs 14B models at int8."


def test_a_prompt_beyond_the_longest_grows_as_the_cost_model_says() -> None:
    """Attention grows with the square of the prompt: the line through 32 and 128 would come out too fast."""
    law = Law(score=2e-9)
    slow = probe_case(architecture("Gemma-2B"), Scheme.INT8_DYNAMIC)
    card = card_of([*everything(law=law), *lawful(slow, law, prompts=(32, 128))])
    (row,) = [row for row in card.rows if row.architecture == "Gemma-2B"]
    assert row.time_to_first_token_seconds is not None
    assert row.time_to_first_token_seconds.value == pytest.approx(law.first_token("Gemma-2B"), rel=0.01)
    assert not any("extrapolated" in reason for reason in row.reasons)


def test_where_no_shape_ran_a_prompt_so_long_it_is_extrapolated_and_says_so() -> None:
    card = card_of(everything(prompts=(32, 128)))
    for row in card.rows:
        assert row.time_to_first_token_seconds is not None
        assert row.time_to_first_token_seconds.value == pytest.approx(LAW.first_token(row.architecture), rel=0.02)
        assert "time for 512 tokens extrapolated from shorter prompts" in row.reasons


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_times_at_all_make_a_card(data: st.DataObject) -> None:
    """A snapshot may hold what no device measures; one absurd run must not take the report from the others."""
    seconds = st.floats(1e-12, 1e9)
    found = [
        rounds_of(case, data.draw(st.lists(st.lists(seconds, max_size=2), max_size=3)), [[data.draw(seconds)]] * 3)
        for case in THREE
    ]
    found += [
        replace(one, phase=Phase.PREFILL, token_count=data.draw(st.sampled_from([1, 32, 512])), context_depth=0)
        for one in found
    ]
    for row in card_of(found).rows:
        assert row.verdict in Verdict


# Anchors.


def with_anchor(kappa: float) -> list[Measurement]:
    """A full model of 0.1B that takes kappa times as long as its layers let expect, beside 0.1B and 0.5B."""
    anchor = [
        full_model_measurement(SMOL, kappa * seconds, phase=phase, length=length)
        for phase, length, seconds in ((Phase.DECODE, 16, 1 / 40), (Phase.DECODE, 960, 1 / 40), (Phase.PREFILL, 512, 1))
    ]
    return [*decoder(SMOL, 40, 1), *anchor, *decoder(QWEN, 40, 1)]


@pytest.mark.parametrize(("kappa", "factor"), [(1.12, 1.12), (0.9, 0.9), (1.02, 1.0), (1.5, 1.0), (0.5, 1.0)])
def test_an_anchor_replaces_the_row_of_its_probe_and_corrects_the_others(kappa: float, factor: float) -> None:
    card = card_of(with_anchor(kappa))
    anchor, other = card.rows
    assert (anchor.basis, other.basis) == (Basis.MEASURED, Basis.LAYER_PROBE)
    assert anchor.decode_tokens_per_second is not None
    assert anchor.decode_tokens_per_second.value == pytest.approx(40 / kappa)
    assert anchor.time_to_first_token_seconds is not None
    assert anchor.time_to_first_token_seconds.value == pytest.approx(kappa)
    assert other.decode_tokens_per_second is not None
    assert other.decode_tokens_per_second.value == pytest.approx(40 / factor)
    assert other.time_to_first_token_seconds is not None
    assert other.time_to_first_token_seconds.value == pytest.approx(factor)
    assert [one.phase for one in card.anchors] == [Phase.DECODE, Phase.PREFILL]
    assert [one.kappa for one in card.anchors] == pytest.approx([kappa, kappa])


def test_an_anchor_that_cannot_be_believed_makes_the_others_less_sure() -> None:
    def width(kappa: float) -> float:
        decode = card_of(with_anchor(kappa)).rows[1].decode_tokens_per_second
        assert decode is not None
        return decode.high / decode.low

    assert width(1.5) > width(1.02)


def test_an_anchor_corrects_what_is_computed_too() -> None:
    slower = [
        full_model_measurement(THREE[0], 1.12 * seconds, phase=phase, length=length)
        for phase, length, seconds in (
            (Phase.DECODE, 512, 1 / LAW.rate("SmolLM2-135M")),
            (Phase.PREFILL, 512, LAW.first_token("SmolLM2-135M")),
        )
    ]
    probe = lawful_measurement(
        THREE[0],
        Phase.DECODE,
        512,
        layer_seconds=lambda _, depth: LAW.decode(THREE[0].architecture, depth),
        column_seconds=LAW.head(THREE[0].architecture) / THREE[0].architecture.vocab,
    )
    plain = {row.size_class: row for row in card_of([*everything(), probe]).rows}
    anchored = {row.size_class: row for row in card_of([*everything(), probe, *slower]).rows}
    assert plain.keys() == anchored.keys()
    for name, row in plain.items():
        before, after = row.decode_tokens_per_second, anchored[name].decode_tokens_per_second
        assert before is not None
        assert after is not None
        assert after.value == pytest.approx(before.value / 1.12)


def test_a_full_model_without_usable_times_leaves_the_row_of_its_layer_probe() -> None:
    broken = full_model_measurement(SMOL, 1.0, phase=Phase.PREFILL, length=32)
    card = card_of([broken, *decoder(SMOL, 40, 1)])
    assert only_row(card).basis is Basis.LAYER_PROBE
    assert card.unjudged == (
        "SmolLM2-135M int4_block32: nothing measured at length 512, and fewer than two other lengths",
    )


# Software adapters, and accelerators with memory of their own.


def on(provider: str, case: Case) -> Case:
    return replace(case, execution_provider=provider)


def test_a_software_adapter_is_shown_and_never_counts() -> None:
    facts = DeviceFacts(memory_available_bytes=PLENTY, software_providers=frozenset({"webgpu"}))
    card = card_of([*comfortable(on("webgpu", LLAMA)), *usable(SMOL)], facts=facts)
    assert [(row.execution_provider, row.counts) for row in card.rows] == [("cpu", True), ("webgpu", False)]
    assert "a software adapter: never counts in a tier" in card.rows[1].reasons
    assert card.tier is None
    assert card.headline.startswith("This device runs 0.1B models at int4 at reading speed")
    alone = card_of(comfortable(on("webgpu", LLAMA)), facts=facts)
    assert (alone.tier, alone.limited_by) == (None, None)
    assert alone.headline == "No generating model was measured on this device."


def test_what_is_computed_of_a_software_adapter_does_not_count_either() -> None:
    facts = DeviceFacts(memory_available_bytes=PLENTY, software_providers=frozenset({"webgpu"}))
    card = card_of(everything([on("webgpu", case) for case in THREE]), facts=facts)
    assert len(card.rows) > len(THREE)
    assert not any(row.counts for row in card.rows)
    assert card.tier is None


def test_an_accelerator_is_judged_by_the_memory_that_it_uses() -> None:
    needed = only_row(card_of(comfortable(QWEN))).memory_bytes
    small, large = needed // 2, 2 * needed

    def verdicts(own: int | None) -> list[Verdict]:
        facts = DeviceFacts(memory_available_bytes=large, accelerator_memory_bytes=own)
        return [row.verdict for row in card_of([*comfortable(QWEN), *comfortable(on("cuda", QWEN))], facts=facts).rows]

    assert verdicts(own=small) == [Verdict.COMFORTABLE, Verdict.DOES_NOT_FIT]
    assert verdicts(own=PLENTY) == [Verdict.COMFORTABLE, Verdict.COMFORTABLE]
    assert verdicts(own=None) == [Verdict.COMFORTABLE, Verdict.COMFORTABLE]


def test_little_memory_of_an_accelerator_is_the_limit_however_much_the_device_has() -> None:
    needed = only_row(card_of(comfortable(QWEN))).memory_bytes
    facts = DeviceFacts(memory_available_bytes=PLENTY, accelerator_memory_bytes=2 * needed)
    assert card_of(decoder(on("cuda", QWEN), 1000, 0.01), facts=facts).limited_by == "memory"
    assert card_of(decoder(QWEN, 1000, 0.01), facts=facts).limited_by != "memory"


# A busy device.


def test_one_thread_of_a_busy_device_speaks_for_all_its_cores_and_says_so() -> None:
    single = probe_case(architecture("Qwen2.5-0.5B"), threads=1)
    found = timed_case(single, decode_seconds=0.2, first_token_seconds=3.5, share=0.5, clock=ClockKind.THREAD_CPU)
    facts = DeviceFacts(memory_available_bytes=PLENTY, core_count=2)
    card = card_of(found, facts=facts)
    row = only_row(card)
    assert row.threads == 2
    assert row.decode_tokens_per_second is not None
    assert row.decode_tokens_per_second.value == pytest.approx(5 * 2**0.80)
    assert row.time_to_first_token_seconds is not None
    assert row.time_to_first_token_seconds.value == pytest.approx(3.5 / 2**0.96)
    assert row.reasons == (
        "decode below 10 tokens/s",
        "the device was busy: computed for 2 threads from the CPU time of one",
    )
    assert card.disturbances == ("Other programs used 50% of the processor while it ran.",)
    assert row.decode_tokens_per_second.high / row.decode_tokens_per_second.low <= 2


@pytest.mark.parametrize("cores", [None, 1])
def test_one_thread_of_a_single_core_is_what_the_device_has(cores: int | None) -> None:
    single = probe_case(architecture("Qwen2.5-0.5B"), threads=1)
    found = timed_case(single, decode_seconds=0.15, first_token_seconds=2, clock=ClockKind.THREAD_CPU)
    row = only_row(card_of(found, facts=DeviceFacts(memory_available_bytes=PLENTY, core_count=cores)))
    assert (row.threads, row.reasons) == (1, ("decode below 10 tokens/s",))


def test_a_busy_single_core_is_no_less_sure_than_cpu_time_is() -> None:
    single = probe_case(architecture("Qwen2.5-0.5B"), threads=1)
    found = timed_case(single, decode_seconds=0.15, first_token_seconds=2, share=0.5, clock=ClockKind.THREAD_CPU)
    row = only_row(card_of(found, facts=DeviceFacts(memory_available_bytes=PLENTY, core_count=1)))
    assert (row.threads, row.reasons[-1]) == (1, "the device was busy: timed by CPU time")
    assert row.decode_tokens_per_second is not None
    assert row.decode_tokens_per_second.high / row.decode_tokens_per_second.low <= 2


def test_what_is_computed_on_a_busy_device_is_for_all_its_cores_too() -> None:
    cases = [replace(case, threads=1) for case in THREE]
    facts = DeviceFacts(memory_available_bytes=PLENTY, core_count=4)
    card = card_of(everything(cases, clock=ClockKind.THREAD_CPU), facts=facts)
    assert {row.threads for row in card.rows} == {4}
    rate = {row.size_class: row for row in card.rows}["2B"].decode_tokens_per_second
    assert rate is not None
    assert rate.value == pytest.approx(4**0.80 * LAW.rate("Gemma-2B"), rel=0.02)


# What a person is shown of it.


def test_of_computed_rows_those_of_classes_that_were_run_are_not_shown() -> None:
    found = [*everything(), *comfortable(QWEN), *comfortable(LLAMA), *comfortable(GEMMA)]
    rows = card_of(found).rows
    assert {row.scheme for row in rows if row.size_class == "2B"} == {"int4_block32", "int8_dynamic"}
    shown = shown_rows(rows)
    assert [row.scheme for row in shown if row.size_class == "2B"] == ["int4_block32"]
    assert [row.scheme for row in shown if row.size_class == "1B"] == ["int8_dynamic", "int4_block32"]
    counts = Counter(row.size_class for row in shown if row.computed)
    assert set(counts.values()) == {1}


@given(
    st.lists(
        st.builds(
            card_row,
            st.sampled_from(["0.1B", "1B", "14B"]),
            st.sampled_from(Verdict),
            decode_tokens_per_second=st.none() | st.floats(0.1, 100),
            kind=st.sampled_from(ArchitectureKind),
            basis=st.sampled_from(Basis),
            counts=st.booleans(),
        ),
        max_size=8,
    )
)
def test_the_row_that_decides_a_class_is_always_shown(rows: list[CardRow]) -> None:
    shown = shown_rows(rows)
    assert best_decoders(shown) == best_decoders(rows)
    assert [row for row in rows if not row.computed] == [row for row in shown if not row.computed]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (card_row(verdict=Verdict.TOO_SLOW), card_row(verdict=Verdict.COMFORTABLE, counts=False)),
        (card_row(verdict=Verdict.COMFORTABLE, basis=Basis.FORMULA), card_row(verdict=Verdict.USABLE)),
        (card_row(decode_tokens_per_second=11), card_row(decode_tokens_per_second=99, basis=Basis.FORMULA)),
        (card_row(decode_tokens_per_second=99), card_row(decode_tokens_per_second=11)),
    ],
    ids=["what counts", "the verdict", "what was run", "the rate"],
)
def test_of_two_rows_of_a_class_the_better_decides(better: CardRow, worse: CardRow) -> None:
    assert best_decoders([better, worse]) == best_decoders([worse, better]) == {"1B": better}


# The numbers of the limits are in the data file alone: other limits, other verdicts.

LIMITS = current_limits()
MIDDLING = [*decoder(QWEN, 7, 5), *encoder(0.1)]


def with_decoder(comfortable_at: tuple[float, float], usable_at: tuple[float, float]) -> Limits:
    limits = [
        DecoderLimit(decode_tokens_per_second=rate, time_to_first_token_seconds=first)
        for rate, first in (comfortable_at, usable_at)
    ]
    return replace(LIMITS, decoder_comfortable=limits[0], decoder_usable=limits[1])


@pytest.mark.parametrize(
    ("limits", "bert", "qwen"),
    [
        (LIMITS, Verdict.USABLE, Verdict.USABLE),
        (with_decoder((6, 6), (5, 10)), Verdict.USABLE, Verdict.COMFORTABLE),
        (with_decoder((10, 3), (8, 10)), Verdict.USABLE, Verdict.TOO_SLOW),
        (with_decoder((10, 3), (5, 4)), Verdict.USABLE, Verdict.TOO_SLOW),
        (
            replace(LIMITS, encoder_comfortable=EncoderLimit(latency_seconds=0.11)),
            Verdict.COMFORTABLE,
            Verdict.USABLE,
        ),
        (replace(LIMITS, encoder_usable=EncoderLimit(latency_seconds=0.09)), Verdict.TOO_SLOW, Verdict.USABLE),
        (replace(LIMITS, memory_share=1e-6), Verdict.DOES_NOT_FIT, Verdict.DOES_NOT_FIT),
        (replace(LIMITS, memory_context_tokens=1 << 27), Verdict.USABLE, Verdict.DOES_NOT_FIT),
    ],
    ids=["as shipped", "laxer", "stricter rate", "stricter first token", "laxer encoder", "stricter encoder",
         "less memory", "longer context"],
)  # fmt: skip
def test_other_limits_make_other_verdicts(
    limits: Limits, bert: Verdict, qwen: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_module, "current_limits", lambda: limits)
    assert [row.verdict for row in card_of(MIDDLING).rows] == [bert, qwen]


def test_a_surer_interval_is_asked_for_in_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = only_row(card_of(comfortable(QWEN))).decode_tokens_per_second
    monkeypatch.setattr(judge_module, "current_limits", lambda: replace(LIMITS, interval_probability=0.99))
    surer = only_row(card_of(comfortable(QWEN))).decode_tokens_per_second
    assert usual is not None
    assert surer is not None
    assert surer.low < usual.low < usual.value == surer.value < usual.high < surer.high


@given(
    rate=st.floats(0.1, 1000), first=st.floats(0.01, 100), faster=st.floats(1, 10), memory=st.none() | st.just(PLENTY)
)
def test_a_faster_device_never_gets_a_worse_verdict(
    rate: float, first: float, faster: float, memory: int | None
) -> None:
    order = [Verdict.TOO_SLOW, Verdict.USABLE, Verdict.COMFORTABLE]
    slow = only_row(card_of(decoder(QWEN, rate, first), memory=memory)).verdict
    fast = only_row(card_of(decoder(QWEN, rate * faster, first / faster), memory=memory)).verdict
    assert order.index(fast) >= order.index(slow)


@pytest.mark.parametrize(
    ("accelerators", "expected"),
    [
        ([], None),
        ([(True, 4 << 30, 4 << 30)], None),  # an integrated GPU: what its firmware sets aside is no card
        ([(False, 6 << 30, 8 << 30)], 6 << 30),
        ([(False, None, 8 << 30)], 8 << 30),  # the driver tells the total alone
        ([(None, None, 8 << 30)], None),
        ([(None, 5 << 30, 8 << 30)], 5 << 30),
        ([(False, 0, 8 << 30)], 0),  # full: nothing fits
        ([(False, 6 << 30, 8 << 30), (False, None, 12 << 30), (True, None, 32 << 30)], 12 << 30),
    ],
)
def test_the_memory_of_an_accelerator_is_its_own(
    accelerators: list[tuple[bool | None, int | None, int | None]], expected: int | None
) -> None:
    assert accelerator_memory_bytes(accelerators) == expected
