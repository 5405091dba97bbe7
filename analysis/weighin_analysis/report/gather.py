"""From an open fleet to everything that a report says."""

from collections.abc import Sequence

from weighin_analysis.fleet.coverage.cover import count
from weighin_analysis.fleet.coverage.population import Population
from weighin_analysis.fleet.grading.regrade import regrade
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.limits import Limits
from weighin_analysis.report import queries
from weighin_analysis.report.decision import main_choice
from weighin_analysis.report.findings import Findings
from weighin_analysis.report.queries import Graded


def findings_of(
    fleet: Fleet, graded: Sequence[Graded], *, source: str | None, population: Population | None
) -> Findings:
    """Return what the report says of the devices of a source under each of the limits."""
    limits = tuple(one.limits for one in graded)
    counted = count(fleet, limits, source=source, population=population)
    coverage = counted.coverage
    main = main_choice(coverage)
    queries.select_estimates(fleet)
    needs = queries.memory_needs(fleet)
    # Where nothing is comfortable anywhere, the smallest class shows by how much.
    mark_class = main.size_class if main else needs[0].size_class if needs else None
    return Findings(
        time=fleet.time,
        coverage=coverage,
        limits=limits,
        run_count=queries.run_count(fleet),
        verdict_counts=counted.verdict_counts,
        needs=needs,
        stock=queries.free_memory(fleet, counted.cells),
        mark_class=mark_class,
        marks=queries.speed_marks(fleet, graded[0], mark_class) if mark_class else (),
        devices=queries.device_lines(fleet, graded),
        tallies=queries.tallies(fleet),
    )


def grades_of(fleet: Fleet, limits: Sequence[Limits]) -> tuple[Graded, ...]:
    """Return the fleet's verdicts and tiers under each of the limits; LimitsError where they cannot be applied."""
    return tuple(_graded(fleet, one) for one in limits)


def _graded(fleet: Fleet, limits: Limits) -> Graded:
    if limits.version == fleet.limits_version:
        return Graded(limits=limits, verdicts="verdicts", tiers="tiers")
    found = regrade(fleet.connection, limits)
    return Graded(limits=limits, verdicts=found.verdicts, tiers=found.tiers)
