"""Cursors of databases (DB-API 2.0), which return rows of Python values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import duckdb
import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.model.arrow_types import is_json
from cdp_backfill.model.interrupts import interruptible
from cdp_backfill.sources.chunks import CHUNK_ROWS, check_names
from cdp_backfill.sources.mixed_cells import keep_surrogates, mixed_cells
from cdp_backfill.sources.streams import Stream, StreamSource

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from cdp_backfill.sources.chunks import Source

    Cells = Sequence[Any]

_ZONED: Final = "WITH TIME ZONE"

_AHEAD_BYTES: Final = 64 * 2**20
"""Approximate bytes that are read ahead to find a value in each column."""


def database_cursor(table: Any) -> Source | None:
    """A DB-API 2.0 cursor on which a query was executed, or a result of SQLAlchemy.

    Rows are fetched as they are needed. Some drivers hold the whole result anyway, unless they are
    asked for a cursor on the server.

    The first 16,384 rows decide the type of a column; if it is empty in them, the next 16,384 do,
    and so on. For that, up to 64 MB are read ahead. A column that is still empty then is text.
    Later numbers and texts of another type are read for what they are, each cell by itself. Any
    other cell that does not fit stops the reading with an error.
    """
    if not hasattr(table, "fetchmany"):
        return None
    described = getattr(table, "description", None)
    if described is not None:
        names = [str(item[0]) for item in described]
    elif hasattr(table, "keys"):
        names = list(map(str, table.keys()))
    else:
        raise SourceError("The cursor has no rows. Execute a query on it first.")
    again = "a DataFrame, as from pandas.read_sql(query, connection)"
    if isinstance(table, duckdb.DuckDBPyConnection):
        # It also offers Arrow, but would hold all rows for that; here, rows are streamed.
        again = "a relation, as from connection.sql(query)"
        zoned = next((item[0] for item in described or () if _ZONED in str(item[1])), None)
        if zoned is not None and find_spec("pytz") is None:
            raise SourceError(
                f"Column {zoned!r} of the DuckDB result is a time with a zone, for which DuckDB "
                "needs pytz here. Pass connection.sql(query) instead, which does not need it."
            )
    check_names(names, "the cursor")
    return StreamSource(_Rows(table, names).stream(again))


class _Rows:
    """The rows of a cursor, column by column."""

    def __init__(self, cursor: Any, names: list[str]) -> None:
        self._cursor = cursor
        self._names = names
        self._columns = [_Column(name) for name in names]
        self._blocks = self._read_blocks()
        self._ahead: list[list[Any]] = []
        size = 0
        for block in self._blocks:
            self._ahead.append(block)
            size += sum(array.nbytes for array in block)
            if size > _AHEAD_BYTES or all(column.settled for column in self._columns):
                break
        for column in self._columns:
            column.settle_empty()

    def stream(self, instead: str) -> Stream:
        """How to read them; see :class:`Stream`."""
        return Stream(
            name="the cursor",
            schema=pa.schema([(column.name, column.kind) for column in self._columns]),
            batches=self._batches,
            instead=instead,
            drifts=True,
        )

    def _batches(self, _: list[str]) -> Generator[Any]:
        ahead = (self._ahead.pop(0) for _ in range(len(self._ahead)))
        for block in chain(ahead, self._blocks):
            arrays = [
                # Empty in the rows before the type of the column was known.
                pa.nulls(len(array), column.kind) if pa.types.is_null(array.type) else array
                for array, column in zip(block, self._columns, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, self._names)

    def _read_blocks(self) -> Iterator[list[Any]]:
        """The rows as Arrow arrays, one for each column, a chunk at a time."""
        position = 0
        while rows := self._fetch():
            yield [
                column.read(cells, position)
                for column, cells in zip(self._columns, self._by_column(rows), strict=True)
            ]
            position += len(rows)

    def _fetch(self) -> list[Any]:
        rows: list[Any] = []
        while len(rows) < CHUNK_ROWS:  # some drivers return fewer rows than requested
            try:
                with interruptible():
                    more = self._cursor.fetchmany(CHUNK_ROWS - len(rows))
            except Exception as error:  # noqa: BLE001  # each driver has errors of its own
                raise SourceError(
                    f"The cursor cannot be read ({type(error).__name__}). It must have executed "
                    "a query, and nothing else may read it. Call its fetchmany() to see the "
                    "cause."
                ) from None  # errors of drivers can show a cell
            if not more:
                break
            rows.extend(more)
        return rows

    def _by_column(self, rows: list[Any]) -> list[Cells]:
        if isinstance(rows[0], Mapping):
            return [[row[name] for row in rows] for name in self._names]
        try:
            columns: list[Cells] = list(zip(*rows, strict=True))
        except (TypeError, ValueError):
            columns = []
        if len(columns) != len(self._names):
            raise SourceError(
                f"The cursor returns rows of type {type(rows[0]).__name__}, which are not "
                "sequences of cells. Use the driver's plain cursor."
            )
        return columns


class _Column:
    """One column, whose first cells decide its type."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind: Any = pa.null()
        self._accepted: frozenset[str] = frozenset()

    @property
    def settled(self) -> bool:
        """Whether it has a type."""
        return not pa.types.is_null(self.kind)

    def settle_empty(self) -> None:
        """Make a column without cells a column of text."""
        if not self.settled:
            self.kind, self._accepted = pa.string(), frozenset(["text"])

    def read(self, cells: Cells, row: int) -> Any:
        """The cells as an Arrow array.

        Args:
            cells: The cells.
            row: Number of the first cell in the result, for errors.

        Raises:
            SourceError: They do not fit the type of the column, or have a type that cannot be read.
        """
        kinds = _kinds(cells)
        if not kinds:
            return pa.nulls(len(cells), self.kind)
        if not self.settled:
            self._settle(kinds, cells)
        elif not kinds <= self._accepted and (kinds | self._accepted) <= _JSON_KINDS:
            return mixed_cells(cells)
        elif not kinds <= self._accepted:
            other = next(n for n, cell in enumerate(cells) if _kinds([cell]) - self._accepted)
            (word,) = _kinds([cells[other]])
            raise SourceError(
                f"Column {self.name!r} of the cursor holds {word} in row {row + other:,} and "
                f"{_join(self._accepted)} before. Cast it to one type in the query."
            )
        try:
            return self._array(cells)
        except UnicodeEncodeError:
            return keep_surrogates(list(cells))
        except (pa.ArrowException, OverflowError, ValueError):
            if kinds <= _JSON_KINDS:  # such as a whole number that no float holds
                return mixed_cells(cells)
            raise SourceError(
                f"Column {self.name!r} of the cursor holds a cell that does not fit {self.kind}, "
                f"in row {row:,} or soon after. Cast it in the query, for example to text."
            ) from None  # the cause shows the cell

    def _settle(self, words: frozenset[str], cells: Cells) -> None:
        if words == {"whole numbers", "floats"}:
            self.kind = pa.float64()
        elif words in ({"whole numbers", "decimals"}, {"decimals"}):
            self.kind = pa.decimal128(38, _scale(cells))
        elif words == {"whole numbers"} and any(
            cell is not None and not -(2**63) <= cell < 2**63 for cell in cells
        ):
            self.kind = pa.decimal128(38, 0)
        elif len(words) > 1 and words <= _JSON_KINDS:
            self.kind = pa.json_()
        elif len(words) > 1:
            raise SourceError(
                f"Column {self.name!r} of the cursor mixes {_join(words)}. Cast it to one type "
                "in the query."
            )
        else:
            (word,) = words
            if word not in _KINDS:
                raise SourceError(
                    f"Column {self.name!r} of the cursor holds {word}, which cannot be read. Cast "
                    "it to text in the query; if that is JSON, name it in json=[...]."
                )
            self.kind = _KINDS[word]
        self._accepted = _JSON_KINDS if is_json(self.kind) else words
        if pa.types.is_floating(self.kind) or pa.types.is_decimal(self.kind):
            self._accepted |= {"whole numbers"}

    def _array(self, cells: Cells) -> Any:
        if is_json(self.kind):
            return mixed_cells(cells)
        if self._accepted == {"UUIDs"}:
            cells = [None if cell is None else str(cell) for cell in cells]
        return pa.array(cells, self.kind)


