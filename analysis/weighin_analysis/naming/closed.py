"""Models whose weights are not published, read from data/closed_models.toml."""

from dataclasses import dataclass
from functools import cache

from weighin_analysis.data_files import read_data
from weighin_analysis.models.entry import CountBasis, ModelEntry, ModelKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedModel:
    """A model, or a line of models, that nobody can download.

    A name of ``names`` that has no version stands for every version. ``strict``: with further words it is another one.
    """

    entry: ModelEntry
    publisher: str
    names: tuple[str, ...]
    strict: bool


@cache
def closed_models() -> tuple[ClosedModel, ...]:
    """Return all closed models in the order of the file. Their parameters are None unless the publisher tells them."""
    return tuple(
        ClosedModel(
            entry=ModelEntry(
                name=row["name"],
                kind=ModelKind.DECODER,
                parameters=row.get("parameters"),
                count_basis=CountBasis.ROUNDED if "parameters" in row else CountBasis.UNDISCLOSED,
                source=row["source"],
            ),
            publisher=row["publisher"],
            names=tuple(row["names"]),
            strict=row.get("strict", False),
        )
        for row in read_data("closed_models.toml")["model"]
    )
