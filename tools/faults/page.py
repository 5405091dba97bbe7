"""docs/reliability.md, from the figures of every fault."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import psutil

from faults.catalogue import FAULTS, Fault, Size

_MEMBERS = ("duckdb", "grpcio", "protobuf")
_SIZE_NAMES = {Size.CI: "the size of CI", Size.TENTH: "a tenth of the long size", Size.LONG: "the long size"}
_HEAD = """# Reliability

What weighin does when things go wrong, by faults made on purpose. Written by `make faults`; the same faults at a small
size are tests (`tests/faults/`). How each is made is in `tools/faults/`, one module per fault.

The oracle is a ledger outside of agent and aggregator. *Lost* are runs that were acknowledged and are not stored.
*Duplicated* are rows that repeat an id. *Altered* runs are stored with other bytes than were kept, *torn* runs without
all their rows, *unknown* runs were stored and never kept (a kill may fall between keeping a run and telling of it).
Kills are SIGKILL, which leaves the page cache alone, so nothing here says what a loss of power does.

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The figures of one fault at one size: when, on what, how long, and with which seed.

    ``load_average`` is how many processes wanted a core, all programs of the machine together, in the last 5 minutes.
    """

    fault: str
    size: str
    count: int
    date: str
    seconds: float
    seed: int
    surroundings: str
    load_average: float
    missed: Sequence[str]
    figures: Mapping[str, object]


def surroundings() -> str:
    """Name the machine and the versions that the figures come from."""
    memory_gib = psutil.virtual_memory().total / 2**30
    members = ", ".join(f"{name} {version(name)}" for name in _MEMBERS)
    return (
        f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {members}"
    )


def page(records: Sequence[Record]) -> str:
    """Write the page."""
    faults = {fault.name: fault for fault in FAULTS}
    lines = ["| fault | injected | bounds | date |", "|---|---|---|---|"]
    sections = []
    for record in records:
        fault = faults[record.fault]
        injected = f"{record.count:,} {fault.unit} ({_SIZE_NAMES[Size(record.size)]})"
        held = "held" if not record.missed else "**missed**: " + "; ".join(record.missed)
        lines.append(f"| {fault.title} | {injected} | {held} | {record.date} |")
        sections.append(_section(fault, injected, record))
    made = sorted({record.surroundings for record in records})
    where = "\n".join(f"* {one}" for one in made)
    return _HEAD + "\n".join(lines) + f"\n\nMade on:\n\n{where}\n\n" + "\n".join(sections)


def _section(fault: Fault, injected: str, record: Record) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in _facts(record.figures))
    return (
        f"## {fault.title}\n\n{fault.text} Must hold: {fault.must}.\n\n"
        f"Injected: {injected}, in {record.seconds:,.0f} s, at a load average of {record.load_average:.1f}, "
        f"seed {record.seed}.\n\n"
        f"| figure | value |\n|---|---|\n{rows}\n"
    )


def _facts(figures: Mapping[str, object]) -> Sequence[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    for name, value in figures.items():
        words = name.replace("_", " ")
        match value:
            case dict() if name == "books":
                counts = (f"{_number(count)} {key.replace('_', ' ')}" for key, count in value.items())
                facts.append(("the books", ", ".join(counts)))
            case dict():
                facts.append((words, ", ".join(f"{key} {_number(count)}" for key, count in value.items())))
            case list() | tuple():
                facts.append((words, "; ".join(map(str, value)) or "none"))
            case _:
                facts.append((words, _number(value)))
    return facts


def _number(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
