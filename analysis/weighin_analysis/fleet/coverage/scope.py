"""The devices that a statement about a fleet is made of: which sources, and what each stands for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np

from weighin_analysis.errors import QuestionError
from weighin_analysis.fleet.coverage.population import Population, PopulationCell
from weighin_analysis.fleet.coverage.shares import BoolArray, Cells
from weighin_analysis.fleet.grading.expressions import text_list

SOURCES = ("native", "browser", "external")
ALL_SOURCES = "all"

# A device has its place in all arrays; of its runs only the newest is in the table. Estimates lie in the order of their
# runs, so that who reads them goes through the arrays from one end to the other.
_SCOPE = """
    CREATE OR REPLACE TEMP TABLE coverage_devices AS
    SELECT (row_number() OVER (ORDER BY run_number) - 1)::INTEGER AS place, run_number,
        coalesce(cell, 0)::INTEGER AS cell
    FROM devices LEFT JOIN coverage_population AS wanted
        ON (wanted.form_factor IS NULL OR wanted.form_factor = devices.form_factor)
        AND (wanted.accelerator IS NULL OR wanted.accelerator = devices.accelerator_kind)
        AND (above_bytes IS NULL OR memory_total_bytes > above_bytes)
        AND (most_bytes IS NULL OR memory_total_bytes <= most_bytes)
    WHERE list_contains({sources}, source) AND (cell IS NOT NULL OR NOT EXISTS (FROM coverage_population))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The devices in question, and how many are not; the table ``coverage_devices`` has run, place and cell of each.

    ``population`` are the cells that they are weighted to, none where they are not.
    """

    cells: Cells
    population: tuple[PopulationCell, ...]
    sources: Mapping[str, int]
    left_out: Mapping[str, int]
    unplaced_count: int

    @property
    def device_count(self) -> int:
        """How many devices are in question."""
        return len(self.cells.cell)

    def lacks(self, judged: BoolArray) -> Iterator[str]:
        """Yield what keeps the judged devices from standing for the whole population, in words."""
        for cell in self.cells_without(judged):
            yield f"no judged device stands for {cell.part}"
        if self.unplaced_count:
            belong = "device belongs" if self.unplaced_count == 1 else "devices belong"
            yield f"{self.unplaced_count:,} {belong} to no cell of the population, and no share counts them"

    def cells_without(self, devices: BoolArray) -> tuple[PopulationCell, ...]:
        """Return the parts of the population that none of these devices stands for."""
        return tuple(cell for cell, lacks in zip(self.population, self.cells.without(devices), strict=False) if lacks)


def chosen_sources(connection: duckdb.DuckDBPyConnection, source: str | None) -> tuple[str, ...]:
    """Return the sources whose devices are asked about; without a choice native, else the only one there is.

    QuestionError where there is no such source, or where a choice is needed.
    """
    if source == ALL_SOURCES:
        return SOURCES
    if source is not None:
        if source not in SOURCES:
            raise QuestionError(f"there is no source {source!r:.40}; give one of {', '.join(SOURCES)}, {ALL_SOURCES}")
        return (source,)
    found = source_counts(connection)
    if len(found) > 1 and "native" not in found:
        raise QuestionError(f"the devices are of the sources {', '.join(found)}; give --source with one of them or all")
    return ("native",) if "native" in found or not found else tuple(found)


def choose(connection: duckdb.DuckDBPyConnection, sources: Sequence[str], population: Population | None) -> Scope:
    """Make the table ``coverage_devices`` of the devices of these sources, without those in no cell of a population."""
    cells = population.cells if population else ()
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE coverage_population (cell INTEGER, form_factor VARCHAR, accelerator VARCHAR, "
        "above_bytes BIGINT, most_bytes BIGINT)"
    )
    for number, cell in enumerate(cells):
        band = cell.memory
        row = [number, cell.form_factor, cell.accelerator, band and band.above_bytes, band and band.most_bytes]
        connection.execute("INSERT INTO coverage_population VALUES ($1, $2, $3, $4, $5)", row)
    connection.execute(_SCOPE.format(sources=text_list(sources)))
    cell_of = (
        connection.execute("SELECT cell FROM coverage_devices ORDER BY place").fetchnumpy()["cell"].astype(np.int64)
    )
    shares = np.array([cell.share for cell in cells]) if cells else np.ones(1)
    found = source_counts(connection)
    asked = {name: count for name, count in found.items() if name in sources}
    placed = dict(
        connection.execute(
            "SELECT source, count(*) FROM coverage_devices JOIN devices USING (run_number) GROUP BY source"
        ).fetchall()
    )
    return Scope(
        cells=Cells(cell=cell_of, shares=shares),
        population=cells,
        sources={name: placed.get(name, 0) for name in asked},
        left_out={name: count for name, count in found.items() if name not in sources},
        unplaced_count=sum(asked.values()) - len(cell_of),
    )


def source_counts(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Return {source: devices} of the snapshot, in the order of SOURCES."""
    rows = dict(connection.execute("SELECT source, count(*) FROM devices GROUP BY source").fetchall())
    return {name: rows[name] for name in (*SOURCES, *sorted(rows.keys() - set(SOURCES))) if name in rows}
