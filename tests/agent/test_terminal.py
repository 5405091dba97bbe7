"""What a person sees: nothing is cut off, and every verdict is there as soon as it is known."""

import io
import re
from dataclasses import replace

import pytest
from filled_run import FILLED
from made_measurements import an_anchor, probe_case, timed_case
from rich.console import Console

from weighin_agent.terminal import _card_table, print_card, suite_progress
from weighin_analysis.card import Basis, Card, CardRow, Estimate, Verdict
from weighin_analysis.catalog import architecture
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
        bytes_read_per_token=7_000_000_000,
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
    console.print(_card_table(CARD.rows, width))
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


class Terminal(Console):
    """A console whose output is kept."""

    def __init__(self, *, is_terminal: bool) -> None:
        self.kept = io.StringIO()
        super().__init__(file=self.kept, force_terminal=is_terminal, width=100)


DEVICE = replace(
    FILLED.device,
    memory=replace(FILLED.device.memory, available_bytes=1 << 40),
    accelerators=(),
    execution_providers=(),
)
FOUND = tuple(timed_case(probe_case(architecture("SmolLM2-135M")), decode_seconds=0.02, first_token_seconds=0.5))


def watched(*, is_terminal: bool) -> str:
    """What is shown of the quick suite in which every case gives the same times and one fails."""
    suite, console = load_suite("quick"), Terminal(is_terminal=is_terminal)
    with suite_progress(console, suite) as watch:
        watcher = watch(DEVICE)
        for index, case in enumerate(suite.cases, start=1):
            watcher.on_case(case)
            watcher.on_measured(FOUND)
            watcher.on_progress(index / len(suite.cases))
        watcher.on_failure(FILLED.failures[0])
    return console.kept.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_every_verdict_is_shown_as_it_arrives_with_its_numbers(is_terminal: bool) -> None:
    text = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", watched(is_terminal=is_terminal))
    found = re.findall(
        r"0\.1B comfortable: 50\.0? \([\d.]+-[\d.]+\) tokens/s, 0\.50 \([\d.]+-[\d.]+\) s to the first", text
    )
    assert len(found) == len(load_suite("quick").cases)
    assert FILLED.failures[0].detail in text


def test_without_a_terminal_progress_is_a_line_per_case_and_verdict() -> None:
    lines = watched(is_terminal=False).splitlines()
    cases = load_suite("quick").cases
    assert len(lines) == 2 * len(cases) + 1
    assert lines[: 2 * len(cases) : 2] == [f"{case.architecture.name} {case.scheme}" for case in cases]


def test_a_terminal_tells_how_long_it_takes_at_most() -> None:
    text = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", watched(is_terminal=True))
    assert re.search(r"\d:\d\d:\d\d of at most 0:25", text)


def card_text(card: Card) -> str:
    console = Terminal(is_terminal=False)
    print_card(console, card, FILLED)
    return re.sub(r"\s+", " ", console.kept.getvalue())


def test_a_card_says_whether_the_run_was_clean_and_what_disturbed_it() -> None:
    assert "Clean run of" in card_text(CARD)
    disturbed = card_text(replace(CARD, disturbances=("It ran on battery.",)))
    assert "Disturbed: It ran on battery." in disturbed
    assert "Disturbed run of" in disturbed


def test_computed_rows_of_classes_that_were_run_are_left_out_and_counted() -> None:
    hidden, shown = (
        replace(wide_row(size_class, f"of {size_class}", Verdict.TOO_SLOW, "int8_dynamic"), basis=Basis.FORMULA)
        for size_class in ("1B", "7B")
    )
    text = card_text(replace(CARD, rows=(*CARD.rows, hidden, shown)))
    assert "of 7B" in text
    assert "of 1B" not in text
    assert "1 computed row" in text


@pytest.mark.parametrize(("kappa", "words"), [(1.1, "as a correction"), (1.01, "too close to 1"), (2.0, "too far off")])
def test_an_anchor_is_told_with_what_was_made_of_it(kappa: float, words: str) -> None:
    text = card_text(replace(CARD, anchors=(an_anchor(kappa),)))
    assert f"anchor SmolLM2-135M int4_block32, decode: the full model took {kappa:.2f}" in text
    assert words in text
