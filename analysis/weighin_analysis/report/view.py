"""What a report shows, ready to print: every field is text or a flag, nothing is left to compute.

The page and the Markdown are two ways to print one ``Page``.
"""

from dataclasses import dataclass

from weighin_analysis.report.charts import Chart
from weighin_analysis.report.words import ABSENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A name and its text; ``muted`` marks a fact that is absent, whose text is the reason."""

    name: str
    text: str
    muted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a table: its text, smaller text under it, and how it looks.

    ``tone`` is the CSS name of a verdict, ``shade`` how strongly it is tinted, 0 to 10; ``badge`` puts the verdict's
    mark before the text. ``sort_key`` is what a column is sorted by, where that is not the text; ``link`` an anchor of
    the page.
    """

    text: str
    note: str = ""
    tone: str = ""
    shade: int = 0
    badge: bool = False
    sort_key: float | None = None
    link: str = ""


def absent(text: str = ABSENT) -> Cell:
    """Return the cell of what does not apply, or is not known."""
    return Cell(text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose first column names its rows. ``kind`` is its CSS class, ``note`` stands under it."""

    anchor: str
    kind: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart with its words: ``alternative`` tells what the picture shows to who does not see it."""

    anchor: str
    caption: str
    alternative: str
    chart: Chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report under one heading: text, a chart, tables; ``folded`` tables open on demand."""

    anchor: str
    heading: str
    texts: tuple[str, ...] = ()
    figure: Figure | None = None
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A number with unit and interval, or why there is none (``absent``). ``name`` stands beside it on a phone."""

    name: str
    value: str = ""
    unit: str = ""
    interval: str = ""
    absent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRowView:
    """One row of a card, or a case that failed; ``tone`` is the CSS name of its verdict.

    ``computed`` marks a row of which nothing was run.
    """

    size_class: str
    architecture: str
    how: str
    readings: tuple[Reading, ...]
    verdict: str
    tone: str
    computed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionView:
    """One condition before and after the run."""

    name: str
    before: str
    after: str
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is missing from the run, and why."""

    what: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """One device: what it is, its card, what is missing, and under which conditions it ran."""

    anchor: str
    title: str
    short_id: str
    tier: str
    state: str
    headline: str
    limited_by: str
    facts: tuple[Fact, ...]
    accelerators: tuple[str, ...]
    providers: tuple[Fact, ...]
    rows: tuple[CardRowView, ...]
    rows_note: str
    failures: tuple[Problem, ...]
    gaps: tuple[Problem, ...]
    conditions: tuple[ConditionView, ...]
    warnings: tuple[str, ...]
    run_facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The whole report: the decision, the parts that it rests on, the devices, and where all of it comes from."""

    title: str
    headline: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...] = ()
    devices: tuple[DeviceView, ...] = ()
    devices_note: str = ""
    method: Section | None = None
    cannot_say: tuple[str, ...] = ()
    versions: tuple[Fact, ...] = ()
