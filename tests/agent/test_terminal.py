"""What a person sees: nothing is cut off, and the time left is always there."""

import io
import re

import pytest
from rich.console import Console

from weighin_agent.terminal import _card_table, suite_progress
from weighin_analysis.card import Basis, Card, CardRow, Estimate, Verdict
from weighin_analysis.suite import load_suite


def wide_row(size_class: str, architecture: str, verdict: Verdict, scheme: str = "int4_block32") -> CardRow:
    """A row of a noisy run, with the widest numbers that were seen."""
    return CardRow(
        size_class=size_class,
        architecture=architecture,
        architecture_kind="decoder",
        scheme=scheme,
        execution_provider="cpu",
        threads=16,
        decode_tokens_per_second=Estimate(value=107.0, low=37.4, high=215.0),
        prefill_tokens_per_second=Estimate(value=2_820.0, low=1_050.0, high=17_300.0),
        time_to_first_token_seconds=Estimate(value=12.2, low=3.1, high=47.8),
        latency_seconds=None,
        memory_bytes=13 << 30,
        download_bytes=7_720_000_000,
        verdict=verdict,
        reasons=(),
        basis=Basis.LAYER_PROBE,
    )


CARD = Card(
    limits_version="2026.1",
    formula_version="layer-probe-1",
    headline="",
    tier=None,
    limited_by=None,
    rows=(
        wide_row("0.1B", "SmolLM2-135M", Verdict.COMFORTABLE),
        wide_row("0.1B", "DistilBERT", Verdict.DOES_NOT_FIT, "int8_dynamic"),
        wide_row("1B", "Llama-3.2-1B", Verdict.TOO_SLOW),
    ),
)


def printed(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(_card_table(CARD, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_card_is_whole_on_a_terminal_of_80_columns_and_on_wider_ones(width: int) -> None:
    text = printed(width)
    assert "…" not in text
    whole = ("0.1B", "SmolLM2-135M", "int4_block32", "int8_dynamic", "comfortable", "does not fit", "too slow")
    numbers = ("107", "37.4-215", "12.2", "3.1-47.8", "13.0 GiB", "7.72 GB", "layer probe")
    assert [word for word in (*whole, *numbers) if word not in text] == []
    assert max(len(line) for line in text.splitlines()) <= width


def test_the_time_left_is_told_from_the_start_and_counts_down() -> None:
    suite = load_suite("quick")
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with suite_progress(console, suite) as watcher:
        for index, case in enumerate(suite.cases):
            watcher.on_case(index, case)
            for share in (0.5, 1.0):
                watcher.on_progress(share)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "-:--:--" not in text
    left = [60 * int(minutes) + int(seconds) for minutes, seconds in re.findall(r"about (\d+):(\d\d)", text)]
    assert left
    assert left[0] > 0
    assert left[-1] == 0


def test_without_a_terminal_progress_is_a_line_per_case() -> None:
    suite = load_suite("quick")
    console = Console(file=io.StringIO(), force_terminal=False, width=100)
    with suite_progress(console, suite) as watcher:
        for index, case in enumerate(suite.cases):
            watcher.on_case(index, case)
            watcher.on_progress(1.0)
    assert isinstance(console.file, io.StringIO)
    assert len(console.file.getvalue().splitlines()) == len(suite.cases)
