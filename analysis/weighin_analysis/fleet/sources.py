"""From which sources devices are counted; no two are ever mixed unless somebody asks for all."""

from collections.abc import Mapping
from enum import StrEnum

import duckdb

from weighin_analysis.errors import QuestionError


class Source(StrEnum):
    """Where the runs of a device come from, or all of them."""

    NATIVE = "native"  # weighed in by the agent
    BROWSER = "browser"
    EXTERNAL = "external"  # somebody's published figures
    ALL = "all"


def device_counts(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Return how many devices the table ``devices`` has of each source, by its name."""
    query = "SELECT source, count(*) FROM devices GROUP BY source ORDER BY source"
    return dict(connection.execute(query).fetchall())


def chosen_sources(counts: Mapping[str, int], source: Source | None) -> tuple[str, ...]:
    """Return the sources to count: what was asked for, else native devices where there are any, else the only source.

    QuestionError where there are several others and none was asked for.
    """
    if source is Source.ALL:
        return tuple(counts)
    if source is not None:
        return (source.value,)
    if Source.NATIVE in counts:
        return (Source.NATIVE.value,)
    if len(counts) > 1:
        raise QuestionError(
            f"the devices are of the sources {' and '.join(counts)}; name one of them, or all, as --source"
        )
    return tuple(counts)
