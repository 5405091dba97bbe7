"""What the template shows, ready to print: every field is text or a flag, nothing is left to compute."""

from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A name and its text; ``muted`` marks a fact that is absent, whose text is the reason."""

    name: str
    text: str
    muted: bool = False


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
    basis: str
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
    anchors: tuple[str, ...]
    failures: tuple[Problem, ...]
    gaps: tuple[Problem, ...]
    conditions: tuple[ConditionView, ...]
    warnings: tuple[str, ...]
    run_facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TierCell:
    """Devices of one class with one verdict; ``tone`` is empty for none, ``note`` tells how many were computed."""

    name: str
    count: str
    tone: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRowView:
    """One size class of the tier table."""

    size_class: str
    stands_for: str
    cells: tuple[TierCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """A verdict with its mark."""

    tone: str
    word: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart in two widths, with its text alternative."""

    anchor: str
    heading: str
    caption: str
    alternative: str
    legend: tuple[Legend, ...]
    wide: Markup
    narrow: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The whole report."""

    title: str
    headline: str
    lead: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    tier_heading: str = ""
    tier_rows: tuple[TierRowView, ...] = ()
    tier_note: str = ""
    devices: tuple[DeviceView, ...] = ()
    devices_note: str = ""
    method: tuple[str, ...] = ()
    cannot_say: tuple[str, ...] = ()
    versions: tuple[Fact, ...] = ()
    run_ids: tuple[Fact, ...] = field(default=())