_KINDS: Final = {
    "booleans": pa.bool_(),
    "whole numbers": pa.int64(),
    "floats": pa.float64(),
    "text": pa.string(),
    "bytes": pa.binary(),
    "times with a zone": pa.timestamp("us", "UTC"),
    "times without a zone": pa.timestamp("us"),
    "dates": pa.date32(),
    "times of day": pa.time64("us"),
    "durations": pa.duration("us"),
    "UUIDs": pa.string(),
}

_JSON_KINDS: Final = frozenset(["booleans", "whole numbers", "floats", "decimals", "text"])
"""Kinds of cells that can stand in one column, each as its own JSON value."""

_KIND_NAMES: Final = (
    (bool, "booleans"),
    (int, "whole numbers"),
    (float, "floats"),
    (str, "text"),
    (bytes, "bytes"),
    (bytearray, "bytes"),
    (memoryview, "bytes"),
    (Decimal, "decimals"),
    (date, "dates"),
    (time, "times of day"),
    (timedelta, "durations"),
    (UUID, "UUIDs"),
)


def _kinds(cells: Cells) -> frozenset[str]:
    """The kinds of the cells, in words; without empty cells."""
    words = set()
    for kind in set(map(type, cells)):
        if issubclass(kind, datetime):
            words |= {
                "times without a zone" if cell.tzinfo is None else "times with a zone"
                for cell in cells
                if isinstance(cell, kind)
            }
        elif kind is not type(None):
            words.add(next((w for base, w in _KIND_NAMES if issubclass(kind, base)), kind.__name__))
    return frozenset(words)


def _scale(cells: Cells) -> int:
    """Most digits after the point of these decimals."""
    exponents = (cell.as_tuple().exponent for cell in cells if isinstance(cell, Decimal))
    return max((-each for each in exponents if isinstance(each, int) and each < 0), default=0)


def _join(words: frozenset[str]) -> str:
    return " and ".join(sorted(words))
