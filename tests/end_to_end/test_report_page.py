"""The report in a real browser that is offline: it draws, stays within the window, and asks nobody for anything."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import pytest
from example_runs import SMALL_BOARD, anchored_run, example_run
from example_snapshots import device_id, make_snapshot
from playwright.sync_api import Browser, Page, sync_playwright

import weighin_analysis
from weighin_analysis.fleet.external.importing import import_rows, open_base
from weighin_analysis.limits import current_limits
from weighin_analysis.public.rows import read_rows
from weighin_analysis.report.write import write_report

ROOT = Path(__file__).parents[2]
AXE = ROOT / ".venv/axe/node_modules/axe-core/axe.min.js"
THROUGHPUT = ROOT / "tests/data/throughput.csv"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = ("one", "fleet", "public", "empty")
WINDOWS = ((1280, "light"), (1280, "dark"), (768, "light"), (360, "light"), (360, "dark"))
CHARTS = {"one": 4, "fleet": 3, "public": 3, "empty": 0}
COLOUR_OF = """name => {
    const one = document.body.appendChild(document.createElement('p'));
    one.style.color = `var(--${name})`;
    const found = getComputedStyle(one).color;
    one.remove();
    return found;
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A report in the browser, with all that it asked for and complained about."""

    name: str
    path: Path
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
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of one device, of a fleet with texts as long as can be, of public devices beside it, and of nobody."""
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
    snapshots = {}
    for name, these in runs.items():
        pairs = [(device_id(number), run) for number, run in enumerate(these)]
        snapshots[name] = make_snapshot(tmp_path_factory.mktemp(name), pairs)
    snapshots["public"] = with_public_devices(snapshots["fleet"], tmp_path_factory.mktemp("public") / "snapshot")
    limits = current_limits()
    strict = replace(
        limits, version="strict", decoder_comfortable=replace(limits.decoder_comfortable, decode_tokens_per_second=20)
    )
    for name, snapshot in snapshots.items():
        public = name == "public"
        with weighin_analysis.open(snapshot) as fleet:
            write_report(
                fleet,
                snapshot.with_name("report"),
                limits=[limits, strict] if public else [],
                source="all" if public else None,
            )
    return {name: snapshot.with_name("report") / "index.html" for name, snapshot in snapshots.items()}


def with_public_devices(base: Path, folder: Path) -> Path:
    """Return a snapshot of the native devices of another and of those that others published."""
    import_rows(
        read_rows(THROUGHPUT),
        folder,
        base=open_base(base),
        limits=current_limits(),
        import_time=datetime(2026, 3, 1),
        file_sha256="",
    )
    return folder


@contextmanager
def opening(
    browser: Browser,
    reports: dict[str, Path],
    name: str,
    width: int,
    theme: Literal["light", "dark"] = "light",
    *,
    script: bool = True,
) -> Iterator[Opened]:
    """Open a report offline in a window of that width, with all that is folded unfolded."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=theme, java_script_enabled=script
    )
    context.set_offline(True)
    page = context.new_page()
    opened = Opened(name=name, path=reports[name], theme=theme, page=page, requests=[], complaints=[])
    page.on("request", lambda request: opened.requests.append(request.url))
    page.on("console", lambda message: opened.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.goto(opened.path.as_uri())
    if script:
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    yield opened
    context.close()


@pytest.fixture(scope="module", params=[(name, *window) for name in PAGES for window in WINDOWS], ids=str)
def opened(request: pytest.FixtureRequest, browser: Browser, reports: dict[str, Path]) -> Iterator[Opened]:
    name, width, theme = request.param
    with opening(browser, reports, name, width, theme) as opened:
        yield opened


def test_the_page_asks_for_itself_only_and_the_browser_has_no_complaint(opened: Opened) -> None:
    assert opened.requests == [opened.path.as_uri()]
    assert opened.complaints == []


def test_the_page_never_scrolls_sideways(opened: Opened) -> None:
    assert opened.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def test_no_table_is_cut(opened: Opened) -> None:
    """A table may scroll in its own box without the page doing so; nobody looks for a column behind the edge."""
    boxes = "all => all.map(one => [one.querySelector('table').className, one.scrollWidth, one.clientWidth])"
    found = opened.page.eval_on_selector_all(".scroll", boxes)
    assert [box for box in found if box[1] > box[2]] == []


def test_the_page_has_no_serious_barrier(opened: Opened) -> None:
    """Axe-core knows the rules of WCAG that a program can check."""
    if not AXE.exists():
        assert os.environ.get("WEIGHIN_REQUIRE_ALL") != "1", "axe-core is not installed: make test brings it with npm"
        pytest.skip("axe-core is not installed: it comes with npm, by make test")
    opened.page.evaluate(AXE.read_text(encoding="utf-8"))
    found = opened.page.evaluate("async () => (await axe.run({ resultTypes: ['violations'] })).violations")
    assert [
        (one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in {"serious", "critical"}
    ] == []


def test_each_chart_is_drawn_once_inside_the_window(opened: Opened) -> None:
    charts = [one for one in opened.page.query_selector_all(".chart svg") if one.is_visible()]
    assert len(charts) == CHARTS[opened.name]
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
    names = ("ink", "muted", "comfortable", "usable", "too-slow", "does-not-fit", "compared", "compared-usable")
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
def test_paper_is_light_and_shows_the_few_devices_that_are_folded(
    browser: Browser, reports: dict[str, Path], name: str, tmp_path: Path
) -> None:
    with opening(browser, reports, name, 1280, "dark") as opened:
        page = opened.page
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
        page.emulate_media(media="print", color_scheme="dark")
        # Any tint ends in a visible edge where the margin of the sheet begins.
        assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) == 1.0
        heights = "all => all.map(one => one.getBoundingClientRect().height)"
        assert all(height > 100 for height in page.eval_on_selector_all("section:not(.many) table.card", heights))
        pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    # A fleet whose devices are many prints without a page for each.
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 20


def names(page: Page) -> list[str]:
    """The first line of every device that the table shows, in its order."""
    shown = "all => all.filter(one => !one.hidden).map(one => one.cells[0].innerText.split('\\n')[0])"
    found: list[str] = page.eval_on_selector_all("table.devices tbody tr", shown)
    return found


def test_devices_are_sorted_by_keyboard_both_ways(browser: Browser, reports: dict[str, Path]) -> None:
    with opening(browser, reports, "public", 1280) as opened:
        page = opened.page
        by_run = names(page)
        page.focus("table.devices thead button")
        page.keyboard.press("Enter")
        rising = names(page)
        assert sorted(rising) == sorted(by_run)
        assert rising != by_run
        assert page.get_attribute("table.devices thead th", "aria-sort") == "ascending"
        page.keyboard.press("Enter")
        assert names(page) == rising[::-1]
        assert page.get_attribute("table.devices thead th", "aria-sort") == "descending"


def test_devices_are_sorted_by_numbers_where_there_are_numbers(browser: Browser, reports: dict[str, Path]) -> None:
    with opening(browser, reports, "public", 1280) as opened:
        head = opened.page.eval_on_selector_all("table.devices thead th", "all => all.map(one => one.textContent)")
        column = head.index("Decode in its tier")
        opened.page.click(f"table.devices thead th:nth-child({column + 1}) button")
        values = "(all, column) => all.map(one => one.cells[column].dataset.sort).filter(Boolean).map(Number)"
        found = opened.page.eval_on_selector_all("table.devices tbody tr", values, column)
        assert len(found) > 10
        assert found == sorted(found)


def test_devices_are_filtered_as_one_types(browser: Browser, reports: dict[str, Path]) -> None:
    with opening(browser, reports, "public", 1280) as opened:
        page = opened.page
        total = len(names(page))
        page.focus("input[type=search]")
        page.keyboard.type("PHONE galaxy")
        found = names(page)
        assert found
        assert all("galaxy" in name.lower() for name in found)
        assert page.inner_text("[role=status]") == f"{len(found)} of {total} shown"
        page.fill("input[type=search]", "")
        assert len(names(page)) == total


@pytest.mark.parametrize("name", PAGES)
def test_without_script_the_page_says_the_same(browser: Browser, reports: dict[str, Path], name: str) -> None:
    texts = []
    for script in (True, False):
        with opening(browser, reports, name, 1280, script=script) as opened:
            texts.append(set(re.findall(r"\S+", opened.page.text_content("main") or "")))
            assert opened.complaints == []
    assert texts[0] - texts[1] <= {"Show", "devices", "with"}
    assert texts[1] <= texts[0]


def test_public_devices_are_told_from_those_that_were_weighed_in(browser: Browser, reports: dict[str, Path]) -> None:
    with opening(browser, reports, "public", 1280) as opened:
        heading = opened.page.inner_text("h1").replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r"of 102 devices \(4 weighed in and 98 from published figures\)", heading), heading
