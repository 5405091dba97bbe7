"""Published download sizes, each with its source, and how predictions are compared with them."""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRow:
    """One published size. ``exact`` ones are to the byte, others as rounded by their source."""

    model: str
    format: str
    runtime: str
    quantization: str
    size_bytes: int
    exact: bool
    parameters: int | None
    source: str
    note: str

    def error(self, predicted_bytes: int) -> float:
        """The signed relative error of a prediction, as a fraction."""
        return predicted_bytes / self.size_bytes - 1


def download_rows(
    keep: Callable[[DownloadRow], bool] = lambda _: True, name: str = "download_sizes.csv"
) -> tuple[DownloadRow, ...]:
    """The rows of the data file ``name`` that ``keep`` picks, in its order."""
    with (_DATA / name).open(encoding="utf-8", newline="") as file:
        return tuple(row for row in map(_row, csv.DictReader(file)) if keep(row))


def leaving_one_model_out(
    rows: Iterable[DownloadRow],
) -> Iterator[tuple[tuple[DownloadRow, ...], tuple[DownloadRow, ...]]]:
    """Per model its rows and all rows of other models, from which alone a constant may be fitted."""
    rows = tuple(rows)
    for model in dict.fromkeys(row.model for row in rows):
        held_out = tuple(row for row in rows if row.model == model)
        yield held_out, tuple(row for row in rows if row.model != model)


def median_and_p90(errors: Iterable[float]) -> tuple[float, float]:
    """Median and 90th percentile of the absolute errors."""
    sizes = [abs(error) for error in errors]
    return median(sizes), quantiles(sizes, n=10, method="inclusive")[-1]


def _row(cells: dict[str, str]) -> DownloadRow:
    return DownloadRow(
        model=cells["model"],
        format=cells["format"],
        runtime=cells["runtime"],
        quantization=cells["quantization"],
        size_bytes=int(cells["size_bytes"]),
        exact=cells["exact"] == "yes",
        parameters=int(cells["parameters"]) if cells["parameters"] else None,
        source=cells["source"],
        note=cells["note"],
    )
