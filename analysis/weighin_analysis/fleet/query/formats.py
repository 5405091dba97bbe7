"""An answer as text or bytes: a table for people, CSV, JSON or Parquet; of any length in little memory."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import accumulate
from typing import IO, TYPE_CHECKING, Any

from weighin_analysis.errors import QueryError
from weighin_analysis.fleet.query.answer import Answer

if TYPE_CHECKING:
    import pyarrow as pa

# Rows at a time: of text few, since they become Python's objects; of Parquet as many as one row group is good for.
_TEXT_ROWS = 5_000
_PARQUET_ROWS = 100_000
_WIDEST_CELL = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The first rows of an answer as aligned lines, and what is left out of them."""

    lines: tuple[str, ...]
    left_out_rows: int
    left_out_columns: tuple[str, ...]


def table(answer: Answer, most_rows: int, width: int | None) -> Table:
    """Return the first rows, and the columns from the left that fit ``width`` characters; None takes every column."""
    shown: list[Sequence[Any]] = []
    row_count = 0
    for batch in answer.batches(_TEXT_ROWS):
        row_count += batch.num_rows
        shown += _rows(batch.slice(0, most_rows - len(shown)))
    columns = [_aligned(name, [row[place] for row in shown]) for place, name in enumerate(answer.columns)]
    ends = list(accumulate(len(column[0]) + 2 for column in columns))
    count = max(1, sum(end - 2 <= width for end in ends)) if width is not None else len(columns)
    return Table(
        lines=tuple("  ".join(cells).rstrip() for cells in zip(*columns[:count], strict=True)),
        left_out_rows=row_count - len(shown),
        left_out_columns=answer.columns[count:],
    )


def _aligned(name: str, values: Sequence[Any]) -> list[str]:
    """Return the cells of a column with its name above them, all of one width; numbers stand to the right."""
    cells = [_cut(name), *map(_cell, values)]
    width = max(map(len, cells))
    right = any(isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in values)
    return [cell.rjust(width) if right else cell.ljust(width) for cell in cells]


def csv_text(answer: Answer) -> Iterator[str]:
    """Yield CSV as RFC 4180 has it, with a header.

    Absent is empty and an empty text is quoted; lists and structs are JSON, times are as in JSON, NaN is ``nan``.
    """
    yield _csv_line(answer.columns)
    for batch in answer.batches(_TEXT_ROWS):
        yield "".join(map(_csv_line, _rows(batch)))


def json_text(answer: Answer) -> Iterator[str]:
    """Yield one JSON document, a list with an object per row, in ASCII; QueryError where two columns share a name.

    Times are ISO 8601 with Z. A number that is not finite is null.
    """
    _require_names(answer)
    before = "["
    for batch in answer.batches(_TEXT_ROWS):
        for row in _rows(batch):
            yield f"{before}\n{json.dumps(dict(zip(answer.columns, map(_plain, row), strict=True)))}"
            before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def write_parquet(answer: Answer, file: IO[bytes]) -> None:
    """Write one Parquet file, compressed with zstd; QueryError where two columns share a name, or one has no type."""
    _require_names(answer)
    # They take as long to import as a small question to answer.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetWriter(file, answer.schema(), compression="zstd") as writer:
            for batch in answer.batches(_PARQUET_ROWS):
                writer.write_batch(batch)
    except pa.ArrowNotImplementedError as error:
        raise QueryError(f"Parquet has no type for a column of this answer ({error}); cast it to another") from error


def _require_names(answer: Answer) -> None:
    """Pass only an answer whose columns have names of their own."""
    twice = sorted({name for name in answer.columns if answer.columns.count(name) > 1})
    if twice:
        raise QueryError(f"two columns are called {twice[0]}; give one another name with AS")


def _rows(batch: "pa.RecordBatch") -> Iterable[Sequence[Any]]:
    """Return the rows of an Arrow batch; one without columns has none."""
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _plain(value: Any) -> Any:
    """Return a value of an answer as JSON has it; what JSON has no type for is text."""
    plain: Any = str(value)
    match value:
        case None | bool() | int() | str():
            plain = value
        case float():
            plain = value if math.isfinite(value) else None
        case datetime():  # every time of an answer is UTC
            plain = value.replace(tzinfo=None).isoformat() + "Z"
        case Decimal():
            plain = int(value) if value == value.to_integral_value() else float(value)
        case list() | tuple():
            plain = [_plain(one) for one in value]
        case dict():
            plain = {str(key): _plain(one) for key, one in value.items()}
        case bytes():
            plain = value.hex()
    return plain


def _csv_line(row: Sequence[Any]) -> str:
    # A line with nothing on it is no row to most readers.
    return (",".join(map(_csv_field, row)) or '""') + "\r\n"


def _csv_field(value: Any) -> str:
    text = _text(value)
    if text and not any(character in text for character in ',"\r\n'):
        return text
    return "" if value is None else '"' + text.replace('"', '""') + '"'


def _text(value: Any) -> str:
    """Return a value as text; absent is empty."""
    if isinstance(value, float):
        return repr(value)
    plain = _plain(value)
    return "" if plain is None else plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _cell(value: Any) -> str:
    """Return a value for the eyes of a person; absent is a dash."""
    return "-" if value is None else _cut(f"{value:.6g}" if isinstance(value, float) else _text(value))


def _cut(text: str) -> str:
    text = "".join(character if character.isprintable() else "�" for character in text)
    return text if len(text) <= _WIDEST_CELL else text[: _WIDEST_CELL - 1] + "…"
