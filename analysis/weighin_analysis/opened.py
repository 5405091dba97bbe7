"""What a program does with an open snapshot: SQL, and the answers of the commands as values.

``limits`` is a version that ships with weighin or a TOML file, where several stand side by side also a sequence of
them; the snapshot's own where it is left out. ``source`` is native, browser, external or all; native where the snapshot
has native devices, else the only source there is. ``population`` is a CSV file of shares that the devices are weighted
to (docs/coverage.md). What cannot be answered is an AnalysisError of one line.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from weighin_analysis.fleet.check.check_model import check_model
from weighin_analysis.fleet.coverage.cover import coverage_of
from weighin_analysis.fleet.coverage.population import Population, read_population
from weighin_analysis.fleet.coverage.tiers import Tiers, tiers_of
from weighin_analysis.fleet.coverage.values import Coverage, ModelCheck
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.limits import Limits

_Path = str | PathLike[str]


class OpenSnapshot(Fleet):
    """An open snapshot; ``weighin_analysis.open`` gives one."""

    def tiers(self, *, limits: _Path | None = None, source: str | None = None) -> Tiers:
        """Return how many devices have which tier, and the tier of each."""
        with self.asking():
            return tiers_of(self, limits=self._limits(limits), source=source)

    def coverage(
        self, *, limits: _Path | Sequence[_Path] = (), source: str | None = None, population: _Path | None = None
    ) -> Coverage:
        """Return which share of the devices runs each size class, and what to ship, under each of the limits."""
        chosen = self.limits(_names(limits))
        with self.asking():
            return coverage_of(self, chosen, source=source, population=_population(population))

    def check(
        self,
        model: str,
        *,
        scheme: str | None = None,
        context_tokens: int | None = None,
        limits: _Path | None = None,
        source: str | None = None,
        population: _Path | None = None,
    ) -> ModelCheck:
        """Return which share of the devices runs one model, by any name that `size` knows."""
        with self.asking():
            return check_model(
                self,
                model,
                scheme=scheme,
                context_tokens=context_tokens,
                limits=self._limits(limits),
                source=source,
                population=_population(population),
            )

    def report(
        self,
        folder: _Path,
        *,
        limits: _Path | Sequence[_Path] = (),
        source: str | None = None,
        population: _Path | None = None,
    ) -> Path:
        """Write the report into a folder and return the path of its page."""
        # Imported here: the library of the charts takes longer to import than a question to answer.
        from weighin_analysis.report.write import write_report  # noqa: PLC0415

        chosen, people = self.limits(_names(limits)), _population(population)
        with self.asking():
            return write_report(self, Path(folder), limits=chosen, source=source, population=people).page

    def _limits(self, text: _Path | None) -> Limits | None:
        return self.limits([str(text)])[0] if text else None


def _names(limits: _Path | Sequence[_Path]) -> list[str]:
    """Return the names of one or several; a text is a sequence of texts, too."""
    return [str(one) for one in ([limits] if isinstance(limits, str | PathLike) else limits)]


def _population(path: _Path | None) -> Population | None:
    return read_population(Path(path)) if path else None
