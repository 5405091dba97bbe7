"""The report as Markdown: the same view as the page, as text."""

import re

from weighin_analysis.printable import printable
from weighin_analysis.report.view import CardRowView, Cell, DeviceView, Fact, Page, Reading, Section, Table

# What Markdown or HTML would obey in a text that a device sent, and where many readers see a link.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#!~]|:(?=//)|(?<=www)\.)")


def to_markdown(page: Page, charts: str) -> str:
    """Return the page as Markdown; ``charts`` is the folder of its pictures, beside the file."""
    parts = [f"# {_escaped(page.headline)}", *map(_escaped, page.lead)]
    for section in page.sections:
        parts += _section(section, charts)
    if page.devices:
        parts.append("## Device by device" if len(page.devices) > 1 else "## The device")
        parts += [_escaped(page.devices_note)] if page.devices_note else []
        for device in page.devices:
            parts += _device(device)
    if page.method:
        parts += _section(page.method, charts)
    if page.cannot_say:
        parts += ["## What this report cannot say", _list(page.cannot_say)]
    parts += ["## Where it comes from", _facts(page.versions)]
    return "\n\n".join(parts) + "\n"


def _section(section: Section, charts: str) -> list[str]:
    parts = [f"## {_escaped(section.heading)}", *map(_escaped, section.texts)]
    if section.figure:
        parts.append(f"![{_escaped(section.figure.alternative)}]({charts}/{section.figure.anchor}.svg)")
        parts.append(_escaped(section.figure.caption))
    for table in (*section.tables, *section.folded):
        parts += _table(table)
    return parts


def _table(table: Table) -> list[str]:
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    parts = [f"**{_escaped(table.caption)}**", _grid(table.columns, rows)]
    return [*parts, _escaped(table.note)] if table.note else parts


def _grid(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [[_escaped(column) for column in columns], ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    return _escaped(cell.text) + (f" ({_escaped(cell.note)})" if cell.note else "")


def _device(device: DeviceView) -> list[str]:
    parts = [f"### {_escaped(device.title)}: tier {_escaped(device.tier)}, {_escaped(device.state)}"]
    parts += [_escaped(f"{device.headline} {device.limited_by}".strip())]
    parts += [f"**Read with care.** {_escaped(text)}" for text in device.warnings]
    if device.rows:
        names = (
            "Class",
            "Model",
            "Verdict",
            "Decode",
            "Prefill",
            "First token or latency",
            "Memory",
            "Download",
            "Why",
        )
        parts.append(_grid(names, [_card_row(row) for row in device.rows]))
    parts += [_escaped(device.rows_note)] if device.rows_note else []
    parts.append(_facts((*device.facts, *device.providers, *device.run_facts)))
    if device.accelerators:
        parts.append(_list(device.accelerators))
    missing = [f"{one.what}: {one.reason}" + (f" ({one.detail})" if one.detail else "") for one in device.failures]
    missing += [f"{one.what}: {one.reason}" + (f" ({one.detail})" if one.detail else "") for one in device.gaps]
    nothing = "Nothing: every case gave a measurement and every fact was read."
    return [*parts, "#### What is missing", _list(tuple(missing)) if missing else nothing]


def _card_row(row: CardRowView) -> list[str]:
    texts = [row.size_class, f"{row.architecture} ({row.how})", row.verdict]
    return [*map(_escaped, texts), *map(_reading, row.readings), _escaped("; ".join(row.reasons))]


def _reading(reading: Reading) -> str:
    if reading.absent:
        return _escaped(reading.absent)
    return _escaped(f"{reading.value} {reading.unit}" + (f" ({reading.interval})" if reading.interval else ""))


def _facts(facts: tuple[Fact, ...]) -> str:
    return _list(tuple(f"{fact.name}: {fact.text}" for fact in facts))


def _list(texts: tuple[str, ...]) -> str:
    return "\n".join(f"- {_escaped(text)}" for text in texts)


def _escaped(text: str) -> str:
    """Return a text on one line that says itself and nothing else."""
    return _SPECIAL.sub(r"\\\1", printable(" ".join(text.split())))
