"""What a question in SQL gives: rows, Arrow, pandas or Polars, and one clear line where it cannot be asked."""

import importlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from weighin_analysis.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_T = TypeVar("_T")
# DuckDB asks for the values of a column first, where they are not told.
_PIVOT = re.compile(r"\bPIVOT", re.IGNORECASE)


class Answer:
    """The answer to one query, computed anew by every call for it. Each may raise QueryError, in one line."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, query: str) -> None:
        """Bind a query to the tables; QueryError where it asks no single question, or where DuckDB finds it wrong."""
        self._connection = connection
        self._relation = self._waited(lambda: _bound(connection, query))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns; two may be the same."""
        return tuple(self._relation.columns)

    def schema(self) -> "pa.Schema":
        """Return the columns with their types in Arrow."""
        return self._waited(lambda: self._relation.limit(0).to_arrow_table().schema)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return all rows, as tuples of Python's own types."""
        return self._waited(self._relation.fetchall)

    def arrow(self) -> "pa.Table":
        """Return all rows as an Arrow table."""
        return self._waited(self._relation.to_arrow_table)

    def batches(self, row_count: int) -> "Iterator[pa.RecordBatch]":
        """Yield the rows, at most ``row_count`` at a time; only one batch of them is held."""
        return self._batches(self._relation, row_count)

    def json(self, row_count: int) -> Iterator[str]:
        """Yield the rows as JSON objects, at most ``row_count`` in one text, a comma and a new line between them.

        DuckDB writes them, many times faster than Python does; a number that is not finite is none that JSON has.
        """
        documents = self._relation.set_alias("answer").project("to_json(answer)::VARCHAR")
        for batch in self._batches(documents, row_count):
            yield ",\n".join(map(str, batch.column(0).to_pylist()))

    def _batches(self, relation: duckdb.DuckDBPyRelation, row_count: int) -> "Iterator[pa.RecordBatch]":
        reader = self._waited(lambda: relation.to_arrow_reader(row_count))
        while (batch := self._waited(lambda: next(reader, None))) is not None:
            yield batch

    def pandas(self) -> "pd.DataFrame":
        """Return all rows as a data frame of pandas; QueryError where pandas is not installed."""
        _require("pandas")
        return self._waited(self._relation.df)

    def polars(self) -> "pl.DataFrame":
        """Return all rows as a data frame of Polars; QueryError where it is not installed, or lacks a column's type."""
        _require("polars")
        from polars.exceptions import PolarsError  # noqa: PLC0415 - may be absent

        try:
            return self._waited(self._relation.pl)
        except PolarsError as error:
            raise QueryError(f"Polars cannot hold this answer: {' '.join(str(error).split())}") from error

    def _waited(self, call: Callable[[], _T]) -> _T:
        """Return what a call to DuckDB gives; Ctrl-C ends it, and an error of DuckDB is one line.

        DuckDB sees Ctrl-C before the first rows of an answer and not between later ones, and leaves the query running.
        So another thread asks, and this one waits. It is no thread of a pool: a pool does not know of a thread during
        whose start Ctrl-C came, and would let it run on.
        """
        outcome: Future[_T] = Future()

        def ask() -> None:
            if outcome.set_running_or_notify_cancel():
                try:
                    outcome.set_result(call())
                except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                    outcome.set_exception(error)

        try:
            Thread(target=ask, daemon=True).start()
            return outcome.result()
        except (duckdb.Error, OSError) as error:  # an OSError is what Arrow makes of an error within a stream
            raise QueryError(_one_line(error)) from error
        except KeyboardInterrupt:
            if not outcome.cancel():  # it has begun
                while not outcome.done():
                    self._connection.interrupt()
                    wait([outcome], timeout=0.1)
            raise


def _bound(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.DuckDBPyRelation:
    """Return what one statement asks that changes nothing; QueryError for all others, duckdb.Error for a wrong one."""
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"the query is not Unicode text: {error.reason}") from error
    statements = connection.extract_statements(query)
    if not statements:
        raise QueryError("there is no question: ask with SELECT")
    if len(statements) > 1:
        pivot = "; PIVOT is one with ON column IN (values)" if _PIVOT.search(query) else ""
        raise QueryError(f"one SELECT is answered at a time, this has {len(statements)} statements{pivot}")
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = str(statements[0].type).rpartition(".")[2]
        raise QueryError(f"a snapshot is only read: ask with SELECT, not {kind}")
    try:
        return connection.sql(query)
    except duckdb.Error:
        connection.execute(query)  # fails alike, and tells where
        raise


def _one_line(error: Exception) -> str:
    """Return what DuckDB says, with the line and the column instead of a picture of the place."""
    words, _, place = str(error).partition("\n\nLINE ")
    told = re.match(r"(\d+): (.*)\n( *)\^", place)
    where = ""
    if told and not told[2].startswith("..."):  # of a long line it shows a part
        where = f" (line {told[1]}, column {len(told[3]) - len(f'LINE {told[1]}: ') + 1})"
    elif told:
        where = f" (line {told[1]})"
    return " ".join(words.split()) + where


def _require(package: str) -> None:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise QueryError(f"{package} is not installed; install it, or take .arrow() or .rows()") from error
