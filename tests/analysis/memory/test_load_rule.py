"""Whether a model loads: 252 tries of one phone of 8 GB, 336 of two others (tests/data/fits.csv names the sources)."""

import pytest
from fit_memory import (
    CONSTANT_SHARE,
    SHIPPED,
    Feature,
    FitRow,
    backend,
    fewest_errors,
    fit_rows,
    only_one_errs,
    peak_with_logged_weights,
    rule_of,
    tried_phone,
    wrong,
    wrong_leaving_out,
)
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.memory.load_rule import LoadRule, fit_load_rule, load_peak_bytes, load_rule
from weighin_analysis.memory.runtimes import Runtime, memory_use
from weighin_analysis.models.catalogue import entry
from weighin_analysis.sizes import gguf

GIB = 1 << 30


@pytest.fixture(scope="module")
def phone() -> tuple[FitRow, ...]:
    return tried_phone(fit_rows())


@pytest.mark.parametrize("feature", [SHIPPED, peak_with_logged_weights])
def test_leaving_a_back_end_out_errs_less_than_the_best_constant_share(
    feature: Feature, phone: tuple[FitRow, ...]
) -> None:
    assert len(phone) == 252
    mistakes = len(wrong_leaving_out(backend, phone, feature))
    assert mistakes <= 8  # the best constant share of the logged total errs on 9
    assert mistakes < len(wrong_leaving_out(backend, phone, CONSTANT_SHARE))


def test_chance_may_part_the_computed_peak_from_the_constant_share(phone: tuple[FitRow, ...]) -> None:
    """No more is claimed than the figures of the split: only rows that one of both gets wrong tell them apart."""
    peak, share = (wrong_leaving_out(backend, phone, feature) for feature in (SHIPPED, CONSTANT_SHARE))
    only_peak, only_share, probability = only_one_errs(peak, share)
    assert only_peak < only_share
    assert probability > 0.05


def test_the_sign_test_is_exact(phone: tuple[FitRow, ...]) -> None:
    assert only_one_errs(phone[:3], phone[:3]) == (0, 0, 1.0)
    assert only_one_errs(phone[:1], phone[1:6]) == (1, 5, 2 * (1 + 6) / 64)


def test_the_border_with_the_fewest_errors_lies_between_what_loads_and_what_does_not() -> None:
    assert fewest_errors([0.1, 0.2, 0.4, 0.5], [True, True, False, False]).share_of_ram == pytest.approx(0.3)


def test_the_shipped_rule_follows_from_the_tries(phone: tuple[FitRow, ...]) -> None:
    fitted = rule_of(phone, SHIPPED)
    assert load_rule().share_of_ram == pytest.approx(fitted.share_of_ram, rel=0.01)
    assert load_rule().spread == fitted.spread


def test_the_rule_is_fitted_on_the_very_peak_that_is_told(phone: tuple[FitRow, ...]) -> None:
    for row in phone[:: len(phone) // 12]:
        model = entry(row.model)
        told = load_peak_bytes(model, gguf.download_size(model, row.scheme), row.runtime, context_tokens=2048)
        assert SHIPPED(row) == told


def test_on_other_phones_the_shipped_rule_only_errs_by_saying_no() -> None:
    others = [row for row in fit_rows() if not row.device.startswith("Galaxy S23")]
    mistakes = wrong(others, SHIPPED, load_rule())
    assert len(others) == 336
    assert all(row.loaded for row in mistakes)
    assert len(mistakes) <= 8


def test_open_cl_needs_room_for_a_second_copy_of_the_largest_tensor_while_loading() -> None:
    model = entry("Phi-4-mini")
    artefact = gguf.download_size(model, "Q4_0")

    def beyond_running(runtime: Runtime) -> int:
        running = memory_use(model, artefact, runtime, context_tokens=2048, prompt_tokens=2048).total
        return load_peak_bytes(model, artefact, runtime, context_tokens=2048) - running

    assert beyond_running(Runtime.LLAMA_CPP) == 0
    assert beyond_running(Runtime.LLAMA_CPP_OPENCL) == artefact.parts["token_embedding"]


def test_at_the_border_a_model_loads_as_often_as_not() -> None:
    rule = LoadRule(share_of_ram=0.5, spread=0.03)
    assert rule.probability(4 * GIB, 8 * GIB) == pytest.approx(0.5)
    assert rule.loads(4 * GIB, 8 * GIB)
    assert not rule.loads(4 * GIB + 1, 8 * GIB)
    assert rule.probability(3 * GIB, 8 * GIB) > 0.99


@given(
    st.floats(0.3, 0.7),
    st.lists(st.floats(0.5, 1.0) | st.floats(1.1, 1.5), min_size=20, max_size=60).filter(
        lambda relative: min(relative) <= 1 < max(relative)
    ),
)
def test_a_clean_border_is_found_between_what_loads_and_what_does_not(border: float, relative: list[float]) -> None:
    """The gap is ten times the sharpest spread: across less, many tries on one side outvote a single one beyond."""
    shares = [border * one for one in relative]
    loaded = [share <= border for share in shares]
    rule = fit_load_rule(shares, loaded)
    below = max(share for share, ok in zip(shares, loaded, strict=True) if ok)
    above = min(share for share, ok in zip(shares, loaded, strict=True) if not ok)
    assert below <= rule.share_of_ram <= above
