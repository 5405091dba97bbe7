"""A population that a fleet shall stand for: a CSV of shares by form factor, memory and accelerator.

A row is a cell of the population and every row tells the same columns, any of ``form_factor``, ``memory`` and
``accelerator``, and its ``share``:

    form_factor,memory,share
    phone,<8,30 %
    phone,>=8,25 %
    laptop,8-16,0.45

Memory is in GiB as it is sold, from the first number up to but without the second. Shares are fractions or percent and
sum to 1. docs/coverage.md tells how such a file is used.
"""

import csv
import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from weighin_analysis.errors import PopulationError

COLUMNS = ("form_factor", "memory", "accelerator")
FORM_FACTORS = ("desktop", "laptop", "server", "phone", "tablet", "single_board", "virtual_machine")
ACCELERATORS = ("gpu", "integrated_gpu", "npu", "none")
# Memory as it is sold, GiB. A system reports less, as it keeps a part: a phone of 8 tells 6.6 to 7.5.
SOLD_GIB = (0.5, 1, 2, 3, 4, 6, 8, 12, 16, 18, 24, 32, 36, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# Shares that people round to whole percent sum to 1 within this.
SUM_TOLERANCE = 0.02

_BAND = re.compile(r"<(?P<below>[\d.]+)|>=(?P<least>[\d.]+)|(?P<low>[\d.]+)-(?P<high>[\d.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBand:
    """A band of memory as it is sold, in GiB: ``low`` belongs to it, ``high`` does not."""

    text: str
    low_gib: float
    high_gib: float

    @property
    def above_bytes(self) -> int:
        """What a device of the band reports is more than this."""
        return _reported_bytes(self.low_gib)

    @property
    def most_bytes(self) -> int | None:
        """What a device of the band reports is at most this; None where the band is open."""
        return None if math.isinf(self.high_gib) else _reported_bytes(self.high_gib)


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationCell:
    """A part of the population with its share, 0 to 1; None is what the file does not tell apart."""

    form_factor: str | None
    memory: MemoryBand | None
    accelerator: str | None
    share: float

    @property
    def name(self) -> str:
        """The cell in words."""
        memory = f"{self.memory.text} GiB" if self.memory else None
        accelerator = "no accelerator" if self.accelerator == "none" else self.accelerator
        return ", ".join(part.replace("_", " ") for part in (self.form_factor, memory, accelerator) if part)

    @property
    def part(self) -> str:
        """Which part of the population it is, in words."""
        return f"{self.name}, {100 * self.share:.3g} % of the population"


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """The cells of a population; no two of them hold the same device. The shares sum to exactly 1, but for floats."""

    cells: tuple[PopulationCell, ...]


def read_population(path: Path) -> Population:
    """Read a population; PopulationError in one line that names the file, and the row where one is wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as cause:
        raise PopulationError(f"{path}: cannot be read ({cause.strerror})") from cause
    except UnicodeDecodeError as cause:
        raise PopulationError(f"{path}: is no text in UTF-8") from cause
    try:
        return parse_population(text)
    except PopulationError as error:
        raise PopulationError(f"{path}: {error}") from error


def parse_population(text: str) -> Population:
    """Return the population that a CSV describes; PopulationError in one line where it is none."""
    rows = _rows(text)
    cells = [_cell(row, number) for number, row in rows]
    numbers = [number for number, _ in rows]
    for (first, a), (second, b) in itertools.combinations(zip(numbers, cells, strict=True), 2):
        if _overlap(a, b):
            raise PopulationError(f"row {second} overlaps row {first}: a device would be in both")
    total = math.fsum(cell.share for cell in cells)
    if abs(total - 1) > SUM_TOLERANCE:
        raise PopulationError(f"the shares sum to {100 * total:.4g} %, not to 100 %; a rest needs a row of its own")
    return Population(cells=tuple(replace(cell, share=cell.share / total) for cell in cells))


def _rows(text: str) -> Sequence[tuple[int, Mapping[str, str]]]:
    """Return the rows with their numbers in the file; the first is the heading."""
    try:
        lines = [(number, row) for number, row in enumerate(csv.reader(io.StringIO(text), strict=True), 1) if any(row)]
    except csv.Error as cause:
        raise PopulationError(f"is no CSV ({cause})") from cause
    if not lines:
        raise PopulationError("is empty; it needs a heading and a row for every cell")
    heading = [name.strip() for name in lines[0][1]]
    _check_heading(heading)
    for number, row in lines[1:]:
        if len(row) != len(heading):
            raise PopulationError(f"row {number} has {len(row)} fields, the heading {len(heading)}")
    if len(lines) == 1:
        raise PopulationError("has a heading and no row")
    return [(number, dict(zip(heading, map(str.strip, row), strict=True))) for number, row in lines[1:]]


def _check_heading(heading: Sequence[str]) -> None:
    known = (*COLUMNS, "share")
    unknown = next((name for name in heading if name not in known), None)
    if unknown is not None:
        raise PopulationError(f"column {unknown!r:.40} is not known; the columns are {', '.join(known)}")
    double = next((name for name in heading if heading.count(name) > 1), None)
    if double is not None:
        raise PopulationError(f"column {double} is there twice")
    if "share" not in heading:
        raise PopulationError("has no column share")
    if len(heading) == 1:
        raise PopulationError(f"has no column to tell devices apart; at least one of {', '.join(COLUMNS)}")


def _cell(row: Mapping[str, str], number: int) -> PopulationCell:
    for column, known in (("form_factor", FORM_FACTORS), ("accelerator", ACCELERATORS)):
        if column in row and row[column] not in known:
            raise PopulationError(f"row {number}: {column} {row[column]!r:.40} is not one of {', '.join(known)}")
    return PopulationCell(
        form_factor=row.get("form_factor"),
        memory=_band(row["memory"], number) if "memory" in row else None,
        accelerator=row.get("accelerator"),
        share=_share(row["share"], number),
    )


def _share(text: str, number: int) -> float:
    """Return a share, written as 0.25 or as 25 %."""
    digits, percent = (text[:-1], True) if text.endswith("%") else (text, False)
    try:
        share = float(digits) / (100 if percent else 1)
    except ValueError as cause:
        raise PopulationError(f"row {number}: share {text!r:.40} is no number") from cause
    if not 0 <= share <= 1:  # NaN is neither
        raise PopulationError(f"row {number}: share {text!r:.40} is not between 0 and 1; write percent as 25 %")
    return share


def _band(text: str, number: int) -> MemoryBand:
    match = _BAND.fullmatch(text.replace(" ", ""))
    try:
        parts = {name: float(value) for name, value in (match.groupdict() if match else {}).items() if value}
    except ValueError:
        parts = {}
    low = parts.get("low", parts.get("least", 0.0))
    high = parts.get("high", parts.get("below", math.inf))
    if not parts or not low < high:
        raise PopulationError(f"row {number}: memory {text!r:.40} is no band in GiB such as <4, 4-8 or >=16")
    return MemoryBand(text=text, low_gib=low, high_gib=high)


def _overlap(a: PopulationCell, b: PopulationCell) -> bool:
    if (a.form_factor, a.accelerator) != (b.form_factor, b.accelerator):
        return False
    if a.memory is None or b.memory is None:
        return True
    # By what devices report: bands between which no memory is sold hold the same devices or none.
    low = max(a.memory.above_bytes, b.memory.above_bytes)
    return low < min(_most(a.memory), _most(b.memory))


def _most(band: MemoryBand) -> float:
    most = band.most_bytes
    return math.inf if most is None else most


def _reported_bytes(gib: float) -> int:
    """Return the most bytes that a device reports with less memory, as it is sold, than ``gib``."""
    return int(2**30 * max((sold for sold in SOLD_GIB if sold < gib), default=0))
