"""The report in a real browser that is offline: it draws, stays within the window, and asks nobody for anything."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
from example_runs import SMALL_BOARD, anchored_run, example_run
from example_snapshots import device_id, make_snapshot
from playwright.sync_api import Browser, Page, sync_playwright

from weighin_analysis.card import CardRow, shown_rows
from weighin_analysis.load import load_snapshot
from weighin_analysis.report.fleet import judge_device
from weighin_analysis.report.numbers import estimate_text, gb, gib
from weighin_analysis.report.write import write_report
from weighin_analysis.snapshot import Snapshot

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = ("one", "fleet", "empty")
WINDOWS = ((1280, "light"), (1280, "dark"), (768, "light"), (360, "light"), (360, "dark"))
COLOUR_OF = """name => {
    const one = document.body.appendChild(document.createElement('p'));
    one.style.color = `var(--${name})`;
    const found = getComputedStyle(one).color;
    one.remove();
    return found;
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A snapshot and the page made of it."""

    snapshot: Snapshot
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A report in the browser, with all that it asked for and complained about."""

    report: Report
    theme: str
    page: Page
    requests: list[str]
    complaints: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        assert os.environ.get("WEIGHIN_REQUIRE_ALL") != "1", "Chromium is not installed"
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """One device; a fleet with every verdict and with texts as long as the contract allows; and nobody."""
    long = example_run(4)
    long.device.cpu.model = "W" * 128
    long.failures[0].detail = long.probe_gaps[0].detail = "an unbreakable " + "x" * 200
    long.device.execution_providers.add(name="y" * 60, measured=False, reason="z" * 120)
    long.before.canary.matrix_flops, long.after.canary.matrix_flops = 123_456e9, 98_765e9
    cramped = replace(SMALL_BOARD, memory_available_bytes=1 << 30)
    runs = {
        "one": [anchored_run(1.12)],
        "fleet": [example_run(1), example_run(2, SMALL_BOARD), example_run(3, cramped), long],
        "empty": [],
    }
    made = {}
    for name, these in runs.items():
        folder = tmp_path_factory.mktemp(name)
        pairs = [(device_id(number), run) for number, run in enumerate(these)]
        snapshot = load_snapshot(make_snapshot(folder, pairs))
        made[name] = Report(snapshot=snapshot, path=write_report(snapshot, folder / "report"))
    return made


@contextmanager
def opening(browser: Browser, report: Report, width: int, theme: Literal["light", "dark"]) -> Iterator[Opened]:
    """Open a report offline in a window of that width, with every device unfolded."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
    context.set_offline(True)
    page = context.new_page()
    opened = Opened(report=report, theme=theme, page=page, requests=[], complaints=[])
    page.on("request", lambda request: opened.requests.append(request.url))
    page.on("console", lambda message: opened.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.goto(report.path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    yield opened
    context.close()


@pytest.fixture(scope="module", params=[(name, *window) for name in PAGES for window in WINDOWS], ids=str)
def opened(request: pytest.FixtureRequest, browser: Browser, reports: dict[str, Report]) -> Iterator[Opened]:
    name, width, theme = request.param
    with opening(browser, reports[name], width, theme) as opened:
        yield opened


def test_the_page_asks_for_itself_only_and_the_browser_has_no_complaint(opened: Opened) -> None:
    assert opened.requests == [opened.report.path.as_uri()]
    assert opened.complaints == []


def test_the_page_never_scrolls_sideways(opened: Opened) -> None:
    assert opened.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("name", PAGES)
def test_no_table_is_cut_on_a_phone(browser: Browser, reports: dict[str, Report], name: str) -> None:
    """A table may scroll in its own box without the page doing so; nobody looks for a column behind the edge."""
    edges = "all => all.map(one => [one.className, one.getBoundingClientRect().right])"
    boxes = "all => all.map(one => [one.scrollWidth, one.clientWidth])"
    with opening(browser, reports[name], 360, "light") as opened:
        cut = [(table, right) for table, right in opened.page.eval_on_selector_all("table", edges) if right > 360]
        scrolling = [pair for pair in opened.page.eval_on_selector_all(".scroll", boxes) if pair[0] > pair[1]]
    assert (cut, scrolling) == ([], [])


def test_every_number_of_every_card_can_be_read(opened: Opened) -> None:
    text = re.sub(r"\s+", " ", opened.page.inner_text("body"))
    for device in opened.report.snapshot.devices:
        card = judge_device(device).card
        assert card is not None
        assert card.headline in text
        for row in shown_rows(card.rows):
            for wanted in numbers_of(row):
                assert wanted in text


def numbers_of(row: CardRow) -> list[str]:
    """Everything that the page must say about a row, as a reader finds it."""
    estimates = (
        (row.decode_tokens_per_second, "tokens/s", 1.0),
        (row.prefill_tokens_per_second, "tokens/s", 1.0),
        (row.time_to_first_token_seconds, "s", 1.0),
        (row.latency_seconds, "ms", 1000.0),
    )
    texts = [(*estimate_text(estimate, scale), unit) for estimate, unit, scale in estimates if estimate]
    readings = [f"{value} {unit} {interval}" for value, interval, unit in texts]
    return [*readings, gib(row.memory_bytes), gb(row.download_bytes), row.verdict.replace("_", " "), row.architecture]


def test_each_chart_is_drawn_once_inside_the_window(opened: Opened) -> None:
    charts = [one for one in opened.page.query_selector_all(".chart svg") if one.is_visible()]
    assert len(charts) == (3 if opened.report.snapshot.devices else 0)
    for chart in charts:
        box, window = chart.bounding_box(), opened.page.viewport_size
        assert box is not None
        assert window is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= window["width"]
        texts = chart.query_selector_all("text")
        assert all(float(text.evaluate("one => one.getBoundingClientRect().height")) >= 9 for text in texts)


def test_text_stands_out_from_its_background(opened: Opened) -> None:
    """WCAG 2.2, criterion 1.4.3: contrast of at least 4.5 for every colour of the palette that text has."""
    paper = luminance(opened.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (paper < 0.1) == (opened.theme == "dark")
    names = ("ink", "muted", "comfortable", "usable", "too-slow", "does-not-fit")
    for name in names:
        colour = opened.page.evaluate(COLOUR_OF, name)
        light, dark = sorted((paper, luminance(colour)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)`` as WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("name", PAGES)
def test_paper_is_light_and_shows_devices_that_are_folded(
    browser: Browser, reports: dict[str, Report], name: str
) -> None:
    with opening(browser, reports[name], 1280, "dark") as opened:
        page = opened.page
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
        page.emulate_media(media="print", color_scheme="dark")
        # Any tint ends in a visible edge where the margin of the sheet begins.
        assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) == 1.0
        heights = "all => all.map(one => one.getBoundingClientRect().height)"
        assert all(height > 100 for height in page.eval_on_selector_all("table.card", heights))
