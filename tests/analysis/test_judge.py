from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_measurements import measurement, probe_case, timed_case

from weighin_analysis import judge as judge_module
from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Basis, Card, CardRow, Verdict
from weighin_analysis.catalog import architecture
from weighin_analysis.estimate import FORMULA_VERSION
from weighin_analysis.footprint import bytes_read_per_token, download_bytes
from weighin_analysis.judge import judge
from weighin_analysis.limits import DecoderLimit, EncoderLimit, Limits, current_limits
from weighin_analysis.measurement import Case, Measurement, Phase
from weighin_analysis.scheme import Scheme

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
    gated: Sequence[Case] = (),
    failed: Sequence[Case] = (),
) -> Card:
    return judge(
        measurements,
        memory_available_bytes=memory,
        read_bandwidth_bytes_per_second=bandwidth,
        gated_cases=gated,
        failed_cases=failed,
    )


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
    assert row.download_bytes == download_bytes(LLAMA.architecture, Scheme.INT4_BLOCK32)


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


def test_load_of_others_is_told_and_changes_no_verdict() -> None:
    found = timed_case(QWEN, decode_seconds=1 / 40, first_token_seconds=1, share=0.25)
    row = only_row(card_of(found))
    assert row.verdict is Verdict.COMFORTABLE
    assert row.reasons == ("other programs used 25% of the processor meanwhile: likely faster when idle",)


def test_all_layers_run_is_a_measurement_and_fewer_a_probe() -> None:
    assert only_row(card_of(decoder(SMOL, 40, 1))).basis is Basis.MEASURED
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
    assert row.memory_bytes > row.download_bytes > 10**9
    assert row.reasons == ("too little free memory to run even its layer probe",)


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
            [*comfortable(SMOL), *comfortable(QWEN), *comfortable(LLAMA)],
            "1B",
            "This device comfortably runs at least 1B models at int4.",
        ),
        (
            [*comfortable(SMOL), *comfortable(QWEN), *usable(LLAMA)],
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
    found = [*comfortable(LLAMA), *comfortable(SMOL), *encoder(0.01), *comfortable(QWEN)]
    rows = card_of(found, gated=[GEMMA]).rows
    names = ["DistilBERT", "SmolLM2-135M", "Qwen2.5-0.5B", "Llama-3.2-1B", "Gemma-2B"]
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


def test_the_largest_decoder_decides_what_limits() -> None:
    found = [*decoder(SMOL, 1, 0.01), *decoder(LLAMA, 40, 2.9), *encoder(9.0)]
    assert card_of(found, bandwidth=1.0).limited_by == "compute"


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
