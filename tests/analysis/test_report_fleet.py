"""What many cards say together: every device is counted once, by its best row, and nothing is claimed beyond them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_measurements import DEVICE, RUN, a_card, card_row, timed_case

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Basis, Verdict
from weighin_analysis.catalog import architecture, size_classes
from weighin_analysis.measurement import Case, Measurement, Phase
from weighin_analysis.report.fleet import (
    DeviceResult,
    best_rows,
    fleet_headline,
    judge_device,
    share_interval,
    tier_counts,
    tier_table,
)
from weighin_analysis.scheme import Scheme
from weighin_analysis.snapshot import CaseFailure

CASE = Case(
    architecture=architecture("Llama-3.2-1B"),
    scheme=Scheme.INT4_BLOCK32,
    execution_provider="cpu",
    threads=4,
    probe_layers=2,
    head_columns=256,
)


def of_tier(tier: str | None) -> DeviceResult:
    return DeviceResult(device=DEVICE, card=a_card(tier=tier))


def test_the_best_row_of_a_class_has_the_best_verdict_then_the_fastest_decode() -> None:
    rows = (
        card_row("1B", Verdict.DOES_NOT_FIT, decode_tokens_per_second=90, scheme="fp16"),
        card_row("1B", Verdict.USABLE, decode_tokens_per_second=6),
        card_row("1B", Verdict.USABLE, decode_tokens_per_second=8, scheme="int8_block32"),
        card_row("2B", Verdict.TOO_SLOW, decode_tokens_per_second=None),
    )
    best = best_rows(a_card(*rows))
    assert (best["1B"].scheme, best["2B"].verdict) == ("int8_block32", Verdict.TOO_SLOW)


def test_encoders_have_no_place_among_the_tiers() -> None:
    assert best_rows(a_card(card_row("0.1B", kind=ArchitectureKind.ENCODER))) == {}


def test_a_software_adapter_has_no_place_among_the_tiers() -> None:
    rows = card_row("1B", Verdict.USABLE), card_row("1B", counts=False), card_row("2B", counts=False)
    assert best_rows(a_card(*rows)) == {"1B": rows[0]}


def test_what_was_run_decides_a_class_before_what_was_computed_unless_that_is_better() -> None:
    usable, computed = card_row("1B", Verdict.USABLE), card_row("1B", Verdict.COMFORTABLE, basis=Basis.FORMULA)
    cards = a_card(usable, computed), a_card(usable), a_card(computed, card_row("1B", basis=Basis.LAYER_PROBE))
    table = tier_table([DeviceResult(device=DEVICE, card=card) for card in cards])
    (row,) = [row for row in table if row.size_class == "1B"]
    assert (row.counts[Verdict.COMFORTABLE], row.counts[Verdict.USABLE]) == (2, 1)
    assert (row.computed_counts[Verdict.COMFORTABLE], row.computed_counts[Verdict.USABLE]) == (1, 0)


@given(st.lists(st.lists(st.tuples(st.sampled_from(["0.1B", "1B", "14B"]), st.sampled_from(Verdict)), max_size=4)))
def test_every_row_of_the_tier_table_counts_every_device_once(devices: list[list[tuple[str, Verdict]]]) -> None:
    results = [DeviceResult(device=DEVICE, card=a_card(*(card_row(*row) for row in rows))) for rows in devices]
    for row in tier_table(results):
        assert sum(row.counts.values()) + row.not_measured_count == len(devices)


def test_the_tier_table_lists_classes_without_reference_only_where_they_were_judged() -> None:
    names = [row.size_class for row in tier_table([DeviceResult(device=DEVICE, card=a_card(card_row("14B")))])]
    assert names == [one.name for one in size_classes() if one.reference or one.name == "14B"]


def test_a_case_stopped_by_the_memory_gate_does_not_fit() -> None:
    failures = tuple(CaseFailure(case=CASE, reason=reason, detail="") for reason in ("memory_gate", "timed_out"))
    result = judge_device(replace(DEVICE, run=replace(RUN, failures=failures)))
    assert [row.verdict for row in result.card.rows] == [Verdict.DOES_NOT_FIT]


def test_a_case_that_failed_for_any_reason_is_told_to_the_judge() -> None:
    small = replace(CASE, architecture=architecture("SmolLM2-135M"))
    measured = timed_case(small, decode_seconds=1 / 40, first_token_seconds=0.5)
    for reason, headline in (("timed_out", "runs 0.1B"), (None, "runs at least 0.1B")):
        failures = (CaseFailure(case=CASE, reason=reason, detail=""),) if reason else ()
        run = replace(RUN, measurements=tuple(measured), failures=failures)
        assert headline in judge_device(replace(DEVICE, run=run)).card.headline


@pytest.mark.parametrize(
    ("name", "reason", "measured", "failed"),
    [
        ("Llama-3.2-1B", "timed_out", False, 1),
        ("Llama-3.2-1B", "timed_out", True, 0),
        ("Llama-3.2-1B", "memory_gate", False, 0),
        ("DistilBERT", "timed_out", False, 0),
    ],
)
def test_a_class_that_was_tried_in_vain_is_told_from_one_never_tried(
    name: str, reason: str, measured: bool, failed: int
) -> None:
    failure = CaseFailure(case=replace(CASE, architecture=architecture(name)), reason=reason, detail="")
    found = timed_case(CASE, decode_seconds=1 / 40, first_token_seconds=0.5) if measured else ()
    device = replace(DEVICE, run=replace(RUN, measurements=tuple(found), failures=(failure, failure)))
    counts = {row.size_class: row.failed_count for row in tier_table([judge_device(device), of_tier(None)])}
    assert counts["1B"] == sum(counts.values()) == failed


def test_a_device_that_cannot_be_judged_says_why_and_is_counted() -> None:
    empty = Measurement(
        case=CASE, execution_provider="cpu", phase=Phase.DECODE, token_count=1, context_depth=512, series=()
    )
    result = judge_device(replace(DEVICE, run=replace(RUN, measurements=(empty,))))
    assert result.card.rows == ()
    assert result.card.unjudged[0].startswith(f"{CASE.architecture.name} {CASE.scheme}: nothing measured")
    assert fleet_headline([result]) == "No generating model was measured on this device."
    assert fleet_headline([result, of_tier("1B")]).startswith("Of 2 devices, 1 (50 %)")


def test_tiers_are_counted_from_the_largest_down() -> None:
    assert tier_counts([of_tier(tier) for tier in ("0.5B", "1B", None, "0.5B", "7B")]) == [
        ("7B", 1),
        ("1B", 2),
        ("0.5B", 4),
    ]


@pytest.mark.parametrize(
    ("tiers", "headline"),
    [
        ([], "No runs yet."),
        (["1B"], "A headline."),
        ([None, None], "None of 2 devices runs a measured class comfortably."),
        (["1B", "1B"], "Of 2 devices, 2 (100 %) comfortably run models of 1B or larger."),
        (
            ["1B", "0.5B", None, None],
            "Of 4 devices, 1 (25 %) comfortably run models of 1B or larger, 2 (50 %) 0.5B or larger; "
            "2 run no measured class comfortably.",
        ),
    ],
)
def test_the_headline_is_the_decision_in_one_sentence(tiers: list[str | None], headline: str) -> None:
    assert fleet_headline([of_tier(tier) for tier in tiers]) == headline


def test_the_interval_of_a_share_is_wilsons() -> None:
    """Newcombe, Stat. Med. 17 (1998) 857, table I: 81 of 263 and 0 of 20 at 95 %."""
    assert share_interval(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert share_interval(0, 20, 0.95) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_interval_of_a_share_holds_the_share_and_stays_a_share(pair: tuple[int, int]) -> None:
    low, high = share_interval(*pair, 0.8)
    assert 0 <= low <= pair[0] / pair[1] + 1e-12
    assert pair[0] / pair[1] - 1e-12 <= high <= 1
