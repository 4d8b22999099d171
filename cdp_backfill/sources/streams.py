"""Tables that are read as a stream of Arrow batches."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.errors import SourceError
from cdp_backfill.model.arrow_types import is_json, viewless_type
from cdp_backfill.model.interrupts import interruptible
from cdp_backfill.sources.chunks import CHUNK_ROWS, Chunk, Source, check_names, gathered, slices
from cdp_backfill.sources.depths import check_types
from cdp_backfill.sources.views import viewless

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """How to read a table.

    Attributes:
        name: The table, in words.
        schema: Arrow schema.
        batches: Starts a reading; yields record batches with at least the named columns.
        rows: Number of rows, or None where only reading reveals it.
        ordered: Whether every reading gives the rows in the same order.
        instead: If it can only be read once: what to pass where it must be read again.
        drifts: Whether a later batch may hold a column as JSON, because its cells change in type.
    """

    name: str
    schema: Any
    batches: Callable[[list[str]], Generator[Any]]
    rows: int | None = None
    ordered: bool = True
    instead: str = ""
    drifts: bool = False


class StreamSource(Source):
    """A table that is read as a stream of batches.

    Args:
        stream: How to read it.

    Raises:
        SourceError: Two columns share a name.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.name = stream.name
        self.replayable = not stream.instead
        self.instead = stream.instead
        self.ordered = stream.ordered
        self.rows = stream.rows
        self._spent = False
        check_names(stream.schema.names, self.name)
        check_types(stream.schema, self.title)
        self.schema = pa.schema([(item.name, viewless_type(item.type)) for item in stream.schema])

    def chunks(self, columns: Sequence[str], *, start: int = 0) -> Generator[Chunk]:
        """Read the rows in order.

        Raises:
            SourceError: The stream was read before and cannot be read again, or it breaks off.
        """
        if self._spent:
            raise SourceError(
                f"{self.title} can only be read once and has been read. Pass {self.instead}."
            )
        self._spent = not self.replayable
        # Without any column, one is read for the number of rows.
        wanted = list(columns) or list(self.schema.names[:1])
        position = 0
        with closing(self._stream.batches(wanted)) as batches:  # even if the reader stops early
            for batch in gathered(self._pieces(batches, wanted)):
                stop = position + batch.num_rows
                if stop > start:
                    skip = max(0, start - position)
                    for first, piece in slices(batch.slice(skip)):
                        here = position + skip + first
                        yield Chunk(piece, here, None, here)
                position = stop
        if self.rows is not None and position != self.rows:
            raise SourceError(
                f"{self.title} had {self.rows:,} rows at first and {position:,} when it was read "
                "again: it can only be read once, or it has changed. Pass a "
                "pyarrow.RecordBatchReader, or read it into a table first."
            )
        self.rows = position

    def _pieces(self, batches: Iterator[Any], columns: list[str]) -> Iterator[Any]:
        """The batches in pieces of at most a chunk, with columns in the types of the schema."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        position = 0
        while True:
            try:
                with interruptible():
                    batch = next(batches, None)
            except SourceError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever the library of the stream raises
                raise SourceError(
                    f"{self.title} cannot be read beyond row {position:,} "
                    f"({type(error).__name__}). Read it without this package to see the cause."
                ) from None  # errors of engines can show a cell
            if batch is None:
                return
            # Sliced first, because converting a frame that is one batch would copy all of it.
            for start in range(0, batch.num_rows, CHUNK_ROWS):
                part = batch.slice(start, CHUNK_ROWS)
                arrays = [
                    self._fitted(part.column(item.name), item, position + start) for item in schema
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema.names)
            position += batch.num_rows

    def _fitted(self, array: Any, item: Any, row: int) -> Any:
        array = viewless(array)
        if array.type.equals(item.type) or (self._stream.drifts and is_json(array.type)):
            return array
        try:
            return pc.cast(array, item.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise SourceError(
                f"Column {item.name!r} of {self.name} is {array.type} from row {row:,} on and "
                f"{item.type} before. Cast it to one type in the query."
            ) from None  # the cause can show a cell


def reader_source(name: str, reader: Any, instead: str) -> StreamSource:
    """A source of a reader of record batches, which can only be read once."""

    def batches(_: list[str]) -> Generator[Any]:
        with reader:
            yield from reader

    return StreamSource(Stream(name=name, schema=reader.schema, batches=batches, instead=instead))


def reopening_source(
    name: str,
    schema: Any,
    open_reader: Callable[[list[str]], Any],
    *,
    rows: int | None = None,
    ordered: bool = True,
) -> StreamSource:
    """A source of a table that returns a new reader for each reading."""

    def batches(columns: list[str]) -> Generator[Any]:
        with open_reader(columns) as reader:
            yield from reader

    stream = Stream(name=name, schema=schema, batches=batches, rows=rows, ordered=ordered)
    return StreamSource(stream)
