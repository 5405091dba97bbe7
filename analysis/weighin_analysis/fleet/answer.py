"""What a question in SQL gives: rows, Arrow, pandas or Polars, and one clear line where it cannot be asked."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb

from weighin_analysis.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_BATCH_ROWS = 10_000


class Answer:
    """The answer to one query, computed anew by every call that asks for it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> None:
        """Bind a statement; QueryError where DuckDB finds it wrong."""
        with asked():
            self._relation = connection.sql(statement.query)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(self._relation.columns)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return all rows as tuples of Python's own types."""
        with asked():
            return self._relation.fetchall()

    def arrow(self) -> "pa.Table":
        """Return all rows as an Arrow table."""
        with asked():
            return self._relation.to_arrow_table()

    def batches(self) -> "pa.RecordBatchReader":
        """Return a reader of the rows that never holds all of them."""
        with asked():
            return self._relation.to_arrow_reader(_BATCH_ROWS)

    def pandas(self) -> "pd.DataFrame":
        """Return all rows as a data frame of pandas; QueryError where pandas is not installed."""
        _require("pandas")
        with asked():
            return self._relation.df()

    def polars(self) -> "pl.DataFrame":
        """Return all rows as a data frame of Polars; QueryError where Polars is not installed."""
        _require("polars")
        with asked():
            return self._relation.pl()


def checked_statement(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    """Return the one statement of a query if it asks and changes nothing; QueryError for all others."""
    with asked():
        statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise QueryError(f"one statement is answered at a time, this has {len(statements)}")
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = str(statements[0].type).rpartition(".")[2]
        raise QueryError(f"a snapshot answers SELECT, it takes no {kind}")
    return statements[0]


@contextmanager
def asked() -> Iterator[None]:
    """Say an error of DuckDB in one line; Ctrl-C stays Ctrl-C."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except duckdb.Error as error:
        raise QueryError(" ".join(str(error).split())) from error


def _require(package: str) -> None:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise QueryError(f"{package} is not installed; `pip install {package}`, or take .arrow() or .rows()") from error
